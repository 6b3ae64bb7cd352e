package switchtest

import (
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"tapswitch/switch"
)

// Packet is what the frames of a test have in common. Its methods make frames
// behind an empty virtio header, lengths and checksums filled in. The zero
// values of the optional fields are the usual ones.
type Packet struct {
	SrcMAC, DstMAC vswitch.MAC
	Src, Dst       netip.Addr // both of one family
	TTL            uint8      // 0 for 64
	VLAN           uint16     // 0 for no tag
	ID             uint16     // IPv4 only
	Options        []byte     // IPv4 options, a multiple of 4 bytes
	MoreFragments  bool       // IPv4 only
	FragOffset     uint16     // IPv4 only, in bytes, a multiple of 8
}

// TCP makes a segment. t's ports, numbers, flags and options are the caller's;
// a window of 0 becomes 64240.
func (p Packet) TCP(t layers.TCP, payload []byte) []byte {
	if t.Window == 0 {
		t.Window = 64240
	}
	if err := t.SetNetworkLayerForChecksum(p.network(layers.IPProtocolTCP)); err != nil {
		panic(err)
	}
	return p.IP(layers.IPProtocolTCP, serialize(&t, gopacket.Payload(payload)))
}

// UDP makes a datagram.
func (p Packet) UDP(src, dst uint16, payload []byte) []byte {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	if err := u.SetNetworkLayerForChecksum(p.network(layers.IPProtocolUDP)); err != nil {
		panic(err)
	}
	return p.IP(layers.IPProtocolUDP, serialize(u, gopacket.Payload(payload)))
}

// Echo makes an ICMP echo request.
func (p Packet) Echo(id, seq uint16, payload []byte) []byte { return p.echo(false, id, seq, payload) }

// EchoReply makes an ICMP echo reply.
func (p Packet) EchoReply(id, seq uint16, payload []byte) []byte {
	return p.echo(true, id, seq, payload)
}

func (p Packet) echo(reply bool, id, seq uint16, payload []byte) []byte {
	if p.Dst.Is4() {
		kind := uint8(layers.ICMPv4TypeEchoRequest)
		if reply {
			kind = layers.ICMPv4TypeEchoReply
		}
		l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: seq}
		return p.IP(layers.IPProtocolICMPv4, serialize(l, gopacket.Payload(payload)))
	}
	kind := uint8(layers.ICMPv6TypeEchoRequest)
	if reply {
		kind = layers.ICMPv6TypeEchoReply
	}
	return p.ICMPv6(kind, 0, append([]byte{byte(id >> 8), byte(id), byte(seq >> 8), byte(seq)}, payload...))
}

// ICMPv6 makes a message of a type and code; body is what follows the checksum.
func (p Packet) ICMPv6(kind, code uint8, body []byte) []byte {
	l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	if err := l.SetNetworkLayerForChecksum(p.network(layers.IPProtocolICMPv6)); err != nil {
		panic(err)
	}
	return p.IP(layers.IPProtocolICMPv6, serialize(l, gopacket.Payload(body)))
}

// IP makes an IP packet of anything: payload is what follows the IP header,
// and proto what the header calls it.
func (p Packet) IP(proto layers.IPProtocol, payload []byte) []byte {
	ip := p.network(proto)
	kind := layers.EthernetTypeIPv4
	if p.Dst.Is6() {
		kind = layers.EthernetTypeIPv6
	}
	b := serialize(ip.(gopacket.SerializableLayer), gopacket.Payload(payload))
	if v4, ok := ip.(*layers.IPv4); ok && len(p.Options) > 0 {
		b = withOptions(b, v4, p.Options)
	}
	return p.Ether(kind, b)
}

// Ether makes a frame of anything: kind is an ethertype, or below 0x600 an
// IEEE 802.3 length. It is not padded, since TAPs do not pad. (gopacket does.)
func (p Packet) Ether(kind layers.EthernetType, payload []byte) []byte {
	b := make([]byte, vswitch.VnetLen, vswitch.VnetLen+18+len(payload))
	b = append(append(b, p.DstMAC[:]...), p.SrcMAC[:]...)
	if p.VLAN != 0 {
		b = append(b, 0x81, 0x00, byte(p.VLAN>>8), byte(p.VLAN))
	}
	return append(append(b, byte(kind>>8), byte(kind)), payload...)
}

func (p Packet) network(proto layers.IPProtocol) gopacket.NetworkLayer {
	ttl := p.TTL
	if ttl == 0 {
		ttl = 64
	}
	if p.Dst.Is6() {
		return &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: proto, SrcIP: net.IP(p.Src.AsSlice()), DstIP: net.IP(p.Dst.AsSlice())}
	}
	v4 := &layers.IPv4{Version: 4, IHL: 5, TTL: ttl, Protocol: proto, Id: p.ID, FragOffset: p.FragOffset / 8,
		SrcIP: net.IP(p.Src.AsSlice()), DstIP: net.IP(p.Dst.AsSlice())}
	if p.MoreFragments {
		v4.Flags |= layers.IPv4MoreFragments
	}
	return v4
}

// withOptions puts options behind the fixed header of the IPv4 packet b.
func withOptions(b []byte, ip *layers.IPv4, options []byte) []byte {
	out := append(append(append([]byte(nil), b[:20]...), options...), b[20:]...)
	out[0] = 4<<4 | byte(5+len(options)/4)
	out[2], out[3] = byte(len(out)>>8), byte(len(out))
	out[10], out[11] = 0, 0
	sum := NaiveChecksum(out[:20+len(options)], 0)
	out[10], out[11] = byte(sum>>8), byte(sum)
	return out
}

// Extension is an IPv6 extension header of 8 bytes of padding in front of what
// follows, which the header calls next. It does for hop-by-hop, destination
// options and, as gopacket and kernels walk it, an unknown routing type.
func Extension(next layers.IPProtocol, rest []byte) []byte {
	return append([]byte{byte(next), 0, 1, 4, 0, 0, 0, 0}, rest...)
}

// Fragment is an IPv6 fragment header in front of a piece, offset in bytes.
func Fragment(next layers.IPProtocol, offset uint16, more bool, id uint32, piece []byte) []byte {
	w := offset &^ 7
	if more {
		w |= 1
	}
	h := []byte{byte(next), 0, byte(w >> 8), byte(w), byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	return append(h, piece...)
}

// Transport is what a frame made by Packet carries behind its IP header.
func Transport(frame []byte) []byte {
	b := frame[vswitch.VnetLen+vswitch.EthLen:]
	if b[0]>>4 == 6 {
		return b[40:]
	}
	return b[int(b[0]&15)*4:]
}

func serialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic("switchtest: " + err.Error()) // a mistake in the test
	}
	return buf.Bytes()
}
