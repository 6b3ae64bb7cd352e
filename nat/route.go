package nat

import (
	"net/netip"
	"slices"

	"tapswitch/switch"
)

// verdict is what route decided: what becomes of a new flow.
type verdict struct {
	kind   verdictKind
	reason vswitch.Reason // verdictDrop, and what a refusal is counted under
	reply  reply          // what the sender hears of a drop
	to     netip.AddrPort // verdictOutside: where the socket connects
	target *Publish       // verdictPair, verdictElsewhere
	shard  int            // verdictElsewhere: whose it is
	out    *vswitch.Port  // verdictRouted, verdictBridged
	loop   bool           // verdictOutside: the host's loopback, on purpose

	way     way
	rule    uint32
	named   bool
	reverse bool // verdictRouted, verdictBridged: an answer to what the other has opened
}

type verdictKind uint8

const (
	verdictDrop verdictKind = iota
	verdictEcho
	verdictDNS
	verdictPair
	verdictRouted
	verdictBridged
	verdictOutside
	verdictElsewhere
)

// reply is how a refusal is told.
type reply uint8

const (
	silence      reply = iota
	replyRefused       // TCP: reset; else port unreachable
	replyNoRoute
	replyProhibited
)

// route decides where a new flow of proto from the container at src on p to dst
// goes, and whether it may. It changes nothing, so that it also explains.
func (n *NAT) route(p *vswitch.Port, proto uint8, src netip.Addr, dst netip.AddrPort, t *Trace) verdict {
	br, ip := p.Bridge(), dst.Addr()
	switch proto {
	case vswitch.ProtoTCP, vswitch.ProtoUDP, vswitch.ProtoICMP, vswitch.ProtoICMPv6:
	default:
		return verdict{reason: vswitch.NoProtocol, reply: replyProhibited}
	}
	q := packet{from: party{port: p, addr: src}, to: party{addr: ip}, proto: proto, port: dst.Port()}
	if to := br.Mapped(ip); to.IsValid() {
		t.Add("route", "%s stands for the host's %s", ip, to)
		return n.toHost(&q, netip.AddrPortFrom(to, dst.Port()), t)
	}
	if br.IsGateway(ip) {
		return n.routeGateway(&q, dst, t)
	}
	if n.policy.Intercept && dst.Port() == 53 && n.cfg.Local != nil && (proto == vswitch.ProtoTCP || proto == vswitch.ProtoUDP) && !br.Contains(ip) && !ip.IsMulticast() {
		t.Add("route", "DNS is intercepted: the gateway answers")
		return verdict{kind: verdictDNS, rule: RuleService}
	}
	if br.Contains(ip) && !br.Service.Proxy {
		t.Add("route", "%s is a neighbour, not the gateway's to reach", ip)
		return verdict{reason: vswitch.NotForGateway}
	}
	if br.Internal {
		t.Add("route", "network %s is internal: no way off it", br.Name)
		return verdict{reason: vswitch.Internal, reply: replyNoRoute, rule: RuleInternal}
	}
	if other := n.sw.BridgeOf(func(b *vswitch.Bridge) bool { return b != br && b.Contains(ip) }); other != nil && isolate {
		return n.routeBetween(&q, dst, other, t)
	}
	if r := forbidden(ip); r != vswitch.Delivered {
		t.Add("route", "%s is never reached: %s", ip, r)
		return verdict{reason: r, reply: refusal(r), rule: RuleForbidden}
	}
	if _, own := n.policy.HostAddrs[ip]; own {
		if v, is := n.published(&q, dst, false, t); is {
			return v
		}
		t.Add("route", "%s is an address of this host", ip)
		q.way, q.to.host = wayHost, true
	} else {
		t.Add("route", "%s is outside", ip)
		q.way = wayOutside
	}
	return n.ruled(&q, verdict{kind: verdictOutside, to: dst}, t)
}

// ruled is v, if the policy lets the packet pass.
func (n *NAT) ruled(q *packet, v verdict, t *Trace) verdict {
	r := n.judge(q, t)
	if !r.ok {
		return verdict{reason: r.reason, reply: r.reply, rule: r.rule, way: q.way, out: v.out}
	}
	v.way, v.rule, v.named = q.way, r.rule, r.named
	return v
}

