package engine

import (
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Rules lists the rules in their order, with what each has met; with all, also
// what is built in.
func (e *Engine) Rules(all bool) []api.Rule {
	out := []api.Rule{}
	hits := e.path.hits()
	e.mu.Lock()
	for i, r := range e.rules {
		out = append(out, counted(viewRule(r, i+1)).with(hits))
	}
	routes := slices.Clone(e.routes)
	e.mu.Unlock()
	if !all {
		return out
	}
	for i, r := range routes {
		out = append(out, counted(viewRule(r, i+1)).with(hits))
	}
	drops := e.Status().Drops
	for _, b := range builtIn {
		r := api.Rule{ID: b.id, From: b.from, To: b.to, Direction: b.direction, Action: b.action, Comment: b.comment, Ports: []string{}, Origin: "built-in"}
		r = counted(r).with(hits)
		if b.reason != vswitch.Delivered { // cached drops are counted where they end
			r.Packets = drops[b.reason.String()]
		}
		out = append(out, r)
	}
	return out
}

// Routes lists the routes.
func (e *Engine) Routes() []api.Rule {
	out := []api.Rule{}
	hits := e.path.hits()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, r := range e.routes {
		out = append(out, counted(viewRule(r, i+1)).with(hits))
	}
	return out
}

// builtIn are the rules that nobody writes, in the order in which they decide
// behind those of people.
var builtIn = []struct {
	id                                   uint32
	from, to, direction, action, comment string
	reason                               vswitch.Reason
}{
	{nat.RuleInternal, "network:*", "outside", "out", "reject", "internal networks have no way out", vswitch.Internal},
	{nat.RuleForwarding, "any", "outside", "", "drop", "ip_forward: false", vswitch.NoForwarding},
	{nat.RulePublished, "any", "container:*", "", "accept", "published ports", vswitch.Delivered},
	{nat.RuleRoute, "network:*", "network:*", "local", "accept", "networks in mode routed or nat-unprotected", vswitch.Delivered},
	{nat.RuleIsolation, "network:*", "network:*", "local", "drop", "networks are apart", vswitch.Isolated},
	{nat.RuleLink, "container:*", "container:*", "local", "accept", "links", vswitch.Delivered},
	{nat.RuleICC, "container:*", "container:*", "local", "drop", "icc is off", vswitch.ICC},
	{nat.RuleForbidden, "any", "host", "out", "reject", "the host's loopback, link-local and metadata addresses", vswitch.HostLoopback},
	{nat.RuleHost, "any", "host", "out", "accept", "the host's addresses, and what host.loopback opens", vswitch.Delivered},
	{nat.RuleEgress, "any", "outside", "out", "reject", "egress policies", vswitch.Egress},
	{nat.RuleMasquerade, "any", "outside", "out", "accept", "masquerade", vswitch.Delivered},
}

type counted api.Rule

// with adds what the rule has met.
func (r counted) with(hits map[uint32]nat.Hits) api.Rule {
	h := hits[r.ID]
	r.Flows, r.Packets, r.Bytes = h.Flows, h.Packets, h.Bytes
	return api.Rule(r)
}

func viewRule(r *ruleEntry, at int) api.Rule {
	ports := r.rule.Ports
	if ports == nil {
		ports = []string{}
	}
	side := func(s string) string {
		if s == "" {
			return "any"
		}
		return s
	}
	return api.Rule{ID: r.id, Position: at, From: side(r.rule.From), To: side(r.rule.To), Direction: r.rule.Direction, Proto: r.rule.Proto, Ports: ports,
		Action: r.rule.Action, Comment: r.rule.Comment, Origin: r.origin}
}

// Egress lists the egress policies.
func (e *Engine) Egress() []api.Egress {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []api.Egress{}
	for name := range e.egress {
		out = append(out, e.viewEgress(name))
	}
	slices.SortFunc(out, func(a, b api.Egress) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// viewEgress shows a policy. The lock is held.
func (e *Engine) viewEgress(name string) api.Egress {
	v := api.Egress{Name: name, Allow: []string{}, Users: []string{}}
	if x := e.egress[name]; x != nil {
		v.Allow, v.Origin = append(v.Allow, x.cfg.Allow...), x.origin
	}
	for _, n := range e.sortedNetworks() {
		if n.cfg.Egress == name {
			v.Users = append(v.Users, "network:"+n.cfg.Name)
		}
	}
	for _, c := range e.sortedContainers() {
		if c.state != stateExited && c.egress() == name {
			v.Users = append(v.Users, "container:"+c.name)
		}
	}
	return v
}
