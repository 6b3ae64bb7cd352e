package vswitch_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

var (
	macA = vswitch.MAC{0x02, 0x42, 172, 17, 0, 2}
	macB = vswitch.MAC{0x02, 0x42, 172, 17, 0, 3}

	v4 = switchtest.Packet{SrcMAC: macA, DstMAC: macB, Src: netip.MustParseAddr("172.17.0.2"), Dst: netip.MustParseAddr("172.17.0.3")}
	v6 = switchtest.Packet{SrcMAC: macA, DstMAC: macB, Src: netip.MustParseAddr("fd00:17::2"), Dst: netip.MustParseAddr("fd00:17::3")}

	ack  = layers.TCP{SrcPort: 40000, DstPort: 80, ACK: true, Seq: 1000, Ack: 2000}
	data = []byte("the quick brown fox")

	arpRequest = switchtest.ARP{SrcMAC: macA, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: macA, SenderIP: v4.Src, TargetIP: v4.Dst}
)

const l3 = vswitch.VnetLen + vswitch.EthLen

// with changes one copy of a packet template.
func with(p switchtest.Packet, change func(*switchtest.Packet)) switchtest.Packet {
	change(&p)
	return p
}

// edit changes a copy of a frame.
func edit(frame []byte, change func(b []byte)) []byte {
	b := append([]byte(nil), frame...)
	change(b)
	return b
}

// set16 writes a field at an offset behind the virtio header.
func set16(frame []byte, at int, v uint16) []byte {
	return edit(frame, func(b []byte) { binary.BigEndian.PutUint16(b[vswitch.VnetLen+at:], v) })
}

func set8(frame []byte, at int, v uint8) []byte {
	return edit(frame, func(b []byte) { b[vswitch.VnetLen+at] = v })
}

func vnet(frame []byte, v vswitch.Vnet) []byte { return edit(frame, v.Put) }

