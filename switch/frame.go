package vswitch

import (
	"encoding/binary"
	"net/netip"
)

// Class says what keeps a frame out of the flow cache: what the decision
// depends on but the key does not hold. A frame with any bit set goes up each
// time.
type Class uint16

// The class bits.
const (
	ClassBad       Class = 1 << iota // parse failed; Frame.Reason says why
	ClassFragment                    // any IP fragment, the first included
	ClassOptions                     // IPv4 options or IPv6 extension headers
	ClassTTL                         // TTL or hop limit of 1 or 0
	ClassTCPFlags                    // SYN, FIN or RST
	ClassNeighbour                   // ARP, IPv6 neighbour and router discovery
	ClassControl                     // DHCP, IGMP, MLD: read or answered by the switch
	ClassGroup                       // multicast or broadcast destination
)

// Key identifies a flow as one port sees it: MACs, ethertype, addresses,
// protocol and ports, packed into words so that it compares and hashes without
// calls. ICMP echo has its identifier in the ports' place.
type Key struct {
	mac0, mac1 uint64
	src, dst   [2]uint64
	l4         uint64
}

// hash mixes the key into 64 bits: multiplications by odd constants and
// xor-shifts, as in wyhash's final steps. Not proof against an attacker, whose
// worst is to thrash the cache of his own port.
func (k *Key) hash() uint64 {
	h := k.mac0*0x9e3779b97f4a7c15 ^ k.mac1
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= k.src[0] ^ k.src[1]*0xa0761d6478bd642f
	h = (h ^ h>>29) * 0xe7037ed1a0b428db
	h ^= k.dst[0] ^ k.dst[1]*0x8ebc6af09c88c6e3
	h = (h ^ h>>32) * 0x589965cc75374cc3
	h ^= k.l4
	h = (h ^ h>>31) * 0x1d8e4e27c47d124f
	return h ^ h>>32
}

// Frame is one Ethernet frame as the parser found it. It is reused for each
// frame; B is borrowed from the port's read buffer and valid until the call it
// was given to returns.
type Frame struct {
	B  []byte // virtio header, then the Ethernet frame
	In *Port

	Key       Key
	EtherType uint16
	L3        int // offset in B of the network header
	L4        int // offset in B of the transport header; 0 if there is none
	End       int // offset in B behind the IP datagram: Ethernet padding is cut
	TTL       uint8
	Proto     uint8 // of the last header, behind IPv6 extension headers
	TCPFlags  uint8
	V6        bool
	Class     Class
	Reason    Reason // why ClassBad is set
	FragOff   uint16 // fragment offset in bytes
	FragMore  bool
	FragID    uint32
}

// The frame's addresses; each is borrowed from B.

// DstMAC is the destination MAC.
func (f *Frame) DstMAC() MAC { return MAC(f.B[VnetLen : VnetLen+6]) }

// SrcMAC is the source MAC.
func (f *Frame) SrcMAC() MAC { return MAC(f.B[VnetLen+6 : VnetLen+12]) }

// SrcIP is the source address in network order, 4 or 16 bytes.
func (f *Frame) SrcIP() []byte {
	if f.V6 {
		return f.B[f.L3+8 : f.L3+24]
	}
	return f.B[f.L3+12 : f.L3+16]
}

// DstIP is the destination address in network order, 4 or 16 bytes.
func (f *Frame) DstIP() []byte {
	if f.V6 {
		return f.B[f.L3+24 : f.L3+40]
	}
	return f.B[f.L3+16 : f.L3+20]
}

// Src is the source address.
func (f *Frame) Src() netip.Addr { a, _ := netip.AddrFromSlice(f.SrcIP()); return a }

// Dst is the destination address.
func (f *Frame) Dst() netip.Addr { a, _ := netip.AddrFromSlice(f.DstIP()); return a }

// SrcPort is the source port, or an echo identifier.
func (f *Frame) SrcPort() uint16 { return uint16(f.Key.l4 >> 48) }

// DstPort is the destination port.
func (f *Frame) DstPort() uint16 { return uint16(f.Key.l4 >> 32) }

// IP says whether the frame holds a well-formed IP packet.
func (f *Frame) IP() bool {
	return f.Class&ClassBad == 0 && (f.EtherType == EtherIPv4 || f.EtherType == EtherIPv6)
}

