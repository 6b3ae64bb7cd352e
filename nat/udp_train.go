package nat

import (
	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Consecutive datagrams of one flow leave in one call, which the kernel takes
// through its stack as one and splits at the end (UDP_SEGMENT, Linux 4.18): the
// counterpart of the switch's trains for what goes to containers. Two of
// different length do not make one: a router that finds the first too long may
// drop both. None waits for
// a next one: the call is made when the container's interface is empty or has
// had its share.
type udpTrain struct {
	flow, gen uint32
	frame     vswitch.Frame // the first, of which buf has a copy
	buf       []byte        // that copy, then the payloads of the others
	head      int           // where the first payload begins
	n         int           // bytes of buf in use
	size      int           // of each payload; the last may be shorter
	count     int
}

const (
	trainCars    = 64 // UDP_MAX_SEGMENTS of older kernels
	trainBytes   = 60000
	trainPayload = 2048 // above that a copy is not worth it
)

// udpBoard takes the datagram f into the train, or reports false if it is to be
// sent now; then nothing is waiting.
func (n *NAT) udpBoard(i uint32, f *vswitch.Frame, data []byte) bool {
	t := &n.train
	if t.count > 0 && (t.flow != i || t.gen != n.flows[i].gen || len(data) > t.size || len(data) < t.size && t.count == 1 || t.count == trainCars || t.n+len(data) > trainBytes || !t.alike(f)) {
		n.udpDepart()
	}
	if len(data) == 0 || len(data) > trainPayload || f.Class != 0 || n.refragment || n.flows[i].has(fSmall) {
		n.udpDepart()
		return false
	}
	if t.count == 0 {
		t.flow, t.gen, t.size, t.count = i, n.flows[i].gen, len(data), 1
		t.head = f.L4 + vswitch.UDPLen
		t.n = copy(t.buf, f.B[:t.head+len(data)])
		t.frame = *f
		t.frame.B, t.frame.End = t.buf[:t.n], t.n
		return true
	}
	t.n += copy(t.buf[t.n:], data)
	if t.count++; len(data) < t.size {
		n.udpDepart()
	}
	return true
}

// alike says whether f is to be sent with the same options as the first.
func (t *udpTrain) alike(f *vswitch.Frame) bool {
	g := &t.frame
	if f.TTL != g.TTL || f.L4 != g.L4 {
		return false
	}
	if f.V6 {
		return f.B[f.L3]<<4|f.B[f.L3+1]>>4 == g.B[g.L3]<<4|g.B[g.L3+1]>>4
	}
	return f.B[f.L3+1] == g.B[g.L3+1] && f.B[f.L3+6]&0x40 == g.B[g.L3+6]&0x40
}

// udpDepart sends the train that waits, if one does.
func (n *NAT) udpDepart() {
	t := &n.train
	count := t.count
	if t.count = 0; count == 0 || n.flows[t.flow].gen != t.gen {
		return
	}
	data := t.buf[t.head:t.n]
	if count > 1 {
		switch _, e := n.udpTry(t.flow, &t.frame, data, t.size); e {
		case 0:
			return
		case unix.EAGAIN, unix.ENOBUFS:
			for range count {
				n.sw.DropFrame(&t.frame, vswitch.SocketFull, 0)
			}
			return
		}
		n.flows[t.flow].set(fSmall) // a path too narrow, or an interface that cannot: one by one from now on
	}
	for k := 0; k < count && n.flows[t.flow].gen == t.gen; k++ {
		one := data[k*t.size : min((k+1)*t.size, len(data))]
		if k > 0 { // behind the headers of the first, for an error that quotes it
			one = t.buf[t.head : t.head+copy(t.buf[t.head:], one)]
			t.frame.End = t.head + len(one)
		}
		n.udpSend(t.flow, &t.frame, one, 0)
	}
}
