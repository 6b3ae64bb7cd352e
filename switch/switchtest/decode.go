package switchtest

import (
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"tapswitch/switch"
)

// Decode reads a frame behind its virtio header with gopacket. What gopacket
// cannot read fails the test.
func Decode(t testing.TB, frame []byte) gopacket.Packet {
	t.Helper()
	if len(frame) < vswitch.VnetLen {
		t.Fatalf("frame of %d bytes has no virtio header", len(frame))
	}
	p := gopacket.NewPacket(frame[vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket does not read the frame: %v\n%v", e.Error(), p)
	}
	return p
}

// Layer is a frame's layer of type T, which must be there.
func Layer[T gopacket.Layer](t testing.TB, frame []byte) T {
	t.Helper()
	p := Decode(t, frame)
	for _, l := range p.Layers() {
		if x, ok := l.(T); ok {
			return x
		}
	}
	var want T
	t.Fatalf("the frame has no %T:\n%v", want, p)
	return want
}

// CheckFinished fails the test unless the frame is finished: an empty virtio
// header, and each checksum as gopacket computes it.
func CheckFinished(t testing.TB, frame []byte) {
	t.Helper()
	for i, x := range frame[:vswitch.VnetLen] {
		if x != 0 {
			t.Errorf("byte %d of the virtio header is %#x", i, x)
		}
	}
	if err := Checksums(t, frame); err != nil {
		t.Error(err)
	}
}

// Checksums compares each checksum of the frame with gopacket's. A UDP checksum
// of 0 over IPv4 means that there is none.
func Checksums(t testing.TB, frame []byte) error {
	t.Helper()
	p := Decode(t, frame)
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
		if err := compare("IPv4", ip.Checksum, NaiveChecksum(without(ip.Contents, 10), 0)); err != nil {
			return err
		}
	}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			if err := again("TCP", p, l, l.Checksum, func() uint16 { return l.Checksum }); err != nil {
				return err
			}
		case *layers.UDP:
			if _, v4 := p.NetworkLayer().(*layers.IPv4); v4 && l.Checksum == 0 {
				continue
			}
			if l.Checksum == 0 {
				return fmt.Errorf("UDP checksum of 0 over IPv6")
			}
			if err := again("UDP", p, l, l.Checksum, func() uint16 { return l.Checksum }); err != nil {
				return err
			}
		case *layers.ICMPv4:
			if err := again("ICMPv4", p, l, l.Checksum, func() uint16 { return l.Checksum }); err != nil {
				return err
			}
		case *layers.ICMPv6:
			if err := again("ICMPv6", p, l, l.Checksum, func() uint16 { return l.Checksum }); err != nil {
				return err
			}
		}
	}
	return nil
}

type summed interface {
	gopacket.SerializableLayer
	LayerPayload() []byte
}

// again lets gopacket compute the checksum of a decoded layer anew and compares.
func again(what string, p gopacket.Packet, l summed, had uint16, computed func() uint16) error {
	if x, ok := l.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := x.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
			return err
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, l, gopacket.Payload(l.LayerPayload())); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return compare(what, had, computed())
}

// compare knows that 0 and 0xffff are one number in one's complement.
func compare(what string, had, want uint16) error {
	if had != want && !(had == 0xffff && want == 0) {
		return fmt.Errorf("%s checksum is %#04x, gopacket computes %#04x", what, had, want)
	}
	return nil
}

// without is b with the 16-bit field at cleared.
func without(b []byte, at int) []byte {
	c := append([]byte(nil), b...)
	c[at], c[at+1] = 0, 0
	return c
}
