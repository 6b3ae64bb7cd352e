package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Who may talk to whom: the rules, routes and egress policies of people, and
// what containers and networks ask for, put together as the gateways' policy.
// All of it is set anew with each change; the gateways judge open flows again.

// ruleEntry is a rule or a route with its number, which never changes.
type ruleEntry struct {
	id     uint32
	rule   configs.Rule
	origin string
}

// keptRule is a rule of the state file with its place.
type keptRule struct {
	ruleEntry
	at int
}

// egressEntry is a policy with its entries as read.
type egressEntry struct {
	cfg    configs.Egress
	origin string
}

// refreshPolicy tells all gateways what holds now.
func (e *Engine) refreshPolicy() {
	e.policing.Lock()
	defer e.policing.Unlock()
	e.mu.Lock()
	p := e.buildPolicy()
	e.policy = p
	e.askers.Store(e.buildAskers())
	e.mu.Unlock()
	e.path.setPolicy(p)
}

// policyOf refreshes the policy if a container that begins or ends has a part in
// it.
func (e *Engine) policyOf(c *container) {
	e.mu.Lock()
	p := &e.policy
	part := len(c.create.Links)+len(c.create.Expose) > 0 || c.egress() != "" || p.Egress[c.name] != nil || len(p.Open[c.name]) > 0 ||
		(len(p.Links) > 0 || len(p.Nets) > 0) && len(c.ports) > 0
	e.mu.Unlock()
	if part {
		e.refreshPolicy()
	}
}

// buildPolicy puts the policy together. The lock is held.
func (e *Engine) buildPolicy() nat.Policy {
	c := e.config.Config
	if c == nil {
		c = e.start.Config.Config
	}
	p := nat.Policy{LoopbackAll: c.Host.Loopback.All, LoopbackPorts: c.Host.Loopback.List, HostAddress: c.Host.Address, HostAddrs: hostAddrs(),
		Intercept: c.DNS.Intercept, NoForward: !c.Forward, Nets: make(map[string]nat.NetPolicy), Open: make(map[string][]nat.OpenPort), Public: make(map[string][]nat.OpenPort), Egress: make(map[string]*nat.Egress)}
	for _, r := range e.rules {
		p.Rules = append(p.Rules, ruleOf(r))
	}
	for _, r := range e.routes {
		x := ruleOf(r)
		p.Routes = append(p.Routes, nat.Route{ID: r.id, From: x.From.Name, To: x.To.Name, Proto: x.Proto, Ports: x.Ports})
	}
	for _, n := range e.networks {
		net := nat.NetPolicy{Mode4: modes[n.cfg.Mode4], Mode6: modes[n.cfg.Mode6], NoMasquerade: n.cfg.NoMasquerade, Outbound4: n.cfg.Outbound, Outbound6: n.cfg.Outbound6}
		if net != (nat.NetPolicy{}) {
			p.Nets[n.cfg.Name] = net
		}
		e.useEgress(&p, "network/"+n.cfg.Name, n.cfg.Egress)
	}
	for _, c := range e.containers {
		if c.state == stateExited {
			continue
		}
		e.useEgress(&p, c.name, c.egress())
		for _, l := range c.create.Links {
			p.Links = append(p.Links, nat.Link{From: c.name, To: linked(l)})
		}
		if open := c.open(); len(open) > 0 {
			p.Open[c.name] = open
		}
		if public := c.public(); len(public) > 0 {
			p.Public[c.name] = public
		}
	}
	return p
}

// buildAskers is who may ask our DNS for what. The lock is held.
func (e *Engine) buildAskers() *map[string]func(string) bool {
	out := make(map[string]func(string) bool)
	for _, n := range e.networks {
		if f := e.asker(n.cfg.Egress); f != nil {
			out["network/"+n.cfg.Name] = f
		}
	}
	for _, c := range e.containers {
		if name := c.egress(); name != "" && c.state != stateExited {
			out[c.name] = e.asker(name) // nil: all, whatever its network has
		}
	}
	return &out
}

var modes = map[string]nat.GatewayMode{"": nat.ModeNAT, "nat": nat.ModeNAT, "routed": nat.ModeRouted, "nat-unprotected": nat.ModeUnprotected, "isolated": nat.ModeNAT}

// linked is the container that a link names.
func linked(link string) string { name, _, _ := strings.Cut(link, ":"); return name }

