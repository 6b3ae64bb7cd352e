package nat

import (
	"net/netip"

	"tapswitch/switch"
)

// Traffic from container to container that is judged: on one bridge where it
// asks (Bridge.Ask), and between bridges where a route leads. Each such flow has
// a record, a pair without any translation, so that answers pass with it and a
// changed policy finds it.

// Between is vswitch.Gateway: a packet to a neighbour. Nothing that is dropped
// here is cached: what opens no flow now may be the answer to one later.
func (n *NAT) Between(f *vswitch.Frame, out *vswitch.Port) vswitch.Action {
	a := n.between(f, out)
	if a.Kind == vswitch.ActDrop {
		n.sw.DropFrameAt(f, a.Reason, vswitch.Step(a.FlowGen), a.Flow)
		return consumed
	}
	return a
}

func (n *NAT) between(f *vswitch.Frame, out *vswitch.Port) vswitch.Action {
	pass := vswitch.Action{Kind: vswitch.ActOutput, Port: out.ID}
	if f.FragOff != 0 {
		return n.betweenFragment(f, out, pass)
	}
	if f.Class&vswitch.ClassFragment != 0 && !headed(f) {
		return vswitch.Drop(vswitch.BadTransport)
	}
	if f.L4 == 0 || !tracked(f) {
		if n.aboutFlow(f, out) {
			return pass // an error about a flow that passes
		}
		q := n.neighbours(f, out, 0)
		if r := n.judge(&q, n.sw.Trace()); !r.ok {
			return n.denied(f, r)
		}
		return pass
	}
	i, s := n.lookup(f)
	if i != none {
		if a, was := n.wasKilled(i, f); was {
			return a
		} else if n.flows[i].kind == kindFree {
			i = none
		}
	}
	if i != none && n.flows[i].kind == kindPair && n.flows[i].sides[1-s].port != out.ID {
		n.drop(i) // the address is somebody else's now
		i = none
	}
	if i != none && n.stands(i) && n.rightWay(i, s, f) {
		n.traceFlow(i)
		a := vswitch.Action{Kind: vswitch.ActGateway, Flow: i<<1 | uint32(s), FlowGen: n.flows[i].gen}
		if f.Class != 0 {
			n.Deliver(f, a.Flow, a.FlowGen)
			return consumed
		}
		return a
	}
	q := n.neighbours(f, out, f.DstPort())
	r := n.judge(&q, n.sw.Trace())
	v := verdict{kind: verdictBridged, way: q.way, rule: r.rule, out: out}
	if !r.ok {
		v = n.answer(f, verdict{way: q.way, reason: r.reason, reply: r.reply, rule: r.rule, out: out})
	}
	if v.kind == verdictDrop {
		return n.denied(f, ruling{reason: v.reason, reply: v.reply, rule: v.rule})
	}
	return n.openDirect(f, v)
}

// Group is vswitch.Gateway: a packet that goes to several ports is judged for
// each.
func (n *NAT) Group(f *vswitch.Frame, out *vswitch.Port) vswitch.Reason {
	port := uint16(0)
	if f.L4 != 0 && echo(f) == 0 {
		port = f.DstPort()
	}
	q := n.neighbours(f, out, port)
	r := n.judge(&q, nil)
	if r.ok {
		return vswitch.Delivered
	}
	n.met(r.rule, f)
	return r.reason
}

// tracked says whether a packet's flow has a record: TCP, UDP, and echo.
func tracked(f *vswitch.Frame) bool {
	switch f.Proto {
	case vswitch.ProtoTCP, vswitch.ProtoUDP:
		return true
	case vswitch.ProtoICMP, vswitch.ProtoICMPv6:
		return echo(f) != 0
	}
	return false
}

// echo is 1 for an echo request, 2 for a reply, 0 for all else.
func echo(f *vswitch.Frame) int {
	proto := uint8(vswitch.ProtoICMP)
	if f.V6 {
		proto = vswitch.ProtoICMPv6
	}
	if f.Proto != proto || f.L4 == 0 || f.L4 >= f.End {
		return 0
	}
	switch t := f.B[f.L4]; {
	case t == echoRequest(f.V6):
		return 1
	case f.V6 && t == 129, !f.V6 && t == 0:
		return 2
	}
	return 0
}

// neighbours is the packet from f's port to another of its bridge.
func (n *NAT) neighbours(f *vswitch.Frame, out *vswitch.Port, port uint16) packet {
	if f.In.Host {
		return hostPacket(f, out, port)
	}
	return packet{from: party{port: f.In, addr: f.Src()}, to: party{port: out, addr: f.Dst()}, way: wayBridge, proto: f.Proto, port: port}
}

// denied counts a packet against the rule that ended it, and tells its sender.
func (n *NAT) denied(f *vswitch.Frame, r ruling) vswitch.Action {
	n.met(r.rule, f)
	if f.FragOff == 0 {
		n.refuse(f, r.reply)
	}
	return vswitch.DropBy(r.reason, r.rule)
}