func TestParseGood(t *testing.T) {
	long := make([]byte, 65535-20)
	for _, c := range []struct {
		name  string
		b     []byte
		l4    int // behind l3
		pad   int // bytes behind the datagram
		class vswitch.Class
		proto uint8
		ports [2]uint16
	}{
		{"tcp4", v4.TCP(ack, data), 20, 0, 0, 6, [2]uint16{40000, 80}},
		{"tcp4 syn", v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil), 20, 0, vswitch.ClassTCPFlags, 6, [2]uint16{1, 2}},
		{"tcp4 fin", v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, FIN: true, ACK: true}, nil), 20, 0, vswitch.ClassTCPFlags, 6, [2]uint16{1, 2}},
		{"tcp4 rst", v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, RST: true}, nil), 20, 0, vswitch.ClassTCPFlags, 6, [2]uint16{1, 2}},
		{"tcp4 psh urg", v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, ACK: true, PSH: true, URG: true}, data), 20, 0, 0, 6, [2]uint16{1, 2}},
		{"tcp6", v6.TCP(ack, data), 40, 0, 0, 6, [2]uint16{40000, 80}},
		{"udp4", v4.UDP(5000, 53, data), 20, 0, 0, 17, [2]uint16{5000, 53}},
		{"udp6", v6.UDP(5000, 53, data), 40, 0, 0, 17, [2]uint16{5000, 53}},
		{"udp4 empty", v4.UDP(5000, 53, nil), 20, 0, 0, 17, [2]uint16{5000, 53}},
		{"udp4 padded", append(v4.UDP(5000, 53, nil), make([]byte, 18)...), 20, 18, 0, 17, [2]uint16{5000, 53}},
		{"udp4 shorter than its packet", set16(v4.UDP(5000, 53, data), 14+20+4, 10), 20, 0, 0, 17, [2]uint16{5000, 53}},
		{"largest tcp6", v6.TCP(ack, long), 40, 0, 0, 6, [2]uint16{40000, 80}},
		{"largest tcp4", v4.TCP(ack, long[:65535-40]), 20, 0, 0, 6, [2]uint16{40000, 80}},
		{"dhcp", v4.UDP(68, 67, data), 20, 0, vswitch.ClassControl, 17, [2]uint16{68, 67}},
		{"dhcp reply", v4.UDP(67, 68, data), 20, 0, vswitch.ClassControl, 17, [2]uint16{67, 68}},
		{"dhcpv6", v6.UDP(546, 547, data), 40, 0, vswitch.ClassControl, 17, [2]uint16{546, 547}},
		{"echo", v4.Echo(77, 1, data), 20, 0, 0, 1, [2]uint16{77, 0}},
		{"echo reply", v4.EchoReply(77, 1, data), 20, 0, 0, 1, [2]uint16{77, 0}},
		{"echo6", v6.Echo(77, 1, data), 40, 0, 0, 58, [2]uint16{77, 0}},
		{"icmp error", set8(v4.Echo(77, 1, data), 14+20, 3), 20, 0, vswitch.ClassOptions, 1, [2]uint16{}},
		{"icmp6 error", v6.ICMPv6(1, 0, make([]byte, 48)), 40, 0, vswitch.ClassOptions, 58, [2]uint16{}},
		{"icmp of the other family", v4.IP(58, make([]byte, 8)), 20, 0, vswitch.ClassOptions, 58, [2]uint16{}},
		{"mld", v6.ICMPv6(143, 0, make([]byte, 24)), 40, 0, vswitch.ClassControl, 58, [2]uint16{}},
		{"neighbour solicitation", switchtest.Neighbour{Packet: v6, Target: v6.Dst}.Solicit(), 40, 0, vswitch.ClassNeighbour, 58, [2]uint16{}},
		{"router advertisement", switchtest.Neighbour{Packet: v6}.RouterAdvertise(), 40, 0, vswitch.ClassNeighbour, 58, [2]uint16{}},
		{"igmp", v4.IP(2, make([]byte, 8)), 20, 0, vswitch.ClassControl, 2, [2]uint16{}},
		{"sctp", v4.IP(132, make([]byte, 12)), 20, 0, 0, 132, [2]uint16{}},
		{"no payload", v4.IP(200, nil), 20, 0, 0, 200, [2]uint16{}},
		{"no next header", v6.IP(59, nil), 40, 0, 0, 59, [2]uint16{}},
		{"ttl 1", with(v4, func(p *switchtest.Packet) { p.TTL = 1 }).UDP(1, 2, nil), 20, 0, vswitch.ClassTTL, 17, [2]uint16{1, 2}},
		{"ttl 0", set8(v4.UDP(1, 2, nil), 14+8, 0), 20, 0, vswitch.ClassTTL, 17, [2]uint16{1, 2}},
		{"ttl 2", with(v4, func(p *switchtest.Packet) { p.TTL = 2 }).UDP(1, 2, nil), 20, 0, 0, 17, [2]uint16{1, 2}},
		{"hop limit 1", with(v6, func(p *switchtest.Packet) { p.TTL = 1 }).UDP(1, 2, nil), 40, 0, vswitch.ClassTTL, 17, [2]uint16{1, 2}},
		{"options", with(v4, func(p *switchtest.Packet) { p.Options = []byte{148, 4, 0, 0} }).UDP(1, 2, data), 24, 0, vswitch.ClassOptions, 17, [2]uint16{1, 2}},
		{"most options", with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 40) }).TCP(ack, data), 60, 0, vswitch.ClassOptions, 6, [2]uint16{40000, 80}},
		{"tcp options", v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, ACK: true, Options: []layers.TCPOption{
			{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}}, data), 20, 0, 0, 6, [2]uint16{1, 2}},
		{"hop by hop", v6.IP(0, switchtest.Extension(17, udpOf(v6))), 48, 0, vswitch.ClassOptions, 17, [2]uint16{1, 2}},
		{"destination options, routing", v6.IP(60, switchtest.Extension(43, switchtest.Extension(6, tcpOf(v6)))), 56, 0, vswitch.ClassOptions, 6, [2]uint16{40000, 80}},
		{"long extension", v6.IP(60, append([]byte{17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udpOf(v6)...)), 56, 0, vswitch.ClassOptions, 17, [2]uint16{1, 2}},
		{"authentication header", v6.IP(51, append([]byte{17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2}, udpOf(v6)...)), 64, 0, vswitch.ClassOptions, 17, [2]uint16{1, 2}},
		{"atomic fragment", v6.IP(44, switchtest.Fragment(17, 0, false, 9, udpOf(v6))), 48, 0, vswitch.ClassFragment, 17, [2]uint16{1, 2}},
		{"first fragment", v6.IP(44, switchtest.Fragment(17, 0, true, 9, udpOf(v6))), 48, 0, vswitch.ClassFragment, 17, [2]uint16{1, 2}},
		{"first fragment that ends in the TCP header", v4frag(true, 0).IP(6, tcpOf(v4)[:8]), 20, 0, vswitch.ClassFragment, 6, [2]uint16{}},
		{"first fragment of UDP", set16(v4frag(true, 0).IP(17, udpOf(v4)), 14+20+4, 4000), 20, 0, vswitch.ClassFragment, 17, [2]uint16{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f vswitch.Frame
			f.Parse(nil, c.b)
			if f.Class&vswitch.ClassBad != 0 {
				t.Fatalf("bad: %s", f.Reason)
			}
			if f.L3 != l3 || f.L4 != l3+c.l4 || f.End != len(c.b)-c.pad {
				t.Errorf("L3 %d, L4 %d, End %d; want %d, %d, %d", f.L3, f.L4, f.End, l3, l3+c.l4, len(c.b)-c.pad)
			}
			if f.Class != c.class || f.Proto != c.proto || f.SrcPort() != c.ports[0] || f.DstPort() != c.ports[1] {
				t.Errorf("class %#x, protocol %d, ports %d %d; want %#x, %d, %v", f.Class, f.Proto, f.SrcPort(), f.DstPort(), c.class, c.proto, c.ports)
			}
			want := v4
			if f.V6 {
				want = v6
			}
			if f.Src() != want.Src || f.Dst() != want.Dst || f.SrcMAC() != macA || f.DstMAC() != macB || !f.IP() {
				t.Errorf("addresses %s %s %s %s", f.Src(), f.Dst(), f.SrcMAC(), f.DstMAC())
			}
		})
	}
}