func (c *container) egress() string {
	if c.kind == kindJoin {
		return c.reserve.Egress
	}
	return c.create.Egress
}

// public are the ports that the container publishes.
func (c *container) public() (out []nat.OpenPort) {
	for _, p := range c.ports {
		out = append(out, nat.OpenPort{Proto: uint8(p.spec.Proto), Port: p.spec.ContainerPort})
	}
	return out
}

// open are the ports that the container publishes or exposes.
func (c *container) open() (out []nat.OpenPort) {
	out = c.public()
	for _, s := range c.create.Expose {
		x, err := configs.ParseExpose(s)
		if err != nil {
			continue // refused when the container was made
		}
		for port := int(x.First); port <= int(x.Last); port++ {
			out = append(out, nat.OpenPort{Proto: protocols[x.Proto], Port: uint16(port)})
		}
	}
	return out
}

var protocols = map[string]uint8{"tcp": vswitch.ProtoTCP, "udp": vswitch.ProtoUDP, "icmp": vswitch.ProtoICMP}

// useEgress gives who has a policy's name that policy.
func (e *Engine) useEgress(p *nat.Policy, who, name string) {
	switch name {
	case "", "all":
		if name == "all" && !strings.HasPrefix(who, "network/") {
			p.Egress[who] = &nat.Egress{Name: name} // though its network has another
		}
	case "internet":
		p.Egress[who] = &nat.Egress{Name: name, Mode: nat.EgressInternet}
	case "none":
		p.Egress[who] = &nat.Egress{Name: name, Mode: nat.EgressNone}
	default:
		p.Egress[who] = e.egressList(name)
	}
}

// egressList is a policy of people's. One that is gone holds nothing.
func (e *Engine) egressList(name string) *nat.Egress {
	out := &nat.Egress{Name: name, Mode: nat.EgressList}
	entry := e.egress[name]
	if entry == nil {
		return out
	}
	var names []configs.Allowed
	for _, s := range entry.cfg.Allow {
		a, err := configs.ParseAllowed(s)
		switch {
		case err != nil: // refused when the policy was made
		case a.Name != "":
			names = append(names, a)
		default:
			out.Allow = append(out.Allow, nat.Allowed{Prefix: a.Prefix, Proto: protocols[a.Proto], Ports: portsOf(a)})
		}
	}
	// Whoever speaks UDP says its name where we do not see it, as QUIC does: a name
	// opens UDP where the policy says udp.
	holds := func(a configs.Allowed, name string, proto uint8, port uint16) bool {
		return forward.MatchName(a.Name, name) && (a.Proto == "" && proto != vswitch.ProtoUDP || protocols[a.Proto] == plainProto(proto)) && (a.First == 0 || a.First <= port && port <= a.Last)
	}
	if len(names) > 0 {
		out.Holds = func(name string, proto uint8, port uint16) bool {
			return slices.ContainsFunc(names, func(a configs.Allowed) bool {
				return holds(a, name, proto, port)
			})
		}
		out.Named = func(container string, to netip.Addr, proto uint8, port uint16, ever bool) string {
			for _, told := range e.openings.Names(container, to, ever) {
				for _, a := range names {
					if holds(a, told, proto, port) {
						return told
					}
				}
			}
			return ""
		}
	}
	return out
}

// plainProto is a protocol as people name it: icmp is one.
func plainProto(p uint8) uint8 {
	if p == vswitch.ProtoICMPv6 {
		return vswitch.ProtoICMP
	}
	return p
}

func portsOf(a configs.Allowed) []nat.PortRange {
	if a.First == 0 {
		return nil
	}
	return []nat.PortRange{{First: a.First, Last: a.Last}}
}

// ruleOf is a rule as the gateways know it. It has been checked.
func ruleOf(e *ruleEntry) nat.Rule {
	r := nat.Rule{ID: e.id, From: matchOf(e.rule.From), To: matchOf(e.rule.To), Proto: protocols[e.rule.Proto],
		Direction: map[string]nat.Direction{"in": nat.Inward, "out": nat.Outward, "local": nat.Between}[e.rule.Direction],
		Action:    map[string]nat.Action{"accept": nat.RuleAccept, "drop": nat.RuleDrop, "reject": nat.RuleReject}[e.rule.Action]}
	for _, s := range e.rule.Ports {
		if first, last, err := configs.ParsePorts(s); err == nil {
			r.Ports = append(r.Ports, nat.PortRange{First: first, Last: last})
		}
	}
	return r
}

