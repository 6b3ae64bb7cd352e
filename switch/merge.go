package vswitch

import "bytes"

// merge is consecutive TCP super-frames of one flow from one port to another, put
// together into a longer one: a sender's kernel gives 64 KiB at most in a frame, a
// receiver's takes more (IPv4 with a total length of 0: BIG TCP; TAPs since Linux 6.6), and
// what its stack does, and what comes back, is for each frame and not for each
// byte.
//
// No payload is copied for that. The first frame stays where it was read to, and the
// next is read to where its payload would go on: its headers then lie over the end
// of what is held, and the bytes beneath them are saved. So each frame lies in one
// piece and goes the way of all frames, until it turns out to be the next. What is
// held is written when the port it came from is empty or has had its share, or
// something else follows. A share is about 256 KiB, so that is its bound; for much
// more the kernel would need runs of eight free pages.
type merge struct {
	in, port *Port // where it comes from and goes; nil for nothing held
	at       int   // of readBuf, where it begins
	n        int   // bytes
	head     int   // of them headers, the virtio one included
	next     uint32
	count    int // frames

	// spot is where in readBuf the frame lies that is being decided about, and may
	// stay; -1 for none. If something is held, beneath has the bytes under its headers.
	spot    int
	beneath [mergeHead]byte
}

const (
	mergeL3    = VnetLen + EthLen  // where its IPv4 header begins, which has no options,
	mergeL4    = mergeL3 + IPv4Len // and TCP's
	mergeHead  = mergeL4 + 60      // bytes of headers at most
	mergeLeast = 16 << 10          // bytes of the shortest frame that is held
	mergeRest  = 2                 // seconds, the current one included, after the kernel has refused a long frame
)

// room is where the next frame is to be read.
func (s *Switch) room() []byte {
	m := &s.merge
	m.spot = 0
	if m.port != nil {
		m.spot = m.at + m.n - m.head
		copy(m.beneath[:m.head], s.readBuf[m.spot:])
	}
	return s.readBuf[m.spot : m.spot+VnetLen+MaxFrame]
}

// unread takes room back where nothing was read. It returns true if something is
// held.
func (s *Switch) unread() bool {
	m := &s.merge
	if m.port != nil {
		copy(s.readBuf[m.spot:], m.beneath[:m.head]) // the device may have written there
	}
	m.spot = -1
	return m.port != nil
}

// join takes the frame f, which goes to p and nowhere else, for what is held or to
// be held, and reports whether it did.
func (s *Switch) join(f *Frame, p *Port) bool {
	m, b := &s.merge, f.B
	head := mergeable(b)
	if head == 0 || !p.Big() || p.alone > s.now32 || p.shape != nil || m.spot < 0 || &b[0] != &s.readBuf[m.spot] {
		return false
	}
	if s.train.port == p {
		s.depart()
	}
	if s.capture != nil {
		s.captureOut(p, b)
	}
	seq, size := be32(b[mergeL4+4:]), len(b)-head
	if m.port == p && m.next == seq && m.same(s.readBuf[m.at:], b) {
		s.readBuf[m.at+mergeL4+13] |= b[mergeL4+13] // PSH
		copy(s.readBuf[m.spot:], m.beneath[:head])
		m.n += size
		m.count++
	} else {
		s.part()
		m.in, m.port, m.at, m.n, m.head, m.count = f.In, p, m.spot, len(b), head, 1
	}
	m.next, m.spot = seq+uint32(size), -1
	return true
}

// mergeable is the length of the headers of b, with the virtio one, if it is a TCP
// super-frame of which another may be the continuation, else 0. Its pieces are all of
// one size: it ends where one does. b is parsed, so that there is such a size, and TCP's
// header lies within.
func mergeable(b []byte) int {
	if len(b) < mergeLeast || b[0] != VnetNeedsCsum || b[1] != GSOTCPv4 || be16(b[mergeL3-2:]) != EtherIPv4 || b[mergeL3] != 0x45 || b[mergeL3+9] != ProtoTCP {
		return 0
	}
	if int(le16(b[6:])) != mergeL4-VnetLen || le16(b[8:]) != 16 || int(be16(b[mergeL3+2:])) != len(b)-mergeL3 || be16(b[mergeL3+6:])&0x3fff != 0 || b[mergeL4+13]&^TCPPsh != TCPAck {
		return 0
	}
	head := mergeL4 + int(b[mergeL4+12]>>4)*4
	if (len(b)-head)%int(le16(b[4:])) != 0 {
		return 0
	}
	return head
}