func v4frag(more bool, offset uint16) switchtest.Packet {
	return with(v4, func(p *switchtest.Packet) { p.ID, p.MoreFragments, p.FragOffset = 4711, more, offset })
}

func udpOf(p switchtest.Packet) []byte { return switchtest.Transport(p.UDP(1, 2, data)) }
func tcpOf(p switchtest.Packet) []byte { return switchtest.Transport(p.TCP(ack, data)) }

func TestParseFragments(t *testing.T) {
	piece := make([]byte, 64)
	for _, c := range []struct {
		name   string
		b      []byte
		off    uint16
		more   bool
		id     uint32
		hasTop bool // the transport header is in it
	}{
		{"first of v4", v4frag(true, 0).IP(17, udpOf(v4)), 0, true, 4711, true},
		{"middle of v4", v4frag(true, 1480).IP(17, piece), 1480, true, 4711, false},
		{"last of v4", v4frag(false, 2960).IP(17, piece), 2960, false, 4711, false},
		{"furthest of v4", v4frag(false, 65528).IP(17, piece), 65528, false, 4711, false},
		{"first of v6", v6.IP(44, switchtest.Fragment(17, 0, true, 1<<31+9, udpOf(v6))), 0, true, 1<<31 + 9, true},
		{"last of v6", v6.IP(44, switchtest.Fragment(17, 65528, false, 9, piece)), 65528, false, 9, false},
		{"behind an extension", v6.IP(60, switchtest.Extension(44, switchtest.Fragment(17, 8, true, 9, piece))), 8, true, 9, false},
	} {
		var f vswitch.Frame
		f.Parse(nil, c.b)
		if f.Class&vswitch.ClassBad != 0 || f.Class&vswitch.ClassFragment == 0 {
			t.Errorf("%s: class %#x, %s", c.name, f.Class, f.Reason)
		}
		if f.FragOff != c.off || f.FragMore != c.more || f.FragID != c.id || (f.L4 != 0) != c.hasTop || f.Proto != 17 {
			t.Errorf("%s: offset %d more %t id %d L4 %d protocol %d", c.name, f.FragOff, f.FragMore, f.FragID, f.L4, f.Proto)
		}
		if !c.hasTop && (f.SrcPort() != 0 || f.DstPort() != 0) {
			t.Errorf("%s: ports %d and %d were read from a payload", c.name, f.SrcPort(), f.DstPort())
		}
	}
}

