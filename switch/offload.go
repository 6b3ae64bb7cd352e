package vswitch

// Software segmentation and checksums: for a port that lacks an offload that a
// frame relies on, such as a plain TAP. The kernel's own rules are followed
// (net/ipv4/tcp_offload.c, udp_offload.c).

// soften brings b into a form that p takes and writes it.
func (s *Switch) soften(p *Port, b []byte) Reason {
	v := ReadVnet(b)
	if v.GSOType&^GSOECN == GSONone {
		finishChecksum(b, v)
		return s.write(p, b)
	}
	if v.GSOType&^GSOECN == GSOUDP {
		return NotOffloadable
	}
	return s.segment(p, b, v)
}

// finishChecksum computes what CHECKSUM_PARTIAL left open and clears the
// virtio header.
func finishChecksum(b []byte, v Vnet) {
	start := VnetLen + int(v.CsumStart)
	at := start + int(v.CsumOff)
	sum := Checksum(b[start:], 0)
	if sum == 0 && v.CsumOff == 6 {
		sum = 0xffff // a UDP checksum of 0 means none (RFC 768)
	}
	put16(b[at:], sum)
	clear(b[:VnetLen])
}

// The smallest pieces that are made, so that one frame costs a bounded number
// of writes: less no kernel asks for (TCP_MIN_SND_MSS, UDP_MAX_SEGMENTS).
const (
	minTCPSegment  = 48
	maxUDPSegments = 128
)

// segment splits a TCP or UDP super-frame into frames of gso_size bytes of
// payload with finished checksums. One without payload stays one frame.
func (s *Switch) segment(p *Port, b []byte, v Vnet) Reason {
	f := &s.gsoFrame
	f.Parse(nil, b)
	if f.Class&ClassBad != 0 || f.L4 == 0 || f.Class&ClassFragment != 0 {
		return NotOffloadable
	}
	if !f.gsoMatches(v.GSOType &^ GSOECN) {
		return BadVnet // as the kernel's EINVAL
	}
	hl := UDPLen
	if f.Proto == ProtoTCP {
		hl = int(f.B[f.L4+12]>>4) * 4
	}
	head := f.L4 + hl // length of all headers, the virtio one included
	size := int(v.GSOSize)
	if f.Proto == ProtoTCP && size < minTCPSegment || f.Proto == ProtoUDP && f.End-head > maxUDPSegments*size {
		return NotOffloadable
	}
	result := Delivered
	id := be16(b[f.L3+4:])
	for off, n := 0, 0; n == 0 || head+off < f.End; n++ {
		chunk := min(size, f.End-head-off)
		seg := s.segBuf[:head+chunk]
		copy(seg, b[:head])
		copy(seg[head:], b[head+off:head+off+chunk])
		clear(seg[:VnetLen])
		f.fixSegment(seg, off, n, id, head+off+chunk >= f.End)
		if r := s.write(p, seg); r != Delivered {
			result = r
		}
		off += chunk
	}
	return result
}

// gsoMatches says whether the frame is of the kind that its GSO type names.
func (f *Frame) gsoMatches(gsoType uint8) bool {
	switch gsoType {
	case GSOTCPv4:
		return f.Proto == ProtoTCP && !f.V6
	case GSOTCPv6:
		return f.Proto == ProtoTCP && f.V6
	case GSOUDPL4:
		return f.Proto == ProtoUDP
	}
	return false
}

// fixSegment sets the lengths, sequence numbers, flags and checksums of seg,
// the n-th piece, whose payload starts off bytes into the super-frame's.
func (f *Frame) fixSegment(seg []byte, off, n int, id uint16, last bool) {
	ip, l4 := seg[f.L3:], seg[f.L4:]
	if f.V6 {
		put16(ip[4:], uint16(len(ip)-IPv6Len))
	} else {
		put16(ip[2:], uint16(len(ip)))
		put16(ip[4:], id+uint16(n))
		PutIPv4Checksum(ip[:f.ipHeader()])
	}
	at := 6
	if f.Proto == ProtoTCP {
		at = 16
		put32(l4[4:], be32(l4[4:])+uint32(off))
		if !last {
			l4[13] &^= TCPFin | TCPPsh
		}
		if n > 0 {
			l4[13] &^= TCPCwr
		}
	} else {
		put16(l4[4:], uint16(len(l4)))
	}
	put16(l4[at:], 0)
	var src, dst []byte
	if f.V6 {
		src, dst = ip[8:24], ip[24:40]
	} else {
		src, dst = ip[12:16], ip[16:20]
	}
	sum := Checksum(l4, PseudoSum(src, dst, f.Proto, len(l4)))
	if sum == 0 && f.Proto == ProtoUDP {
		sum = 0xffff
	}
	put16(l4[at:], sum)
}

// ipHeader is the length of the IPv4 header in bytes.
func (f *Frame) ipHeader() int { return int(f.B[f.L3]&15) * 4 }
