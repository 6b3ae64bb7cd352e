// Package ipam hands out the addresses of one network, as Docker's default
// IPAM driver does: the lowest free address first, so that the same containers
// in the same order get the same addresses, and a freed one is reused at once.
package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// Why an address cannot be had. The errors of a Pool wrap one of these and
// name the address and the subnet.
var (
	ErrExhausted   = errors.New("no free address left: remove a container or choose a larger subnet")
	ErrOutOfSubnet = errors.New("address is outside of the subnet: choose one inside")
	ErrTaken       = errors.New("address is already in use: choose another, or none to get the lowest free one")
	ErrReserved    = errors.New("address is reserved for the network itself: choose another")
)

// Pool holds the addresses of one IPv4 or IPv6 subnet. Its memory grows with
// the addresses in use, not with the size of the subnet.
//
// A Pool is not safe for concurrent use: its owner holds a lock.
type Pool struct {
	subnet    netip.Prefix
	gateway   netip.Addr              // zero: none
	broadcast netip.Addr              // zero: none
	anycast   bool                    // the subnet's first address is not a host's
	used      map[netip.Addr]struct{} // by Allocate and Reserve
	within    netip.Prefix            // what Allocate chooses from
	next      netip.Addr              // in within; nothing of that below it is free
}

// New returns the pool of subnet, which must be written without host bits.
// Never given out are the gateway (zero: the network has none), the network
// and broadcast address of an IPv4 subnet (but for /31, RFC 3021, and /32) and
// the subnet-router anycast address of an IPv6 one (RFC 4291 2.6.1; but for
// /127, RFC 6164, and /128).
func New(subnet netip.Prefix, gateway netip.Addr) (*Pool, error) {
	switch {
	case !subnet.IsValid():
		return nil, errors.New("subnet is missing or invalid: write it like 172.17.0.0/16")
	case subnet.Addr().Is4In6():
		return nil, fmt.Errorf("subnet %s is IPv4 written as IPv6: write it like 172.17.0.0/16", subnet)
	case subnet != subnet.Masked():
		return nil, fmt.Errorf("subnet %s has host bits set: write %s", subnet, subnet.Masked())
	}
	p := &Pool{
		subnet: subnet,
		used:   make(map[netip.Addr]struct{}),
		within: subnet,
		next:   subnet.Addr(),
	}
	if hostBits := subnet.Addr().BitLen() - subnet.Bits(); hostBits > 1 {
		p.anycast = true
		if subnet.Addr().Is4() {
			p.broadcast = lastIPv4(subnet)
		}
	}
	if gateway.IsValid() {
		if !subnet.Contains(gateway) {
			return nil, fmt.Errorf("gateway %s in %s: %w", gateway, subnet, ErrOutOfSubnet)
		}
		if p.reserved(gateway) {
			return nil, fmt.Errorf("gateway %s in %s: %w", gateway, subnet, ErrReserved)
		}
		p.gateway = gateway
	}
	return p, nil
}

// Limit lets Allocate choose from a part of the subnet only, as --ip-range;
// Reserve still takes any address. Nothing may be in use yet.
func (p *Pool) Limit(within netip.Prefix) error {
	if within != within.Masked() {
		return fmt.Errorf("range %s has host bits set: write %s", within, within.Masked())
	}
	if !p.subnet.Contains(within.Addr()) || within.Bits() < p.subnet.Bits() {
		return fmt.Errorf("range %s in %s: %w", within, p.subnet, ErrOutOfSubnet)
	}
	p.within, p.next = within, within.Addr()
	return nil
}

// Allocate takes the lowest free address. The error is ErrExhausted.
func (p *Pool) Allocate() (netip.Addr, error) {
	for a := p.next; p.within.Contains(a); a = a.Next() {
		// Moved along even if nothing is found, so that a full subnet is
		// walked once and not at each attempt.
		p.next = a
		if _, taken := p.used[a]; !taken && !p.reserved(a) {
			p.used[a] = struct{}{}
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("subnet %s: %w", p.within, ErrExhausted)
}

// Reserve takes the address a. The error is ErrOutOfSubnet, ErrReserved or
// ErrTaken, and then nothing has changed.
func (p *Pool) Reserve(a netip.Addr) error {
	if !p.subnet.Contains(a) {
		return fmt.Errorf("%s in %s: %w", a, p.subnet, ErrOutOfSubnet)
	}
	if p.reserved(a) {
		return fmt.Errorf("%s in %s: %w", a, p.subnet, ErrReserved)
	}
	if _, taken := p.used[a]; taken {
		return fmt.Errorf("%s in %s: %w", a, p.subnet, ErrTaken)
	}
	p.used[a] = struct{}{}
	return nil
}

// Release gives a back. An address that is not in use is left alone.
func (p *Pool) Release(a netip.Addr) {
	if _, taken := p.used[a]; !taken {
		return
	}
	delete(p.used, a)
	if p.within.Contains(a) && a.Less(p.next) {
		p.next = a
	}
}

// Subnet returns the subnet given to New.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// Gateway returns the gateway given to New; zero: none.
func (p *Pool) Gateway() netip.Addr { return p.gateway }

// InUse counts the addresses taken by Allocate and Reserve.
func (p *Pool) InUse() int { return len(p.used) }

// MAC returns the hardware address of an endpoint with the IPv4 address a:
// 02:42 and its four bytes, Docker's rule up to v27. Of an IPv6 address, for
// an endpoint that has no other, the last four bytes are taken.
func MAC(a netip.Addr) [6]byte {
	b := a.As16()
	return [6]byte{0x02, 0x42, b[12], b[13], b[14], b[15]}
}

// reserved reports whether a, inside the subnet, is never given out.
func (p *Pool) reserved(a netip.Addr) bool {
	return a == p.gateway || a == p.broadcast || p.anycast && a == p.subnet.Addr()
}

// lastIPv4 returns the address with all host bits set.
func lastIPv4(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}
