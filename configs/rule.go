package configs

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Rule says what becomes of flows from somebody to somebody. As a route it opens
// a way between two networks, which are apart otherwise.
type Rule struct {
	From, To  string   // see ParseParty; "": anybody
	Direction string   // in, out, local; "": any
	Proto     string   // tcp, udp, icmp; "": any
	Ports     []string // of the destination: "80", "8000-9000"; none: all
	Action    string   // accept, drop, reject; of a route "route"
	Comment   string
	Line      int // in Config.Path; 0: not from a file
}

// Equal says whether s is the same rule, wherever in a file it stands.
func (r Rule) Equal(s Rule) bool {
	return r.From == s.From && r.To == s.To && r.Direction == s.Direction && r.Proto == s.Proto && slices.Equal(r.Ports, s.Ports) && r.Action == s.Action && r.Comment == s.Comment
}

// ActionRoute is the action of a route.
const ActionRoute = "route"

var (
	ruleActions    = []string{"accept", "drop", "reject"}
	ruleDirections = []string{"in", "out", "local"}
	ruleProtocols  = []string{"tcp", "udp", "icmp"}
)

// Party is one side of a rule.
type Party struct {
	Not    bool
	Kind   string       // any, address, container, network, outside, host
	Prefix netip.Prefix // of an address
	Name   string       // of a container or network
}

