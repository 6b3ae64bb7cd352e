package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// same says whether two checksums are one number in one's complement.
func same(a, b uint16) bool { return a == b || a == 0xffff && b == 0 || a == 0 && b == 0xffff }

func TestChecksumKnown(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want uint16
	}{
		{"nothing", nil, 0xffff},
		{"RFC 1071, 3", []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, ^uint16(0xddf2)},
		{"one byte", []byte{0xab}, ^uint16(0xab00)},
		{"an IPv4 header", []byte{0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7}, 0xb861},
	} {
		if got := vswitch.Checksum(c.b, 0); got != c.want {
			t.Errorf("%s: %#04x, want %#04x", c.name, got, c.want)
		}
	}
}

// TestChecksumAtEveryLength also fills with 0xff, where carries are many.
func TestChecksumAtEveryLength(t *testing.T) {
	ones, mixed := make([]byte, 300), pattern(300)
	for i := range ones {
		ones[i] = 0xff
	}
	for n := range 301 {
		for _, b := range [][]byte{ones[:n], mixed[:n]} {
			if got, want := vswitch.Checksum(b, 0), switchtest.NaiveChecksum(b, 0); got != want {
				t.Fatalf("%d bytes: %#04x, want %#04x", n, got, want)
			}
		}
	}
	big := make([]byte, 1<<17)
	for i := range big {
		big[i] = 0xff
	}
	if got, want := vswitch.Checksum(big, 0), switchtest.NaiveChecksum(big, 0); !same(got, want) {
		t.Errorf("128 KiB of ones: %#04x, want %#04x", got, want)
	}
}

func TestPutIPv4Checksum(t *testing.T) {
	for _, options := range []int{0, 4, 40} {
		h := with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, options) }).UDP(1, 2, nil)[l3 : l3+20+options]
		want := [2]byte{h[10], h[11]}
		h[10], h[11] = 0xde, 0xad
		if vswitch.PutIPv4Checksum(h); [2]byte{h[10], h[11]} != want {
			t.Errorf("%d bytes of options: % x, want % x", options, h[10:12], want)
		}
	}
}

// FuzzChecksum compares with RFC 1071 by the letter: whole, and in two sums.
func FuzzChecksum(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{1, 2, 3}, uint16(2))
	f.Add(pattern(1500), uint16(64))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		if len(b) > 1<<17 {
			return
		}
		want := switchtest.NaiveChecksum(b, 0)
		if got := vswitch.Checksum(b, 0); !same(got, want) {
			t.Errorf("%#04x, want %#04x", got, want)
		}
		n := int(cut) &^ 1
		if n > len(b) {
			n = len(b) &^ 1
		}
		if got := vswitch.Checksum(b[n:], vswitch.Sum(b[:n], 0)); !same(got, want) {
			t.Errorf("in two parts, cut at %d: %#04x, want %#04x", n, got, want)
		}
		if len(b) >= 9 && len(b) < 1<<16 {
			src, dst, rest := b[:4], b[4:8], b[8:]
			pseudo := append(append([]byte(nil), b[:8]...), 0, 17, byte(len(rest)>>8), byte(len(rest)))
			if got, want := vswitch.Checksum(rest, vswitch.PseudoSum(src, dst, 17, len(rest))), switchtest.NaiveChecksum(append(pseudo, rest...), 0); !same(got, want) {
				t.Errorf("with a pseudo header: %#04x, want %#04x", got, want)
			}
		}
		if len(b) >= 33 {
			src, dst, rest := b[:16], b[16:32], b[32:]
			n := len(rest)
			pseudo := append(append([]byte(nil), b[:32]...), byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, 6)
			if got, want := vswitch.Checksum(rest, vswitch.PseudoSum(src, dst, 6, n)), switchtest.NaiveChecksum(append(pseudo, rest...), 0); !same(got, want) {
				t.Errorf("with a pseudo header of IPv6: %#04x, want %#04x", got, want)
			}
		}
	})
}

// FuzzAdjustSum changes a part of some data and adjusts its checksum, finished
// and partial.
func FuzzAdjustSum(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{9, 9}, uint8(2))
	f.Add([]byte{0, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0xff}, uint8(0))
	f.Add([]byte{0xff, 0xff}, []byte{0, 0}, uint8(0))
	f.Add(pattern(40), pattern(36), uint8(4))
	f.Fuzz(func(t *testing.T, b, change []byte, at uint8) {
		off := int(at) &^ 1
		change = change[:len(change)&^1]
		if off+len(change) > len(b) {
			return
		}
		b = bytes.Clone(b) // the fuzzer's own bytes may be shared between arguments
		old := bytes.Clone(b[off : off+len(change)])
		finished, partial := binary.BigEndian.AppendUint16(nil, vswitch.Checksum(b, 0)), binary.BigEndian.AppendUint16(nil, vswitch.Fold(vswitch.Sum(b, 0)))
		copy(b[off:], change)
		vswitch.AdjustSum(finished, old, change, false)
		vswitch.AdjustSum(partial, old, change, true)
		want := switchtest.NaiveChecksum(b, 0)
		if got := binary.BigEndian.Uint16(finished); !same(got, want) {
			t.Errorf("finished: %#04x, want %#04x", got, want)
		}
		if got := binary.BigEndian.Uint16(partial); !same(^got, want) {
			t.Errorf("partial: %#04x, want %#04x", got, ^want)
		}
	})
}
