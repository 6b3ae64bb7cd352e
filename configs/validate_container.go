package configs

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// noNetwork begins the problem of a network that is missed; see consequences.
const noNetwork = "no network "

// claims are the addresses that containers ask for, by network and address, and who asked first.
type claims map[claim]string

type claim struct {
	network string
	what    string // an address or MAC as text
}

func (k *checker) containers() {
	taken, first := claims{}, map[string]string{}
	for i, c := range k.c.Containers {
		o := element("containers", i, c.Name, c.Line)
		k.name(o, c.Name, "web")
		k.unique(o, c.Name, first)
		for j, a := range c.Networks {
			k.attachment(o.part("networks", j), c, j, a, taken)
		}
		k.publish(o, c)
		k.program(o, c)
		k.namespace(o, c)
	}
}

// attachment checks the j-th network of c; its claims must be nobody else's.
func (k *checker) attachment(o object, c Container, j int, a Attachment, taken claims) {
	if other, is := strings.CutPrefix(a.Network, "container:"); is {
		k.guest(o, c, other)
		return
	}
	i := slices.IndexFunc(k.c.Networks, func(n Network) bool { return n.Name == a.Network })
	if a.Network == "" || i < 0 {
		k.missing(o, a.Network)
		return
	}
	if slices.ContainsFunc(c.Networks[:j], func(b Attachment) bool { return b.Network == a.Network }) {
		k.bad(o, "name", "%s is listed twice; keep one of the two", a.Network)
		return
	}
	n := k.c.Networks[i]
	k.address(o, "ip", c, n, n.Subnet, n.Gateway, a.IP, taken)
	k.address(o, "ip6", c, n, n.Subnet6, n.Gateway6, a.IP6, taken)
	switch {
	case a.MAC == nil:
	case len(a.MAC) != 6:
		k.bad(o, "mac", "%s is not a MAC address; write six bytes, as 02:42:ac:11:00:02", a.MAC)
	case a.MAC[0]&1 != 0:
		k.bad(o, "mac", "%s is a group's address; write one whose first byte is even, as 02:42:ac:11:00:02", a.MAC)
	case a.MAC.String() == "00:00:00:00:00:00":
		k.bad(o, "mac", "%s is no address; write one, as 02:42:ac:11:00:02", a.MAC)
	default:
		if by := taken.take(n, a.MAC.String(), c); by != "" {
			k.bad(o, "mac", "%s is taken by %s on network %s; write another", a.MAC, by, n.Name)
		}
	}
	for l, alias := range a.Aliases {
		if !namePattern.MatchString(alias) {
			k.bad(o, fmt.Sprintf("aliases[%d]", l), "%s is not a name; write letters, digits, _ . and -, a letter or digit first", quote(alias))
		}
	}
}

// guest checks a container on the network of another.
func (k *checker) guest(o object, c Container, other string) {
	i := slices.IndexFunc(k.c.Containers, func(d Container) bool { return d.Name == other })
	switch {
	case i < 0 || other == c.Name:
		k.bad(o, "name", "there is no other container %s; write one of those there are", quote(other))
	case slices.ContainsFunc(k.c.Containers[i].Networks, func(a Attachment) bool { return strings.HasPrefix(a.Network, "container:") }):
		k.bad(o, "name", "container %s is on another's network itself; write that one's name", other)
	case len(c.Networks) > 1 || len(c.Publish) > 0 || len(c.Expose) > 0 || len(c.Links) > 0 || c.Hostname != "" || c.Egress != "" || c.Pid != 0 || c.Netns != "":
		k.bad(o, "name", "a container on another's network has no further networks, ports, links, hostname, egress, pid or netns of its own; take them out")
	case len(c.Command) == 0:
		k.bad(o, "name", "a container on another's network needs a command")
	}
}

// missing says that there is no such network, and which there are.
func (k *checker) missing(o object, name string) {
	var there []string
	for _, n := range k.c.Networks {
		there = append(there, n.Name)
	}
	switch near := nearest(name, there); {
	case name == "":
		k.bad(o, "name", "is missing; write a network's name")
	case name == "none" || name == "host":
		k.bad(o, "name", "%s is not a network here; write networks: [] for none, [\"container:NAME\"] for another container's, and pid or netns to join another namespace", quote(name))
	case near != "":
		k.bad(o, "name", noNetwork+"%s; did you mean %s?", quote(name), near)
	case len(there) > 0:
		k.bad(o, "name", noNetwork+"%s; write one of those there are, %s, or add it under networks", quote(name), either(there))
	default:
		k.bad(o, "name", noNetwork+"%s; add it under networks", quote(name))
	}
}