var matchKinds = map[string]nat.MatchKind{"any": nat.MatchAny, "address": nat.MatchPrefix, "container": nat.MatchContainer,
	"network": nat.MatchNetwork, "outside": nat.MatchOutside, "host": nat.MatchHost}

func matchOf(s string) nat.Match {
	p, _ := configs.ParseParty(s)
	return nat.Match{Kind: matchKinds[p.Kind], Not: p.Not, Prefix: p.Prefix, Name: p.Name}
}

// AddRule puts a rule or a route in its place; At 0 is the end. It holds at
// once, for flows that are open, too.
func (e *Engine) AddRule(r api.RuleAdd) (*api.Rule, error) {
	rule := configs.Rule{Direction: r.Direction, Proto: r.Proto, Ports: r.Ports, Action: r.Action, Comment: r.Comment}
	e.mu.Lock()
	var err error
	rule.From, rule.To = r.From, r.To
	if r.ID == 0 { // one that is made again may name what is no more
		if rule.From, err = e.party(r.From, r.Action); err == nil {
			rule.To, err = e.party(r.To, r.Action)
		}
	}
	if err == nil {
		err = configs.CheckRule(rule)
	}
	if err != nil {
		e.mu.Unlock()
		return nil, api.Errorf(api.BadRequest, "%v", err)
	}
	list := &e.rules
	if rule.Action == configs.ActionRoute {
		list = &e.routes
	}
	if r.At < 0 || r.At > len(*list)+1 {
		e.mu.Unlock()
		return nil, api.Errorf(api.BadRequest, "there is no place %d: write 1 to %d", r.At, len(*list)+1)
	}
	at := len(*list)
	if r.At > 0 {
		at = r.At - 1
	}
	if r.Origin == "" {
		r.Origin = "api"
	}
	entry := &ruleEntry{id: e.ruleID(r.ID), rule: rule, origin: r.Origin}
	*list = slices.Insert(slices.Clone(*list), at, entry)
	e.mu.Unlock()
	e.refreshPolicy()
	e.save()
	v := viewRule(entry, at+1)
	return &v, nil
}

// ruleID is a number for a new rule: want, if it is free.
func (e *Engine) ruleID(want uint32) uint32 {
	taken := func(r *ruleEntry) bool { return r.id == want }
	if want < nat.FirstRule || slices.ContainsFunc(e.rules, taken) || slices.ContainsFunc(e.routes, taken) {
		want = max(e.lastRule+1, nat.FirstRule)
	}
	e.lastRule = max(e.lastRule, want)
	return want
}

// party completes one side of a rule as people write it: a bare name is a
// network's or a container's. The lock is held.
func (e *Engine) party(s, action string) (string, error) {
	bare, not := strings.CutPrefix(s, "!")
	if n := e.networks[strings.TrimPrefix(bare, "network:")]; action == configs.ActionRoute {
		if n == nil {
			return "", fmt.Errorf("network %s not found", bare)
		}
		return "network:" + n.cfg.Name, nil
	}
	prefix := map[bool]string{true: "!"}[not]
	_, err := configs.ParseParty(s)
	switch {
	case strings.HasPrefix(bare, "network:"):
		if e.networks[strings.TrimPrefix(bare, "network:")] == nil {
			return "", fmt.Errorf("network %s not found", strings.TrimPrefix(bare, "network:"))
		}
	case err == nil:
	case e.names[bare] != nil && e.networks[bare] != nil:
		return "", fmt.Errorf("%s is a container and a network: write container:%s or network:%s", bare, bare, bare)
	case e.names[bare] != nil:
		return prefix + "container:" + bare, nil
	case e.networks[bare] != nil:
		return prefix + "network:" + bare, nil
	}
	return s, err
}

