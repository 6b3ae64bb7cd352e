package nat

import "tapswitch/switch"

// expired handles the timer of a flow that is due.
func (n *NAT) expired(i uint32) {
	f := &n.flows[i]
	switch f.kind {
	case kindTCP:
		n.tcpExpired(i)
	case kindUDP, kindPing, kindPair:
		n.idle(i)
	case kindUDPSocket:
		n.drop(i)
	}
}

// idle ends a flow that was silent for long enough, or looks again later.
func (n *NAT) idle(i uint32) {
	f := &n.flows[i]
	if due := f.used + f.lifetime(); due > n.sw.Now() {
		n.arm(i, due)
		return
	}
	n.drop(i)
}

// drop ends a flow of any kind now: its socket is closed (TCP: with a reset if
// bytes are outstanding), its record is free.
func (n *NAT) drop(i uint32) {
	f := &n.flows[i]
	n.unlinkTimer(i)
	n.account(f)
	n.closed(i)
	switch f.kind {
	case kindTCP:
		n.tcpCleanup(i)
		n.dialled(i, ErrNoAnswer)
	case kindPair:
		n.pairs--
		if f.has(fExpects) {
			n.cfg.Expect.remove(answerOf(f))
		}
	case kindUDP:
		if n.train.flow == i {
			n.train.count = 0
		}
	}
	if s := f.udp.socket; f.kind == kindUDP && s != none {
		u := &n.flows[s]
		if u.udp.refs--; u.udp.refs == 0 {
			n.drop(s)
		}
	}
	if f.fd >= 0 {
		sysClose(int(f.fd))
		f.fd = -1
	}
	n.release(i)
}

// PortGone ends the flows of a port that leaves the switch.
func (n *NAT) PortGone(p *vswitch.Port) {
	for _, id := range n.pairsTo(p) {
		n.drop(id)
	}
	for d := n.frags.oldest; d != nil; {
		next := d.newer
		if d.key.port == p.ID { // whoever has the number next is somebody else
			n.giveUp(d, vswitch.NoContainer)
		}
		d = next
	}
	for n.perPort[p.ID].first != none {
		i := n.perPort[p.ID].first
		// A socket record goes with the last of its flows; should it stand first,
		// take one of its flows instead.
		for n.flows[i].kind == kindUDPSocket && n.flows[i].udp.refs > 0 && n.flows[i].nextPort != none {
			i = n.flows[i].nextPort
		}
		if fl := &n.flows[i]; fl.kind == kindTCP && fl.fd >= 0 {
			abort(int(fl.fd))
		}
		n.drop(i)
	}
	n.unpublishPort(p)
}

// pairsTo lists the pair flows whose second side is p; their records are in
// the list of the first.
func (n *NAT) pairsTo(p *vswitch.Port) []uint32 {
	if n.pairs == 0 {
		return nil
	}
	var ids []uint32
	for i := uint32(0); i < n.top; i++ {
		if f := &n.flows[i]; f.kind == kindPair && f.sides[1].port == p.ID {
			ids = append(ids, i)
		}
	}
	return ids
}
