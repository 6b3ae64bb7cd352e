package nat

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// decision is what becomes of the first packet of a flow.
type decision struct {
	outcome Outcome
	reason  vswitch.Reason
	rule    uint32
	to      string // who gets it
}

func accept(rule uint32, to string) decision {
	return decision{Accepted, vswitch.Delivered, rule, to}
}

func drop(why vswitch.Reason, rule uint32) decision { return decision{Dropped, why, rule, ""} }

func reject(why vswitch.Reason, rule uint32) decision { return decision{Rejected, why, rule, ""} }

// someone is one end of a flow: a container on a network, the host, or, without
// any of these, somebody outside.
type someone struct {
	container, network string
	host               bool
	addr               netip.Addr
}

// talk is a flow as rules see it: behind all translation.
type talk struct {
	from, to  someone
	direction Direction
	proto     uint8
	port      uint16
}

// decide is the model: it says from the first principles what becomes of a new
// flow, and keeps nothing for the next one.
func (w *plain) decide(from *plainPort, proto uint8, dst netip.AddrPort, linkLocal netip.Addr, dns bool) decision {
	a, n := dst.Addr(), from.net
	src := from.source(a.Is6())
	t := talk{from: someone{from.label, n.name, false, src}, to: someone{addr: a}, direction: Outward, proto: proto, port: dst.Port()}
	isGateway := slices.Contains(n.gateways, a) || a == linkLocal
	switch {
	case !src.IsValid():
		return reject(vswitch.NoRoute, 0)
	case a.IsMulticast() && n.noICC:
		return drop(vswitch.ICC, RuleICC)
	case a.IsMulticast():
		return accept(RuleBridge, n.name)
	case n.holds(a) && !isGateway:
		return w.neighbour(from, t)
	case proto != vswitch.ProtoTCP && proto != vswitch.ProtoUDP && !isICMP(proto):
		return reject(vswitch.NoProtocol, 0)
	case isGateway:
		return w.gateway(n, t, dns)
	case n.internal:
		return reject(vswitch.Internal, RuleInternal)
	}
	for _, other := range w.nets {
		if other.holds(a) {
			return w.across(other, t)
		}
	}
	switch why := never[a]; why {
	case vswitch.Delivered:
	case vswitch.MulticastRouted:
		return drop(why, RuleForbidden)
	default:
		return reject(why, RuleForbidden)
	}
	way, to := accept(RuleMasquerade, "outside"), "outside"
	if slices.Contains(hostAddrs, a) {
		if x := w.published(proto, dst, false); x != nil {
			return w.toPublished(x, t)
		}
		if d, over := w.otherFamily(t); over {
			return d
		}
		t.to.host = true
		way, to = accept(RuleHost, "host"), "host"
		if !w.policy.HostAddress {
			way = reject(vswitch.HostAddress, RuleHost)
		}
	} else if w.policy.Nets[n.name].NoMasquerade {
		way = drop(vswitch.NoMasquerade, RuleMasquerade)
	}
	if w.policy.NoForward {
		way = drop(vswitch.NoForwarding, RuleForwarding)
	}
	return w.ruled(t, way, w.egress(t, way, to))
}

func (n *plainNet) holds(a netip.Addr) bool {
	for _, s := range n.subnets {
		if s.Contains(a) {
			return true
		}
	}
	return false
}

func isICMP(proto uint8) bool { return proto == vswitch.ProtoICMP || proto == vswitch.ProtoICMPv6 }

// neighbour decides about a packet to the container's own network.
func (w *plain) neighbour(from *plainPort, t talk) decision {
	out := w.owner(from.net, t.to.addr)
	switch out {
	case nil:
		return reject(vswitch.UnknownMAC, 0)
	case from:
		return accept(0, from.name)
	}
	t.direction, t.to.container, t.to.network = Between, out.label, out.net.name
	way := accept(RuleBridge, out.name)
	switch {
	case !from.net.noICC:
		return w.ruled(t, way, way)
	case slices.Contains(w.policy.Links, Link{from.label, out.label}) && w.exposed(t):
		return w.ruled(t, way, accept(RuleLink, out.name))
	}
	return w.ruled(t, way, drop(vswitch.ICC, RuleICC))
}

// owner is whose address a is on n, or nil.
func (w *plain) owner(n *plainNet, a netip.Addr) *plainPort {
	for _, p := range w.ports {
		if p.net == n && slices.Contains(p.addrs, a) {
			return p
		}
	}
	return nil
}

func (w *plain) exposed(t talk) bool {
	return slices.Contains(w.policy.Open[t.to.container], OpenPort{t.proto, t.port})
}

// ruled is what the rules of users make of a flow: a drop or reject is final,
// an accept is stronger than what follows the question whether there is a way.
func (w *plain) ruled(t talk, way, rest decision) decision {
	first := slices.IndexFunc(w.policy.Rules, func(r Rule) bool { return matches(r, t) })
	switch {
	case first >= 0 && w.policy.Rules[first].Action == RuleDrop:
		return drop(vswitch.Rule, w.policy.Rules[first].ID)
	case first >= 0 && w.policy.Rules[first].Action == RuleReject:
		return reject(vswitch.Rule, w.policy.Rules[first].ID)
	case way.outcome != Accepted:
		return way
	case first >= 0:
		return accept(w.policy.Rules[first].ID, way.to)
	}
	return rest
}

