package nat

// The sockets of connections that are over are closed when nothing else is to be
// done, or before long: that takes 2 to 13 us each (by a trace), for which others would wait. An
// outside that has ended its own direction only learns of the container's end by it.
type closing struct {
	ring [64]struct {
		fd  int32
		due int64
	}
	head, count int
}

const closeWithin = 1e6 // ns

// closeLater has fd closed.
func (n *NAT) closeLater(fd int32) {
	c := &n.closing
	if c.count == len(c.ring) {
		n.closeOldest()
	}
	e := &c.ring[(c.head+c.count)%len(c.ring)]
	e.fd, e.due = fd, n.sw.Now()+closeWithin
	c.count++
	n.sw.Schedule(e.due)
	n.sw.Later()
}

func (n *NAT) closeOldest() {
	c := &n.closing
	sysClose(int(c.ring[c.head].fd))
	c.head = (c.head + 1) % len(c.ring)
	c.count--
}

// Idle closes a socket that waits for it.
func (n *NAT) Idle() bool {
	if n.closing.count > 0 {
		n.closeOldest()
	}
	return n.closing.count > 0
}

// closeDue closes a few of those that have waited long enough, and returns when the next
// is due, or 0.
func (n *NAT) closeDue(now int64) int64 {
	c := &n.closing
	for k := 0; k < 4 && c.count > 0 && c.ring[c.head].due <= now; k++ {
		n.closeOldest()
	}
	if c.count == 0 {
		return 0
	}
	return c.ring[c.head].due
}