// TestParseOther is about frames that are not IP and are nevertheless fine.
func TestParseOther(t *testing.T) {
	for _, c := range []struct {
		name  string
		b     []byte
		kind  uint16
		class vswitch.Class
	}{
		{"arp", arpRequest.Frame(), 0x0806, vswitch.ClassNeighbour | vswitch.ClassGroup},
		{"odd ethertype", v4.Ether(0x88b5, data), 0x88b5, 0},
		{"llc", v4.Ether(46, append([]byte{0x42, 0x42, 3}, make([]byte, 43)...)), 46, 0},
		{"nothing behind the header", v4.Ether(0x88b5, nil), 0x88b5, 0},
		{"broadcast", with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).Ether(0x88b5, nil), 0x88b5, vswitch.ClassGroup},
		{"jumbo", v4.Ether(0x8870, make([]byte, 65536)), 0x8870, 0},
	} {
		var f vswitch.Frame
		f.Parse(nil, c.b)
		if f.Class != c.class || f.EtherType != c.kind || f.L3 != l3 || f.L4 != 0 || f.End != len(c.b) || f.IP() {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestParseBad(t *testing.T) {
	tcp4, tcp6, udp4, udp6 := v4.TCP(ack, data), v6.TCP(ack, data), v4.UDP(1, 2, data), v6.UDP(1, 2, data)
	nine := udpOf(v6)
	next := layers.IPProtocol(17)
	for range 9 {
		nine = switchtest.Extension(next, nine)
		next = 60
	}
	partial := switchtest.Partial(tcp4)
	super := switchtest.Super(udp4, vswitch.GSOUDPL4, 8)
	for _, c := range []struct {
		name string
		b    []byte
		want vswitch.Reason
	}{
		{"empty", nil, vswitch.Truncated},
		{"virtio header only", make([]byte, vswitch.VnetLen), vswitch.Truncated},
		{"vlan", with(v4, func(p *switchtest.Packet) { p.VLAN = 5 }).UDP(1, 2, data), vswitch.VLAN},
		{"priority tag", set16(with(v4, func(p *switchtest.Packet) { p.VLAN = 5 }).UDP(1, 2, data), 14, 0xe000), vswitch.VLAN},
		{"service tag", v4.Ether(0x88a8, make([]byte, 40)), vswitch.VLAN},
		{"arp cut", arpRequest.Frame()[:l3+27], vswitch.Truncated},
		{"v4 header says version 6", set8(tcp4, 14, 0x65), vswitch.BadIP},
		{"v4 header of 16 bytes", set8(tcp4, 14, 0x44), vswitch.BadIP},
		{"v4 total length 0", set16(tcp4, 16, 0), vswitch.BadIP},
		{"v4 total shorter than header", set16(tcp4, 16, 19), vswitch.BadIP},
		{"v4 total shorter than its options", set16(with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 40) }).TCP(ack, data), 16, 59), vswitch.BadIP},
		{"v4 total too long", set16(tcp4, 16, uint16(len(tcp4)-l3+1)), vswitch.Truncated},
		{"v4 header longer than the packet", set8(v4.IP(200, nil), 14, 0x4f), vswitch.BadIP},
		{"v6 header says version 4", set8(tcp6, 14, 0x40), vswitch.BadIP},
		{"v6 payload too long", set16(tcp6, 18, uint16(len(tcp6)-l3-40+1)), vswitch.Truncated},
		{"tcp header cut", set16(tcp4, 16, 20+19), vswitch.BadTransport},
		{"tcp without header", set16(tcp4, 16, 20), vswitch.BadTransport},
		{"tcp offset of 16", set8(tcp4, 14+20+12, 0x40), vswitch.BadTransport},
		{"tcp offset beyond the end", set8(tcp4, 14+20+12, 0xf0), vswitch.BadTransport},
		{"tcp6 offset beyond the end", set8(tcp6, 14+40+12, 0xf0), vswitch.BadTransport},
		{"udp header cut", set16(udp4, 16, 20+7), vswitch.BadTransport},
		{"udp length 0", set16(udp4, 14+20+4, 0), vswitch.BadTransport},
		{"udp length 7", set16(udp4, 14+20+4, 7), vswitch.BadTransport},
		{"udp length too long", set16(udp4, 14+20+4, uint16(len(udp4)-l3-20+1)), vswitch.BadTransport},
		{"udp6 length too long", set16(udp6, 14+40+4, 0xffff), vswitch.BadTransport},
		{"udp super-frame of length 0", set16(super, 14+20+4, 0), vswitch.BadTransport},
		{"udp super-frame that is longer than itself", set16(super, 14+20+4, 0xffff), vswitch.BadTransport},
		{"udp fragment without a header", v4frag(true, 0).IP(17, make([]byte, 7)), vswitch.BadTransport},
		{"icmp cut", v4.IP(1, make([]byte, 7)), vswitch.BadTransport},
		{"icmp6 cut", v6.IP(58, make([]byte, 7)), vswitch.BadTransport},
		{"extension cut", v6.IP(60, make([]byte, 7)), vswitch.Truncated},
		{"extension longer than the packet", v6.IP(60, []byte{17, 1, 1, 4, 0, 0, 0, 0}), vswitch.Truncated},
		{"authentication cut", v6.IP(51, make([]byte, 7)), vswitch.Truncated},
		{"authentication longer than the packet", v6.IP(51, []byte{17, 255, 0, 0, 0, 0, 0, 0}), vswitch.Truncated},
		{"fragment header cut", v6.IP(44, make([]byte, 7)), vswitch.Truncated},
		{"nine extensions", v6.IP(60, nine), vswitch.BadIP},
		{"checksum in the Ethernet header", vnet(tcp4, vswitch.Vnet{Flags: 1, CsumStart: 0, CsumOff: 12}), vswitch.BadVnet},
		{"checksum behind the frame", vnet(tcp4, vswitch.Vnet{Flags: 1, CsumStart: uint16(len(tcp4) - vswitch.VnetLen), CsumOff: 0}), vswitch.BadVnet},
		{"checksum half behind the frame", vnet(tcp4, vswitch.Vnet{Flags: 1, CsumStart: 34, CsumOff: uint16(len(tcp4) - vswitch.VnetLen - 34 - 1)}), vswitch.BadVnet},
		{"checksum offsets that overflow", vnet(tcp4, vswitch.Vnet{Flags: 1, CsumStart: 0xffff, CsumOff: 0xffff}), vswitch.BadVnet},
		{"checksum over the IPv4 source", vnet(tcp4, vswitch.Vnet{Flags: 1, CsumStart: 14, CsumOff: 12}), vswitch.BadVnet},
		{"checksum over the IPv6 source", vnet(tcp6, vswitch.Vnet{Flags: 1, CsumStart: 14, CsumOff: 8}), vswitch.BadVnet},
		{"checksum over IPv4 options", vnet(with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 8) }).TCP(ack, data), vswitch.Vnet{Flags: 1, CsumStart: 34, CsumOff: 2}), vswitch.BadVnet},
		{"checksum over the ARP sender", vnet(arpRequest.Frame(), vswitch.Vnet{Flags: 1, CsumStart: 14, CsumOff: 14}), vswitch.BadVnet},
		{"checksum over the target of an advertisement", vnet(switchtest.Neighbour{Packet: v6, Target: v6.Src}.Advertise(), vswitch.Vnet{Flags: 1, CsumStart: 54, CsumOff: 20}), vswitch.BadVnet},
		{"checksum of a later fragment", vnet(v4frag(true, 1480).IP(6, make([]byte, 64)), vswitch.Vnet{Flags: 1, CsumStart: 34, CsumOff: 16}), vswitch.BadVnet},
		{"segments without a checksum", vnet(tcp4, vswitch.Vnet{GSOType: vswitch.GSOTCPv4, GSOSize: 1448}), vswitch.BadVnet},
		{"segments of 7 bytes", edit(partial, func(b []byte) { v := vswitch.ReadVnet(b); v.GSOType, v.GSOSize = vswitch.GSOTCPv4, 7; v.Put(b) }), vswitch.BadVnet},
		{"segments of the old UDP kind", edit(partial, func(b []byte) { v := vswitch.ReadVnet(b); v.GSOType, v.GSOSize = vswitch.GSOUDP, 1448; v.Put(b) }), vswitch.BadVnet},
		{"segments of an unknown kind", edit(partial, func(b []byte) { v := vswitch.ReadVnet(b); v.GSOType, v.GSOSize = 0x7f, 1448; v.Put(b) }), vswitch.BadVnet},
		{"ECN without segments", edit(partial, func(b []byte) { v := vswitch.ReadVnet(b); v.GSOType = vswitch.GSOECN; v.Put(b) }), vswitch.BadVnet},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f vswitch.Frame
			f.Parse(nil, c.b)
			if f.Class&vswitch.ClassBad == 0 || f.Reason != c.want {
				t.Errorf("class %#x, reason %s; want %s", f.Class, f.Reason, c.want)
			}
			if f.IP() {
				t.Error("IP says that the packet is well-formed")
			}
		})
	}
}

