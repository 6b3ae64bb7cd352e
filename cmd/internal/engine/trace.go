package engine

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Trace says what would become of the first packet of a flow, by the code that
// decides about real ones.
func (e *Engine) Trace(r api.TraceRequest) (*api.Trace, error) {
	if r.Proto == "" {
		r.Proto = map[bool]string{true: "tcp", false: "icmp"}[r.Port != 0]
	}
	proto, ok := protocols[r.Proto]
	switch {
	case !ok:
		return nil, api.Errorf(api.BadRequest, "protocol %q: write tcp, udp or icmp", r.Proto)
	case r.Proto != "icmp" && r.Port == 0:
		return nil, api.Errorf(api.BadRequest, "%s needs a port: write %s:PORT", r.Proto, r.To)
	case r.Proto == "icmp" && r.Port != 0:
		return nil, api.Errorf(api.BadRequest, "icmp has no ports")
	}
	if client, is := e.clientOf(r.From, r.To); is {
		return e.traceInbound(r, proto, client)
	}
	name, ifname, _ := strings.Cut(r.From, ":")
	c, state, err := e.look(name)
	if err != nil {
		return nil, err
	}
	if state != stateRunning {
		return nil, api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	e.mu.Lock()
	eps := slices.Clone(c.endpoints)
	e.mu.Unlock()
	if len(eps) == 0 {
		return nil, api.Errorf(api.Conflict, "container %s is on no network of ours", c.name)
	}
	a, err := e.destination(eps, r.To)
	if err != nil {
		return nil, err
	}
	if proto == vswitch.ProtoICMP && a.Is6() {
		proto = vswitch.ProtoICMPv6
	}
	ep := exitFor(eps, a)
	if ifname != "" {
		i := slices.IndexFunc(eps, func(x *endpoint) bool { return x.ifname == ifname })
		if i < 0 {
			return nil, api.Errorf(api.NotFound, "container %s has no interface %s", c.name, ifname)
		}
		ep = eps[i]
	}
	out := &api.Trace{From: c.name, To: r.To, Address: a.String(), Port: r.Port, Proto: r.Proto, Steps: []api.TraceStep{}}
	if ep == nil {
		out.Verdict, out.Reason = "reject", vswitch.Internal.String()
		out.Why, out.Remedy = "The container has no route there: its networks are internal.", vswitch.Internal.Info().Remedy
		return out, nil
	}
	out.From = c.name + ":" + ep.ifname
	c.wiring.Lock()
	seat := ep.seat
	if seat == nil {
		c.wiring.Unlock()
		return nil, api.Errorf(api.Conflict, "container %s is just leaving network %s", c.name, ep.net.cfg.Name)
	}
	x := e.path.explain(seat, proto, netip.AddrPortFrom(a, r.Port))
	c.wiring.Unlock()
	showExplanation(out, &x)
	return out, nil
}

// showExplanation puts what the gateway explains into the answer.
func showExplanation(out *api.Trace, x *nat.Explanation) {
	for _, s := range x.Steps {
		out.Steps = append(out.Steps, api.TraceStep{Name: s.Name, Text: s.Text})
	}
	out.Verdict, out.Rule, out.Reaches = string(x.Outcome), x.Rule, x.To
	if x.Reason != vswitch.Delivered {
		info := x.Reason.Info()
		out.Reason, out.Why, out.Remedy = info.Name, info.Why, info.Remedy
	}
}

// exitFor is the endpoint by which a container sends to a: the one on whose
// network it is, else the default route's; nil if there is none.
func exitFor(eps []*endpoint, a netip.Addr) *endpoint {
	for _, ep := range eps {
		if n := ep.net.cfg; n.Subnet.Contains(a) || n.Subnet6.IsValid() && n.Subnet6.Contains(a) {
			return ep
		}
	}
	return gatewayOf(eps)
}

// destination finds the address that a container would use for a name, as its
// resolver does: names of its networks, the gateway, then anybody's container.
func (e *Engine) destination(eps []*endpoint, to string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(to, "[]")); err == nil {
		return a.Unmap(), nil
	}
	if to == "gateway" {
		if a := nameServer(eps); a.IsValid() {
			return a, nil
		}
		return netip.Addr{}, api.Errorf(api.NotFound, "its networks have no gateway")
	}
	for _, ep := range eps {
		if addrs, ok := e.Lookup(scope(ep.net.cfg.Name, ep.first()), strings.ToLower(to)); ok && len(addrs) > 0 {
			return addrs[0], nil
		}
	}
	e.mu.Lock()
	if c := e.names[to]; c != nil && len(c.endpoints) > 0 {
		a := c.endpoints[0].ip
		e.mu.Unlock()
		return a, nil
	}
	e.mu.Unlock()
	if a, err := net.DefaultResolver.LookupNetIP(e.ctx, "ip4", to); err == nil && len(a) > 0 {
		return a[0].Unmap(), nil
	}
	return netip.Addr{}, api.Errorf(api.NotFound, "%s is no address, and no name that is known here", to)
}

