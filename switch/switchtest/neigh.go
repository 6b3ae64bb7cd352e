package switchtest

import (
	"net/netip"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
)

// ARP is an ARP message and the frame around it.
type ARP struct {
	SrcMAC, DstMAC       vswitch.MAC // of the frame
	Op                   uint16      // layers.ARPRequest or layers.ARPReply
	SenderMAC, TargetMAC vswitch.MAC
	SenderIP, TargetIP   netip.Addr
}

// Frame makes the frame.
func (a ARP) Frame() []byte {
	sender, target := a.SenderIP.As4(), a.TargetIP.As4()
	l := &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: a.Op,
		SourceHwAddress: a.SenderMAC[:], SourceProtAddress: sender[:], DstHwAddress: a.TargetMAC[:], DstProtAddress: target[:]}
	return Packet{SrcMAC: a.SrcMAC, DstMAC: a.DstMAC}.Ether(layers.EthernetTypeARP, serialize(l))
}

// Neighbour is a message of IPv6 neighbour discovery and the packet around it.
// The hop limit is 255 unless Packet.TTL says otherwise.
type Neighbour struct {
	Packet
	Target netip.Addr
	Flags  uint8 // of an advertisement: 0x80 router, 0x40 solicited, 0x20 override
	Option vswitch.MAC
}

// Solicit makes a neighbour solicitation. A zero Option is left out, as it is
// in duplicate address detection.
func (n Neighbour) Solicit() []byte { return n.message(layers.ICMPv6TypeNeighborSolicitation, 1) }

// Advertise makes a neighbour advertisement.
func (n Neighbour) Advertise() []byte { return n.message(layers.ICMPv6TypeNeighborAdvertisement, 2) }

func (n Neighbour) message(kind, option uint8) []byte {
	t := n.Target.As16()
	body := append([]byte{n.Flags, 0, 0, 0}, t[:]...)
	if n.Option != (vswitch.MAC{}) {
		body = append(append(body, option, 1), n.Option[:]...)
	}
	return n.packet().ICMPv6(kind, 0, body)
}

// RouterSolicit makes a router solicitation.
func (n Neighbour) RouterSolicit() []byte {
	return n.packet().ICMPv6(layers.ICMPv6TypeRouterSolicitation, 0, make([]byte, 4))
}

// RouterAdvertise makes a router advertisement that names no prefix.
func (n Neighbour) RouterAdvertise() []byte {
	return n.packet().ICMPv6(layers.ICMPv6TypeRouterAdvertisement, 0, []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})
}

// Redirect makes a redirect of the target's traffic to the target.
func (n Neighbour) Redirect() []byte {
	t := n.Target.As16()
	return n.packet().ICMPv6(layers.ICMPv6TypeRedirect, 0, append(append(make([]byte, 4), t[:]...), t[:]...))
}

func (n Neighbour) packet() Packet {
	p := n.Packet
	if p.TTL == 0 {
		p.TTL = 255
	}
	return p
}

// SolicitedNode is the group in which a's owner hears solicitations, and the
// MAC of that group (RFC 4291, 2.7.1; RFC 2464, 7).
func SolicitedNode(a netip.Addr) (netip.Addr, vswitch.MAC) {
	b := a.As16()
	g := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
	return g, vswitch.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}