// TestParseCut cuts frames of every kind at every length: all of them are
// truncated, and nothing else.
func TestParseCut(t *testing.T) {
	for name, b := range map[string][]byte{
		"arp": arpRequest.Frame(), "tcp4": v4.TCP(ack, data), "udp6": v6.UDP(1, 2, data), "echo": v4.Echo(1, 2, nil), "tcp4 partial": switchtest.Super(v4.TCP(ack, data), vswitch.GSOTCPv4, 8),
		"options":    with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 40) }).UDP(1, 2, nil),
		"extensions": v6.IP(0, switchtest.Extension(44, switchtest.Fragment(60, 0, true, 1, switchtest.Extension(17, udpOf(v6))))),
	} {
		for n := range b {
			var f vswitch.Frame
			f.Parse(nil, b[:n:n])
			want := vswitch.Truncated
			if v := (vswitch.Vnet{}); n >= l3 {
				if v = vswitch.ReadVnet(b); v.Flags != 0 && int(v.CsumStart+v.CsumOff)+2 > n-vswitch.VnetLen {
					want = vswitch.BadVnet // the checksum field is cut away
				}
			}
			if f.Class&vswitch.ClassBad == 0 || f.Reason != want {
				t.Fatalf("%s cut to %d of %d bytes: class %#x, %s; want %s", name, n, len(b), f.Class, f.Reason, want)
			}
		}
	}
}

