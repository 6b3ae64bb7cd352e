package switchtest

import (
	"encoding/binary"

	"tapswitch/switch"
)

// Partial makes of a finished TCP or UDP frame one whose checksum is left to
// the receiver, as a kernel with checksum offload sends it.
func Partial(frame []byte) []byte { return offload(frame, 0, 0) }

// Super makes of a finished TCP or UDP frame a super-frame of a virtio GSO type
// whose pieces carry size bytes of payload each.
func Super(frame []byte, gsoType uint8, size uint16) []byte { return offload(frame, gsoType, size) }

func offload(frame []byte, gsoType uint8, size uint16) []byte {
	b := append([]byte(nil), frame...)
	ip := b[vswitch.VnetLen+vswitch.EthLen:]
	l4 := Transport(b)
	proto, src, dst := ip[9], ip[12:16], ip[16:20]
	if ip[0]>>4 == 6 {
		proto, src, dst = ip[6], ip[8:24], ip[24:40]
	}
	at, header := 6, vswitch.UDPLen
	if proto == vswitch.ProtoTCP {
		at, header = 16, int(l4[12]>>4)*4
	}
	start := len(b) - len(l4) - vswitch.VnetLen
	vswitch.Vnet{Flags: vswitch.VnetNeedsCsum, GSOType: gsoType, GSOSize: size, HdrLen: uint16(start + header),
		CsumStart: uint16(start), CsumOff: uint16(at)}.Put(b)
	binary.BigEndian.PutUint16(l4[at:], ^NaiveChecksum(nil, naivePseudo(src, dst, proto, len(l4))))
	return b
}

// NaiveChecksum is RFC 1071 by the letter, on top of a sum of 16-bit words.
func NaiveChecksum(b []byte, sum uint64) uint16 {
	for i := range b {
		if i%2 == 0 {
			sum += uint64(b[i]) << 8
		} else {
			sum += uint64(b[i])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func naivePseudo(src, dst []byte, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length>>16) + uint64(length&0xffff)
	return sum + uint64(^NaiveChecksum(src, 0)) + uint64(^NaiveChecksum(dst, 0))
}