// Parse reads the headers of b, a virtio header and an Ethernet frame, into f.
// It never fails: what is wrong sets ClassBad and Reason. b is borrowed.
func (f *Frame) Parse(in *Port, b []byte) {
	*f = Frame{B: b, In: in}
	if len(b) < VnetLen+EthLen {
		f.bad(Truncated)
		return
	}
	eth := b[VnetLen:]
	w0, w1 := le64(eth), le64(eth[6:])
	f.EtherType = binary.BigEndian.Uint16(eth[12:])
	f.Key.mac0 = w0 // destination and two bytes of the source
	f.Key.mac1 = w1 // source and ethertype
	f.L3, f.End = VnetLen+EthLen, len(b)
	if eth[0]&1 != 0 {
		f.Class |= ClassGroup
	}
	if b[0]|b[1] != 0 && !f.vnetFits() {
		f.bad(BadVnet)
		return
	}
	switch f.EtherType {
	case EtherIPv4:
		f.parseIPv4()
	case EtherIPv6:
		f.V6 = true
		f.parseIPv6()
	case EtherARP:
		f.Class |= ClassNeighbour
		if len(b)-f.L3 < ARPLen {
			f.bad(Truncated)
		}
	case EtherVLAN, EtherQinQ:
		f.bad(VLAN)
	}
	if b[0]&VnetNeedsCsum != 0 && !f.checksumFits() {
		f.bad(BadVnet)
	}
}

func (f *Frame) bad(r Reason) {
	if f.Class&ClassBad == 0 {
		f.Class |= ClassBad
		f.Reason = r
	}
}

// vnetFits checks a virtio header against its frame, since the receiving
// kernel would answer EINVAL and software segmentation trusts it.
func (f *Frame) vnetFits() bool {
	v, n := ReadVnet(f.B), len(f.B)-VnetLen
	if v.Flags&VnetNeedsCsum != 0 && (int(v.CsumStart) < EthLen || int(v.CsumStart)+int(v.CsumOff)+2 > n) {
		return false
	}
	switch v.GSOType &^ GSOECN {
	case GSONone:
		return v.GSOType == GSONone
	case GSOTCPv4, GSOTCPv6, GSOUDPL4:
		return v.Flags&VnetNeedsCsum != 0 && v.GSOSize >= 8
	}
	return false
}

// checksumFits says whether the open checksum lies behind what the guard reads:
// a raw socket may point it at the frame's own source address, which would be
// another one when the checksum has been filled in. Kernels never leave one
// open in ARP, neighbour discovery or later fragments.
func (f *Frame) checksumFits() bool {
	if f.Class&ClassNeighbour != 0 {
		return false
	}
	return !f.IP() || f.L4 != 0 && VnetLen+int(le16(f.B[6:])) >= f.L4
}

func (f *Frame) parseIPv4() {
	p := f.B[f.L3:]
	if len(p) < IPv4Len {
		f.bad(Truncated)
		return
	}
	hl, total := int(p[0]&15)*4, int(be16(p[2:]))
	if p[0]>>4 != 4 || hl < IPv4Len || total < hl {
		f.bad(BadIP)
		return
	}
	if total > len(p) {
		f.bad(Truncated)
		return
	}
	f.End = f.L3 + total
	f.TTL, f.Proto = p[8], p[9]
	f.Key.src[0], f.Key.dst[0] = uint64(le32(p[12:])), uint64(le32(p[16:]))
	if hl > IPv4Len {
		f.Class |= ClassOptions
	}
	if f.TTL <= 1 {
		f.Class |= ClassTTL
	}
	if frag := be16(p[6:]); frag&0x3fff != 0 {
		f.Class |= ClassFragment
		f.FragOff, f.FragMore, f.FragID = frag<<3, frag&0x2000 != 0, uint32(be16(p[4:]))
		if f.FragOff != 0 {
			f.Key.l4 = uint64(f.Proto)
			return
		}
	}
	f.L4 = f.L3 + hl
	f.parseL4()
}

func (f *Frame) parseIPv6() {
	p := f.B[f.L3:]
	if len(p) < IPv6Len {
		f.bad(Truncated)
		return
	}
	total := IPv6Len + int(be16(p[4:]))
	if p[0]>>4 != 6 {
		f.bad(BadIP)
		return
	}
	if total > len(p) {
		f.bad(Truncated)
		return
	}
	f.End = f.L3 + total
	f.TTL = p[7]
	f.Key.src = [2]uint64{le64(p[8:]), le64(p[16:])}
	f.Key.dst = [2]uint64{le64(p[24:]), le64(p[32:])}
	if f.TTL <= 1 {
		f.Class |= ClassTTL
	}
	f.walkIPv6(p[6], f.L3+IPv6Len)
}