func matches(r Rule, t talk) bool {
	if r.Direction != AnyDirection && r.Direction != t.direction {
		return false
	}
	return includes(r.Proto, r.Ports, t) && means(r.From, t.from) && means(r.To, t.to)
}

// includes says whether a protocol and ranges of ports hold those of t. What has
// no ports is in no range.
func includes(proto uint8, ports []PortRange, t talk) bool {
	p := t.proto
	if isICMP(p) {
		p = vswitch.ProtoICMP
	}
	if proto != 0 && proto != p {
		return false
	}
	for _, r := range ports {
		if p != vswitch.ProtoICMP && r.First <= t.port && t.port <= r.Last {
			return true
		}
	}
	return len(ports) == 0
}

func means(m Match, s someone) bool {
	is := true
	switch m.Kind {
	case MatchPrefix:
		is = m.Prefix.Addr().Is4() == s.addr.Is4() && m.Prefix.Contains(s.addr)
	case MatchContainer:
		is = s.container == m.Name
	case MatchNetwork:
		is = s.network == m.Name
	case MatchOutside:
		is = s.container == "" && !s.host
	case MatchHost:
		is = s.host
	}
	return is != m.Not
}

// gateway decides about what is for the container's own gateway.
func (w *plain) gateway(n *plainNet, t talk, dns bool) decision {
	if isICMP(t.proto) || dns && t.port == 53 {
		return accept(RuleService, "gateway")
	}
	if !n.internal {
		if x := w.published(t.proto, netip.AddrPortFrom(t.to.addr, t.port), true); x != nil {
			return w.toPublished(x, t)
		}
	}
	if !w.policy.LoopbackAll && !slices.Contains(w.policy.LoopbackPorts, t.port) {
		return reject(vswitch.Refused, 0)
	}
	t.to.host = true
	way := accept(RuleHost, "host")
	return w.ruled(t, way, w.egress(t, way, "host"))
}

// otherFamily is what a packet to one of the host's addresses meets that leads
// to a container without an address of that family: rules have a say, and then
// it is the host's listener that is reached. It says whether that is the end.
func (w *plain) otherFamily(t talk) (d decision, over bool) {
	for _, x := range w.pubs {
		at := x.host.Addr()
		all := at == netip.IPv4Unspecified() && t.to.addr.Is4() || at == netip.IPv6Unspecified() && t.to.addr.Is6()
		if x.proto != t.proto || x.host.Port() != t.port || !all && at != t.to.addr || x.elsewhere || x.port.source(t.to.addr.Is6()).IsValid() {
			continue
		}
		own := t
		own.direction, own.port = Between, x.cport
		own.to = someone{x.port.label, x.port.net.name, false, x.port.source(!t.to.addr.Is6())}
		if d := w.ruled(own, accept(RulePublished, x.port.name), accept(RulePublished, x.port.name)); d.outcome != Accepted {
			return d, true
		}
	}
	return d, false
}

// published is what answers at dst, a gateway's address or one of the host's.
// What is published at one address only is not at gateways.
func (w *plain) published(proto uint8, dst netip.AddrPort, gateway bool) *plainPub {
	for _, x := range w.pubs {
		at := x.host.Addr()
		all := at == netip.IPv4Unspecified() && dst.Addr().Is4() || at == netip.IPv6Unspecified() && dst.Addr().Is6()
		if x.proto == proto && x.host.Port() == dst.Port() && (all || !gateway && at == dst.Addr()) && x.port.source(dst.Addr().Is6()).IsValid() {
			return x
		}
	}
	return nil
}

// toPublished decides about what is published: only rules have a say.
func (w *plain) toPublished(x *plainPub, t talk) decision {
	t.direction, t.port = Between, x.cport
	t.to = someone{x.port.label, x.port.net.name, false, x.port.source(t.to.addr.Is6())}
	way := accept(RulePublished, x.port.name)
	return w.ruled(t, way, way)
}

// across decides about a packet to another network.
func (w *plain) across(other *plainNet, t talk) decision {
	apart := drop(vswitch.Isolated, RuleIsolation)
	if slices.Contains(other.gateways, t.to.addr) {
		if x := w.published(t.proto, netip.AddrPortFrom(t.to.addr, t.port), true); x != nil {
			return w.toPublished(x, t)
		}
		return apart
	}
	out := w.owner(other, t.to.addr)
	if out == nil || other.internal {
		return apart
	}
	t.direction, t.to.container, t.to.network = Between, out.label, other.name
	way := apart
	if id := w.routed(t); id != 0 {
		way = accept(id, out.name)
	}
	if w.policy.NoForward {
		way = drop(vswitch.NoForwarding, RuleForwarding)
	}
	return w.ruled(t, way, way)
}

