package nat

import (
	"net/netip"
	"slices"

	"tapswitch/switch"
)

// EgressMode says what containers may reach outside.
type EgressMode uint8

// The modes of egress.
const (
	EgressAll      EgressMode = iota
	EgressInternet            // but for private ranges and the host's own addresses
	EgressNone
	EgressList // what Allow and Named hold
)

// Egress is one policy for what is outside.
type Egress struct {
	Name  string // for people
	Mode  EgressMode
	Allow []Allowed
	// Named says under which name that the policy allows an answer of ours has
	// given a to the container, while that answer lives; "" if none. With ever, an
	// answer that is over counts, too. It may be called from several threads. Nil
	// without names.
	Named func(container string, a netip.Addr, proto uint8, port uint16, ever bool) string
	// Holds says whether the policy holds a name that a connection means by its
	// TLS server name or HTTP Host. Nil with Named.
	Holds func(name string, proto uint8, port uint16) bool
}

// Allowed is an address range that an egress policy holds.
type Allowed struct {
	Prefix netip.Prefix
	Proto  uint8 // 0 for any
	Ports  []PortRange
}

// egressOf is the policy of a container: its own, else its network's, else nil.
func (p *Policy) egressOf(q *party) *Egress {
	if e := p.Egress[q.name()]; e != nil {
		return e
	}
	return p.Egress["network/"+q.network()]
}

func (p *Policy) egress(q *packet, t *Trace) ruling {
	if len(p.Egress) == 0 {
		return allow(noRule)
	}
	e := p.egressOf(&q.from)
	if e == nil || e.Mode == EgressAll {
		return allow(noRule)
	}
	no := deny(RuleEgress, vswitch.Egress, replyRefused)
	switch {
	case e.Mode == EgressNone:
		t.Add("egress", "%s: nothing outside", e.Name)
		return no
	case e.Mode == EgressInternet:
		if q.way == wayHost || private(q.to.addr) {
			t.Add("egress", "%s: neither the host nor private ranges", e.Name)
			return no
		}
		t.Add("egress", "%s: a public address", e.Name)
		return allow(noRule)
	}
	for _, a := range e.Allow {
		if a.Prefix.Contains(q.to.addr) && covers(a.Proto, a.Ports, q.proto, q.port) {
			t.Add("egress", "%s holds %s", e.Name, a.Prefix)
			return allow(RuleEgress)
		}
	}
	if e.Named != nil {
		if name := e.Named(q.from.name(), q.to.addr, q.proto, q.port, q.named); name != "" {
			t.Add("egress", "%s holds %s, which our DNS has answered with this address", e.Name, name)
			r := allow(RuleEgress)
			r.named = true
			return r
		}
	}
	t.Add("egress", "%s holds neither this address nor a name that stands for it", e.Name)
	return no
}

var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), // RFC 1918
	netip.MustParsePrefix("100.64.0.0/10"),                                         // RFC 6598
	netip.MustParsePrefix("198.18.0.0/15"),                                         // RFC 2544
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.88.99.0/24"), // RFC 6890, RFC 7526
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fec0::/10"), // RFC 4193, RFC 3879
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("64:ff9b:1::/48"), // RFC 4380, RFC 8215: they hide an IPv4 one
}

var sixToFour = netip.MustParsePrefix("2002::/16") // RFC 3056

// private says whether an address is no public one. IPv6 addresses that stand
// for an IPv4 one are judged as that.
func private(a netip.Addr) bool {
	if forbidden(a) != vswitch.Delivered {
		return true
	}
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a), compat.Contains(a):
			return private(netip.AddrFrom4([4]byte(b[12:])))
		case sixToFour.Contains(a):
			return private(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return slices.ContainsFunc(privateRanges, func(p netip.Prefix) bool { return p.Contains(a) })
}