// address checks a, which c wants on subnet p of n; the zero one is the switch's to choose.
func (k *checker) address(o object, key string, c Container, n Network, p netip.Prefix, gateway, a netip.Addr, taken claims) {
	if !a.IsValid() {
		return
	}
	right := func() string {
		return k.hint(n.Name+" "+key, func() string { return k.freeAddress(n.Name, p, gateway) })
	}
	switch {
	case !p.IsValid() && key == "ip":
		k.bad(o, key, "%s is given, but network %s has no IPv4; take it out", a, n.Name)
	case !p.IsValid():
		k.bad(o, key, "%s is given, but network %s has no subnet6; add one there, or take %s out", a, n.Name, key)
	case !p.Contains(a) || a.Zone() != "":
		k.bad(o, key, "%s is outside %s of network %s; %s", a, p, n.Name, right())
	case a == gateway:
		k.bad(o, key, "%s is the gateway of network %s; %s", a, n.Name, right())
	case unusable(p, a) != "":
		k.bad(o, key, "%s is the %s of %s; %s", a, unusable(p, a), p, right())
	default:
		if by := taken.take(n, a.String(), c); by != "" {
			k.bad(o, key, "%s is taken by %s on network %s; %s", a, by, n.Name, right())
		}
	}
}

// take claims what on n for c and returns "", or who has it.
func (t claims) take(n Network, what string, c Container) string {
	key := claim{n.Name, what}
	if by, ok := t[key]; ok {
		return by
	}
	t[key] = c.Name
	return ""
}

// freeAddress says what to write instead: the first host's address of p that nobody asks for.
func (k *checker) freeAddress(network string, p netip.Prefix, gateway netip.Addr) string {
	used := map[netip.Addr]bool{gateway: true}
	for _, c := range k.c.Containers {
		for _, a := range c.Networks {
			if a.Network == network {
				used[a.IP], used[a.IP6] = true, true
			}
		}
	}
	a := p.Masked().Addr().Next()
	for used[a] && p.Contains(a) {
		a = a.Next()
	}
	if !p.Contains(a) || unusable(p, a) != "" {
		return p.String() + " is full, write a wider one"
	}
	return "write a free one, as " + a.String()
}

func (k *checker) publish(o object, c Container) {
	for i, spec := range c.Publish {
		key := fmt.Sprintf("publish[%d]", i)
		if strings.TrimSpace(spec) == "" {
			k.bad(o, key, "is empty; write HOSTPORT:PORT, as \"8080:80\"")
		} else if CheckPublish != nil {
			if err := CheckPublish(spec); err != nil {
				k.bad(o, key, "%s: %s", quote(spec), err)
			}
		}
	}
	if len(c.Publish) > 0 && len(c.Networks) == 0 {
		k.bad(o, "publish", "is given, but the container is on no network; write networks: [%s]", k.anyNetwork())
	}
}

func (k *checker) anyNetwork() string {
	if len(k.c.Networks) == 0 {
		return "bridge"
	}
	return k.c.Networks[0].Name
}

// program checks what runs in the container, and as what.
func (k *checker) program(o object, c Container) {
	if len(c.Command) > 0 && c.Command[0] == "" {
		k.bad(o, "command[0]", "is empty; write the program's name or path")
	}
	for i, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			k.bad(o, fmt.Sprintf("env[%d]", i), "%s is not NAME=VALUE; write it so, as LANG=C", quote(e))
		}
	}
	if c.Workdir != "" && !filepath.IsAbs(c.Workdir) {
		k.bad(o, "workdir", "%s is relative, to nothing in particular; write it from /", quote(c.Workdir))
	}
	switch {
	case c.Hostname == "":
	case !namePattern.MatchString(c.Hostname):
		k.bad(o, "hostname", "%s is not a host's name; write letters, digits, . and -", quote(c.Hostname))
	case len(c.Hostname) > 64: // __NEW_UTS_LEN: include/uapi/linux/utsname.h
		k.bad(o, "hostname", "%s is longer than the kernel's 64 letters; write a shorter one", quote(c.Hostname))
	}
}

// namespace checks which namespace is joined, and the interface in it.
func (k *checker) namespace(o object, c Container) {
	switch joins := c.Pid != 0 || c.Netns != ""; {
	case c.Pid != 0 && c.Netns != "":
		k.bad(o, "netns", "stands beside pid; keep one of the two, either names the namespace")
	case joins && len(c.Links)+len(c.Expose) > 0:
		k.bad(o, "links", "or expose stands beside pid or netns, whose files and environment someone else has; take it out")
	case joins && len(c.Command) > 0:
		k.bad(o, "command", "stands beside pid or netns, whose namespace someone else runs; take it out, `tapswitch exec` runs a program there")
	}
	if c.Pid < 0 {
		k.bad(o, "pid", "%d is no process; write the number that ps shows", c.Pid)
	}
	if c.Netns != "" && !filepath.IsAbs(c.Netns) {
		like := "/run/netns/" + c.Netns // as `ip netns` places them
		if strings.ContainsAny(c.Netns, "/.") {
			like = "/run/netns/NAME or /proc/PID/ns/net"
		}
		k.bad(o, "netns", "%s is not a path from /; write it so, as %s", quote(c.Netns), like)
	}
	if c.IfName != "" && !InterfaceName(c.IfName) {
		k.bad(o, "ifname", "%s is not an interface's name; write at most 15 letters without space, / and :, as eth0", quote(c.IfName))
	}
}

// InterfaceName is dev_valid_name of net/core/dev.c, less lo, which each namespace has.
func InterfaceName(s string) bool {
	return len(s) < 16 && s != "." && s != ".." && s != "lo" && !strings.ContainsAny(s, "/: \t\n\v\f\r\x00") && strings.IndexByte(s, 0xa0) < 0
}
