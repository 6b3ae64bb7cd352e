package nat

import "tapswitch/switch"

// tcpAbort ends a connection with resets: to the container if toTap, and to
// the outside always, where nothing is left to be said in order.
func (n *NAT) tcpAbort(i uint32, toTap bool) {
	fl := &n.flows[i]
	n.Stats.TCPReset++
	if toTap {
		n.tcpReset(fl)
	}
	if fl.fd >= 0 {
		abort(int(fl.fd))
	}
	n.drop(i)
}

// tcpGone notes that the outside has reset the connection. What it sent before
// is in the socket and goes to the container first; the reset follows. It
// returns false if there is nothing to wait for and the connection is over.
func (n *NAT) tcpGone(i uint32) bool {
	fl := &n.flows[i]
	if fl.state != established || fl.has(fEOF) {
		n.tcpAbort(i, true)
		return false
	}
	fl.set(fGone | fReady)
	n.queue(i)
	return true
}

// tcpEnd passes the container's end on, once the socket has all its bytes. It
// returns false if that was the end of the connection.
func (n *NAT) tcpEnd(i uint32) bool {
	fl := &n.flows[i]
	switch {
	case fl.has(fFinAcked):
		n.tcpFinish(i) // to close a socket ends its stream, too
		return false
	case !fl.has(fShut):
		fl.set(fShut)
		sysShutdownWrite(int(fl.fd))
	}
	return true
}

// tcpFinish closes the socket of a connection that both sides have finished
// and lets the record linger.
func (n *NAT) tcpFinish(i uint32) {
	fl := &n.flows[i]
	n.closed(i)
	n.closeLater(fl.fd)
	fl.fd = -1
	fl.state = lingers
	n.perPort[fl.sides[0].port].lingering++
	if gone := n.over.add(n.table, i); gone != none {
		n.drop(gone)
	}
	n.arm(i, n.sw.Now()+lingerFor)
}

// tcpCleanup frees what a record holds beside itself.
func (n *NAT) tcpCleanup(i uint32) {
	fl := &n.flows[i]
	if fl.tcp.spill != none {
		n.spills.put(fl.tcp.spill)
		fl.tcp.spill = none
	}
	for fl.tcp.early != none {
		n.tcpForget(&fl.tcp)
	}
	switch {
	case fl.state < established:
		n.perPort[fl.sides[0].port].halfOpen--
	case fl.state == lingers:
		n.perPort[fl.sides[0].port].lingering--
	}
}

// reopens says whether f is a SYN that begins a new connection on the tuple of
// one that is over; the old record goes.
func (n *NAT) reopens(f *vswitch.Frame, i uint32) bool {
	fl := &n.flows[i]
	if fl.kind != kindTCP || f.TCPFlags&(vswitch.TCPSyn|vswitch.TCPAck|vswitch.TCPRst) != vswitch.TCPSyn {
		return false
	}
	if fl.state == lingers || fl.has(fFinIn) && fl.has(fFinOut) {
		n.drop(i)
		return true
	}
	return false
}
