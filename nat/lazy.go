package nat

// An acknowledgement of a small request, or of the container's end, waits a
// moment for the answer or our own end to carry it: that saves a frame, and the
// container's kernel the work for it (which does the same, tcp_fin). Where no
// answer comes in time, the next ones are sent at once for a while, so that a
// container that waits for them (RFC 896, Nagle) waits once and not always.

const (
	lazyFor   = 1e6 // ns that an acknowledgement waits at most
	hastyFor  = 16  // acknowledgements at once after one that waited in vain
	lazyBytes = 536 // what may be unacknowledged so
)

type lazyAck struct {
	flow, gen uint32
	due       int64
}

// mayWait says whether the acknowledgement that the flow owes may wait, and
// notes it.
func (n *NAT) mayWait(i uint32) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	if t.hasty > 0 {
		t.hasty--
		return false
	}
	if fl.has(fLazy) || fl.state != established || fl.has(fFinOut) || fl.has(fWantOut) || t.early != none ||
		t.rcvNxt == t.acked || t.rcvNxt-t.acked > lazyBytes || len(n.lazy) == cap(n.lazy) {
		fl.unset(fLazy)
		return false
	}
	fl.set(fLazy)
	due := n.sw.Now() + lazyFor
	t.lazyDue = due
	n.lazy = append(n.lazy, lazyAck{i, fl.gen, due})
	n.sw.Schedule(due)
	return true
}

// sendLazy sends what has waited long enough, and returns when the next is due,
// or 0.
func (n *NAT) sendLazy(now int64) int64 {
	k := 0
	for ; k < len(n.lazy) && n.lazy[k].due <= now; k++ {
		a := n.lazy[k]
		if f := &n.flows[a.flow]; f.gen == a.gen && f.kind == kindTCP && f.has(fLazy) && f.tcp.lazyDue == a.due {
			f.tcp.hasty = hastyFor
			n.tcpAcknowledge(a.flow)
		}
	}
	n.lazy = n.lazy[:copy(n.lazy, n.lazy[k:])]
	if len(n.lazy) == 0 {
		return 0
	}
	return n.lazy[0].due
}
