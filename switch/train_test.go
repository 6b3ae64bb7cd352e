package vswitch_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// A datagram as a test sends it, and as it is found in what arrives.
type datagram struct {
	dst     uint16
	payload string
}

// datagrams takes apart what a host was given, and checks each super-frame
// against one that gopacket built.
func datagrams(t *testing.T, from, to *switchtest.Host, src uint16) (out []datagram, frames int) {
	t.Helper()
	for _, b := range to.Dev.Take() {
		frames++
		v := vswitch.ReadVnet(b)
		l4 := switchtest.Transport(b)
		dst, payload := uint16(l4[2])<<8|uint16(l4[3]), l4[vswitch.UDPLen:]
		size := len(payload)
		if v.GSOType != vswitch.GSONone {
			size = int(v.GSOSize)
			want := switchtest.Super(from.To(to).UDP(src, dst, payload), vswitch.GSOUDPL4, v.GSOSize)
			if !bytes.Equal(b, want) {
				t.Fatalf("got  %x\nwant %x", b[:60], want[:60])
			}
		}
		for len(payload) > 0 {
			n := min(size, len(payload))
			out = append(out, datagram{dst, string(payload[:n])})
			payload = payload[n:]
		}
	}
	return out, frames
}

// TestTrains: datagrams of one flow travel together to who can take them, and
// whatever is sent arrives, in order.
func TestTrains(t *testing.T) {
	for _, subnets := range [][2]string{{"172.17.0.0/16", "172.17.0."}, {"fd00:17::/64", "fd00:17::"}} {
		n := switchtest.NewNet(t)
		br := n.Bridge("bridge", subnets[0])
		a, b, c := n.Host(br, "a", subnets[1]+"2"), n.Host(br, "b", subnets[1]+"3"), n.Plain(br, "c", subnets[1]+"4")
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		for round := range 200 {
			var sent [2][]datagram
			size, dst := 1+r.IntN(1400), uint16(80)
			for range r.IntN(150) {
				switch r.IntN(20) {
				case 0:
					size = 1 + r.IntN(1400)
				case 1:
					dst = uint16(80 + r.IntN(2))
				case 2:
					size = max(size-1, 1)
				}
				to, k := b, 0
				if r.IntN(30) == 0 {
					to, k = c, 1
				}
				d := datagram{dst, string(bytes.Repeat([]byte{byte(r.Uint32())}, size))}
				sent[k] = append(sent[k], d)
				frame := a.To(to).UDP(9, dst, []byte(d.payload))
				if r.IntN(50) > 0 {
					frame = switchtest.Partial(frame)
				}
				a.Dev.Push(frame)
			}
			for a.Dev.Pending() > 0 {
				n.Poll()
			}
			for k, to := range []*switchtest.Host{b, c} {
				if got, _ := datagrams(t, a, to, 9); fmt.Sprint(got) != fmt.Sprint(sent[k]) {
					t.Fatalf("round %d, to %s: %d datagrams, not %d, or others", round, to.Name, len(got), len(sent[k]))
				}
			}
		}
		if b.Stats.RxFrames+c.Stats.RxFrames != a.Stats.TxFrames || b.Stats.RxBytes+c.Stats.RxBytes != a.Stats.TxBytes {
			t.Errorf("sent %d frames of %d bytes, received %d of %d", a.Stats.TxFrames, a.Stats.TxBytes,
				b.Stats.RxFrames+c.Stats.RxFrames, b.Stats.RxBytes+c.Stats.RxBytes)
		}
	}
}

// TestTrainsMatter: fifty datagrams are one write.
func TestTrainsMatter(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	frame := switchtest.Partial(a.To(b).UDP(1, 2, make([]byte, 64)))
	for range 50 {
		a.Dev.Push(frame)
	}
	n.Poll()
	if got, frames := datagrams(t, a, b, 1); len(got) != 50 || frames != 1 {
		t.Errorf("%d datagrams in %d frames", len(got), frames)
	}
}

// TestTrainsKeepWhatDiffers: datagrams that differ in a header's field that the
// receiver sees do not travel together, and each arrives as it was.
func TestTrainsKeepWhatDiffers(t *testing.T) {
	for _, subnet := range [][2]string{{"172.17.0.0/16", "172.17.0."}, {"fd00:17::/64", "fd00:17::"}} {
		n := switchtest.NewNet(t)
		br := n.Bridge("bridge", subnet[0])
		a, b := n.Trusted(br, "a", subnet[1]+"2"), n.Host(br, "b", subnet[1]+"3")
		plain := switchtest.Partial(a.To(b).UDP(1, 2, make([]byte, 64)))
		l3 := vswitch.VnetLen + vswitch.EthLen
		change := map[string]func(p []byte){
			"source MAC": func(p []byte) { p[vswitch.VnetLen+11]++ },
			"class":      func(p []byte) { p[l3+1] ^= 0x10 },
			"TTL":        func(p []byte) { p[l3+8]-- },
		}
		if subnet[1] == "172.17.0." {
			change["DF"] = func(p []byte) { p[l3+6] ^= 0x40 }
		} else {
			change["TTL"] = func(p []byte) { p[l3+7]-- }
			change["flow label"] = func(p []byte) { p[l3+3]++ }
		}
		for name, f := range change {
			other := bytes.Clone(plain)
			f(other)
			if subnet[1] == "172.17.0." {
				vswitch.PutIPv4Checksum(other[l3 : l3+vswitch.IPv4Len])
			}
			a.Dev.Push(plain, other, plain)
			n.Poll()
			got := b.Dev.Take()
			if len(got) != 3 || !bytes.Equal(got[0], plain) || !bytes.Equal(got[1], other) || !bytes.Equal(got[2], plain) {
				t.Errorf("%s: %d frames, or others", name, len(got))
			}
		}
	}
}

// TestTrainFails: each datagram of a train that was not taken is counted.
func TestTrainFails(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	frame := switchtest.Partial(a.To(b).UDP(1, 2, make([]byte, 64)))
	b.Dev.Fail(unix.EIO)
	a.Dev.Push(frame, frame, frame)
	n.Poll()
	if d := b.Dropped()[vswitch.PortDown]; d != 3 || b.Stats.RxFrames != 0 {
		t.Errorf("%d counted, %d received", d, b.Stats.RxFrames)
	}
}

// TestTrainAllocatesNothing, as nothing on a frame's way does.
func TestTrainAllocatesNothing(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	b.Dev.Discard()
	frame := switchtest.Partial(a.To(b).UDP(1, 2, make([]byte, 64)))
	push := [][]byte{frame, frame, frame, frame}
	turn := func() { a.Dev.Push(push...); n.Poll() }
	turn()
	if avg := testing.AllocsPerRun(100, turn); avg != 0 {
		t.Errorf("%v allocations", avg)
	}
}