// ParseParty reads one side of a rule: "" or any, an address or CIDR,
// container:NAME, network:NAME, outside, host; each may have ! in front.
func ParseParty(s string) (Party, error) {
	p := Party{Kind: "any"}
	text, not := strings.CutPrefix(strings.TrimSpace(s), "!")
	p.Not = not
	kind, name, named := strings.Cut(text, ":")
	switch {
	case text == "outside", text == "host":
		p.Kind = text
	case text == "" || text == "any":
		if not {
			return p, fmt.Errorf("%s is nobody; write whom the ! excludes, as !192.0.2.0/24", quote(s))
		}
	case named && (kind == "container" || kind == "network"):
		if !namePattern.MatchString(name) {
			return p, fmt.Errorf("%s names no %s; write %s:NAME", quote(s), kind, kind)
		}
		p.Kind, p.Name = kind, name
	default:
		prefix, err := netip.ParsePrefix(text)
		if a, e := netip.ParseAddr(text); e == nil {
			prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || prefix.Addr().Zone() != "" || prefix.Addr().Is4In6() {
			return p, fmt.Errorf("%s is nobody; write an address or CIDR, container:NAME, network:NAME, outside, host or any", quote(s))
		}
		p.Kind, p.Prefix = "address", prefix.Masked()
	}
	return p, nil
}

// ParsePorts reads a port or a range of them: 80, 8000-9000.
func ParsePorts(s string) (first, last uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || x == 0 || y < x {
		return 0, 0, fmt.Errorf("%s is no port; write one, or a range, as 80 or 8000-9000", quote(s))
	}
	return uint16(x), uint16(y), nil
}

// CheckRule returns what is wrong with a rule, nil if nothing is.
func CheckRule(r Rule) error {
	from, err := ParseParty(r.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	to, err := ParseParty(r.To)
	if err != nil {
		return fmt.Errorf("to: %w", err)
	}
	switch {
	case r.Action == ActionRoute:
		if from.Kind != "network" || to.Kind != "network" || from.Not || to.Not || from.Name == to.Name {
			return fmt.Errorf("a route leads from one network to another: write two networks")
		}
		if r.Direction != "" {
			return fmt.Errorf("direction: a route has none")
		}
	case !slices.Contains(ruleActions, r.Action):
		return fmt.Errorf("action: %s", notAWord(r.Action, ruleActions))
	}
	if r.Direction != "" && !slices.Contains(ruleDirections, r.Direction) {
		return fmt.Errorf("direction: %s", notAWord(r.Direction, ruleDirections))
	}
	if r.Proto != "" && !slices.Contains(ruleProtocols, r.Proto) {
		return fmt.Errorf("proto: %s", notAWord(r.Proto, ruleProtocols))
	}
	if r.Proto == "icmp" && len(r.Ports) > 0 {
		return fmt.Errorf("ports: icmp has none")
	}
	for _, p := range r.Ports {
		if _, _, err := ParsePorts(p); err != nil {
			return fmt.Errorf("ports: %w", err)
		}
	}
	return nil
}

// Egress is a policy for what containers reach outside: an allow-list.
type Egress struct {
	Name  string
	Allow []string // see ParseAllowed
	Line  int
}

// Equal says whether f is the same policy, wherever in a file it stands.
func (e Egress) Equal(f Egress) bool { return e.Name == f.Name && slices.Equal(e.Allow, f.Allow) }

// Allowed is one entry of an egress policy: an address range or a name, with
// ports and a protocol or without.
type Allowed struct {
	Prefix      netip.Prefix // invalid: Name
	Name        string       // in lower case, without a dot at its end; "*.example.org" holds all below example.org
	Proto       string       // tcp, udp, icmp; "": any
	First, Last uint16       // 0: all ports
}

// egressWords are the policies that need no definition.
var egressWords = []string{"all", "internet", "none"}

// ParseAllowed reads HOST[:PORT[-PORT]][/PROTO], where HOST is an address, a
// CIDR, a name, or *.NAME for all names below; an IPv6 address with ports stands
// in brackets.
func ParseAllowed(s string) (a Allowed, err error) {
	bad := func(why string) (Allowed, error) {
		return Allowed{}, fmt.Errorf("%s: %s; write it as example.org:443, *.example.org, 192.0.2.0/24:5432/tcp or [2001:db8::/32]:443", quote(s), why)
	}
	rest := strings.TrimSpace(s)
	if i := strings.LastIndexByte(rest, '/'); i >= 0 && slices.Contains(ruleProtocols, rest[i+1:]) {
		rest, a.Proto = rest[:i], rest[i+1:]
	}
	host, ports := rest, ""
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return bad("the bracket is not closed")
		}
		host, ports = rest[1:end], rest[end+1:]
		if ports != "" && ports[0] != ':' {
			return bad("what follows the bracket is no port")
		}
		ports = strings.TrimPrefix(ports, ":")
	case strings.Count(rest, ":") == 1:
		host, ports, _ = strings.Cut(rest, ":")
		if ports == "" {
			return bad("no port behind the colon")
		}
	}
	if ports != "" {
		if a.Proto == "icmp" {
			return bad("icmp has no ports")
		}
		if a.First, a.Last, err = ParsePorts(ports); err != nil {
			return bad("not a port")
		}
	}
	if p, e := netip.ParsePrefix(host); e == nil && !p.Addr().Is4In6() {
		a.Prefix = p.Masked()
		return a, nil
	}
	if x, e := netip.ParseAddr(host); e == nil && x.Zone() == "" && !x.Is4In6() {
		a.Prefix = netip.PrefixFrom(x, x.BitLen())
		return a, nil
	}
	a.Name = strings.ToLower(strings.TrimSuffix(host, "."))
	if below := strings.TrimPrefix(a.Name, "*."); !hostName(below) {
		return bad("neither an address nor a name")
	}
	return a, nil
}

// hostName is what RFC 1123 takes, and the underscore that service names have.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != "" // 1.2.3 is no name
}

// CheckEgress returns what is wrong with a policy, nil if nothing is.
func CheckEgress(e Egress) error {
	if !namePattern.MatchString(e.Name) || slices.Contains(egressWords, e.Name) {
		return fmt.Errorf("name: %s cannot be a policy's name; write letters, digits, _ . and -, but not %s", quote(e.Name), either(egressWords))
	}
	for _, a := range e.Allow {
		if _, err := ParseAllowed(a); err != nil {
			return fmt.Errorf("allow: %w", err)
		}
	}
	return nil
}

// Gateway modes of a network, in Docker's words.
var gatewayModes = []string{"nat", "routed", "nat-unprotected", "isolated"}

