package nat

import "tapswitch/switch"

// Fragments to the gateway are put together before anything is decided, since
// only the first has ports. Bounded in number and time; what overlaps is
// thrown away whole (RFC 5722, and for IPv4 alike). Fragments between
// containers of one bridge pass as they are.

const (
	fragmentFor = 30e9
	fragUnits   = 8192 // of 8 bytes
)

type fragKey struct {
	port     vswitch.PortID
	proto    uint8
	v6       bool
	id       uint32
	src, dst addr
}

type datagram struct {
	key     fragKey
	buf     []byte // a whole frame: virtio, Ethernet and IP headers, then data
	have    [fragUnits / 64]uint64
	bytes   int
	size    int // of the data; 0 until the last fragment was seen
	pieces  uint64
	due     int64
	older   *datagram // in the order in which they began
	newer   *datagram
	started bool // the first fragment was seen, buf's headers are valid
}

type reassembly struct {
	open map[fragKey]*datagram
	pool []*datagram
	max  int
	next int64

	oldest, newest *datagram
}

func (r *reassembly) init(max int) {
	r.open = make(map[fragKey]*datagram)
	r.max = max
}

// fragment takes one fragment, and the datagram if it completes one.
func (n *NAT) fragment(f *vswitch.Frame) vswitch.Action {
	k := fragKey{port: f.In.ID, proto: f.Proto, v6: f.V6, id: f.FragID}
	copy(k.src[:], f.SrcIP())
	copy(k.dst[:], f.DstIP())
	data, head := n.fragData(f)
	if data == nil {
		return vswitch.Drop(vswitch.BadIP)
	}
	d := n.frags.open[k]
	if d == nil {
		if len(n.frags.open) >= n.frags.max {
			n.evictFragments(f.In.ID)
		}
		d = n.frags.get()
		d.key, d.due = k, n.sw.Now()+fragmentFor
		n.frags.add(d)
		if n.frags.next == 0 {
			n.frags.next = d.due
			n.sw.Schedule(d.due)
		}
	}
	if !d.add(f, data, head) {
		n.giveUp(d, vswitch.FragmentLimit)
		return vswitch.Drop(vswitch.FragmentLimit)
	}
	n.Stats.Fragments++
	if d.size == 0 || d.bytes < d.size || !d.started {
		return consumed
	}
	n.frags.unlink(d)
	act := n.assembled(f, d, head)
	n.frags.put(d)
	return act
}

// fragData is the fragment's payload, and the length of the headers that the
// whole will have in front of it.
func (n *NAT) fragData(f *vswitch.Frame) (data []byte, head int) {
	if f.V6 {
		off := f.L3 + vswitch.IPv6Len
		if f.B[f.L3+6] != vswitch.ProtoFragment {
			return nil, 0 // extension headers in front: nobody sends these to a gateway
		}
		data = f.B[off+8 : f.End]
		head = vswitch.VnetLen + vswitch.EthLen + vswitch.IPv6Len
	} else {
		data = f.B[f.L3+int(f.B[f.L3]&15)*4 : f.End]
		head = vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
	}
	if len(data) == 0 || f.FragMore && len(data)%8 != 0 {
		return nil, 0
	}
	return data, head
}

// add copies a fragment to its place. False means that the pieces contradict
// each other.
func (d *datagram) add(f *vswitch.Frame, data []byte, head int) bool {
	off := int(f.FragOff)
	end := off + len(data)
	if limit := 65535; f.V6 && end > limit || !f.V6 && end > limit-vswitch.IPv4Len || d.size != 0 && end > d.size {
		return false
	}
	if !f.FragMore {
		if d.size != 0 && d.size != end {
			return false
		}
		d.size = end
		for u := (end + 7) / 8; u < fragUnits; u++ {
			if d.have[u>>6]&(1<<(u&63)) != 0 {
				return false
			}
		}
	}
	for u := off / 8; u < (end+7)/8; u++ {
		w, bit := u>>6, uint64(1)<<(u&63)
		if d.have[w]&bit != 0 {
			return false
		}
		d.have[w] |= bit
	}
	copy(d.buf[head+off:], data)
	d.bytes += len(data)
	d.pieces++
	if off == 0 {
		copy(d.buf, f.B[:head])
		clear(d.buf[:vswitch.VnetLen])
		d.started = true
	}
	return true
}

