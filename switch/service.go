package vswitch

import "net/netip"

// Service says what a bridge's gateway does otherwise than usual: what the
// programs do that one of our bridges may stand for. The zero value is the usual.
type Service struct {
	// Resolver and Resolver6 are further addresses of the gateway, at which alone
	// it answers DNS, and nothing but DNS and echo; zero: it does at its own.
	Resolver, Resolver6 netip.Addr
	NoDNS               bool // DNS is not answered at all
	// First and Last are the addresses that the gateway's DHCP hands out, one for
	// each MAC that asks; zero: each port is told its own address.
	First, Last netip.Addr
	// Autoconf lets guests make an address of their own of the prefix that is
	// advertised (RFC 4862).
	Autoconf bool
	// Proxy lets the gateway stand for every other address, also of the guest's own
	// subnet (RFC 1027): the guest has an address of a network that is really
	// elsewhere, and all of it is reached outside, the gateway's address too.
	Proxy bool
	Maps  [4]Mapping
}

// Mapping is an address by which guests reach one of the host's, its loopback
// among them. The zero value is none.
type Mapping struct{ Guest, Host netip.Addr }

// Mapped is the host's address that a stands for, or not valid.
func (b *Bridge) Mapped(a netip.Addr) netip.Addr {
	for _, m := range b.Service.Maps {
		if m.Guest.IsValid() && m.Guest == a {
			return m.Host
		}
	}
	return netip.Addr{}
}

// answersFor says whether the gateway answers who asks for a's MAC address from
// port p with the address of its own sender. Who probes for an address before
// it takes it (RFC 5227, RFC 4862) has none yet.
func (b *Bridge) answersFor(p *Port, sender, a netip.Addr) bool {
	return b.IsGateway(a) || b.Service.Proxy && !sender.IsUnspecified() && a != sender && !a.IsMulticast() && !p.owns(a) && b.PortOf(a) == nil
}

// OnlyResolver says whether a is an address of the gateway's for DNS alone.
func (b *Bridge) OnlyResolver(a netip.Addr) bool {
	return a.IsValid() && (a == b.Service.Resolver || a == b.Service.Resolver6)
}

// ResolverFor is where the gateway answers DNS over IPv4 or IPv6; invalid if it
// does nowhere.
func (b *Bridge) ResolverFor(v6 bool) netip.Addr {
	r, own := b.Service.Resolver, b.Gateway
	if v6 {
		r, own = b.Service.Resolver6, b.Gateway6
	}
	switch {
	case b.Service.NoDNS:
		return netip.Addr{}
	case r.IsValid():
		return r
	}
	return own
}

// Resolves says whether the gateway answers DNS at a, an address of its own.
func (b *Bridge) Resolves(a netip.Addr) bool {
	if b.Service.NoDNS {
		return false
	}
	return a == b.ResolverFor(a.Is6()) || a == b.LinkLocal() && !b.Service.Resolver6.IsValid()
}
