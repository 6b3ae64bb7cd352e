package vswitch

import "net/netip"

// A port that may use any addresses (Spoof) may have several guests behind it,
// and one whose MAC nobody told us: their addresses are noted as they ask for the
// gateway, which they do before all else, as a neighbour table of the kernel is
// filled (RFC 826; RFC 4861, 7.2.3). The gateway finds those it is to open flows to.

// maxHeard bounds what is noted of one port; the oldest goes first.
const maxHeard = 16

type heard struct {
	list [maxHeard]struct {
		addr netip.Addr
		mac  MAC
	}
	next int
}

// hear notes that a is at mac.
func (p *Port) hear(a netip.Addr, mac MAC) {
	if !p.Spoof || a.IsUnspecified() || mac.Multicast() || !p.bridge.Contains(a) || p.bridge.IsGateway(a) {
		return
	}
	h := p.heard
	if h == nil {
		h = new(heard)
		p.heard = h
	}
	for i := range h.list {
		if h.list[i].addr == a {
			h.list[i].mac = mac
			return
		}
	}
	h.list[h.next].addr, h.list[h.next].mac = a, mac
	h.next = (h.next + 1) % maxHeard
}

// MACOf is where a container behind the port has address a: the port's own MAC,
// unless another was heard.
func (p *Port) MACOf(a netip.Addr) MAC {
	if h := p.heard; h != nil {
		for i := range h.list {
			if h.list[i].addr == a {
				return h.list[i].mac
			}
		}
	}
	return p.MAC
}
