package nat

import (
	"net/netip"

	"tapswitch/switch"
)

// Outcome is how a packet that is explained ends.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accept"
	Dropped  Outcome = "drop"   // in silence
	Rejected Outcome = "reject" // with an answer
)

// Explanation is what became of a packet that was not sent.
type Explanation struct {
	Steps   []Step
	Outcome Outcome
	Reason  vswitch.Reason // Delivered if it is accepted
	Rule    uint32
	To      string // container:interface, gateway, host, outside; "" if nowhere
}

// Explain decides about the first packet of a flow from the container on p to
// dst, by the code that decides about real ones, and says how. It sends and
// changes nothing. It runs on the switch's thread.
func (n *NAT) Explain(p *vswitch.Port, proto uint8, dst netip.AddrPort) Explanation {
	t := new(Trace)
	br, ip := p.Bridge(), dst.Addr().WithZone("")
	dst = netip.AddrPortFrom(ip, dst.Port())
	src := sourceOf(p, ip.Is6())
	near := neighbour(br, ip)
	if near != nil && ip.IsLinkLocalUnicast() {
		src = vswitch.LinkLocal(p.MAC)
	}
	t.Add("interface", "%s on network %s", p.Name, br.Name)
	end := func(o Outcome, r vswitch.Reason, rule uint32, to string) Explanation {
		return Explanation{t.Steps, o, r, rule, to}
	}
	if !src.IsValid() {
		t.Add("address", "the interface has no address of this family")
		return end(Rejected, vswitch.NoRoute, noRule, "")
	}
	if p.Spoof {
		t.Add("guard", "any source may be used here (spoof: allow)")
	} else {
		t.Add("guard", "%s is the interface's own, with MAC %s", src, p.MAC)
	}
	if ip.IsMulticast() {
		if br.NoICC {
			t.Add("flood", "network %s keeps its containers apart", br.Name)
			return end(Dropped, vswitch.ICC, RuleICC, "")
		}
		t.Add("flood", "a group: to all of network %s", br.Name)
		return end(Accepted, vswitch.Delivered, RuleBridge, br.Name)
	}
	if (near != nil || br.Contains(ip) && !br.Service.Proxy) && !br.IsGateway(ip) {
		return n.explainNeighbour(p, proto, src, dst, t)
	}
	v := n.route(p, proto, src, dst, t)
	if to := v.explain(t); to != "" {
		return end(Accepted, vswitch.Delivered, v.rule, to)
	}
	if v.reply == silence {
		return end(Dropped, v.reason, v.rule, "")
	}
	return end(Rejected, v.reason, v.rule, "")
}

// explain adds the step in which a new flow leaves, and says whom it reaches; ""
// for nobody.
func (v *verdict) explain(t *Trace) string {
	switch v.kind {
	case verdictEcho, verdictDNS:
		return "gateway"
	case verdictPair, verdictElsewhere:
		t.Add("nat", "to %s port %d, from the gateway's address there", v.target.Port.Name, v.target.ContainerPort)
		return v.target.Port.Name
	case verdictRouted:
		t.Add("output", "to %s, addresses kept", v.out.Name)
		return v.out.Name
	case verdictOutside:
		t.Add("nat", "masqueraded: a socket of this host to %s", v.to)
		if v.way != wayOutside {
			return "host"
		}
		return "outside"
	}
	return ""
}

// traceFlow adds the step of a packet that belongs to an open flow.
func (n *NAT) traceFlow(i uint32) {
	if t := n.sw.Trace(); t != nil {
		d := n.describe(&n.flows[i])
		t.Add("flow", "of an open flow, %s: %s -> %s => %s -> %s", d.State, d.Local, d.Remote, d.Host, d.Peer)
	}
}

func (n *NAT) explainNeighbour(p *vswitch.Port, proto uint8, src netip.Addr, dst netip.AddrPort, t *Trace) Explanation {
	br := p.Bridge()
	out := neighbour(br, dst.Addr())
	switch {
	case out == nil:
		t.Add("fdb", "no container of network %s has %s: nobody answers for it", br.Name, dst.Addr())
		return Explanation{t.Steps, Rejected, vswitch.UnknownMAC, noRule, ""}
	case out == p:
		t.Add("output", "its own address: the packet does not leave the container")
		return Explanation{t.Steps, Accepted, vswitch.Delivered, noRule, p.Name}
	}
	t.Add("fdb", "%s is %s, MAC %s", dst.Addr(), out.Name, out.MAC)
	q := packet{from: party{port: p, addr: src}, to: party{port: out, addr: dst.Addr()}, way: wayBridge, proto: proto, port: dst.Port()}
	r := n.judge(&q, t)
	switch {
	case r.ok:
		t.Add("output", "switched to %s", out.Name)
		return Explanation{t.Steps, Accepted, vswitch.Delivered, r.rule, out.Name}
	case r.reply == silence:
		return Explanation{t.Steps, Dropped, r.reason, r.rule, ""}
	}
	return Explanation{t.Steps, Rejected, r.reason, r.rule, ""}
}

// sourceOf is the address that a container uses on p for a family.
func sourceOf(p *vswitch.Port, v6 bool) netip.Addr {
	for _, a := range p.Addrs {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// neighbour is the port of a bridge that has an address, its link-local one
// among them, or nil.
func neighbour(br *vswitch.Bridge, a netip.Addr) *vswitch.Port {
	if p := br.PortOf(a); p != nil || !a.IsLinkLocalUnicast() {
		return p
	}
	for _, p := range br.Ports() {
		if vswitch.LinkLocal(p.MAC) == a {
			return p
		}
	}
	return nil
}

// ExplainInbound is Explain for a client, outside or on the host, of what is
// published as id.
func (n *NAT) ExplainInbound(id uint32, client netip.Addr) Explanation {
	t := new(Trace)
	p := n.pub.byID(id)
	if p == nil {
		t.Add("listener", "it has just been closed")
		return Explanation{t.Steps, Rejected, vswitch.Refused, noRule, ""}
	}
	t.Add("listener", "%s leads to %s port %d", p.Host, p.Port.Name, p.ContainerPort)
	server, seen, ok := n.inbound(p, netip.AddrPortFrom(client, 1))
	if !ok {
		t.Add("nat", "the container has no address that the client could be led to, or no port is left")
		return Explanation{t.Steps, Rejected, vswitch.FlowLimit, noRule, ""}
	}
	q := packet{from: n.client(client), to: party{port: p.Port, addr: server}, way: wayInbound, proto: p.Proto, port: p.ContainerPort}
	r := n.judge(&q, t)
	switch {
	case r.ok && seen.Addr() == client:
		t.Add("nat", "to %s, which sees the client's own address", server)
	case r.ok:
		t.Add("nat", "to %s, which sees %s as the client", server, seen.Addr())
	case p.Proto == vswitch.ProtoTCP: // the host's kernel has accepted it already
		return Explanation{t.Steps, Rejected, r.reason, r.rule, ""}
	default:
		return Explanation{t.Steps, Dropped, r.reason, r.rule, ""}
	}
	return Explanation{t.Steps, Accepted, vswitch.Delivered, r.rule, p.Port.Name}
}
