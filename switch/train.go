package vswitch

import "bytes"

// A train is consecutive datagrams of one UDP flow to one port, put together
// into the super-frame that the sender's kernel would have made of them had the
// sender asked (UDP_SEGMENT). One write takes it through the receiver's stack,
// whose socket layer splits it again (net/ipv4/udp_offload.c): a datagram's way
// through that stack costs more than all we do with it.
//
// A train waits for no one: it departs when the port that is being read is
// empty or has had its share, or when something else goes to its port.
type train struct {
	port  *Port // nil for none
	buf   []byte
	n     int // bytes of buf in use
	head  int // bytes of all headers, the virtio one included
	size  int // payload bytes of each datagram; the last may have less
	count int
}

const (
	trainCars    = 64    // datagrams: UDP_MAX_SEGMENTS of older kernels
	trainBytes   = 60000 // and their payload
	trainPayload = 2048  // bytes of a datagram above which a copy is not worth it
)

// board takes the frame b for p into the train, and reports false if it is not
// of the kind; then nothing that goes to p is waiting.
func (s *Switch) board(p *Port, b []byte) bool {
	t := &s.train
	head := 0
	if p.caps&CapUSO != 0 && b[0] == VnetNeedsCsum && b[1] == GSONone {
		head = udpHead(b)
	}
	if head == 0 {
		if t.port == p {
			s.depart()
		}
		return false
	}
	payload := len(b) - head
	if t.port != nil && (t.port != p || t.head != head || payload > t.size || t.count == trainCars || t.n+payload > trainBytes || !t.same(b)) {
		s.depart()
	}
	if t.port == nil {
		t.port, t.head, t.size, t.count = p, head, payload, 1
		t.n = copy(t.buf, b)
		return true
	}
	t.n += copy(t.buf[t.n:], b[head:])
	if t.count++; payload < t.size {
		s.depart()
	}
	return true
}

// udpHead is the length of the headers of b, with the virtio one, if b is a
// whole UDP datagram without options that may travel in a train, else 0.
func udpHead(b []byte) int {
	const l3 = VnetLen + EthLen
	l4 := VnetLen + int(le16(b[6:]))
	if le16(b[8:]) != 6 || len(b) <= l4+UDPLen || len(b) > l4+UDPLen+trainPayload || b[VnetLen]&1 != 0 {
		return 0
	}
	switch be16(b[VnetLen+12:]) {
	case EtherIPv4:
		if l4 != l3+IPv4Len || b[l3] != 0x45 || b[l3+9] != ProtoUDP || be16(b[l3+6:])&0x3fff != 0 || int(be16(b[l3+2:])) != len(b)-l3 {
			return 0
		}
	case EtherIPv6:
		if l4 != l3+IPv6Len || b[l3+6] != ProtoUDP || int(be16(b[l3+4:])) != len(b)-l4 {
			return 0
		}
	default:
		return 0
	}
	if int(be16(b[l4+4:])) != len(b)-l4 {
		return 0
	}
	return l4 + UDPLen
}

// same says whether the headers of b differ from the train's in nothing but
// lengths, checksums and the identification.
func (t *train) same(b []byte) bool {
	const l3 = VnetLen + EthLen
	l4 := t.head - UDPLen
	if !bytes.Equal(b[VnetLen:l3+2], t.buf[VnetLen:l3+2]) || !bytes.Equal(b[l4:l4+4], t.buf[l4:l4+4]) {
		return false
	}
	if l4 == l3+IPv4Len {
		return bytes.Equal(b[l3+6:l3+10], t.buf[l3+6:l3+10]) && bytes.Equal(b[l3+12:l4], t.buf[l3+12:l4])
	}
	return bytes.Equal(b[l3+2:l3+4], t.buf[l3+2:l3+4]) && bytes.Equal(b[l3+6:l4], t.buf[l3+6:l4])
}

// depart writes the train that waits, if one does.
func (s *Switch) depart() {
	t := &s.train
	p := t.port
	if p == nil {
		return
	}
	t.port = nil
	b := t.buf[:t.n]
	if t.count > 1 {
		t.couple(b)
	}
	r := s.write(p, b)
	if r != Delivered { // the frame that is being decided about is another one
		p.Stats.Drops[r] += uint64(t.count)
	} else {
		p.Stats.RxFrames += uint64(t.count - 1)
		p.Stats.RxBytes += uint64((t.count - 1) * (t.head - VnetLen))
	}
}

// couple makes the headers in front of several datagrams those of a super-frame.
func (t *train) couple(b []byte) {
	const l3 = VnetLen + EthLen
	l4 := t.head - UDPLen
	b[1] = GSOUDPL4
	putle16(b[2:], uint16(t.head-VnetLen))
	putle16(b[4:], uint16(t.size))
	length := len(b) - l4
	put16(b[l4+4:], uint16(length))
	src, dst := b[l3+8:l3+24], b[l3+24:l3+40]
	if l4 == l3+IPv4Len {
		put16(b[l3+2:], uint16(len(b)-l3))
		PutIPv4Checksum(b[l3:l4])
		src, dst = b[l3+12:l3+16], b[l3+16:l3+20]
	} else {
		put16(b[l3+4:], uint16(length))
	}
	put16(b[l4+6:], Fold(PseudoSum(src, dst, ProtoUDP, length)))
}