// routed is what leads from network to network: a route, or how the other
// network is open for all; 0 if nothing does.
func (w *plain) routed(t talk) uint32 {
	for _, r := range w.policy.Routes {
		if r.From == t.from.network && r.To == t.to.network && includes(r.Proto, r.Ports, t) {
			if r.ID == 0 {
				return RuleRoute
			}
			return r.ID
		}
	}
	n := w.policy.Nets[t.to.network]
	mode := n.Mode4
	if t.to.addr.Is6() {
		mode = n.Mode6
	}
	if mode == ModeUnprotected || mode == ModeRouted && (isICMP(t.proto) || slices.Contains(w.policy.Public[t.to.container], OpenPort{t.proto, t.port})) {
		return RuleRoute
	}
	return 0
}

// egress is what the container's own egress policy, or else its network's,
// makes of a way to the host or outside.
func (w *plain) egress(t talk, way decision, to string) decision {
	e := w.policy.Egress[t.from.container]
	if e == nil {
		e = w.policy.Egress["network/"+t.from.network]
	}
	no := reject(vswitch.Egress, RuleEgress)
	switch {
	case e == nil || e.Mode == EgressAll:
		return way
	case e.Mode == EgressNone:
		return no
	case e.Mode == EgressInternet:
		if t.to.host || slices.Contains(privateAddrs, t.to.addr) || t.to.addr == namedAddrs[1] {
			return no
		}
		return way
	}
	for _, x := range e.Allow {
		if x.Prefix.Contains(t.to.addr) && includes(x.Proto, x.Ports, t) {
			return accept(RuleEgress, to)
		}
	}
	if e.Named != nil && answered(t.from.container, t.to.addr, t.proto, t.port, false) != "" {
		return accept(RuleEgress, to)
	}
	return no
}

// letIn decides about a client of a published port, from outside or the host.
func (w *plain) letIn(x *plainPub, client, server netip.Addr) decision {
	t := talk{from: someone{addr: client, host: client.IsLoopback() || slices.Contains(hostAddrs, client)},
		to: someone{x.port.label, x.port.net.name, false, server}, direction: Inward, proto: x.proto, port: x.cport}
	way := accept(RulePublished, "")
	return w.ruled(t, way, way)
}

// TestPolicyModel: what the gateway says of a new flow, and what it does with
// its first packet, is what follows from networks and policy alone. A flow that
// is open fares as a new one does when the policy changes.
func TestPolicyModel(t *testing.T) {
	r := switchtest.Rand(t)
	seen := map[string]int{}
	for range 30 {
		w := randomNets(r)
		w.randomPorts(r)
		w.randomPubs(r)
		dns := rarely(r, 2)
		sw := newReal(t, w, dns)
		for _, p := range w.ports {
			sw.attach(p)
		}
		for _, x := range w.pubs {
			sw.publish(x)
		}
		sport := pick(r, []uint16{1, 1900, 10_000}) // a new one for each flow: none belongs to an older one
		var open []opened                           // by the policy before
		for range 20 {
			w.policy = w.randomPolicy(r)
			sw.nat.SetPolicy(w.policy)
			for _, x := range open {
				want := w.decide(x.from, x.proto, x.dst, sw.bridges[x.from.net].LinkLocal(), dns)
				if err := sw.try(w, x.from, x.proto, x.sport, x.dst, want); err != nil {
					t.Fatalf("%s to %s, protocol %d, open before the policy changed: %v; the model says %+v\n%s", x.from.name, x.dst, x.proto, err, want, w)
				}
			}
			open = open[:0]
			for range 40 {
				from, dst := pick(r, w.ports), w.randomTarget(r)
				if !from.source(dst.Addr().Is6()).IsValid() && !rarely(r, 8) {
					continue // has none of the family: that is soon said
				}
				linkLocal := sw.bridges[from.net].LinkLocal()
				if rarely(r, 40) {
					dst = netip.AddrPortFrom(linkLocal, dst.Port())
				}
				proto := pick(r, []uint8{vswitch.ProtoTCP, vswitch.ProtoTCP, vswitch.ProtoUDP, vswitch.ProtoUDP, vswitch.ProtoICMP, vswitch.ProtoICMP, 47})
				if proto == vswitch.ProtoICMP && dst.Addr().Is6() {
					proto = vswitch.ProtoICMPv6
				}
				if rarely(r, 20) {
					dst = netip.AddrPortFrom(dst.Addr(), 53)
				}
				if isICMP(proto) || proto == 47 {
					dst = netip.AddrPortFrom(dst.Addr(), 0)
				}
				want := w.decide(from, proto, dst, linkLocal, dns)
				got := sw.nat.Explain(sw.hosts[from].Port, proto, dst)
				if (decision{got.Outcome, got.Reason, got.Rule, got.To}) != want {
					t.Fatalf("%s to %s, protocol %d:\nmodel %+v\nExplain %+v\n%s", from.name, dst, proto, want, got, w)
				}
				seen[fmt.Sprint(want.outcome, " ", want.reason)]++
				if sport++; !from.source(dst.Addr().Is6()).IsValid() || dst.Addr().IsMulticast() || want.reason == vswitch.UnknownMAC || want.to == from.name && want.rule == 0 {
					continue // such a packet is not sent, or is no flow
				}
				if err := sw.try(w, from, proto, sport, dst, want); err != nil {
					t.Fatalf("%s to %s, protocol %d, source port %d: %v; the model says %+v, Explain\n%+v\n%s", from.name, dst, proto, sport, err, want, got, w)
				}
				if want.outcome == Accepted && rarely(r, 2) {
					open = append(open, opened{from, proto, sport, dst})
				}
			}
			w.checkClients(t, r, sw)
		}
	}
	// Each kind of decision is common enough to be met in all runs.
	for _, what := range []string{"accept delivered", "drop rule", "reject rule", "drop icc", "drop isolated", "drop no-forwarding", "drop no-masquerade",
		"reject host-address", "reject egress", "reject refused", "reject internal", "reject no-protocol", "reject host-loopback", "drop multicast-routed"} {
		if seen[what] == 0 {
			t.Errorf("no packet met %q: the test does not look at it", what)
		}
	}
	t.Log(seen)
}

