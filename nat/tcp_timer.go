package nat

import "tapswitch/switch"

// tcpExpired handles a connection's timer: a handshake or bytes without an
// answer, a closed window, the end of lingering.
func (n *NAT) tcpExpired(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	switch fl.state {
	case lingers:
		n.drop(i)
		return
	case connecting:
		n.Stats.TCPTimeouts++
		n.lost(fl, vswitch.NoAnswer, vswitch.StepOutside, fl.rule)
		n.drop(i)
		return
	case synReceived, synSent:
		if t.retries++; t.retries > 6 {
			n.Stats.TCPTimeouts++
			n.lost(fl, vswitch.NoAnswer, vswitch.StepContainer, fl.rule)
			n.tcpAbort(i, false)
			return
		}
		t.rto = min(t.rto*2, rtoMax)
		n.tcpSendSYN(i)
		return
	}
	if t.sndMax == t.sndUna {
		if t.probe && t.wnd == 0 {
			n.tcpProbe(i)
			return
		}
		t.probe = false
		fl.set(fReady) // the container's interface did not take the last frame
		n.queue(i)
		return
	}
	if t.retries++; t.retries > maxRetries {
		n.Stats.TCPTimeouts++
		n.lost(fl, vswitch.NoAnswer, vswitch.StepContainer, fl.rule)
		n.tcpAbort(i, true)
		return
	}
	t.rto = min(t.rto*2, rtoMax)
	if t.wnd == 0 && !fl.has(fFinOut) {
		t.retries = min(t.retries, maxRetries-1) // a closed window may stay so
		n.tcpProbe(i)
		return
	}
	if t.retries > 1 {
		fl.set(fSmall) // perhaps it is the long frames that do not arrive
	}
	n.tcpGoBack(i)
	t.cwnd = minCwnd
	n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
}

// tcpProbe asks the container for its window with an old sequence number,
// which it must answer (RFC 9293, 3.8.6.1).
func (n *NAT) tcpProbe(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	n.tcpSendControl(fl, vswitch.TCPAck, t.sndUna-1)
	t.probe = true
	t.rto = min(t.rto*2, rtoMax)
	n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
}
