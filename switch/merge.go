package vswitch

import "bytes"

// merge is consecutive TCP super-frames of one flow from one port to another, put
// together into a longer one: a sender's kernel gives 64 KiB at most in a frame, a
// receiver's takes more (IPv4 with a total length of 0: BIG TCP, Linux 6.3), and
// what its stack does, and what comes back, is for each frame and not for each
// byte.
//
// No byte is copied for that. The first frame stays where it was read to, and the
// next is read to where its payload would go on, with its headers over the end of
// what is held, whose bytes under are kept aside meanwhile: so each frame lies in
// one piece and goes the way of all frames, until it turns out to be the next. It
// is held until the port it came from is empty or has had its share, or something else
// follows. A share is about 256 KiB, so that is its bound; beyond 272 KiB the kernel
// would need runs of eight free pages for it.
type merge struct {
	port  *Port // where it goes; nil for nothing held
	at    int   // of readBuf, where it begins
	n     int   // bytes
	head  int   // of them headers, the virtio one included
	next  uint32
	count int // frames

	// spot is where in readBuf the frame lies that is being decided about, and may
	// stay; -1 for none. With something held, under is what lies below its headers.
	spot  int
	under [mergeHead]byte
}

const (
	mergeHead  = VnetLen + EthLen + IPv4Len + 60 // bytes of headers at most
	mergeLeast = 16 << 10                        // bytes of a frame below which its sender has no more
	mergeRest  = 2                               // seconds without, once the kernel had no memory for so long a frame
)

// room is where the next frame is to be read.
func (s *Switch) room() []byte {
	m := &s.merge
	m.spot = 0
	if m.port != nil {
		m.spot = m.at + m.n - m.head
		copy(m.under[:m.head], s.readBuf[m.spot:])
	}
	return s.readBuf[m.spot : m.spot+VnetLen+MaxFrame]
}

// join takes the frame b, which goes to p and nowhere else, for what is held or to
// be held, and reports whether it did.
func (s *Switch) join(p *Port, b []byte) bool {
	m := &s.merge
	head := mergeable(b)
	if head == 0 || !p.Big() || p.alone > s.now32 || p.shape != nil || m.spot < 0 || &b[0] != &s.readBuf[m.spot] {
		return false
	}
	if s.capture != nil {
		s.captureOut(p, b)
	}
	const l4 = VnetLen + EthLen + IPv4Len
	seq, size := be32(b[l4+4:]), len(b)-head
	if m.port == p && m.next == seq && m.same(s.readBuf[m.at:], b) {
		s.readBuf[m.at+l4+13] |= b[l4+13] // PSH
		copy(s.readBuf[m.spot:], m.under[:head])
		m.n += size
		m.count++
	} else {
		s.part()
		m.port, m.at, m.n, m.head, m.count = p, m.spot, len(b), head, 1
	}
	m.next, m.spot = seq+uint32(size), -1
	return true
}

// mergeable is the length of the headers of b, with the virtio one, if it is a TCP
// super-frame of which another may be the continuation, else 0. Its pieces are all of
// one size: it ends where one does.
func mergeable(b []byte) int {
	const l3, l4 = VnetLen + EthLen, VnetLen + EthLen + IPv4Len
	if len(b) < mergeLeast || b[0] != VnetNeedsCsum || b[1] != GSOTCPv4 || be16(b[l3-2:]) != EtherIPv4 || b[l3] != 0x45 || b[l3+9] != ProtoTCP {
		return 0
	}
	if int(le16(b[6:])) != l4-VnetLen || int(be16(b[l3+2:])) != len(b)-l3 || be16(b[l3+6:])&0x3fff != 0 || b[l4+13]&^TCPPsh != TCPAck {
		return 0
	}
	head := l4 + int(b[l4+12]>>4)*4
	if (len(b)-head)%int(le16(b[4:])) != 0 {
		return 0
	}
	return head
}

// same says whether the headers of b differ from those in front of a in nothing but
// lengths, checksums, the identification, the sequence number and PSH.
func (m *merge) same(a, b []byte) bool {
	const l3, l4 = VnetLen + EthLen, VnetLen + EthLen + IPv4Len
	return bytes.Equal(a[:l3+2], b[:l3+2]) && bytes.Equal(a[l3+6:l3+10], b[l3+6:l3+10]) && bytes.Equal(a[l3+12:l4+4], b[l3+12:l4+4]) &&
		bytes.Equal(a[l4+8:l4+13], b[l4+8:l4+13]) && bytes.Equal(a[l4+14:l4+16], b[l4+14:l4+16]) && bytes.Equal(a[l4+18:m.head], b[l4+18:m.head])
}

// decided ends what is held if the frame that was read after it is none of it: it
// would be read over.
func (s *Switch) decided() {
	if s.merge.spot >= 0 {
		s.part()
		s.merge.spot = -1
	}
}

// part writes what is held, if anything is. The frame that is being decided about
// may lie over its end, and is there again afterwards.
func (s *Switch) part() {
	m := &s.merge
	p := m.port
	if p == nil {
		return
	}
	m.port = nil
	if m.spot >= 0 {
		m.swap(s.readBuf)
	}
	b := s.readBuf[m.at : m.at+m.n]
	if m.count > 1 {
		lengthen(b)
	}
	if r := s.write(p, b); r == Delivered {
		p.Stats.RxFrames += uint64(m.count - 1)
		p.Stats.RxBytes += uint64((m.count - 1) * (m.head - VnetLen))
	} else {
		for range m.count {
			s.count(p, r)
		}
		p.alone = s.now32 + mergeRest
	}
	if m.spot >= 0 {
		m.swap(s.readBuf)
	}
}

// swap puts what lies under the headers at spot over them, and the other way round.
func (m *merge) swap(buf []byte) {
	var over [mergeHead]byte
	b := buf[m.spot : m.spot+m.head]
	copy(over[:], b)
	copy(b, m.under[:m.head])
	copy(m.under[:m.head], over[:m.head])
}

// lengthen makes the headers of b, those of its first frame, its own.
func lengthen(b []byte) {
	const l3, l4 = VnetLen + EthLen, VnetLen + EthLen + IPv4Len
	total := len(b) - l3
	if total > 0xffff {
		total = 0
	}
	put16(b[l3+2:], uint16(total))
	PutIPv4Checksum(b[l3:l4])
	put16(b[l4+16:], Fold(PseudoSum(b[l3+12:l3+16], b[l3+16:l4], ProtoTCP, len(b)-l4)))
}