// RemoveRule takes a rule away, or a route.
func (e *Engine) RemoveRule(id uint32, route bool) error {
	list, what := &e.rules, "rule"
	if route {
		list, what = &e.routes, "route"
	}
	e.mu.Lock()
	i := slices.IndexFunc(*list, func(r *ruleEntry) bool { return r.id == id })
	var err error
	switch {
	case i < 0:
		err = api.Errorf(api.NotFound, "no %s %d", what, id).WithHint("tapswitch %s ls lists them", what)
	case (*list)[i].origin == "file":
		err = api.Errorf(api.Conflict, "%s %d stands in the configuration", what, id).WithHint("take it out of the file, then: tapswitch reload")
	default:
		*list = slices.Delete(slices.Clone(*list), i, i+1)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.refreshPolicy()
	e.save()
	return nil
}

// AddEgress makes an egress policy, or replaces one that was made by command.
func (e *Engine) AddEgress(r api.Egress) (*api.Egress, error) {
	cfg := configs.Egress{Name: r.Name, Allow: r.Allow}
	if err := configs.CheckEgress(cfg); err != nil {
		return nil, api.Errorf(api.BadRequest, "%v", err)
	}
	if r.Origin == "" {
		r.Origin = "api"
	}
	e.mu.Lock()
	if old := e.egress[r.Name]; old != nil && old.origin == "file" {
		e.mu.Unlock()
		return nil, api.Errorf(api.Conflict, "egress policy %s stands in the configuration", r.Name).WithHint("change it there, then: tapswitch reload")
	}
	e.egress[r.Name] = &egressEntry{cfg: cfg, origin: r.Origin}
	v := e.viewEgress(r.Name)
	e.mu.Unlock()
	e.refreshPolicy()
	e.save()
	return &v, nil
}

// RemoveEgress takes a policy away that nobody uses.
func (e *Engine) RemoveEgress(name string) error {
	e.mu.Lock()
	old := e.egress[name]
	var err error
	switch v := e.viewEgress(name); {
	case old == nil:
		err = api.Errorf(api.NotFound, "no egress policy %s", name).WithHint("tapswitch egress ls lists them")
	case old.origin == "file":
		err = api.Errorf(api.Conflict, "egress policy %s stands in the configuration", name).WithHint("take it out of the file, then: tapswitch reload")
	case len(v.Users) > 0:
		err = api.Errorf(api.Conflict, "egress policy %s is used by %s", name, strings.Join(v.Users, ", "))
	default:
		delete(e.egress, name)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.refreshPolicy()
	e.save()
	return nil
}

// checkEgress says whether there is such a policy. The lock is held.
func (e *Engine) checkEgress(name string) error {
	if name == "" || name == "all" || name == "internet" || name == "none" || e.egress[name] != nil {
		return nil
	}
	return api.Errorf(api.NotFound, "no egress policy %s", name).WithHint("all, internet and none are there; tapswitch egress add %s HOST... makes one", name)
}

// applyPolicies takes over the file's rules, routes and egress policies: those
// of the file before make room for them, where the first of them stood.
func (e *Engine) applyPolicies(c *configs.Config) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rules, e.routes = e.replaced(e.rules, c.Rules), e.replaced(e.routes, c.Routes)
	for _, r := range e.kept { // of the state file: to their places among the file's
		list := &e.rules
		if r.rule.Action == configs.ActionRoute {
			list = &e.routes
		}
		*list = slices.Insert(*list, min(r.at, len(*list)), &r.ruleEntry)
	}
	e.kept = nil
	for name, x := range e.egress {
		if x.origin == "file" {
			delete(e.egress, name)
		}
	}
	for _, x := range c.Egress {
		e.egress[x.Name] = &egressEntry{cfg: x, origin: "file"}
	}
}

func (e *Engine) replaced(list []*ruleEntry, file []configs.Rule) []*ruleEntry {
	var old []*ruleEntry
	for _, r := range list {
		if r.origin == "file" {
			old = append(old, r)
		}
	}
	var fresh []*ruleEntry
	for _, r := range file {
		i := slices.IndexFunc(old, func(x *ruleEntry) bool { return x.rule.Equal(r) })
		if i >= 0 { // the same: it keeps its number and counters
			fresh = append(fresh, old[i])
			old = slices.Delete(old, i, i+1)
			continue
		}
		fresh = append(fresh, &ruleEntry{id: e.ruleID(0), rule: r, origin: "file"})
	}
	// The others stay behind the rule of the file that they stood behind, or the
	// nearest before it that is still there.
	var last *ruleEntry
	behind := make(map[*ruleEntry][]*ruleEntry)
	for _, r := range list {
		switch {
		case r.origin != "file":
			behind[last] = append(behind[last], r)
		case slices.Contains(fresh, r):
			last = r
		}
	}
	out := behind[nil]
	for _, r := range fresh {
		out = append(append(out, r), behind[r]...)
	}
	return out
}
