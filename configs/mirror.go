package configs

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MirrorPorts says at which ports a network's mirror leads to its containers:
// "" or "auto" for those that they listen at, else a list as Spans reads it. It
// is text, so that networks can be compared.
type MirrorPorts string

// Auto says whether containers are asked.
func (m MirrorPorts) Auto() bool { return m == "" || m == "auto" }

// Span is a range of ports of one protocol.
type Span struct {
	First, Last uint16
	UDP         bool
}

// maxMirrorPorts bounds the listeners of one container.
const maxMirrorPorts = 1024

// Spans reads 22,80,5000-5010,53/udp.
func (m MirrorPorts) Spans() ([]Span, error) {
	if m.Auto() {
		return nil, nil
	}
	var all []Span
	total := 0
	for part := range strings.SplitSeq(string(m), ",") {
		part = strings.TrimSpace(part)
		ports, proto, _ := strings.Cut(part, "/")
		first, last, many := strings.Cut(ports, "-")
		if !many {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a == 0 || b < a || proto != "" && proto != "tcp" && proto != "udp" {
			return nil, fmt.Errorf("%s is no port; write auto or ports, as 22,5000-5010,53/udp", quote(part))
		}
		if total += int(b - a + 1); total > maxMirrorPorts {
			return nil, fmt.Errorf("%s are more than %d ports; write fewer, or auto", quote(string(m)), maxMirrorPorts)
		}
		all = append(all, Span{uint16(a), uint16(b), proto == "udp"})
	}
	return all, nil
}

// mirrorPorts reads auto, a list of ports, or the same as text.
func (d *decoder) mirrorPorts(at value) MirrorPorts {
	var parts []string
	if at.node.Kind == yaml.SequenceNode {
		parts = d.texts(at, "[22, 5432]")
	} else if s, ok := d.text(at); ok {
		parts = []string{s}
	}
	m := MirrorPorts(strings.ReplaceAll(strings.Join(parts, ","), " ", ""))
	if _, err := m.Spans(); err != nil {
		d.bad(at, "%v", err)
		return ""
	}
	return m
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// mirror checks the i-th network's mirror.
func (k *checker) mirror(o object, i int) {
	n := k.c.Networks[i]
	m := n.Mirror
	if !m.IsValid() {
		if n.MirrorPorts != "" {
			k.bad(o, "mirror_ports", "stands without mirror; write that too, as mirror: 127.17.0.0/16")
		}
		return
	}
	if !n.Subnet.IsValid() {
		return
	}
	like := "127.17.0.0/16"
	if n.Subnet.Bits() >= 16 {
		b := n.Subnet.Addr().As4()
		like = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, max(b[1], 1), b[2], b[3]}), n.Subnet.Bits()).String()
	}
	switch {
	case n.Mode4 == "isolated" || n.NoAddress4:
		k.bad(o, "mirror", "needs the gateway's IPv4 address, from which containers see the host; take gateway_mode isolated or inhibit_ipv4 away")
	case m.Bits() < 8 || !loopback.Contains(m.Addr()):
		k.bad(o, "mirror", "%s is no part of %s, which alone is every host's own; write one, as %s", m, loopback, like)
	case m.Bits() != n.Subnet.Bits():
		k.bad(o, "mirror", "%s has not the length of %s; write one that has, as %s", m, n.Subnet, like)
	case m != m.Masked():
		k.bad(o, "mirror", "%s has bits set behind its prefix; write %s", m, m.Masked())
	case m.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || m.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 53})):
		k.bad(o, "mirror", "%s holds addresses of the host's own services, as 127.0.0.1; write another, as %s", m, like)
	default:
		for _, other := range k.c.Networks[:i] {
			if other.Mirror.IsValid() && other.Mirror.Overlaps(m) {
				k.bad(o, "mirror", "%s overlaps %s of network %s; write another", m, other.Mirror, other.Name)
			}
		}
	}
}

// MirrorOf is where the host reaches a container of the network; the zero Addr
// if it has no mirror.
func (n Network) MirrorOf(a netip.Addr) netip.Addr {
	if !n.Mirror.IsValid() || !a.Is4() {
		return netip.Addr{}
	}
	own, base, out := a.As4(), n.Mirror.Addr().As4(), [4]byte{}
	for i := range own {
		bits := min(max(n.Mirror.Bits()-8*i, 0), 8)
		mask := byte(0xff) << (8 - bits)
		out[i] = base[i]&mask | own[i]&^mask
	}
	return netip.AddrFrom4(out)
}

// outbound checks a source address of what goes outside; whether the host has
// it is seen when the network is made.
func (k *checker) outbound(o object, key string, a netip.Addr) {
	if a.IsValid() && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		k.bad(o, key, "%s is no address from which the outside is reached; write one of the host's, or leave it out", a)
	}
}
