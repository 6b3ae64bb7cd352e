package vswitch

import "encoding/binary"

// Lengths and offsets of the headers the datapath reads by hand. gopacket
// decodes in tests and captures only: a decode costs more than the lookup.
const (
	EthLen  = 14
	ARPLen  = 28
	IPv4Len = 20
	IPv6Len = 40
	TCPLen  = 20
	UDPLen  = 8
	ICMPLen = 8
)

// Ethernet types (IEEE 802 numbers).
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherQinQ = 0x88a8
	EtherIPv6 = 0x86dd
)

// IP protocol numbers (IANA).
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoIGMP     = 2
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoAH       = 51
	ProtoICMPv6   = 58
	ProtoNoNext   = 59
	ProtoDestOpts = 60
)

// TCP flags (RFC 9293, 3.1).
const (
	TCPFin = 1 << 0
	TCPSyn = 1 << 1
	TCPRst = 1 << 2
	TCPPsh = 1 << 3
	TCPAck = 1 << 4
	TCPUrg = 1 << 5
	TCPEce = 1 << 6
	TCPCwr = 1 << 7
)

// MAC is an Ethernet address.
type MAC [6]byte

// Broadcast is the Ethernet broadcast address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Multicast says whether the group bit is set; true for broadcast, too.
func (m MAC) Multicast() bool { return m[0]&1 != 0 }

const hexDigits = "0123456789abcdef"

// String prints the address as ip(8) does: 02:42:ac:11:00:02.
func (m MAC) String() string {
	b := make([]byte, 0, 17)
	for i, x := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, hexDigits[x>>4], hexDigits[x&15])
	}
	return string(b)
}

func be16(b []byte) uint16       { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32       { return binary.BigEndian.Uint32(b) }
func put16(b []byte, v uint16)   { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32)   { binary.BigEndian.PutUint32(b, v) }
func le64(b []byte) uint64       { return binary.LittleEndian.Uint64(b) }
func le32(b []byte) uint32       { return binary.LittleEndian.Uint32(b) }
func le16(b []byte) uint16       { return binary.LittleEndian.Uint16(b) }
func putle16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }
