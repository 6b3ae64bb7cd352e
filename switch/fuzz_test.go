package vswitch_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// seeds are frames of every kind, whole; the fuzzer breaks them.
func seeds() [][]byte {
	return [][]byte{
		v4.TCP(ack, data), v6.TCP(ack, data), v4.UDP(1, 2, data), v6.UDP(546, 547, data), v4.Echo(1, 2, data), v6.Echo(1, 2, data),
		arpRequest.Frame(), v4.Ether(0x88b5, data), v4.Ether(46, make([]byte, 46)), v4frag(true, 8).IP(17, data), v4frag(true, 0).IP(17, udpOf(v4)),
		with(v4, func(p *switchtest.Packet) { p.VLAN = 5 }).UDP(1, 2, data),
		with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 8) }).UDP(1, 2, data),
		v6.IP(0, switchtest.Extension(43, switchtest.Extension(17, udpOf(v6)))),
		v6.IP(44, switchtest.Fragment(58, 0, true, 1, []byte{134, 0, 0, 0})),
		switchtest.Neighbour{Packet: v6, Target: v6.Src, Option: macA}.Advertise(),
		switchtest.Neighbour{Packet: v6, Target: v6.Dst, Option: macA}.Solicit(),
		switchtest.Neighbour{Packet: v6}.RouterSolicit(),
		switchtest.Super(v4.TCP(ack, make([]byte, 4000)), vswitch.GSOTCPv4, 1448),
		switchtest.Super(v6.UDP(1, 2, make([]byte, 4000)), vswitch.GSOUDPL4, 1400),
		switchtest.Partial(v4.UDP(1, 2, data)),
		v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil),
	}
}

// FuzzParse: no panic, offsets inside of the frame and in order, accessors safe.
func FuzzParse(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:len(b):len(b)]
		before := string(b)
		var x vswitch.Frame
		x.Parse(nil, b)
		if string(b) != before {
			t.Error("Parse changed the frame")
		}
		bad := x.Class&vswitch.ClassBad != 0
		if bad != (x.Reason != vswitch.Delivered) {
			t.Errorf("class %#x and reason %s contradict each other", x.Class, x.Reason)
		}
		if bad {
			return
		}
		if x.L3 != l3 || x.End < x.L3 || x.End > len(b) {
			t.Fatalf("L3 %d, End %d of %d", x.L3, x.End, len(b))
		}
		if x.L4 != 0 && (x.L4 < x.L3 || x.L4 > x.End) {
			t.Fatalf("L4 %d is not between %d and %d", x.L4, x.L3, x.End)
		}
		_, _ = x.SrcMAC(), x.DstMAC()
		if x.IP() {
			if s, d := x.Src(), x.Dst(); !s.IsValid() || !d.IsValid() || s.Is6() != x.V6 || d.Is6() != x.V6 {
				t.Errorf("addresses %s and %s", s, d)
			}
			if x.L4 == 0 && x.FragOff == 0 {
				t.Error("no transport header, and no later fragment")
			}
		}
		fragment := x.Class&vswitch.ClassFragment != 0
		if room := x.End - x.L4; x.L4 != 0 && !fragment {
			switch {
			case x.Proto == vswitch.ProtoTCP && (room < 20 || int(b[x.L4+12]>>4)*4 > room),
				x.Proto == vswitch.ProtoUDP && (room < 8 || int(b[x.L4+4])<<8+int(b[x.L4+5]) > room):
				t.Errorf("the transport header does not fit into %d bytes", room)
			}
		}
		if v := vswitch.ReadVnet(b); v.Flags&vswitch.VnetNeedsCsum != 0 {
			at := vswitch.VnetLen + int(v.CsumStart) + int(v.CsumOff)
			if at < x.L4 || at+2 > len(b) {
				t.Errorf("a checksum would be written at %d, L4 is %d of %d", at, x.L4, len(b))
			}
		}
	})
}