// same says whether the headers of b differ from those in front of a in nothing but
// lengths, checksums, the identification, the sequence number and PSH.
func (m *merge) same(a, b []byte) bool {
	return bytes.Equal(a[:mergeL3+2], b[:mergeL3+2]) && bytes.Equal(a[mergeL3+6:mergeL3+10], b[mergeL3+6:mergeL3+10]) && bytes.Equal(a[mergeL3+12:mergeL4+4], b[mergeL3+12:mergeL4+4]) &&
		bytes.Equal(a[mergeL4+8:mergeL4+13], b[mergeL4+8:mergeL4+13]) && bytes.Equal(a[mergeL4+14:mergeL4+16], b[mergeL4+14:mergeL4+16]) && bytes.Equal(a[mergeL4+18:m.head], b[mergeL4+18:m.head])
}

// decided ends what is held if the frame that was read after it is none of it: the
// next one would be read over it.
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
	b, rxFrames, rxBytes := s.readBuf[m.at:m.at+m.n], p.Stats.RxFrames, p.Stats.RxBytes
	if m.count > 1 {
		lengthen(b, be32(b[mergeL4+4:]), true)
	}
	r := s.write(p, b)
	if m.count > 1 && (r == NoBuffer || r == TooBig) {
		p.alone = s.now32 + mergeRest
		r = s.pieces(p, b, m.head)
	}
	if r == Delivered { // as if each had been written for itself
		p.Stats.RxFrames = rxFrames + uint64(m.count)
		p.Stats.RxBytes = rxBytes + uint64(m.n-VnetLen+(m.count-1)*(m.head-VnetLen))
	} else {
		s.lost(m.in, b, max(m.count-int(p.Stats.RxFrames-rxFrames), 1), r)
	}
	if m.spot >= 0 {
		m.swap(s.readBuf)
	}
}

// swap exchanges what lies at spot with what lay there before.
func (m *merge) swap(buf []byte) {
	var over [mergeHead]byte
	b := buf[m.spot : m.spot+m.head]
	copy(over[:], b)
	copy(b, m.beneath[:m.head])
	copy(m.beneath[:m.head], over[:m.head])
}

// lengthen makes the headers of b fit all of it, which begins at seq. If it is not the
// last of a longer one, it does not push.
func lengthen(b []byte, seq uint32, last bool) {
	total := len(b) - mergeL3
	if total > 0xffff {
		total = 0
	}
	put16(b[mergeL3+2:], uint16(total))
	PutIPv4Checksum(b[mergeL3:mergeL4])
	put32(b[mergeL4+4:], seq)
	if !last {
		b[mergeL4+13] &^= TCPPsh
	}
	put16(b[mergeL4+16:], Fold(PseudoSum(b[mergeL3+12:mergeL3+16], b[mergeL3+16:mergeL4], ProtoTCP, len(b)-mergeL4)))
}

// pieces writes b, whose headers have head bytes, in frames of 64 KiB at most: for these
// the kernel can do with single pages. The headers of each go over the end of the
// payload in front, which is written by then.
func (s *Switch) pieces(p *Port, b []byte, head int) Reason {
	var headers [mergeHead]byte
	copy(headers[:head], b)
	size := int(le16(b[4:]))
	size = (0xffff - (head - mergeL3)) / size * size
	seq := be32(b[mergeL4+4:])
	for {
		n := min(size, len(b)-head)
		copy(b, headers[:head])
		lengthen(b[:head+n], seq, n == len(b)-head)
		if r := s.write(p, b[:head+n]); r != Delivered {
			return r
		}
		if b = b[n:]; len(b) == head {
			return Delivered
		}
		seq += uint32(n)
	}
}

// lost counts and notes frames from in that were held and came to nothing; b begins
// with headers as theirs. The frame that is being decided about is another one.
func (s *Switch) lost(in *Port, b []byte, count int, r Reason) {
	in.Stats.Drops[r] += uint64(count)
	put16(b[mergeL3+2:], uint16(min(len(b)-mergeL3, 0xffff))) // so that it can be read
	s.gsoFrame.Parse(in, b)
	for range count {
		s.failFrame(&s.gsoFrame, r, StepNone, 0)
	}
}
