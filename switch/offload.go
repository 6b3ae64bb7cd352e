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

// segment splits a TCP or UDP super-frame and writes the pieces.
func (s *Switch) segment(p *Port, b []byte, v Vnet) Reason {
	f := &s.gsoFrame
	f.Parse(nil, b)
	result := Delivered
	if r := f.cut(v, s.segBuf, func(seg []byte) {
		if r := s.write(p, seg); r != Delivered {
			result = r
		}
	}); r != Delivered {
		return r
	}
	return result
}

// cut makes of a TCP or UDP super-frame frames of gso_size bytes of payload with
// finished checksums, each of which it gives to emit in buf. One without payload
// stays one frame.
func (f *Frame) cut(v Vnet, buf []byte, emit func(seg []byte)) Reason {
	b := f.B
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
	id := be16(b[f.L3+4:])
	for off, n := 0, 0; n == 0 || head+off < f.End; n++ {
		chunk := min(size, f.End-head-off)
		seg := buf[:head+chunk]
		copy(seg, b[:head])
		copy(seg[head:], b[head+off:head+off+chunk])
		clear(seg[:VnetLen])
		f.fixSegment(seg, off, n, id, head+off+chunk >= f.End)
		emit(seg)
		off += chunk
	}
	return Delivered
}

// Splitter makes of captured frames what would be seen on a wire.
type Splitter struct {
	f   Frame
	buf []byte
}

// Split gives the frames that b, a virtio header and a whole frame, stands for to
// emit, with finished checksums and an empty virtio header: those of a
// super-frame, or the one. They are borrowed, and b is not changed. What cannot
// be split stays as it is.
func (x *Splitter) Split(b []byte, emit func(b []byte)) {
	if x.buf == nil {
		x.buf = make([]byte, 128<<10)
	}
	v := ReadVnet(b)
	if v.GSOType != GSONone {
		x.f.Parse(nil, b)
		if l3 := VnetLen + EthLen; len(b) >= l3+IPv4Len && be16(b[l3-2:]) == EtherIPv4 && be16(b[l3+2:]) == 0 {
			x.beyond(b)
		}
		if x.f.cut(v, x.buf, emit) != Delivered {
			emit(b)
		}
		return
	}
	if v.Flags&VnetNeedsCsum != 0 && len(b) <= len(x.buf) && VnetLen+int(v.CsumStart)+int(v.CsumOff)+2 <= len(b) {
		seg := x.buf[:copy(x.buf, b)]
		finishChecksum(seg, v)
		b = seg
	}
	emit(b)
}

// beyond parses an IPv4 super-frame of more than 64 KiB, whose header tells no
// length: a copy of its headers does.
func (x *Splitter) beyond(b []byte) {
	const l3 = VnetLen + EthLen
	head := x.buf[:copy(x.buf, b[:min(len(b), l3+120)])]
	put16(head[l3+2:], uint16(len(head)-l3))
	x.f.Parse(nil, head)
	x.f.B, x.f.End = b, len(b)
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
