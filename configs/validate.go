package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// CheckPublish, if set, judges one publish string. The grammar is the engine's; who starts both sets it, once,
// before anything is loaded.
var CheckPublish func(spec string) error

const (
	minMTU = 1280  // what IPv6 asks of a link: RFC 8200, 5
	maxMTU = 65520 // the largest that the peers (slirp4netns, pasta) are run with; IP's own bound is 65535
)

// Validate returns all that is wrong with c (Problems, joined), nil if the switch can bring it up. It takes nothing
// for granted that Load checks, so it serves for a Config that was put together or changed by hand; there
// Problems have names for lines. It looks at nothing outside c.
func (c *Config) Validate() error { return join(c.check()) }

func (c *Config) check() []*Problem {
	k := &checker{c: c, hints: map[string]string{}}
	k.networks()
	k.containers()
	k.policies()
	k.singles()
	return k.problems
}

// checker collects problems and finds out where they stand.
type checker struct {
	c        *Config
	problems []*Problem
	hints    map[string]string // what is free, found once: each search goes through all networks or containers
}

// object is what a problem is about: a network, a container, an attachment, or the Config ("").
type object struct {
	path string // networks[0]
	name string // networks[bridge], for what stands in no file
	line int    // of the network or container
	root string // networks[0] also for what is part of it
}

func element(list string, i int, name string, line int) object {
	path := fmt.Sprintf("%s[%d]", list, i)
	o := object{path: path, name: path, line: line, root: path}
	if name != "" {
		o.name = fmt.Sprintf("%s[%s]", list, name)
	}
	return o
}

func (o object) part(list string, i int) object {
	part := fmt.Sprintf(".%s[%d]", list, i)
	o.path, o.name = o.path+part, o.name+part
	return o
}

func (o object) label(key string) string { return strings.TrimPrefix(o.name+"."+key, ".") }

// bad adds a problem with a key of o. It stands where the key was read, if the object is still the one
// that was read: its line says so, since who changes Networks or Containers moves what follows.
func (k *checker) bad(o object, key, format string, args ...any) {
	p := &Problem{Key: o.label(key), Text: fmt.Sprintf(format, args...)}
	at, known := k.origin(strings.TrimPrefix(o.path+"."+key, "."))
	switch {
	case o.root == "" && known:
		p = at.problem(p.Text)
	case o.line > 0 && known && k.c.origins[o.root].line == o.line:
		p = at.problem(p.Text)
	case o.line > 0:
		p.File, p.Line, p.Key = k.c.Path, o.line, o.path+"."+key
	}
	k.problems = append(k.problems, p)
}

// origin is that of the key, or of the list that it is an item of.
func (k *checker) origin(key string) (origin, bool) {
	at, ok := k.c.origins[key]
	if i := strings.LastIndexByte(key, '['); !ok && i >= 0 && strings.HasSuffix(key, "]") {
		if at, ok = k.c.origins[key[:i]]; at.kind == "file" {
			at.key += key[i:]
		}
	}
	return at, ok
}

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// maxName keeps a name usable as a file's.
const maxName = 128

// name checks o's name; like is a good one.
func (k *checker) name(o object, name, like string) {
	switch {
	case name == "":
		k.bad(o, "name", "is missing; write one, as name: %s", like)
	case !namePattern.MatchString(name):
		k.bad(o, "name", "%s is not a name; write letters, digits, _ . and -, a letter or digit first", quote(name))
	case len(name) > maxName:
		k.bad(o, "name", "%s is longer than %d letters; write a shorter one", quote(name), maxName)
	}
}

// unique checks that no element before o has the name; first holds who was first.
func (k *checker) unique(o object, name string, first map[string]string) {
	if before := first[name]; before != "" && name != "" {
		k.bad(o, "name", "%s is the name of %s too; write another", name, before)
		return
	}
	first[name] = o.path
}

// reserved are names that mean something else in Docker's language, and so in ours.
var reserved = []string{"none", "host", "container"}

// CheckNetwork returns what is wrong with a network that stands in no file.
func CheckNetwork(n Network) error {
	k := &checker{c: &Config{Networks: []Network{n}}}
	k.networks()
	var errs []error
	for _, p := range k.problems {
		errs = append(errs, errors.New(p.Text))
	}
	return errors.Join(errs...)
}

