package nat

import (
	"net/netip"
	"slices"

	"tapswitch/switch"
)

// way is how a flow gets from one party to the other.
type way uint8

const (
	wayNone      way = iota // a service of the gateway: not for policies
	wayBridge               // from port to port of one bridge
	wayPublished            // from a container to what another publishes
	wayRouted               // from a container to one of another network
	wayHost                 // from a container to the host
	wayOutside              // from a container to anywhere else
	wayInbound              // from outside or the host to what a container publishes
	wayHostPort             // from the host to a container, by its interface on the bridge
)

// direct says whether packets of the way go from port to port of one bridge as
// they are.
func (w way) direct() bool { return w == wayBridge || w == wayHostPort }

func (w way) direction() Direction {
	switch w {
	case wayBridge, wayPublished, wayRouted:
		return Between
	case wayInbound, wayHostPort:
		return Inward
	}
	return Outward
}

// party is one end of a flow: a container's port, the host, or somebody outside.
type party struct {
	port *vswitch.Port
	host bool
	addr netip.Addr
}

// name is the container's name, or what the party is.
func (p *party) name() string {
	switch {
	case p.port != nil:
		return p.port.Label
	case p.host:
		return "host"
	}
	return "outside"
}

// network is the name of a container's network, or "".
func (p *party) network() string {
	if p.port == nil {
		return ""
	}
	return p.port.Bridge().Name
}

// packet is what the policy is asked about: the first packet of a flow.
type packet struct {
	from, to party
	way      way
	proto    uint8
	port     uint16 // of the destination
	named    bool   // the flow was opened by a name that the egress policy allows
	loop     bool   // wayHost: the host's loopback, by the gateway's address
}

// ruling is what the policy says.
type ruling struct {
	ok     bool
	reason vswitch.Reason
	reply  reply
	rule   uint32
	named  bool
}

func allow(rule uint32) ruling { return ruling{ok: true, rule: rule} }

func deny(rule uint32, reason vswitch.Reason, r reply) ruling {
	return ruling{reason: reason, reply: r, rule: rule}
}

// judge is the one decision about who may talk to whom: users' rules first, then
// where something can be routed at all, then icc, links and egress, which a
// rule that accepts is stronger than. It changes nothing.
func (n *NAT) judge(q *packet, t *Trace) ruling {
	r, matched := n.policy.rule(q)
	if t != nil && len(n.policy.Rules) > 0 {
		if matched {
			t.Add("rules", "rule %d matches: %s", r.ID, [...]string{"accept", "drop", "reject"}[r.Action])
		} else {
			t.Add("rules", "none of %d matches", len(n.policy.Rules))
		}
	}
	if matched && r.Action == RuleDrop {
		return deny(r.ID, vswitch.Rule, silence)
	}
	if matched && r.Action == RuleReject {
		return deny(r.ID, vswitch.Rule, replyRefused)
	}
	v := n.policy.routed(q, t)
	if v.ok && matched {
		return allow(r.ID)
	}
	if v.ok {
		if f := n.policy.filtered(q, t); !f.ok || f.rule != noRule {
			return f
		}
	}
	return v
}

// rule is the first of the users' rules that matches.
func (p *Policy) rule(q *packet) (*Rule, bool) {
	for i := range p.Rules {
		if r := &p.Rules[i]; r.matches(q) {
			return r, true
		}
	}
	return nil, false
}

func (r *Rule) matches(q *packet) bool {
	if r.Direction != AnyDirection && r.Direction != q.way.direction() {
		return false
	}
	return covers(r.Proto, r.Ports, q.proto, q.port) && r.From.is(&q.from) && r.To.is(&q.to)
}

// covers says whether a protocol and ports hold those of a packet.
func covers(proto uint8, ports []PortRange, p uint8, port uint16) bool {
	if p == vswitch.ProtoICMPv6 {
		p = vswitch.ProtoICMP
	}
	if proto != 0 && proto != p {
		return false
	}
	if len(ports) == 0 {
		return true
	}
	return p != vswitch.ProtoICMP && slices.ContainsFunc(ports, func(r PortRange) bool { return r.holds(port) })
}

func (m *Match) is(p *party) bool {
	var is bool
	switch m.Kind {
	case MatchAny:
		return true
	case MatchPrefix:
		is = m.Prefix.Contains(p.addr)
		if m.Not && p.addr.Is4() != m.Prefix.Addr().Is4() {
			return true // not this address: those of the other family are not
		}
	case MatchContainer:
		is = p.port != nil && p.port.Label == m.Name
	case MatchNetwork:
		is = p.port != nil && p.port.Bridge().Name == m.Name
	case MatchOutside:
		is = p.port == nil && !p.host
	case MatchHost:
		is = p.port == nil && p.host
	}
	return is != m.Not
}

