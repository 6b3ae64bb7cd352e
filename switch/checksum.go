package vswitch

import "math/bits"

// Sum adds b to the running one's-complement sum acc (RFC 1071), reading
// 64-bit words with end-around carry. The sum is kept in little-endian byte
// order, which one's-complement arithmetic allows; Fold gives network order.
// b starts at an even offset of the summed data.
func Sum(b []byte, acc uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		acc, c = bits.Add64(acc, le64(b), 0)
		acc, c = bits.Add64(acc, le64(b[8:]), c)
		acc, c = bits.Add64(acc, le64(b[16:]), c)
		acc, c = bits.Add64(acc, le64(b[24:]), c)
		acc, c = bits.Add64(acc, le64(b[32:]), c)
		acc, c = bits.Add64(acc, le64(b[40:]), c)
		acc, c = bits.Add64(acc, le64(b[48:]), c)
		acc, c = bits.Add64(acc, le64(b[56:]), c)
		acc, c = bits.Add64(acc, 0, c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, le64(b), 0)
		acc += c
		b = b[8:]
	}
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(le32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(le16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0])
	}
	acc, c = bits.Add64(acc, tail, 0)
	return acc + c
}

// Fold reduces a running sum to 16 bits in network order, not complemented.
func Fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return bits.ReverseBytes16(uint16(acc))
}

// PseudoSum is the running sum of the pseudo header for addresses src and dst
// (both 4 or both 16 bytes), protocol proto and an upper-layer length in
// bytes (RFC 9293 3.1, RFC 8200 8.1).
func PseudoSum(src, dst []byte, proto uint8, length int) uint64 {
	acc := Sum(dst, Sum(src, 0))
	n := uint32(length)
	w := [8]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0, proto}
	return Sum(w[:], acc)
}

// Checksum is the finished Internet checksum of b on top of acc.
func Checksum(b []byte, acc uint64) uint16 { return ^Fold(Sum(b, acc)) }

// PutIPv4Checksum computes and stores the header checksum of the IPv4 header
// h, options included.
func PutIPv4Checksum(h []byte) {
	h[10], h[11] = 0, 0
	put16(h[10:], Checksum(h, 0))
}

// AdjustSum updates the 16-bit checksum at sum for a change of the bytes old
// to new, both of the same even length (RFC 1624, eqn. 3). partial says that
// the field holds a pseudo header's sum that is not complemented. The result may
// be 0, which a UDP header must not hold: its caller writes 0xffff, the same sum.
func AdjustSum(sum []byte, old, new []byte, partial bool) {
	hc := be16(sum)
	if !partial {
		hc = ^hc
	}
	acc := uint64(hc)
	for i := 0; i+1 < len(old); i += 2 {
		acc += uint64(^be16(old[i:])) + uint64(be16(new[i:]))
	}
	for acc>>16 != 0 {
		acc = acc>>16 + acc&0xffff
	}
	hc = uint16(acc)
	if !partial {
		hc = ^hc
	}
	put16(sum, hc)
}