// routeGateway decides about traffic to the bridge's own gateway address: echo,
// DNS, published ports, the host's loopback if it is open, else refused.
func (n *NAT) routeGateway(q *packet, dst netip.AddrPort, t *Trace) verdict {
	switch {
	case q.proto == vswitch.ProtoICMP || q.proto == vswitch.ProtoICMPv6:
		t.Add("route", "the gateway answers echo requests")
		return verdict{kind: verdictEcho, rule: RuleService}
	case dst.Port() == 53 && n.cfg.Local != nil && q.from.port.Bridge().Resolves(dst.Addr()):
		t.Add("route", "the gateway answers DNS")
		return verdict{kind: verdictDNS, rule: RuleService}
	case q.from.port.Bridge().OnlyResolver(dst.Addr()):
		t.Add("route", "this address of the gateway's is for DNS alone")
		return verdict{reason: vswitch.Refused, reply: replyRefused}
	}
	if !q.from.port.Bridge().Internal {
		if v, is := n.published(q, dst, true, t); is {
			return v
		}
	}
	if n.policy.LoopbackAll || slices.Contains(n.policy.LoopbackPorts, dst.Port()) {
		to := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if dst.Addr().Is6() {
			to = netip.IPv6Loopback()
		}
		t.Add("route", "the gateway's address stands for the host's loopback, which is open at this port")
		return n.toHost(q, netip.AddrPortFrom(to, dst.Port()), t)
	}
	if q.from.port.Bridge().Service.Proxy {
		t.Add("route", "%s is outside", dst.Addr())
		q.way = wayOutside
		return n.ruled(q, verdict{kind: verdictOutside, to: dst}, t)
	}
	t.Add("route", "nothing is published at the gateway's port %d, nor is the host's loopback open there", dst.Port())
	return verdict{reason: vswitch.Refused, reply: replyRefused}
}

// toHost leads to an address of the host that another one stands for.
func (n *NAT) toHost(q *packet, to netip.AddrPort, t *Trace) verdict {
	q.way, q.to.host, q.loop = wayHost, true, to.Addr().IsLoopback()
	return n.ruled(q, verdict{kind: verdictOutside, to: to, loop: q.loop}, t)
}

// routeBetween decides about traffic to another bridge: what is published
// answers at its gateway's address; its containers where a route leads there.
func (n *NAT) routeBetween(q *packet, dst netip.AddrPort, other *vswitch.Bridge, t *Trace) verdict {
	apart := verdict{reason: vswitch.Isolated, rule: RuleIsolation, way: wayRouted}
	if other.IsGateway(dst.Addr()) {
		if v, is := n.published(q, dst, true, t); is {
			return v
		}
		t.Add("route", "%s is the gateway of network %s, which answers its own", dst.Addr(), other.Name)
		return apart
	}
	out := other.PortOf(dst.Addr())
	if out == nil || other.Internal {
		t.Add("route", "%s belongs to network %s, which is apart", dst.Addr(), other.Name)
		return apart
	}
	t.Add("route", "%s is %s on network %s", dst.Addr(), out.Name, other.Name)
	q.way, q.to.port = wayRouted, out
	return n.ruled(q, verdict{kind: verdictRouted, out: out}, t)
}

// routes says whether the policy lets containers of one network reach those of
// another.
func (p *Policy) routes() bool { return len(p.Routes) > 0 || len(p.Nets) > 0 || len(p.Rules) > 0 }

// refusal says whether a forbidden destination is answered: what would be the
// host's loopback is, so that programs fail at once.
func refusal(r vswitch.Reason) reply {
	if r == vswitch.MulticastRouted {
		return silence
	}
	return replyProhibited
}

var (
	metadata6 = netip.MustParseAddr("fd00:ec2::254")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	compat    = netip.MustParsePrefix("::/96")
)