// Verify checks a file of expectations, a line each:
//
//	FROM -> TO[:PORT][/PROTO] accept|drop|reject
//
// where FROM is a container, a network for all its containers, or * for all
// there are. What stands behind # is a note.
func (e *Engine) Verify(text string) ([]api.Expectation, error) {
	out := []api.Expectation{}
	line := 0
	for l := range strings.Lines(text) {
		line++
		t, _, _ := strings.Cut(l, "#")
		if t = strings.TrimSpace(t); t == "" {
			continue
		}
		x := api.Expectation{Line: line, Text: t}
		req, from, to, want, err := parseExpectation(t)
		if err != nil {
			x.Problem = err.Error()
			out = append(out, x)
			continue
		}
		senders, err := e.senders(from)
		if err != nil {
			x.Problem = err.Error()
			out = append(out, x)
			continue
		}
		for _, c := range senders {
			y := x
			req.From, y.From, y.To, y.Want = c, c, to, want
			tr, err := e.Trace(req)
			if err != nil {
				y.Problem = err.Error()
			} else {
				y.Got, y.Reason = tr.Verdict, tr.Reason
				y.OK = y.Got == want
			}
			out = append(out, y)
		}
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.BadRequest, "there is nothing to verify").WithHint("write lines as: web -> db:5432 accept")
	}
	return out, nil
}

// senders are the containers that the left side of an expectation means.
func (e *Engine) senders(from string) (names []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.sortedContainers() {
		on := slices.ContainsFunc(c.endpoints, func(ep *endpoint) bool { return ep.net.cfg.Name == strings.TrimPrefix(from, "network:") })
		if c.state == stateRunning && len(c.endpoints) > 0 && (from == "*" || c.name == from || e.names[from] == nil && on) {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no running container of that name, nor one on such a network", from)
	}
	return names, nil
}

func parseExpectation(t string) (r api.TraceRequest, from, to, want string, err error) {
	left, right, ok := strings.Cut(t, "->")
	words := strings.Fields(right)
	if from = strings.TrimSpace(left); !ok || from == "" || len(words) != 2 {
		return r, "", "", "", fmt.Errorf("write FROM -> TO[:PORT][/PROTO] accept, drop or reject")
	}
	if want = words[1]; want != "accept" && want != "drop" && want != "reject" {
		return r, "", "", "", fmt.Errorf("%s is no verdict: write accept, drop or reject", want)
	}
	r.To, r.Port, r.Proto, err = ParseDestination(words[0])
	return r, from, words[0], want, err
}

// ParseDestination reads HOST[:PORT][/PROTO]; an IPv6 address with a port stands
// in brackets.
func ParseDestination(s string) (host string, port uint16, proto string, err error) {
	rest, proto, has := strings.Cut(s, "/")
	if has && protocols[proto] == 0 {
		return "", 0, "", fmt.Errorf("%s: protocol %s: write tcp, udp or icmp", s, proto)
	}
	if a, e := netip.ParseAddr(rest); e == nil {
		return a.String(), 0, proto, nil
	}
	host, p, is := rest, "", false
	if h, q, e := net.SplitHostPort(rest); e == nil {
		host, p, is = h, q, true
	}
	host = strings.Trim(host, "[]")
	if is {
		n, e := strconv.ParseUint(p, 10, 16)
		if e != nil || n == 0 {
			return "", 0, "", fmt.Errorf("%s: %s is no port", s, p)
		}
		port = uint16(n)
	}
	if host == "" {
		return "", 0, "", fmt.Errorf("%s names nobody", s)
	}
	return host, port, proto, nil
}

// mayAsk is forward.DNSConfig.Allowed: a container with an allow-list asks for
// the names on it only.
func (e *Engine) mayAsk(scope, name string) bool {
	bridge, _, _ := strings.Cut(scope, " ")
	f := e.askerOf(e.table.Load().owners[scope], bridge)
	return f == nil || f(name)
}

// askerOf is what a container on a bridge may ask for: nil for all.
func (e *Engine) askerOf(owner, bridge string) func(string) bool {
	ask := e.askers.Load()
	if ask == nil {
		return nil
	}
	if f, is := (*ask)[owner]; is && owner != "" {
		return f
	}
	return (*ask)["network/"+bridge]
}

// asker says which names may be asked for under an egress policy: nil for all.
func (e *Engine) asker(name string) func(string) bool {
	switch name {
	case "", "all", "internet":
		return nil
	}
	var patterns []configs.Allowed
	if entry := e.egress[name]; entry != nil {
		for _, s := range entry.cfg.Allow {
			if a, err := configs.ParseAllowed(s); err == nil && a.Name != "" {
				patterns = append(patterns, a)
			}
		}
	}
	return func(asked string) bool {
		return slices.ContainsFunc(patterns, func(a configs.Allowed) bool { return forward.MatchName(a.Name, asked) })
	}
}