// routed says whether there is a way at all.
func (p *Policy) routed(q *packet, t *Trace) ruling {
	switch q.way {
	case wayBridge:
		return allow(RuleBridge)
	case wayPublished, wayInbound:
		t.Add("publish", "published ports are open")
		return allow(RulePublished)
	case wayHostPort:
		t.Add("host", "the host reaches network %s by its own interface there", q.to.network())
		return allow(RuleHost)
	}
	if p.NoForward && !q.loop {
		t.Add("route", "forwarding is off")
		return deny(RuleForwarding, vswitch.NoForwarding, silence)
	}
	switch q.way {
	case wayRouted:
		return p.between(q, t)
	case wayHost:
		if q.loop && !p.LoopbackAll && !slices.Contains(p.LoopbackPorts, q.port) && !q.mapped() {
			t.Add("host", "the host's loopback is not open at this port")
			return deny(RuleHost, vswitch.Refused, replyRefused)
		}
		if !q.loop && !p.HostAddress {
			t.Add("host", "the host's addresses are closed")
			return deny(RuleHost, vswitch.HostAddress, replyProhibited)
		}
		return allow(RuleHost)
	case wayOutside:
		if net := p.Nets[q.from.network()]; net.NoMasquerade {
			t.Add("nat", "network %s is not masqueraded", q.from.network())
			return deny(RuleMasquerade, vswitch.NoMasquerade, silence)
		}
		return allow(RuleMasquerade)
	}
	return allow(RuleService)
}

// between says whether a container of one network reaches one of another.
func (p *Policy) between(q *packet, t *Trace) ruling {
	from, to := q.from.network(), q.to.network()
	for i := range p.Routes {
		if r := &p.Routes[i]; r.From == from && r.To == to && covers(r.Proto, r.Ports, q.proto, q.port) {
			t.Add("route", "a route leads from network %s to %s", from, to)
			return allow(max(r.ID, RuleRoute))
		}
	}
	net := p.Nets[to]
	switch net.mode(q.to.addr.Is6()) {
	case ModeUnprotected:
		t.Add("route", "network %s is nat-unprotected: open for other networks", to)
		return allow(RuleRoute)
	case ModeRouted:
		if q.proto == vswitch.ProtoICMP || q.proto == vswitch.ProtoICMPv6 || slices.Contains(p.Public[q.to.name()], OpenPort{q.proto, q.port}) {
			t.Add("route", "network %s is routed, and this is published", to)
			return allow(RuleRoute)
		}
		t.Add("route", "network %s is routed, but this is not published", to)
	default:
		t.Add("route", "networks %s and %s are apart", from, to)
	}
	return deny(RuleIsolation, vswitch.Isolated, silence)
}

func (p *Policy) open(container string, proto uint8, port uint16) bool {
	return slices.Contains(p.Open[container], OpenPort{proto, port})
}

// filtered says what icc, links and egress have against what could go. A ruling
// without a rule leaves it at that.
func (p *Policy) filtered(q *packet, t *Trace) ruling {
	switch q.way {
	case wayBridge:
		if !q.from.port.Bridge().NoICC {
			return allow(noRule)
		}
		if slices.Contains(p.Links, Link{q.from.name(), q.to.name()}) && p.open(q.to.name(), q.proto, q.port) {
			t.Add("link", "%s is linked to %s, which exposes this", q.from.name(), q.to.name())
			return allow(RuleLink)
		}
		t.Add("icc", "network %s keeps its containers apart", q.from.network())
		return deny(RuleICC, vswitch.ICC, silence)
	case wayHost, wayOutside:
		return p.egress(q, t)
	}
	return allow(noRule)
}

// concernsBridge says whether packets from port to port of b have to be judged:
// a user's rule may mean them, or icc is off and a link may open something.
func (p *Policy) concernsBridge(b *vswitch.Bridge) bool {
	if b.NoICC && len(p.Links) > 0 {
		return true
	}
	return slices.ContainsFunc(p.Rules, func(r Rule) bool {
		return (r.Direction == AnyDirection || r.Direction == Between) && r.From.mayBeOn(b) && r.To.mayBeOn(b)
	})
}

var (
	groups     = netip.MustParsePrefix("224.0.0.0/4")
	groups6    = netip.MustParsePrefix("ff00::/8")
	links6     = netip.MustParsePrefix("fe80::/10")
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// mayBeOn says whether a container of b could be what m means, now or later.
func (m *Match) mayBeOn(b *vswitch.Bridge) bool {
	if m.Not {
		return true
	}
	switch m.Kind {
	case MatchPrefix:
		return groups.Overlaps(m.Prefix) || groups6.Overlaps(m.Prefix) || links6.Overlaps(m.Prefix) || m.Prefix.Contains(broadcast4) || b.Subnet.IsValid() && b.Subnet.Overlaps(m.Prefix) || b.Subnet6.IsValid() && b.Subnet6.Overlaps(m.Prefix)
	case MatchNetwork:
		return m.Name == b.Name
	case MatchOutside, MatchHost:
		return false
	}
	return true
}

// Trace collects the steps of a decision; nil collects nothing.
type Trace = vswitch.Trace

// Step is one step of a decision.
type Step = vswitch.TraceStep

// mapped says whether the address stands for the host's loopback by itself.
func (q *packet) mapped() bool {
	return q.from.port != nil && q.from.port.Bridge().Mapped(q.to.addr).IsLoopback()
}
