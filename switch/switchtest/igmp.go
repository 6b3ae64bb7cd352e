package switchtest

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
)

// GroupMAC is the Ethernet address of a multicast group (RFC 1112, 6.4; RFC
// 2464, 7).
func GroupMAC(g netip.Addr) vswitch.MAC {
	if g.Is4() {
		b := g.As4()
		return vswitch.MAC{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := g.As16()
	return vswitch.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// ToGroup starts a packet from h's first address of the family to a group.
func (h *Host) ToGroup(group string) Packet {
	g := netip.MustParseAddr(group)
	p := Packet{SrcMAC: h.MAC, DstMAC: GroupMAC(g), Dst: g}
	for _, a := range h.Addrs {
		if a.Is4() == g.Is4() {
			p.Src = a
		}
	}
	if g.Is6() && g.IsLinkLocalMulticast() {
		p.Src = vswitch.LinkLocal(h.MAC)
	}
	return p
}

// IGMP makes a message: kind, code, and what follows the checksum.
func (p Packet) IGMP(kind, code byte, body []byte) []byte {
	b := append([]byte{kind, code, 0, 0}, body...)
	binary.BigEndian.PutUint16(b[2:], vswitch.Checksum(b, 0))
	p.TTL, p.Options = 1, []byte{0x94, 4, 0, 0}
	return p.IP(layers.IPProtocolIGMP, b)
}

// MLD makes a message as IGMP does, behind a router alert.
func (p Packet) MLD(kind byte, body []byte) []byte {
	b := Transport(p.ICMPv6(kind, 0, body))
	p.TTL = 1
	return p.IP(0, append([]byte{58, 0, 5, 2, 0, 0, 1, 0}, b...))
}

// Record is a group record of an IGMPv3 or MLDv2 report (RFC 3376, 4.2.4).
type Record struct {
	Kind    byte
	Group   string
	Sources []string
}

// Records is the body of a report of them.
func Records(list ...Record) []byte {
	b := []byte{0, 0, 0, byte(len(list))}
	for _, r := range list {
		b = append(b, r.Kind, 0, 0, byte(len(r.Sources)))
		b = append(b, netip.MustParseAddr(r.Group).AsSlice()...)
		for _, s := range r.Sources {
			b = append(b, netip.MustParseAddr(s).AsSlice()...)
		}
	}
	return b
}