// FuzzSwitch sends a frame from every kind of port: no panic, no device is
// given what it cannot take (the devices say so), nothing shows up on another
// bridge, and what reached nobody is counted once.
func FuzzSwitch(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	dhcp := switchtest.Packet{SrcMAC: switchtest.MACOf(netip.MustParseAddr("172.17.0.2")), DstMAC: vswitch.MAC{0x33, 0x33, 0, 1, 0, 2},
		Src: netip.MustParseAddr("fd00:17::2"), Dst: netip.MustParseAddr("ff02::1:2")}
	f.Add(dhcp.UDP(546, 547, []byte("a question")))
	report := switchtest.Packet{SrcMAC: dhcp.SrcMAC, DstMAC: vswitch.MAC{1, 0, 0x5e, 0, 0, 22}, Src: netip.MustParseAddr("172.17.0.2"), Dst: netip.MustParseAddr("224.0.0.22")}
	f.Add(report.IGMP(0x22, 0, switchtest.Records(switchtest.Record{Kind: 4, Group: "239.1.2.3"})))
	var tb struct{ testing.TB } // that of the run; one switch does for all runs
	tb.TB = f
	n := switchtest.NewNet(&tb)
	n.Gateway.Decide = func(*vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActGateway, Flow: 1} }
	br, other := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64"), n.Bridge("bridge2", "172.17.0.0/16", "fd00:17::/64")
	a := n.Host(br, "a", "172.17.0.2", "fd00:17::2")
	n.Plain(br, "b", "172.17.0.3", "fd00:17::3")
	vm := n.Trusted(br, "vm", "172.17.0.4")
	n.Trusted(br, "vm2", "172.17.0.5")
	far := n.Trusted(other, "far", "172.17.0.3", "fd00:17::3")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > vswitch.MaxFrame {
			return
		}
		tb.TB = t
		n.Clock.Advance(400 * time.Second) // forget what was learned and blocked
		n.PolicyChanged()
		n.Gateway.Delivered = nil
		for _, from := range []*switchtest.Host{a, a, vm, vm} {
			before := sum(from)
			from.Send(append([]byte(nil), b...))
			written := 0
			for _, h := range n.Hosts {
				written += len(h.Dev.Take())
			}
			dropped := sum(from) - before
			if dropped > 1 {
				t.Errorf("one frame was counted %d times: %v", dropped, from.Dropped())
			}
			consumed := neighbourOrGateway(b, br)
			if dropped == 0 && written == 0 && !consumed {
				t.Errorf("the frame reached nobody and is not counted")
			}
		}
		if far.Stats.RxFrames != 0 || len(far.Dropped()) != 0 {
			t.Errorf("the other bridge noticed: %+v", far.Stats)
		}
	})
}

// neighbourOrGateway says whether the gateway may take the frame in silence: a
// router solicitation, a question for DHCP servers, a report of multicast groups,
// or anything for its MAC.
func neighbourOrGateway(b []byte, br *vswitch.Bridge) bool {
	var f vswitch.Frame
	f.Parse(nil, b)
	if f.Class&vswitch.ClassBad != 0 {
		return false
	}
	asks := f.Class&vswitch.ClassControl != 0 && f.Proto == vswitch.ProtoUDP && f.DstMAC().Multicast() && (f.DstPort() == 67 || f.DstPort() == 547)
	report := f.Class&vswitch.ClassControl != 0 && f.DstMAC().Multicast() && (f.Proto == vswitch.ProtoIGMP || f.Proto == vswitch.ProtoICMPv6)
	return asks || report || f.DstMAC() == br.MAC || f.Class&vswitch.ClassNeighbour != 0 && f.EtherType == vswitch.EtherIPv6 && b[f.L4] == 133
}

func sum(h *switchtest.Host) (n uint64) {
	for _, x := range h.Stats.Drops {
		n += x
	}
	return n
}