// opened is a flow whose first packet was accepted.
type opened struct {
	from  *plainPort
	proto uint8
	sport uint16
	dst   netip.AddrPort
}

// randomTarget is somewhere to send to: mostly in this world, or where nobody
// may ever send, at a port that containers or the host have.
func (w *plain) randomTarget(r *rand.Rand) netip.AddrPort {
	a, port := w.randomAddr(r), pick(r, somePorts)
	switch r.IntN(24) {
	case 0:
		a = pick(r, addrs("224.0.0.251", "ff02::fb"))
	case 1, 2:
		a = pick(r, slices.SortedFunc(maps.Keys(never), netip.Addr.Compare))
	case 3:
		a = pick(r, pick(r, w.nets).addressesOf(200)) // nobody's
	case 4, 5:
		if len(w.pubs) > 0 {
			x := pick(r, w.pubs)
			if a, port = x.host.Addr(), x.host.Port(); a.IsUnspecified() || rarely(r, 3) {
				a = pick(r, append(slices.Clone(hostAddrs), pick(r, w.nets).gateways...))
			}
		}
	}
	return netip.AddrPortFrom(a, port)
}

// String is for a person who looks for a difference.
func (w *plain) String() string {
	var b bytes.Buffer
	for _, n := range w.nets {
		fmt.Fprintf(&b, "network %+v\n", *n)
	}
	for _, p := range w.ports {
		fmt.Fprintf(&b, "port %s on %s: %v\n", p.name, p.net.name, p.addrs)
	}
	for _, x := range w.pubs {
		fmt.Fprintf(&b, "published %d %s to %s port %d elsewhere %t\n", x.proto, x.host, x.port.name, x.cport, x.elsewhere)
	}
	for name, e := range w.policy.Egress {
		fmt.Fprintf(&b, "egress of %s: %+v\n", name, *e)
	}
	fmt.Fprintf(&b, "policy %+v", w.policy)
	return b.String()
}

// try sends the first packet of a flow and says what of it is not as was to be
// expected.
func (w *real) try(p *plain, from *plainPort, proto uint8, sport uint16, dst netip.AddrPort, want decision) error {
	h := w.hosts[from]
	target := h // who answers, or is sent to
	for x, other := range w.hosts {
		if x.name == want.to {
			target = other
		}
	}
	pk := switchtest.Packet{SrcMAC: h.MAC, DstMAC: h.Bridge().MAC, Src: from.source(dst.Addr().Is6()), Dst: dst.Addr()}
	if x := p.owner(from.net, dst.Addr()); x != nil {
		pk.DstMAC = x.mac
	}
	before, asked := h.Stats.Drops, w.dns
	h.Send(first(pk, proto, sport, dst.Port()))
	got := map[*switchtest.Host]int{}
	for _, x := range w.hosts {
		if k := len(x.Dev.Take()); k > 0 {
			got[x] = k
		}
	}
	lost := vswitch.Delivered
	for reason := range before {
		switch h.Stats.Drops[reason] - before[reason] {
		case 0:
		case 1:
			if lost == vswitch.Delivered {
				lost = vswitch.Reason(reason)
				continue
			}
			fallthrough
		default:
			return fmt.Errorf("counted more than once")
		}
	}
	switch {
	case p.handedOver(proto, dst, want):
		if lost != vswitch.NoBuffer || len(got) != 0 { // there is no other shard
			return fmt.Errorf("%s instead of a shard that is missing", lost)
		}
		return nil
	case want.to == "host" || want.to == "outside":
		if lost != vswitch.SocketFailed {
			return fmt.Errorf("%s instead of a socket", lost)
		}
		return nil // an answer says so, or not
	case want.to == "gateway" && !isICMP(proto):
		if lost != vswitch.Delivered || len(got) != 0 || proto == vswitch.ProtoUDP && w.dns != asked+1 {
			return fmt.Errorf("%s instead of a question to our DNS", lost)
		}
		return nil
	}
	answers := 1
	if want.outcome == Dropped {
		answers = 0
	}
	if lost != want.reason || got[target] != answers || len(got) != answers {
		return fmt.Errorf("%s, %d frames for %s, frames for %d ports", lost, got[target], target.Name, len(got))
	}
	return nil
}

