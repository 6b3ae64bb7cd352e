package vswitch_test

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"tcp4", v4.TCP(ack, make([]byte, 1400))}, {"tcp6", v6.TCP(ack, make([]byte, 1400))}, {"udp4", v4.UDP(1, 2, data)},
		{"super", switchtest.Super(v4.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448)},
		{"arp", arpRequest.Frame()}, {"extensions", v6.IP(0, switchtest.Extension(60, switchtest.Extension(17, udpOf(v6))))},
	} {
		b.Run(c.name, func(b *testing.B) {
			var f vswitch.Frame
			for b.Loop() {
				f.Parse(nil, c.frame)
			}
		})
	}
}

// benchWorld is two hosts that write nothing down.
func benchWorld(b *testing.B, caps vswitch.Caps) (n *switchtest.Net, from, to *switchtest.Host) {
	n = switchtest.NewNet(b)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	from = n.Host(br, "a", "172.17.0.2", "fd00:17::2")
	to = n.Attach(vswitch.PortConfig{Name: "b", Bridge: br}, switchtest.NewDevice(b, caps), "172.17.0.3", "fd00:17::3")
	from.Dev.Discard()
	to.Dev.Discard()
	return n, from, to
}

// BenchmarkHit is all that the switch does for a frame of a known flow, with
// the write of a device in memory.
func BenchmarkHit(b *testing.B) {
	for _, flows := range []int{1, 256} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			n, from, to := benchWorld(b, switchtest.All)
			frames := make([][]byte, flows)
			for i := range frames {
				frames[i] = v4.TCP(layers.TCP{SrcPort: layers.TCPPort(i), DstPort: 80, ACK: true}, make([]byte, 1400))
				n.Input(from.Port, frames[i])
			}
			i := 0
			for b.Loop() {
				n.Input(from.Port, frames[i%flows])
				i++
			}
			if from.Stats.Upcalls > uint64(flows)*2 || to.Stats.RxFrames == 0 {
				b.Fatalf("%d upcalls", from.Stats.Upcalls)
			}
		})
	}
}

// BenchmarkUpcall decides each frame anew.
func BenchmarkUpcall(b *testing.B) {
	n, from, _ := benchWorld(b, switchtest.All)
	frame := v4.TCP(ack, make([]byte, 1400))
	for b.Loop() {
		n.PolicyChanged()
		n.Input(from.Port, frame)
	}
	if from.Stats.Hits != 0 {
		b.Fatal("the cache was hit")
	}
}

func BenchmarkLearn(b *testing.B) {
	for _, addresses := range []int{1, 1000, 10_000} { // the last evicts
		b.Run(fmt.Sprintf("addresses=%d", addresses), func(b *testing.B) {
			n := switchtest.NewNet(b)
			vm := n.Trusted(n.Bridge("bridge", "172.17.0.0/16"), "vm", "172.17.0.9")
			i := 0
			for b.Loop() {
				n.Learn(vm.Port, vmMAC(i%addresses))
				i++
			}
		})
	}
}

func BenchmarkChecksum(b *testing.B) {
	for _, size := range []int{64, 1500, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := pattern(size)
			b.SetBytes(int64(size))
			for b.Loop() {
				vswitch.Checksum(data, 0)
			}
		})
	}
}

// BenchmarkSegment splits super-frames for a device that takes none.
func BenchmarkSegment(b *testing.B) {
	for name, frame := range map[string][]byte{
		"tcp4": switchtest.Super(v4.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448),
		"tcp6": switchtest.Super(v6.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv6, 1428),
		"udp4": switchtest.Super(v4.UDP(1, 2, make([]byte, 60000)), vswitch.GSOUDPL4, 1472),
	} {
		b.Run(name, func(b *testing.B) {
			n, from, to := benchWorld(b, 0)
			b.SetBytes(60000)
			for b.Loop() {
				n.Input(from.Port, frame)
			}
			if to.Stats.RxFrames < 40 {
				b.Fatalf("%d pieces", to.Stats.RxFrames)
			}
		})
	}
}

// BenchmarkFinishChecksum completes one frame, as for a plain TAP.
func BenchmarkFinishChecksum(b *testing.B) {
	n, from, _ := benchWorld(b, 0)
	partial := switchtest.Partial(v4.TCP(ack, make([]byte, 1448)))
	buf := make([]byte, len(partial))
	b.SetBytes(1448)
	for b.Loop() {
		copy(buf, partial)
		n.Input(from.Port, buf)
	}
}
