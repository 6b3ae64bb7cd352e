package nat

import "tapswitch/switch"

// page is how many records one call of List or Kill looks at: the loop has other
// things to do between.
const page = 256

// List describes the flows that want takes, from record at on, and says where to
// go on; 0 is the end. It runs on the switch's thread.
func (n *NAT) List(at uint32, want func(*Flow) bool) (out []Flow, next uint32) {
	next = n.each(at, func(i uint32) {
		d := n.describe(&n.flows[i])
		if want == nil || want(&d) {
			n.measure(&n.flows[i], &d)
			out = append(out, d)
		}
	})
	return out, next
}

// Kill ends the flows that want takes, as List. Both sides of a TCP connection are
// told by a reset: at once where the gateway speaks for one of them, else with
// the next segment that either sends.
func (n *NAT) Kill(at uint32, want func(*Flow) bool) (killed int, next uint32) {
	next = n.each(at, func(i uint32) {
		fl := &n.flows[i]
		if d := n.describe(fl); fl.kind == kindTCP && fl.state == lingers || !want(&d) {
			return
		}
		killed++
		switch {
		case fl.kind == kindTCP:
			n.tcpAbort(i, true)
		case fl.kind == kindPair && fl.proto == vswitch.ProtoTCP:
			fl.udp.rtoPass = true
			n.closed(i)
			fl.set(fKilled)
			fl.gen = (fl.gen + 1) & 0xffffff // what is cached is decided anew
			n.arm(i, n.sw.Now()+fl.lifetime())
		default:
			n.drop(i)
		}
	})
	return killed, next
}

func (n *NAT) each(at uint32, f func(i uint32)) (next uint32) {
	end := min(at+page, n.top)
	for i := at; i < end; i++ {
		if fl := &n.flows[i]; fl.kind != kindFree && fl.kind != kindUDPSocket && !fl.has(fKilled) {
			f(i)
		}
	}
	if end == n.top {
		return 0
	}
	return end
}

// wasKilled answers a frame of a connection between containers that somebody has
// ended; one that opens a new connection is not of it.
func (n *NAT) wasKilled(i uint32, f *vswitch.Frame) (vswitch.Action, bool) {
	if !n.flows[i].has(fKilled) {
		return vswitch.Action{}, false
	}
	if !stray(f) {
		n.drop(i)
		return vswitch.Action{}, false
	}
	return n.strayTCP(f), true
}
