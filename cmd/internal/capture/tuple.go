package capture

import (
	"encoding/binary"
	"net/netip"

	"tapswitch/switch"
)

// Tuple is what tells a packet's flow from others, as its sender sees it. Of an
// echo the identifier is the port of whoever asks.
type Tuple struct {
	Proto    uint8
	Opens    bool // a SYN without an ACK
	Src, Dst netip.AddrPort
}

// TupleOf reads a frame's, of which b is the beginning; false: it has none, or it
// is not all there.
func TupleOf(b []byte) (t Tuple, ok bool) {
	const l3 = vswitch.EthLen
	if len(b) < l3+vswitch.IPv4Len {
		return t, false
	}
	var src, dst netip.Addr
	l4 := 0
	switch ip := b[l3:]; binary.BigEndian.Uint16(b[12:]) {
	case vswitch.EtherIPv4:
		if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return t, false
		}
		t.Proto, l4 = ip[9], l3+int(ip[0]&15)*4
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case vswitch.EtherIPv6:
		if len(ip) < vswitch.IPv6Len {
			return t, false
		}
		t.Proto, l4 = ip[6], l3+vswitch.IPv6Len
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	default:
		return t, false
	}
	if l4+8 > len(b) {
		return t, false
	}
	l := b[l4:]
	sport, dport := binary.BigEndian.Uint16(l), binary.BigEndian.Uint16(l[2:])
	switch t.Proto {
	case vswitch.ProtoTCP:
		t.Opens = len(l) > 13 && l[13]&(vswitch.TCPSyn|vswitch.TCPAck) == vswitch.TCPSyn
	case vswitch.ProtoUDP:
	case vswitch.ProtoICMP, vswitch.ProtoICMPv6:
		id := binary.BigEndian.Uint16(l[4:])
		switch l[0] {
		case 8, 128:
			sport, dport = id, 0
		case 0, 129:
			sport, dport = 0, id
		default:
			return t, false
		}
	default:
		return t, false
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return t, true
}