// maxExtensions bounds the walk over IPv6 extension headers.
const maxExtensions = 8

// walkIPv6 follows extension headers from next at offset off to the transport
// header (RFC 8200, 4).
func (f *Frame) walkIPv6(next uint8, off int) {
	for range maxExtensions {
		var n int
		switch next {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts:
			if f.End-off < 8 {
				f.bad(Truncated)
				return
			}
			n = 8 + int(f.B[off+1])*8
			f.Class |= ClassOptions
		case ProtoAH:
			if f.End-off < 8 {
				f.bad(Truncated)
				return
			}
			n = 8 + int(f.B[off+1])*4
			f.Class |= ClassOptions
		case ProtoFragment:
			if f.End-off < 8 {
				f.bad(Truncated)
				return
			}
			w := be16(f.B[off+2:])
			f.Class |= ClassFragment
			f.FragOff, f.FragMore, f.FragID = w&^7, w&1 != 0, be32(f.B[off+4:])
			n = 8
			if f.FragOff != 0 {
				f.Proto = f.B[off]
				f.Key.l4 = uint64(f.Proto)
				return
			}
		default:
			f.Proto = next
			f.L4 = off
			f.parseL4()
			return
		}
		if f.End-off < n {
			f.bad(Truncated)
			return
		}
		next, off = f.B[off], off+n
	}
	f.bad(BadIP)
}

// parseL4 reads what the key holds of the transport header. A first fragment
// may end inside of it, which reassembly judges later.
func (f *Frame) parseL4() {
	p := f.B[f.L4:f.End]
	f.Key.l4 = uint64(f.Proto)
	frag := f.Class&ClassFragment != 0
	switch f.Proto {
	case ProtoTCP:
		if len(p) < TCPLen || int(p[12]>>4)*4 < TCPLen || int(p[12]>>4)*4 > len(p) {
			if !frag {
				f.bad(BadTransport)
			}
			return
		}
		f.TCPFlags = p[13]
		if p[13]&(TCPSyn|TCPFin|TCPRst) != 0 {
			f.Class |= ClassTCPFlags
		}
		f.Key.l4 |= uint64(be16(p))<<48 | uint64(be16(p[2:]))<<32
	case ProtoUDP:
		if len(p) < UDPLen || !frag && (int(be16(p[4:])) > len(p) || int(be16(p[4:])) < UDPLen) {
			f.bad(BadTransport)
			return
		}
		f.Key.l4 |= uint64(be16(p))<<48 | uint64(be16(p[2:]))<<32
		if d := be16(p[2:]); d == 67 || d == 68 || d == 546 || d == 547 {
			f.Class |= ClassControl
		}
	case ProtoICMP, ProtoICMPv6:
		if (f.Proto == ProtoICMPv6) != f.V6 {
			f.Class |= ClassOptions
			return
		}
		if len(p) < ICMPLen {
			if !frag {
				f.bad(BadTransport)
			}
			return
		}
		f.parseICMP(p)
	case ProtoIGMP:
		f.Class |= ClassControl
	}
}

func (f *Frame) parseICMP(p []byte) {
	if !f.V6 {
		if p[0] == 8 || p[0] == 0 {
			f.Key.l4 |= uint64(be16(p[4:]))<<48 | uint64(p[0])<<16
		} else {
			f.Class |= ClassOptions // errors carry another packet inside
		}
		return
	}
	switch {
	case p[0] == 128 || p[0] == 129:
		f.Key.l4 |= uint64(be16(p[4:]))<<48 | uint64(p[0])<<16
	case p[0] >= 133 && p[0] <= 137:
		f.Class |= ClassNeighbour
	case p[0] >= 130 && p[0] <= 132 || p[0] == 143:
		f.Class |= ClassControl
	default:
		f.Class |= ClassOptions
	}
}

// EchoType is the ICMP type of an echo request or reply; 0 else, which for
// ICMPv4 is the reply's own number.
func (k *Key) EchoType() uint8 { return uint8(k.l4 >> 16) }