// assembled decides about the whole datagram as if it had come so.
func (n *NAT) assembled(f *vswitch.Frame, d *datagram, head int) vswitch.Action {
	b := d.buf[:head+d.size]
	ip := b[vswitch.VnetLen+vswitch.EthLen:]
	if f.V6 {
		put16(ip[4:], uint16(d.size))
		ip[6] = d.key.proto
	} else {
		ip[0] = 0x45
		put16(ip[2:], uint16(len(ip)))
		ip[6], ip[7] = 0, 0
		vswitch.PutIPv4Checksum(ip[:vswitch.IPv4Len])
	}
	n.Stats.Reassembled++
	whole := &n.wholeFrame
	whole.Parse(f.In, b)
	if whole.Class&vswitch.ClassBad != 0 {
		return vswitch.Drop(whole.Reason)
	}
	n.refragment = true
	defer func() { n.refragment = false }()
	act := n.Resolve(whole)
	if act.Kind == vswitch.ActGateway {
		n.Deliver(whole, act.Flow, act.FlowGen)
		return consumed
	}
	return act
}

func (r *reassembly) get() *datagram {
	if l := len(r.pool); l > 0 {
		d := r.pool[l-1]
		r.pool = r.pool[:l-1]
		buf := d.buf
		*d = datagram{buf: buf}
		return d
	}
	return &datagram{buf: make([]byte, vswitch.MaxFrame)}
}

func (r *reassembly) put(d *datagram) {
	if len(r.pool) < 8 {
		r.pool = append(r.pool, d)
	}
}

func (r *reassembly) add(d *datagram) {
	r.open[d.key] = d
	if d.older = r.newest; d.older != nil {
		d.older.newer = d
	} else {
		r.oldest = d
	}
	r.newest = d
}

func (r *reassembly) unlink(d *datagram) {
	delete(r.open, d.key)
	if d.older != nil {
		d.older.newer = d.newer
	} else {
		r.oldest = d.newer
	}
	if d.newer != nil {
		d.newer.older = d.older
	} else {
		r.newest = d.older
	}
	d.older, d.newer = nil, nil
}

func (r *reassembly) drop(d *datagram) {
	r.unlink(d)
	r.put(d)
}

// evictFragments makes room for a datagram of port: a datagram whose pieces
// were lost would hold its place for half a minute. The oldest of the port's
// own goes if it has its share of places, else the oldest of all.
func (n *NAT) evictFragments(port vswitch.PortID) {
	r := &n.frags
	mine, first := 0, (*datagram)(nil)
	for d := r.oldest; d != nil; d = d.newer {
		if d.key.port == port {
			if mine++; first == nil {
				first = d
			}
		}
	}
	if mine < r.max/4 {
		first = r.oldest
	}
	n.giveUp(first, vswitch.FragmentLimit)
}

// giveUp counts the pieces of a datagram as dropped.
func (n *NAT) giveUp(d *datagram, why vswitch.Reason) {
	if p := n.sw.Port(d.key.port); p != nil {
		for range d.pieces {
			n.sw.CountDrop(p, why)
		}
		k := vswitch.FailureKey{Reason: why, IP: true, V6: d.key.v6, Proto: d.key.proto, Src: d.key.src, Dst: d.key.dst}
		n.sw.Fail(p, &k, 0)
	}
	n.frags.drop(d)
}

// nextFragment is when the oldest datagram is given up, or 0.
func (n *NAT) nextFragment() int64 { return n.frags.next }

// expireFragments gives up what was not completed in time.
func (n *NAT) expireFragments(now int64) {
	r := &n.frags
	if r.next == 0 || now < r.next {
		return
	}
	for d := r.oldest; d != nil && d.due <= now; d = r.oldest {
		n.giveUp(d, vswitch.FragmentTimeout)
	}
	if r.next = 0; r.oldest != nil {
		r.next = r.oldest.due
	}
}