// first is the first packet of a flow.
func first(p switchtest.Packet, proto uint8, sport, dport uint16) []byte {
	switch proto {
	case vswitch.ProtoTCP:
		return p.TCP(layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: true, Seq: 1000}, nil)
	case vswitch.ProtoUDP:
		return p.UDP(sport, dport, []byte("question"))
	case vswitch.ProtoICMP, vswitch.ProtoICMPv6:
		return p.Echo(sport, 1, []byte("ping"))
	}
	return p.IP(layers.IPProtocol(proto), make([]byte, 24))
}

// handedOver says whether the flow belongs to another shard.
func (w *plain) handedOver(proto uint8, dst netip.AddrPort, want decision) bool {
	return slices.ContainsFunc(w.pubs, func(x *plainPub) bool {
		return x.elsewhere && x.proto == proto && x.host.Port() == dst.Port() && x.port.name == want.to && !slices.Contains(x.port.addrs, dst.Addr())
	})
}

// checkClients compares what is let in from outside and the host.
func (w *plain) checkClients(t *testing.T, r *rand.Rand, sw *real) {
	for _, x := range w.pubs {
		if x.elsewhere {
			continue
		}
		client := pick(r, append(addrs("127.0.0.1", "::1", "203.0.113.7", "2001:db8:7::7"), hostAddrs...))
		server := x.port.source(client.Is6())
		if !server.IsValid() {
			server = x.port.source(!client.Is6())
		}
		want := w.letIn(x, client, server)
		v, ok := sw.nat.letIn(sw.hosts[x.port].Port, x.proto, netip.AddrPortFrom(client, 5000), netip.AddrPortFrom(server, x.cport))
		if ok != (want.outcome == Accepted) || v.reason != want.reason || v.rule != want.rule {
			t.Fatalf("client %s at %s: the model says %+v, letIn %t %s %d\n%s", client, x.host, want, ok, v.reason, v.rule, w)
		}
	}
}

// twins are two worlds to which the same happens. The second forgets all
// decisions before each frame, so that it never hits its cache.
type twins struct {
	*plain
	with, without *real
	extra         *plainNet // a network without containers, which comes and goes
	heard         map[*plainPort][][]byte
	log           []string
	time          time.Duration // that has passed
	hits, frames  uint64        // of ports that are gone
}

func (w *twins) both(f func(*real)) {
	f(w.with)
	f(w.without)
}

func newTwins(t *testing.T, r *rand.Rand) *twins {
	w := &twins{plain: randomNets(r), heard: map[*plainPort][][]byte{}}
	w.nets[0].noICC, w.nets[0].internal = false, false // one that is open, one that is not
	w.nets[1].noICC, w.nets[1].internal = true, false
	w.randomPorts(r)
	for k := range 2 { // machines with others behind them: the rest they learn of
		w.ports = append(w.ports, &plainPort{name: fmt.Sprintf("vm%d:eth0", k), label: "proxy", net: w.nets[k%2], addrs: w.nets[k%2].addressesOf(20 + k), mac: boxMAC(20 + k), spoof: true},
			&plainPort{name: fmt.Sprintf("lab%d:eth0", k), label: "mail", net: w.nets[k%2], addrs: w.nets[k%2].addressesOf(30 + k), mac: boxMAC(30 + k), spoof: true})
	}
	w.extra = &plainNet{name: "extra", subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, gateways: addrs("10.9.0.1")}
	w.with, w.without = newReal(t, w.plain, false), newReal(t, w.plain, false)
	for _, p := range w.ports {
		w.both(func(x *real) { x.attach(p) })
	}
	return w
}

// TestPolicyCache: whatever happens, a switch with a flow cache does with each
// frame what one without does, with all that the gateway knows of flows.
func TestPolicyCache(t *testing.T) {
	r := switchtest.Rand(t)
	w := newTwins(t, r)
	w.change(r, "policy")
	hot, cold := make([]sent, 40), make([]sent, 60)
	for i := range hot {
		hot[i] = w.plainFrame(r)
	}
	for i := range cold {
		cold[i] = w.randomFrame(r)
	}
	for step := range 10_000 {
		switch x := r.IntN(2000); {
		case x < 30:
			w.change(r, pick(r, []string{"policy", "policy", "port", "port", "addresses", "time", "time", "published", "network"}))
		case x < 250:
			hot[r.IntN(len(hot))], cold[r.IntN(len(cold))] = w.plainFrame(r), w.randomFrame(r)
			continue
		case x < 900:
			w.send(w.answer(r))
		case x < 1100:
			w.send(pick(r, cold))
		default:
			f := pick(r, hot)
			for range 1 + r.IntN(6) {
				w.send(f)
			}
		}
		if what := w.differ(); what != "" {
			t.Fatalf("step %d: %s\n%s\n%s", step, what, last(w.log), w.plain)
		}
	}
	for p := range w.with.hosts {
		w.left(p)
	}
	t.Logf("%d hits of %d frames, flows %+v", w.hits, w.frames, w.with.nat.Stats)
	if w.hits*20 <= w.frames || w.with.nat.Stats.PairFlows == 0 { // a quarter hits, mostly
		t.Errorf("%d hits of %d frames: the test hardly meets the cache", w.hits, w.frames)
	}
}