// forbidden says why a destination is never connected to: what the kernel
// treats as its own loopback in any of its spellings, link-local and cloud
// metadata addresses, groups. It is asked again right before each connect.
func forbidden(a netip.Addr) vswitch.Reason {
	if a.Is4In6() {
		if r := forbidden(a.Unmap()); r != vswitch.Delivered {
			return r
		}
		return vswitch.HostLoopback // no v4-mapped address belongs on the wire
	}
	switch {
	case a.IsUnspecified(), a.IsLoopback():
		return vswitch.HostLoopback
	case a.IsMulticast():
		return vswitch.MulticastRouted
	case a.IsLinkLocalUnicast(), a == metadata6:
		return vswitch.LinkLocalOnly
	}
	if a.Is4() {
		b := a.As4()
		if b[0] == 0 {
			return vswitch.HostLoopback // 0.0.0.0/8: "this host on this network"
		}
		if b[0] >= 240 {
			return vswitch.MulticastRouted // reserved, and limited broadcast
		}
		return vswitch.Delivered
	}
	if nat64.Contains(a) || compat.Contains(a) {
		b := a.As16()
		return forbidden(netip.AddrFrom4([4]byte(b[12:])))
	}
	return vswitch.Delivered
}

// open starts a flow for a frame that belongs to none, or says why not.
func (n *NAT) open(f *vswitch.Frame) vswitch.Action {
	if e := echo(f); (f.Proto == vswitch.ProtoICMP || f.Proto == vswitch.ProtoICMPv6) && (e == 0 || e == 2 && !n.policy.routes()) {
		return n.icmpFromTap(f)
	}
	dst := netip.AddrPortFrom(f.Dst(), f.DstPort())
	t := n.sw.Trace()
	v := n.route(f.In, f.Proto, f.Src(), dst, t)
	if v.way == wayRouted && v.kind == verdictDrop {
		v = n.answer(f, v)
	}
	if t != nil {
		v.explain(t)
	}
	if v.kind == verdictElsewhere {
		return vswitch.Action{Kind: vswitch.ActHandOver, Flow: uint32(v.shard)}
	}
	if v.kind != verdictDrop && v.kind != verdictRouted {
		if stray(f) {
			return n.strayTCP(f)
		}
		if echo(f) == 2 {
			return vswitch.Drop(vswitch.Unsolicited)
		}
	}
	if f.Class&vswitch.ClassTTL != 0 && v.kind != verdictEcho && v.kind != verdictDNS && v.kind != verdictDrop && !f.In.Bridge().IsGateway(dst.Addr()) {
		n.timeExceeded(f)
		return vswitch.Drop(vswitch.TTLExceeded)
	}
	switch v.kind {
	case verdictEcho:
		n.echoReply(f)
		return consumed
	case verdictDNS:
		return n.openLocal(f)
	case verdictPair:
		return n.openPair(f, v)
	case verdictRouted:
		return n.openDirect(f, v)
	case verdictOutside:
		return n.openOutside(f, v)
	}
	n.met(v.rule, f)
	n.refuse(f, v.reply)
	return vswitch.DropBy(v.reason, v.rule)
}

// stray says whether f is a TCP segment that opens no connection.
func stray(f *vswitch.Frame) bool {
	return f.Proto == vswitch.ProtoTCP && f.TCPFlags&(vswitch.TCPSyn|vswitch.TCPAck|vswitch.TCPRst|vswitch.TCPFin) != vswitch.TCPSyn
}

var consumed = vswitch.Action{Kind: vswitch.ActConsumed}

func (n *NAT) openOutside(f *vswitch.Frame, v verdict) vswitch.Action {
	if n.full(f.In.ID) {
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	switch f.Proto {
	case vswitch.ProtoTCP:
		if n.perPort[f.In.ID].halfOpen >= n.cfg.HalfOpen {
			return vswitch.Drop(vswitch.HalfOpenLimit)
		}
		return n.tcpOpen(f, v)
	case vswitch.ProtoUDP:
		return n.udpOpen(f, v)
	}
	return n.pingOpen(f, v)
}

// refuse tells the sender of f that it got nowhere.
func (n *NAT) refuse(f *vswitch.Frame, r reply) {
	switch r {
	case replyRefused:
		if f.Proto == vswitch.ProtoTCP {
			n.resetFrame(f)
		} else {
			n.unreachable(f, unreachPort)
		}
	case replyNoRoute:
		n.unreachable(f, unreachHost)
	case replyProhibited:
		n.unreachable(f, unreachProhibited)
	}
}
