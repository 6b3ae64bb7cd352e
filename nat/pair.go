package nat

import (
	"tapswitch/switch"
)

// A flow between two ports: a container reaches a published port of another
// (or of itself, or across bridges) through a gateway's or the host's address.
// Addresses and ports are rewritten in place, checksums adjusted (RFC 1624),
// super-frames stay whole; no socket is involved. The server sees its own
// gateway as the client, so that its answers come back this way.

const (
	pairSYN    = 120e9
	pairOpen   = 5 * 24 * 3600e9 // as nf_conntrack_tcp_timeout_established
	pairClosed = 10e9
)

// pairLifetime is how long a TCP pair may be silent, by what was seen of it.
func (f *flow) pairLifetime() int64 {
	switch {
	case f.over():
		return pairClosed
	case f.udp.replied:
		return pairOpen
	}
	return pairSYN
}

// over says whether a TCP pair was reset, or finished by both sides.
func (f *flow) over() bool { return f.udp.rtoPass || f.udp.fins == 3 }

// openPair starts a flow to a published port's container and forwards its
// first frame.
func (n *NAT) openPair(f *vswitch.Frame, v verdict) vswitch.Action {
	t := v.target
	if n.full(f.In.ID) {
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	to, br := t.Port, t.Port.Bridge()
	server, gw := t.target(f.V6), br.Gateway
	if f.V6 {
		gw = br.Gateway6
	}
	local, remote := toAddr(server), toAddr(gw)
	rport, ok := n.freePort(to.ID, f.Proto, &local, &remote, t.ContainerPort, f.SrcPort())
	if !ok {
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	i := n.alloc(kindPair, f.In.ID)
	if i == none {
		return vswitch.Drop(vswitch.FlowLimit)
	}
	return n.pair(i, f, side{local: local, remote: remote, lport: t.ContainerPort, rport: rport, port: to.ID, mac: to.MACOf(server)}, v)
}

// pair fills the record of a flow between two ports and forwards its first
// frame: side 0 is the sender of f.
func (n *NAT) pair(i uint32, f *vswitch.Frame, to side, v verdict) vswitch.Action {
	fl := &n.flows[i]
	fl.proto, fl.v6 = f.Proto, f.V6
	n.admit(fl, v)
	fl.created, fl.used = n.sw.Now(), n.sw.Now()
	a := &fl.sides[0]
	copy(a.local[:], f.SrcIP())
	copy(a.remote[:], f.DstIP())
	a.lport, a.rport, a.mac = f.SrcPort(), f.DstPort(), f.SrcMAC()
	fl.sides[1] = to
	if fl.has(fExpects) {
		n.cfg.Expect.add(answerOf(fl))
	}
	n.index(i, 0)
	n.index(i, 1)
	n.pairs++
	n.opened(i)
	n.Stats.PairFlows++
	n.arm(i, fl.used+fl.lifetime())
	if f.Class != 0 {
		n.Deliver(f, i<<1, fl.gen)
		return consumed
	}
	return vswitch.Action{Kind: vswitch.ActGateway, Flow: i << 1, FlowGen: fl.gen}
}

// freePort finds a port of the peer such that the container's tuple is unused:
// want, if it can be.
func (n *NAT) freePort(port vswitch.PortID, proto uint8, local, remote *addr, lport, want uint16) (uint16, bool) {
	for k := uint32(0); k < 64; k++ {
		if i, _ := n.find(port, proto, local, remote, lport, want); i == none {
			return want, true
		}
		want = uint16(32768 + (uint32(want)*40503+k*7919+uint32(n.sw.Now()>>10))%28232)
	}
	return 0, false
}

// pairForward rewrites a frame from side s to the other and sends it on.
func (n *NAT) pairForward(i uint32, s int, f *vswitch.Frame) {
	fl := &n.flows[i]
	to := &fl.sides[1-s]
	p := n.sw.Port(to.port)
	fl.used = n.sw.Now()
	if s == 1 || p.Mirror() && f.Proto == vswitch.ProtoTCP && f.TCPFlags&vswitch.TCPSyn == 0 {
		fl.udp.replied = true // of the answers that another shard reads, this tells
	}
	if f.Proto == vswitch.ProtoTCP {
		n.pairTCP(fl, s, f, p)
		n.arm(i, fl.used+fl.lifetime())
	}
	if fl.way.direct() {
		if r := n.sw.Output(p, f.B); r != vswitch.Delivered {
			n.lostOn(fl, s, r)
		}
		return
	}
	if mtu := n.mtu(p); f.End-f.L3 > mtu && f.B[1] == vswitch.GSONone && !n.refragment && (f.V6 || f.B[f.L3+6]&0x40 != 0) {
		e := icmpError{typ: 3, code: 4, info: uint32(mtu)}
		if f.V6 {
			e = icmpError{typ: 2, info: uint32(mtu)}
		}
		n.errorFor(f, e)
		n.sw.DropFrame(f, vswitch.TooBig, 0)
		return
	}
	if fl.way == wayRouted {
		hop(f, to, p.Bridge().MAC)
	} else {
		rewrite(f, to, p.Bridge().MAC)
	}
	if r := n.sw.Output(p, f.B); r != vswitch.Delivered {
		n.lostOn(fl, s, r)
	}
}

// pairTCP follows a connection far enough to know when it is over, and clamps
// the MSS of a SYN to what both sides' links carry.
func (n *NAT) pairTCP(fl *flow, s int, f *vswitch.Frame, out *vswitch.Port) {
	if f.TCPFlags&vswitch.TCPRst != 0 {
		fl.udp.rtoPass = true
	}
	if f.TCPFlags&vswitch.TCPFin != 0 {
		fl.udp.fins |= 1 << s
	}
	if f.TCPFlags&vswitch.TCPSyn == 0 {
		return
	}
	fl.udp.fins, fl.udp.rtoPass = 0, false // a reused tuple begins anew
	if fl.way.direct() {
		return
	}
	ip := vswitch.IPv4Len
	if f.V6 {
		ip = vswitch.IPv6Len
	}
	clampMSS(f, uint16(n.mtu(out)-ip-vswitch.TCPLen))
}

// clampMSS lowers the MSS option of a SYN to limit.
func clampMSS(f *vswitch.Frame, limit uint16) {
	b := f.B[f.L4:f.End]
	end := min(int(b[12]>>4)*4, len(b))
	for o := vswitch.TCPLen; o+1 < end; {
		switch {
		case b[o] == 0:
			return
		case b[o] == 1:
			o++
			continue
		case b[o+1] < 2 || o+int(b[o+1]) > end:
			return
		case b[o] == 2 && b[o+1] == 4 && get16(b[o+2:]) > limit:
			words := b[(o+2)&^1 : (o+5)&^1] // it may lie across two
			var old [4]byte
			copy(old[:], words)
			put16(b[o+2:], limit)
			if f.B[0]&vswitch.VnetNeedsCsum == 0 { // else it is summed by the receiver
				vswitch.AdjustSum(b[16:], old[:len(words)], words, false)
			}
			return
		}
		o += int(b[o+1])
	}
}

// rewrite gives f the addresses, ports and MACs of side to, one hop less, and
// checksums that match.
func rewrite(f *vswitch.Frame, to *side, gateway vswitch.MAC) {
	nextHop(f, to, gateway)
	partial := f.B[0]&vswitch.VnetNeedsCsum != 0
	src, dst := f.SrcIP(), f.DstIP()
	l4 := f.B[f.L4:]
	var sum []byte
	if f.Proto == vswitch.ProtoTCP {
		sum = l4[16:18]
	} else if sum = l4[6:8]; !partial && !f.V6 && sum[0]|sum[1] == 0 {
		sum = nil // no checksum (RFC 768)
	}
	n := len(src)
	var old, new [36]byte
	copy(old[:], src)
	copy(old[n:], dst)
	copy(old[2*n:], l4[:4])
	copy(new[:], to.remote[:n])
	copy(new[n:], to.local[:n])
	put16(new[2*n:], to.rport)
	put16(new[2*n+2:], to.lport)
	if sum != nil {
		if partial {
			vswitch.AdjustSum(sum, old[:2*n], new[:2*n], true)
		} else {
			vswitch.AdjustSum(sum, old[:2*n+4], new[:2*n+4], false)
			if f.Proto == vswitch.ProtoUDP && sum[0]|sum[1] == 0 {
				sum[0], sum[1] = 0xff, 0xff // 0 would say that there is none (RFC 768)
			}
		}
	}
	lowerTTL(f)
	if !f.V6 {
		vswitch.AdjustSum(f.B[f.L3+10:], old[:8], new[:8], false)
	}
	copy(src, new[:n])
	copy(dst, new[n:2*n])
	copy(l4, new[2*n:2*n+4])
}

// hop gives f the MACs of side to, and one hop less.
func hop(f *vswitch.Frame, to *side, gateway vswitch.MAC) {
	nextHop(f, to, gateway)
	lowerTTL(f)
}

func nextHop(f *vswitch.Frame, to *side, gateway vswitch.MAC) {
	eth := f.B[vswitch.VnetLen:]
	copy(eth, to.mac[:])
	copy(eth[6:], gateway[:])
}

func lowerTTL(f *vswitch.Frame) {
	ip := f.B[f.L3:]
	if f.V6 {
		ip[7]--
		return
	}
	ttl := [2]byte{ip[8], ip[9]}
	ip[8]--
	vswitch.AdjustSum(ip[10:], ttl[:], ip[8:10], false)
}

// pairError tells the container at side s what the other's kernel answered.
func (n *NAT) pairError(fl *flow, s int, e icmpError) {
	as := *fl
	as.kind = kindUDP
	as.sides[0] = fl.sides[s]
	n.flowError(&as, as.sides[0].rport, as.sides[0].remote, nil, e)
}