// sent is a frame and who sends it.
type sent struct {
	from  *plainPort
	frame []byte
}

// change lets something else than a frame happen.
func (w *twins) change(r *rand.Rand, what string) {
	switch what {
	case "policy":
		w.policy = w.randomPolicy(r)
		w.both(func(x *real) { x.nat.SetPolicy(w.policy) })
	case "port":
		what = w.comeOrGo(r, pick(r, w.ports))
	case "addresses":
		p := pick(r, w.ports)
		p.addrs = p.net.addressesOf(r.IntN(len(someNames))) // somebody else's
		what = fmt.Sprintf("%s has the addresses %s", p.name, p.addrs)
		if w.with.hosts[p] != nil {
			w.both(func(x *real) { x.SetAddrs(x.hosts[p].Port, vswitch.PortConfig{Addrs: p.addrs}) })
		}
	case "time":
		d := pick(r, []time.Duration{time.Second, 9 * time.Second, 31 * time.Second, 121 * time.Second, 301 * time.Second})
		w.time += d
		what = fmt.Sprintf("%s pass", d)
		expire := rarely(r, 2) // or the next frame is first
		w.both(func(x *real) {
			x.Clock.Advance(d)
			if expire {
				x.Poll()
			}
		})
	case "published":
		what = w.publishOrNot(r)
	case "network":
		if b := w.with.bridges[w.extra]; b == nil {
			w.both(func(x *real) { x.addBridge(w.extra) })
			break
		}
		w.both(func(x *real) {
			if err := x.RemoveBridge(x.bridges[w.extra]); err != nil {
				x.T.Fatal(err)
			}
			delete(x.bridges, w.extra)
		})
	}
	w.log = append(w.log, what)
}

// comeOrGo attaches p, perhaps under another name or on another network, or
// detaches it.
func (w *twins) comeOrGo(r *rand.Rand, p *plainPort) string {
	if w.with.hosts[p] != nil {
		w.left(p)
		w.both(func(x *real) {
			x.RemovePort(x.hosts[p].Port)
			delete(x.hosts, p)
		})
		w.pubs = slices.DeleteFunc(w.pubs, func(x *plainPub) bool { return x.port == p })
		delete(w.heard, p)
		return p.name + " leaves"
	}
	if rarely(r, 3) {
		p.label = pick(r, someNames)
	}
	if rarely(r, 3) {
		p.net = pick(r, w.nets)
		p.addrs = p.net.addressesOf(int(p.mac[5]))
	}
	for other := range w.with.hosts {
		if other.net == p.net && other.mac == p.mac {
			return p.name + " is there already"
		}
	}
	w.both(func(x *real) { x.attach(p) })
	return fmt.Sprintf("%s comes as %s to %s", p.name, p.label, p.net.name)
}

// left counts what a port has met.
func (w *twins) left(p *plainPort) {
	s, never := w.with.hosts[p].Stats, w.without.hosts[p].Stats
	w.hits, w.frames = w.hits+s.Hits, w.frames+s.TxFrames
	if never.Hits != 0 {
		w.with.T.Error("the switch without a cache hit its cache: the test compares nothing")
	}
}

// publishOrNot publishes a port, or takes one back.
func (w *twins) publishOrNot(r *rand.Rand) string {
	if len(w.pubs) > 3 || len(w.pubs) > 0 && rarely(r, 3) {
		x := pick(r, w.pubs)
		w.pubs = slices.DeleteFunc(w.pubs, func(y *plainPub) bool { return x == y })
		w.both(func(v *real) {
			k := slices.IndexFunc(v.nat.pub.list, func(y *publication) bool { return y != nil && y.Host == x.host })
			v.nat.Unpublish(uint32(k))
		})
		return "no longer published: " + x.host.String()
	}
	p := pick(r, w.ports)
	if w.with.hosts[p] == nil || p.net.internal {
		return "nothing"
	}
	port := uint16(9000 + r.IntN(8))
	if slices.ContainsFunc(w.pubs, func(x *plainPub) bool { return x.host.Port() == port }) {
		return "nothing"
	}
	x := &plainPub{pick(r, []uint8{vswitch.ProtoTCP, vswitch.ProtoUDP}), netip.AddrPortFrom(pick(r, append(addrs("0.0.0.0", "::"), hostAddrs...)), port), p, pick(r, somePorts), false}
	w.pubs = append(w.pubs, x)
	w.both(func(v *real) { v.publish(x) })
	return fmt.Sprintf("published: %d %s for %s", x.proto, x.host, p.name)
}