// policies checks rules, routes and egress policies, and who uses them.
func (k *checker) policies() {
	for i, r := range k.c.Rules {
		k.rule(element("rules", i, "", r.Line), r)
	}
	for i, r := range k.c.Routes {
		k.rule(element("routes", i, "", r.Line), r)
	}
	first := map[string]string{}
	for i, e := range k.c.Egress {
		o := element("egress", i, e.Name, e.Line)
		k.unique(o, e.Name, first)
		if err := CheckEgress(e); err != nil {
			k.bad(o, keyOf(err, "name", "allow"), "%s", withoutKey(err))
		}
	}
	for i, n := range k.c.Networks {
		o := element("networks", i, n.Name, n.Line)
		k.egress(o, n.Egress)
		for key, mode := range map[string]string{"gateway_mode": n.Mode4, "gateway_mode6": n.Mode6} {
			if mode != "" && !slices.Contains(gatewayModes, mode) {
				k.bad(o, key, "%s", notAWord(mode, gatewayModes))
			} else if mode == "isolated" && !n.Internal {
				k.bad(o, key, "isolated leaves the network without a gateway; write internal: true, too")
			}
		}
	}
	for i, c := range k.c.Containers {
		o := element("containers", i, c.Name, c.Line)
		k.egress(o, c.Egress)
		if _, err := c.Shape.Numbers(); err != nil {
			k.bad(o, "shape."+keyOf(err, "rate_in", "rate_out", "burst", "delay", "jitter", "loss", "flows"), "%s", withoutKey(err))
		}
		for j, l := range c.Links {
			name, alias, _ := strings.Cut(l, ":")
			switch {
			case !namePattern.MatchString(name) || alias != "" && !namePattern.MatchString(alias):
				k.bad(o, fmt.Sprintf("links[%d]", j), "%s is no link; write CONTAINER or CONTAINER:ALIAS", quote(l))
			case !slices.ContainsFunc(k.c.Containers, func(d Container) bool { return d.Name == name }):
				k.bad(o, fmt.Sprintf("links[%d]", j), "there is no container %s; write one of those there are", name)
			}
		}
		for j, x := range c.Expose {
			if _, err := ParseExpose(x); err != nil {
				k.bad(o, fmt.Sprintf("expose[%d]", j), "%s", err)
			}
		}
	}
}

func (k *checker) egress(o object, name string) {
	if name == "" || slices.Contains(egressWords, name) || slices.ContainsFunc(k.c.Egress, func(e Egress) bool { return e.Name == name }) {
		return
	}
	there := slices.Clone(egressWords)
	for _, e := range k.c.Egress {
		there = append(there, e.Name)
	}
	k.bad(o, "egress", "%s", notAWord(name, there))
}

func (k *checker) rule(o object, r Rule) {
	if err := CheckRule(r); err != nil {
		k.bad(o, keyOf(err, "from", "to", "direction", "proto", "ports", "action"), "%s", withoutKey(err))
		return
	}
	for key, s := range map[string]string{"from": r.From, "to": r.To} {
		p, _ := ParseParty(s)
		if p.Kind == "network" && !slices.ContainsFunc(k.c.Networks, func(n Network) bool { return n.Name == p.Name }) {
			k.bad(o, key, "%s%s; write one of those there are, or add it under networks", noNetwork, quote(p.Name))
		}
	}
}

// keyOf is the key that an error of a check begins with.
func keyOf(err error, keys ...string) string {
	for _, k := range keys {
		if strings.HasPrefix(err.Error(), k+": ") {
			return k
		}
	}
	return keys[0]
}

func withoutKey(err error) string {
	if key, rest, ok := strings.Cut(err.Error(), ": "); ok && !strings.ContainsAny(key, " \"") {
		return rest
	}
	return err.Error()
}

// Exposed are the ports that ParseExpose reads.
type Exposed struct {
	Proto       string // tcp, udp
	First, Last uint16
}

// ParseExpose reads PORT[-PORT][/PROTO], as docker's --expose.
func ParseExpose(s string) (Exposed, error) {
	ports, proto, has := strings.Cut(s, "/")
	if !has {
		proto = "tcp"
	}
	first, last, err := ParsePorts(ports)
	if err != nil || proto != "tcp" && proto != "udp" {
		return Exposed{}, fmt.Errorf("%s exposes nothing; write a port or a range, and /udp where it is that, as 80 or 5000-5010/udp", quote(s))
	}
	return Exposed{proto, first, last}, nil
}