// headed says whether a first fragment holds the transport header that it is
// judged by; one that does not hides it (RFC 1858, RFC 7112).
func headed(f *vswitch.Frame) bool {
	size := f.End - f.L4
	switch f.Proto {
	case vswitch.ProtoTCP:
		return size >= vswitch.TCPLen
	case vswitch.ProtoUDP:
		return size >= vswitch.UDPLen
	case vswitch.ProtoICMP, vswitch.ProtoICMPv6:
		return size >= vswitch.ICMPLen
	}
	return true
}

// betweenFragment judges a fragment by itself, since neighbours are sent what
// came: the first has the ports, what follows passes where its protocol may.
func (n *NAT) betweenFragment(f *vswitch.Frame, out *vswitch.Port, pass vswitch.Action) vswitch.Action {
	q := n.neighbours(f, out, 0)
	r := n.judge(&q, nil)
	if !r.ok && n.someFlow(f, out) {
		return pass // the rest of what a flow's first fragment began
	}
	if !r.ok {
		return n.denied(f, r)
	}
	return pass
}

// someFlow says whether a flow of the fragment's protocol is open between its
// port and out, among the newest of either.
func (n *NAT) someFlow(f *vswitch.Frame, out *vswitch.Port) bool {
	for _, id := range [2]vswitch.PortID{f.In.ID, out.ID} {
		i := n.perPort[id].first
		for k := 0; i != none && k < 256; i, k = n.flows[i].nextPort, k+1 {
			fl := &n.flows[i]
			a, b := fl.sides[0].port, fl.sides[1].port
			if fl.kind == kindPair && fl.proto == f.Proto && (a == f.In.ID && b == out.ID || a == out.ID && b == f.In.ID) {
				return true
			}
		}
	}
	return false
}

// aboutFlow says whether f is an ICMP error about a flow of its sender's.
func (n *NAT) aboutFlow(f *vswitch.Frame, out *vswitch.Port) bool {
	if f.Proto != vswitch.ProtoICMP && f.Proto != vswitch.ProtoICMPv6 || f.L4 == 0 {
		return false
	}
	i, s := n.quoted(f)
	return i != none && n.flows[i].way.direct() && n.flows[i].sides[1-s].port == out.ID && n.stands(i)
}

// rightWay says whether an echo packet fits its flow: requests from the side
// that opened it, replies from the other.
func (n *NAT) rightWay(i uint32, s int, f *vswitch.Frame) bool {
	e := echo(f)
	opener := 0
	if n.flows[i].has(fReverse) {
		opener = 1
	}
	if f.Proto == vswitch.ProtoTCP && !stray(f) {
		return s == opener
	}
	if e == 0 {
		return true
	}
	return (s == opener) == (e == 1)
}

// answer is v, or a verdict that lets f pass as the answer to a flow that its
// receiver has opened and that this shard has no record of: one older than the
// policy, or one that another shard keeps. Only what cannot open a flow by
// itself is taken for that: TCP beyond a first SYN, and what another shard
// expects.
func (n *NAT) answer(f *vswitch.Frame, v verdict) verdict {
	if v.out == nil || v.way == wayHostPort || !stray(f) && !n.cfg.Expect.has(frameOf(f)) {
		return v
	}
	q := packet{from: party{port: v.out, addr: f.Dst()}, to: party{port: f.In, addr: f.Src()}, way: v.way, proto: f.Proto, port: f.SrcPort()}
	r := n.judge(&q, nil)
	if !r.ok {
		return v
	}
	kind := verdictBridged
	if v.way == wayRouted {
		kind = verdictRouted
	}
	return verdict{kind: kind, way: v.way, rule: r.rule, out: v.out, reverse: true}
}