// plainFrame is a random frame that may meet the cache.
func (w *twins) plainFrame(r *rand.Rand) sent {
	for {
		s := w.randomFrame(r)
		var x vswitch.Frame
		if x.Parse(nil, s.frame); x.Class == 0 {
			return s
		}
	}
}

// randomFrame is what some container may say first.
func (w *twins) randomFrame(r *rand.Rand) sent {
	from := pick(r, w.ports)
	dst := w.randomTarget(r)
	for !rarely(r, 8) || !from.source(dst.Addr().Is6()).IsValid() {
		to := pick(r, w.ports) // who is there, mostly a neighbour
		if dst = netip.AddrPortFrom(pick(r, to.addrs), dst.Port()); from.source(dst.Addr().Is6()).IsValid() && to != from && (to.net == from.net || rarely(r, 3)) {
			break
		}
		dst = w.randomTarget(r)
	}
	gateway := gatewayOf(w.with, from)
	p := switchtest.Packet{SrcMAC: from.mac, DstMAC: gateway, Src: from.source(dst.Addr().Is6()), Dst: dst.Addr()}
	if x := w.owner(from.net, p.Dst); x != nil {
		p.DstMAC = x.mac
	}
	if from.spoof && rarely(r, 2) {
		p.SrcMAC, p.Src = w.machine(from, p.Src.Is6())
	} else if rarely(r, 20) {
		p.Src = pick(r, addrs("172.18.0.77", "172.19.0.77"))
		if p.Dst.Is6() {
			p.Src = pick(r, addrs("fd00:18::77", "fe80::77"))
		}
	}
	switch r.IntN(30) {
	case 0, 1, 2:
		if x := pick(r, w.ports); x.spoof && x.net == from.net {
			p.DstMAC, p.Dst = w.machine(x, p.Src.Is6())
		}
	case 3:
		p.DstMAC = vswitch.Broadcast
	case 4:
		p.TTL = 1
	case 5:
		p.DstMAC = boxMAC(r.IntN(len(someNames))) // somebody's, whosever the address is
	case 6:
		p.DstMAC, _ = w.machine(pick(r, w.ports), true)
	case 7:
		if from.spoof {
			p.SrcMAC, _ = w.machine(pick(r, w.ports), true) // it has moved here
		}
	}
	sport, id := pick(r, []uint16{123, 1000, 1001, 2049}), uint16(1000+r.IntN(3))
	body := make([]byte, pick(r, []int{0, 1, 20, 20, 1300}))
	var f []byte
	switch k := r.IntN(12); k {
	case 0, 1, 2, 3:
		f = p.TCP(randomTCP(r, sport, dst.Port()), body)
	case 4, 5, 6, 7:
		f = p.UDP(sport, dst.Port(), body)
	case 8, 9:
		if f = p.Echo(id, 1, body); k == 9 {
			f = p.EchoReply(id, 1, body)
		}
	case 10:
		f = p.IP(47, make([]byte, 30))
	case 11:
		f = fragment(r, p, sport, dst.Port())
	}
	return sent{from, spoil(r, f)}
}

func gatewayOf(w *real, p *plainPort) vswitch.MAC { return w.bridges[p.net].MAC }

// machine is one that is reached through the trusted port p.
func (w *twins) machine(p *plainPort, v6 bool) (vswitch.MAC, netip.Addr) {
	k := slices.Index(w.ports, p)
	for _, a := range p.net.addressesOf(200 + k) {
		if a.Is6() == v6 {
			return boxMAC(200 + k), a
		}
	}
	return boxMAC(200 + k), netip.Addr{}
}

// randomTCP has flags that are plausible in the middle of a connection, mostly.
func randomTCP(r *rand.Rand, sport, dport uint16) layers.TCP {
	t := layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: 1000, Ack: 2000, ACK: true}
	switch r.IntN(10) {
	case 0, 1:
		t.SYN, t.ACK = true, false
		t.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0x05, 0xb4}}}
	case 2:
		t.SYN = true
	case 3:
		t.FIN = true
	case 4:
		t.RST, t.ACK = true, rarely(r, 2)
	case 5:
		if rarely(r, 4) {
			t.ACK = false
		}
	}
	return t
}

// fragment is one of three pieces of a datagram.
func fragment(r *rand.Rand, p switchtest.Packet, sport, dport uint16) []byte {
	whole := switchtest.Transport(p.UDP(sport, dport, make([]byte, 64)))
	i := r.IntN(3)
	piece := whole[i*24 : min(i*24+24, len(whole))]
	if p.Dst.Is6() {
		return p.IP(layers.IPProtocolIPv6Fragment, switchtest.Fragment(layers.IPProtocolUDP, uint16(i*24), i < 2, 7, piece))
	}
	p.ID, p.FragOffset, p.MoreFragments = 7, uint16(i*24), i < 2
	return p.IP(layers.IPProtocolUDP, piece)
}