// TestParseLyingLength lets the IP header claim every length.
func TestParseLyingLength(t *testing.T) {
	tcp4, tcp6 := v4.TCP(ack, data), v6.TCP(ack, data)
	for n := range 0x10000 {
		var f vswitch.Frame
		want, whole := vswitch.Delivered, len(tcp4)-l3
		switch {
		case n < 20:
			want = vswitch.BadIP
		case n > whole:
			want = vswitch.Truncated
		case n < 40:
			want = vswitch.BadTransport
		}
		if f.Parse(nil, set16(tcp4, 16, uint16(n))); f.Reason != want {
			t.Fatalf("IPv4 total length %d: %s, want %s", n, f.Reason, want)
		}
		want, whole = vswitch.Delivered, len(tcp6)-l3-40
		switch {
		case n > whole:
			want = vswitch.Truncated
		case n < 20:
			want = vswitch.BadTransport
		}
		if f.Parse(nil, set16(tcp6, 18, uint16(n))); f.Reason != want {
			t.Fatalf("IPv6 payload length %d: %s, want %s", n, f.Reason, want)
		}
	}
}

// TestKeyTellsFlowsApart changes one thing at a time.
func TestKeyTellsFlowsApart(t *testing.T) {
	p := v4
	other := netip.MustParseAddr("172.17.0.9")
	frames := map[string][]byte{
		"flow":             p.TCP(ack, data),
		"source MAC":       with(p, func(p *switchtest.Packet) { p.SrcMAC[5]++ }).TCP(ack, data),
		"destination MAC":  with(p, func(p *switchtest.Packet) { p.DstMAC[0] += 2 }).TCP(ack, data),
		"source":           with(p, func(p *switchtest.Packet) { p.Src = other }).TCP(ack, data),
		"destination":      with(p, func(p *switchtest.Packet) { p.Dst = other }).TCP(ack, data),
		"source port":      p.TCP(layers.TCP{SrcPort: 40001, DstPort: 80, ACK: true}, data),
		"destination port": p.TCP(layers.TCP{SrcPort: 40000, DstPort: 81, ACK: true}, data),
		"protocol":         p.UDP(40000, 80, data),
		"family":           v6.TCP(ack, data),
		"source 6":         with(v6, func(p *switchtest.Packet) { p.Src = p.Src.Next() }).TCP(ack, data),
		"source prefix 6":  with(v6, func(p *switchtest.Packet) { p.Src = netip.MustParseAddr("fd01:17::2") }).TCP(ack, data),
		"destination 6":    with(v6, func(p *switchtest.Packet) { p.Dst = p.Dst.Next() }).TCP(ack, data),
		"echo":             p.Echo(1, 1, data),
		"echo reply":       p.EchoReply(1, 1, data),
		"echo identifier":  p.Echo(2, 1, data),
		"other ethertype":  p.Ether(0x88b5, data),
		"one more":         p.Ether(0x88b6, data),
	}
	keys := map[vswitch.Key]string{}
	for name, b := range frames {
		var f vswitch.Frame
		f.Parse(nil, b)
		if was, taken := keys[f.Key]; taken {
			t.Errorf("%s and %s have one key", name, was)
		}
		keys[f.Key] = name
	}
	var a, b vswitch.Frame
	a.Parse(nil, p.TCP(ack, data))
	b.Parse(nil, with(p, func(p *switchtest.Packet) { p.TTL, p.ID = 9, 77 }).TCP(layers.TCP{SrcPort: 40000, DstPort: 80, ACK: true, Seq: 9}, nil))
	if a.Key != b.Key {
		t.Error("two segments of one flow have different keys")
	}
	a.Parse(nil, p.Echo(1, 1, data))
	b.Parse(nil, v6.EchoReply(1, 2, nil))
	if a.Key.EchoType() != 8 || b.Key.EchoType() != 129 {
		t.Errorf("echo types %d and %d", a.Key.EchoType(), b.Key.EchoType())
	}
}