func (k *checker) networks() {
	first := map[string]string{}
	for i, n := range k.c.Networks {
		o := element("networks", i, n.Name, n.Line)
		k.name(o, n.Name, "bridge")
		if slices.Contains(reserved, n.Name) {
			k.bad(o, "name", "%s is reserved (%s); write another", n.Name, strings.Join(reserved, ", "))
		}
		k.unique(o, n.Name, first)
		longest := 30
		if n.Mode4 == "isolated" {
			longest = 31 // without a gateway, for two (RFC 3021)
		}
		if n.NoIPv4 {
			k.noIPv4(o, n)
		} else if k.subnet(o, n.Subnet, longest) {
			k.overlap(o, "subnet", i, func(n Network) netip.Prefix { return n.Subnet })
			if n.Mode4 != "isolated" {
				k.gateway(o, "gateway", n.Subnet, n.Gateway)
			}
		}
		if !n.Subnet6.IsValid() {
			if n.Gateway6.IsValid() {
				k.bad(o, "gateway6", "%s stands without subnet6; write that too, as subnet6: %s", n.Gateway6, netip.PrefixFrom(n.Gateway6, 64).Masked())
			}
		} else if k.subnet6(o, n.Subnet6) {
			k.overlap(o, "subnet6", i, func(n Network) netip.Prefix { return n.Subnet6 })
			k.gateway(o, "gateway6", n.Subnet6, n.Gateway6)
		}
		if n.IfPrefix != "" && !InterfaceName(n.IfPrefix+"99") {
			k.bad(o, "interface_prefix", "%s begins no interface's name; write at most 13 letters, as eth", quote(n.IfPrefix))
		}
		k.mirror(o, i)
		k.hostInterface(o, i)
		k.outbound(o, "outbound", n.Outbound)
		k.outbound(o, "outbound6", n.Outbound6)
		k.span(o, "range", n.Subnet, n.Range)
		k.span(o, "range6", n.Subnet6, n.Range6)
		if n.MTU < minMTU || n.MTU > maxMTU {
			k.bad(o, "mtu", "%d is out of range; write %d to %d", n.MTU, minMTU, maxMTU)
		}
	}
}

// noIPv4 checks a network of IPv6 alone.
func (k *checker) noIPv4(o object, n Network) {
	for key, is := range map[string]bool{"subnet": n.Subnet.IsValid(), "gateway": n.Gateway.IsValid(), "mirror": n.Mirror.IsValid(), "outbound": n.Outbound.IsValid(),
		"gateway_mode": n.Mode4 != "", "inhibit_ipv4": n.NoAddress4, "range": n.Range.IsValid()} {
		if is {
			k.bad(o, key, "stands beside ipv4: false; take one of them out")
		}
	}
	if !n.Subnet6.IsValid() {
		k.bad(o, "subnet6", "is missing, and ipv4 is false; write one, as subnet6: fd00:17::/64")
	}
}

// span checks the range from which a subnet's addresses are chosen.
func (k *checker) span(o object, key string, subnet, p netip.Prefix) {
	switch {
	case !p.IsValid():
	case !subnet.IsValid() || !subnet.Contains(p.Addr()) || p.Bits() < subnet.Bits():
		k.bad(o, key, "%s is outside %s; write a part of that", p, subnet)
	case p != p.Masked():
		k.bad(o, key, "%s has bits set behind its prefix; write %s", p, p.Masked())
	}
}

// special are ranges that no container can have, and what they are.
var special = []struct {
	netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "not an address"}, // RFC 1122, 3.2.1.3
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"}, // RFC 3927
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"}, // RFC 1112, 4
}

// subnet reports whether p serves as a network's IPv4 subnet, with a prefix of
// longest bits at most.
func (k *checker) subnet(o object, p netip.Prefix, longest int) bool {
	switch {
	case !p.IsValid():
		k.bad(o, "subnet", "is missing; write a free one, as subnet: %s", k.free())
	case !p.Addr().Is4():
		k.bad(o, "subnet", "%s is not IPv4; write it as subnet6, and here one as %s", p, k.free())
	case p.Bits() < 1 || p.Bits() > longest:
		k.bad(o, "subnet", "%s has a prefix length of %d; write one from /1 to /%d", p, p.Bits(), longest)
	case p != p.Masked():
		k.bad(o, "subnet", "%s has bits set behind its prefix; write %s", p, p.Masked())
	default:
		for _, s := range special {
			if s.Contains(p.Addr()) && s.Bits() <= p.Bits() {
				k.bad(o, "subnet", "%s is in %s (%s); write a free one, as %s", p, s.Prefix, s.what, k.free())
				return false
			}
		}
		return true
	}
	return false
}

var (
	uniqueLocal   = netip.MustParsePrefix("fc00::/7") // RFC 4193
	globalUnicast = netip.MustParsePrefix("2000::/3") // RFC 4291, 2.4 as IANA gives it out
)