// spoil breaks some frames, and leaves work to do in others.
func spoil(r *rand.Rand, f []byte) []byte {
	var x vswitch.Frame
	x.Parse(nil, f)
	ported := x.L4 != 0 && x.Class&vswitch.ClassFragment == 0 && (x.Proto == vswitch.ProtoTCP || x.Proto == vswitch.ProtoUDP)
	switch k := r.IntN(20); {
	case k == 0:
		f = slices.Clone(f)
		f[len(f)-1] ^= 0x55
	case k < 4 && ported:
		f = switchtest.Partial(f)
	}
	return f
}

// answer is what somebody says who has heard something: an answer to it, or an
// error about it, or whatever comes to his mind.
func (w *twins) answer(r *rand.Rand) sent {
	from := pick(r, w.ports)
	heard := w.heard[from]
	if len(heard) == 0 {
		return sent{}
	}
	var x vswitch.Frame
	x.Parse(nil, pick(r, heard))
	if !x.IP() || x.DstMAC().Multicast() {
		return sent{}
	}
	p := switchtest.Packet{SrcMAC: x.DstMAC(), DstMAC: x.SrcMAC(), Src: x.Dst(), Dst: x.Src()}
	if rarely(r, 6) {
		quote := x.B[x.L3:min(x.End, x.L3+pick(r, []int{24, 60, 100}))]
		return sent{from, errorAbout(p, quote, pick(r, []uint8{1, 2, 3, 11}))}
	}
	body := make([]byte, pick(r, []int{0, 1, 20, 1300}))
	switch {
	case x.L4 == 0:
		return sent{}
	case x.Proto == vswitch.ProtoTCP:
		return sent{from, spoil(r, p.TCP(randomTCP(r, x.DstPort(), x.SrcPort()), body))}
	case x.Proto == vswitch.ProtoUDP:
		return sent{from, spoil(r, p.UDP(x.DstPort(), x.SrcPort(), body))}
	case isICMP(x.Proto) && rarely(r, 3):
		return sent{from, p.Echo(x.SrcPort(), 1, body)}
	case isICMP(x.Proto):
		return sent{from, p.EchoReply(x.SrcPort(), 1, body)}
	}
	return sent{}
}

// errorAbout is an ICMP error about a packet.
func errorAbout(p switchtest.Packet, quote []byte, kind uint8) []byte {
	if p.Dst.Is6() {
		return p.ICMPv6(kind, 1, append(make([]byte, 4), quote...))
	}
	b := append([]byte{kind, 1, 0, 0, 0, 0, 0, 0}, quote...)
	sum := switchtest.NaiveChecksum(b, 0)
	b[2], b[3] = byte(sum>>8), byte(sum)
	return p.IP(layers.IPProtocolICMPv4, b)
}

// send lets the frame happen to both worlds.
func (w *twins) send(s sent) {
	if s.from == nil || w.with.hosts[s.from] == nil {
		return
	}
	w.log = append(w.log, fmt.Sprintf("%s sends %x", s.from.name, s.frame[:min(len(s.frame), 80)]))
	w.without.PolicyChanged()
	w.both(func(x *real) { x.hosts[s.from].Send(s.frame) })
}

// differ says in what the worlds differ. It takes what containers were given,
// which they may answer later.
func (w *twins) differ() string {
	for p, h := range w.with.hosts {
		other := w.without.hosts[p]
		a, b := h.Dev.Take(), other.Dev.Take()
		if !slices.EqualFunc(a, b, bytes.Equal) {
			return fmt.Sprintf("%s was given with the cache\n%x\nwithout\n%x", p.name, a, b)
		}
		w.heard[p] = append(w.heard[p], a...)
		w.heard[p] = w.heard[p][max(0, len(w.heard[p])-8):]
		if h.Stats.Drops != other.Stats.Drops {
			return fmt.Sprintf("%s lost with the cache %v, without %v", p.name, h.Dropped(), other.Dropped())
		}
		if x, y := h.Stats, other.Stats; x.RxFrames != y.RxFrames || x.RxBytes != y.RxBytes || x.TxFrames != y.TxFrames || x.TxBytes != y.TxBytes {
			return fmt.Sprintf("%s counts with the cache %+v, without %+v", p.name, x, y)
		}
	}
	a, b := w.with.nat, w.without.nat
	if a.used != b.used || a.pairs != b.pairs || a.Stats != b.Stats {
		return fmt.Sprintf("%d flows with the cache, %d without: %+v, %+v", a.used, b.used, a.Stats, b.Stats)
	}
	if !maps.Equal(a.Hits(), b.Hits()) {
		return fmt.Sprintf("rules have met with the cache %v, without %v", a.Hits(), b.Hits())
	}
	return ""
}

func last(log []string) string {
	var b bytes.Buffer
	for _, l := range log[max(0, len(log)-16):] {
		fmt.Fprintln(&b, "  ", l)
	}
	return b.String()
}
