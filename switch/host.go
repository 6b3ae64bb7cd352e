package vswitch

import (
	"fmt"
	"net/netip"
)

// The host's own interface on a bridge: a TAP in the host's network namespace,
// by which its kernel reaches containers at their own addresses, as by docker0.
// It has the gateway's MAC and addresses, so that whoever speaks under them, the
// switch or the host's kernel, is the same neighbour for a container.
//
// So it is no port that frames are switched to by their MAC: what is sent to the
// gateway's MAC stays the gateway's, and of that only three things go on to the
// host. Answers of flows that the host has opened (the gateway's Between makes a
// record of each), errors about those, and what neighbours say of themselves
// when they were asked. Requests for the gateway's address are answered here, as
// without it; broadcasts and groups never reach the host. A container opens
// nothing to the host by it.
//
// Frames from it pass as the gateway's if their sources are: a host that forwards
// for others is no router of the bridge. Groups of the host's stay there.

// checkHost refuses what cannot be the host's interface of its bridge.
func checkHost(c *PortConfig) error {
	br := c.Bridge
	switch {
	case br.host != nil:
		return fmt.Errorf("port %s: bridge %s has an interface of the host, %s", c.Name, br.Name, br.host.Name)
	case c.MAC != br.MAC:
		return fmt.Errorf("port %s: %s is not the MAC of bridge %s's gateway, which the host's interface has", c.Name, c.MAC, br.Name)
	}
	return nil
}

// Host is the host's own interface on the bridge, or nil.
func (b *Bridge) Host() *Port { return b.host }

// fromHost decides about a frame of the host's kernel. Isolation is for
// containers; what rules say is asked of the gateway, whatever the bridge asks.
func (s *Switch) fromHost(f *Frame) Action {
	p, br, dst := f.In, f.In.bridge, f.DstMAC()
	r := p.guard(f)
	if s.trace != nil {
		s.traceGuard(f, r)
	}
	neighbour := f.EtherType == EtherARP || f.Class&ClassNeighbour != 0
	switch {
	case r != Delivered:
		return Drop(r)
	case !neighbour && (!f.IP() || s.gateway == nil):
		return Drop(NoProtocol)
	case dst == br.MAC:
		return Drop(Reflected)
	case dst.Multicast() && neighbour && !f.solicitsRouter():
		return Action{Kind: ActFlood}
	case dst.Multicast() && (neighbour || f.Class&ClassControl != 0 && f.Proto != ProtoUDP):
		return Action{Kind: ActConsumed} // router solicitations and reports of groups are for us
	case dst.Multicast():
		return Drop(MulticastRouted)
	}
	at := br.fdb.find(dst, s.now32)
	if at == fdbNone {
		return Drop(UnknownMAC)
	}
	out := br.fdb.entries[at].port
	if s.trace != nil {
		s.trace.Add("fdb", "%s is on %s", dst, s.port(out).Name)
	}
	if neighbour {
		return Action{Kind: ActOutput, Port: out}
	}
	return s.gateway.Between(f, s.port(out))
}

func (f *Frame) solicitsRouter() bool {
	return f.Class&ClassNeighbour != 0 && f.EtherType == EtherIPv6 && f.B[f.L4] == 133
}

// tellsGateway says whether a frame to the gateway's MAC is a neighbour's answer
// to it. The gateway itself asks nobody.
func (f *Frame) tellsGateway() bool {
	br := f.In.bridge
	if f.EtherType == EtherARP {
		a := f.B[f.L3:]
		return be16(a) == 1 && be16(a[2:]) == EtherIPv4 && a[4] == 6 && a[5] == 4 && be16(a[6:]) == 2 && br.Gateway == netip.AddrFrom4([4]byte(a[24:28]))
	}
	if f.Class&ClassNeighbour == 0 || f.TTL != 255 {
		return false
	}
	return f.B[f.L4] == 136 && (f.Dst() == br.Gateway6 || f.Dst() == br.LinkLocal())
}