// openDirect starts a flow to another container under its own address.
func (n *NAT) openDirect(f *vswitch.Frame, v verdict) vswitch.Action {
	if n.full(f.In.ID) {
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	to := side{port: v.out.ID, mac: v.out.MAC, lport: f.DstPort(), rport: f.SrcPort()}
	if echo(f) != 0 {
		to.lport, to.rport = f.SrcPort(), 0 // the identifier stands where a reply has it
	}
	copy(to.local[:], f.DstIP())
	copy(to.remote[:], f.SrcIP())
	if i, _ := n.find(v.out.ID, f.Proto, &to.local, &to.remote, to.lport, to.rport); i != none {
		if v.way != wayBridge { // the other has a flow of its own with these numbers
			return vswitch.Drop(vswitch.FlowLimit)
		}
		return n.unrecorded(f, &to, v)
	}
	if echo(f) == 2 && !v.reverse {
		return n.unrecorded(f, &to, v)
	}
	i := n.alloc(kindPair, f.In.ID)
	if i == none {
		return vswitch.Drop(vswitch.FlowLimit)
	}
	if v.reverse {
		n.flows[i].set(fReverse)
	} else if v.out.Mirror() {
		n.flows[i].set(fExpects) // before the answer can come
	}
	return n.pair(i, f, to, v)
}

// admit notes in a flow's record who let it pass.
func (n *NAT) admit(fl *flow, v verdict) {
	fl.policy, fl.rule, fl.way = n.policyGen, v.rule, v.way
	if v.named {
		fl.set(fNamed)
	}
}

// stands says whether an open flow still may be, and ends it if not: at once
// with what was changed, as it would be with rules in a kernel.
func (n *NAT) stands(i uint32) bool {
	fl := &n.flows[i]
	if fl.policy == n.policyGen || fl.way == wayNone {
		return true
	}
	q, known := n.packetOf(fl)
	if !known {
		fl.policy = n.policyGen
		return true
	}
	r := n.judge(&q, nil)
	if r.ok {
		if fl.policy = n.policyGen; fl.rule != r.rule {
			n.account(fl)
			fl.counted = [2]uint64{fl.packets[0] + fl.packets[1], fl.bytes[0] + fl.bytes[1]}
			fl.rule = r.rule
		}
		return true
	}
	if fl.kind == kindTCP {
		if r.reply != silence {
			n.tcpReset(fl)
		}
		if fl.fd >= 0 {
			abort(int(fl.fd))
		}
	}
	n.drop(i)
	return false
}

// packetOf is what the policy was asked about when the flow began, if it was.
func (n *NAT) packetOf(fl *flow) (q packet, known bool) {
	a, b := &fl.sides[0], &fl.sides[1]
	own, other := party{port: n.sw.Port(a.port), addr: a.local.netip(fl.v6)}, party{addr: a.remote.netip(fl.v6)}
	q = packet{from: own, to: other, way: fl.way, proto: fl.proto, port: a.rport, named: fl.has(fNamed), loop: fl.has(fHostLoop)}
	switch fl.way {
	case wayHost:
		q.to.host = true
	case wayInbound:
		client := b.remote.netip(fl.v6)
		if fl.has(fOtherFamily) {
			client = b.remote.netip(!fl.v6)
		}
		q.from, q.to, q.port = n.client(client), own, a.lport
	case wayHostPort:
		return n.hostPacketOf(fl), true
	case wayPublished, wayBridge, wayRouted:
		if fl.kind != kindPair {
			return q, false
		}
		q.to, q.port = party{port: n.sw.Port(b.port), addr: b.local.netip(fl.v6)}, b.lport
		if fl.has(fReverse) {
			q.from, q.to, q.port = q.to, q.from, a.lport
		}
	}
	return q, true
}

// client is the party that a published port's client is.
func (n *NAT) client(a netip.Addr) party {
	a = a.Unmap()
	_, own := n.policy.HostAddrs[a]
	return party{addr: a, host: own || a.IsLoopback()}
}

// Hits counts what a rule has met. Flows that were accepted count all their
// packets and bytes, both ways.
type Hits struct{ Flows, Packets, Bytes uint64 }

// met counts a packet that a rule has ended.
func (n *NAT) met(rule uint32, f *vswitch.Frame) {
	if rule == noRule {
		return
	}
	h := n.hit(rule)
	h.Flows++
	h.Packets++
	h.Bytes += uint64(f.End - f.L3)
}

// account adds a flow that ends to what its rule has met.
func (n *NAT) account(fl *flow) {
	if fl.rule == noRule {
		return
	}
	n.hit(fl.rule).add(fl)
}

// add counts a flow, and what it carried since it came under its rule.
func (h *Hits) add(fl *flow) {
	h.Flows++
	h.Packets += fl.packets[0] + fl.packets[1] - fl.counted[0]
	h.Bytes += fl.bytes[0] + fl.bytes[1] - fl.counted[1]
}

func (n *NAT) hit(rule uint32) *Hits {
	h := n.hits[rule]
	if h == nil {
		h = new(Hits)
		n.hits[rule] = h
	}
	return h
}

// Hits are what all rules have met, those of open flows among it.
func (n *NAT) Hits() map[uint32]Hits {
	out := make(map[uint32]Hits)
	for r, h := range n.hits {
		out[r] = *h
	}
	for i := uint32(0); i < n.top; i++ {
		if fl := &n.flows[i]; fl.kind != kindFree && fl.rule != noRule {
			h := out[fl.rule]
			h.add(fl)
			out[fl.rule] = h
		}
	}
	return out
}

// unrecorded sends on what may pass but opens no flow. It is not for the cache:
// the next one may belong to a flow.
func (n *NAT) unrecorded(f *vswitch.Frame, to *side, v verdict) vswitch.Action {
	if v.way == wayRouted {
		hop(f, to, v.out.Bridge().MAC)
	}
	if r := n.sw.Output(v.out, f.B); r != vswitch.Delivered {
		return vswitch.Drop(r)
	}
	return consumed
}