// subnet6 reports whether p serves as a network's IPv6 subnet.
func (k *checker) subnet6(o object, p netip.Prefix) bool {
	switch {
	case p.Addr().Is4():
		k.bad(o, "subnet6", "%s is not IPv6; write it as subnet, and here one as fd00:17::/64", p)
	case p.Bits() < 64 || p.Bits() > 126:
		k.bad(o, "subnet6", "%s has a prefix length of %d; write one from /64 to /126", p, p.Bits())
	case p != p.Masked():
		k.bad(o, "subnet6", "%s has bits set behind its prefix; write %s", p, p.Masked())
	case !uniqueLocal.Contains(p.Addr()) && !globalUnicast.Contains(p.Addr()):
		k.bad(o, "subnet6", "%s is neither unique local (%s) nor global (%s); write one, as fd00:17::/64", p, uniqueLocal, globalUnicast)
	default:
		return true
	}
	return false
}

// overlap looks for a network before the i-th that shares addresses with it.
func (k *checker) overlap(o object, key string, i int, of func(Network) netip.Prefix) {
	p := of(k.c.Networks[i])
	for _, m := range k.c.Networks[:i] {
		if !of(m).IsValid() || !of(m).Overlaps(p) {
			continue
		}
		like := ""
		if p.Addr().Is4() {
			like = ", as " + k.free()
		}
		k.bad(o, key, "%s overlaps %s of network %s; write a free one%s", p, of(m), m.Name, like)
		return
	}
}

// hint is find's answer, found once.
func (k *checker) hint(about string, find func() string) string {
	if _, ok := k.hints[about]; !ok {
		k.hints[about] = find()
	}
	return k.hints[about]
}

// free is an IPv4 subnet that no network has, as Docker would choose it.
func (k *checker) free() string { return k.hint("", k.findSubnet) }

func (k *checker) findSubnet() string {
	for i := range 256 {
		b := [4]byte{172, byte(17 + i), 0, 0}
		if i > 14 {
			b[0], b[1] = 10, byte(i)
		}
		p := netip.PrefixFrom(netip.AddrFrom4(b), 16)
		if !slices.ContainsFunc(k.c.Networks, func(n Network) bool { return n.Subnet.IsValid() && n.Subnet.Overlaps(p) }) {
			return p.String()
		}
	}
	return "172.17.0.0/16"
}

func (k *checker) gateway(o object, key string, p netip.Prefix, a netip.Addr) {
	right := "write an address of the subnet, as " + p.Addr().Next().String()
	switch {
	case !a.IsValid():
		k.bad(o, key, "is missing; %s", right)
	case !p.Contains(a) || a.Zone() != "":
		k.bad(o, key, "%s is outside %s; %s", a, p, right)
	default:
		if what := unusable(p, a); what != "" {
			k.bad(o, key, "%s is the %s of %s; %s", a, what, p, right)
		}
	}
}

// unusable names what a is if no host of p can have it.
func unusable(p netip.Prefix, a netip.Addr) string {
	switch {
	case a == p.Masked().Addr() && a.Is4():
		return "network address"
	case a == p.Masked().Addr():
		return "subnet-router anycast address" // RFC 4291, 2.6.1
	case a.Is4() && !p.Contains(a.Next()):
		return "broadcast address"
	}
	return ""
}

// singles checks what is no list's.
func (k *checker) singles() {
	config := object{}
	c := k.c
	if slices.Contains(c.Host.Loopback.List, 0) {
		k.bad(config, "host.loopback", "0 is not a port; write 1 to 65535")
	}
	for i, s := range c.DNS.Upstream {
		key := fmt.Sprintf("dns.upstream[%d]", i)
		switch a := s.Addr(); {
		case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
			k.bad(config, key, "%s is no name server's address; write one, as 192.0.2.53", a)
		case s.Port() == 0:
			k.bad(config, key, "%s has port 0; write another, or %s for port 53", s, a)
		}
	}
	for _, l := range []struct {
		key string
		n   int
	}{{"flows", c.Limits.Flows}, {"half_open", c.Limits.HalfOpen}, {"fdb", c.Limits.FDB}, {"fragments", c.Limits.Fragments}} {
		if l.n < 1 || l.n > maxLimit {
			k.bad(config, "limits."+l.key, "%d is out of range; write 1 to %d", l.n, maxLimit)
		}
	}
	if c.Threads < 0 || c.Threads > maxThreads {
		k.bad(config, "threads", "%d is out of range; write 0 to %d", c.Threads, maxThreads)
	}
	k.serving()
	if !slices.Contains(sandboxModes, c.Sandbox) {
		k.bad(config, "sandbox", "%s", notAWord(c.Sandbox, sandboxModes))
	}
	if !slices.Contains(logLevels, c.LogLevel) {
		k.bad(config, "log.level", "%s", notAWord(c.LogLevel, logLevels))
	}
	if !slices.Contains(logFormats, c.LogFormat) {
		k.bad(config, "log.format", "%s", notAWord(c.LogFormat, logFormats))
	}
}
