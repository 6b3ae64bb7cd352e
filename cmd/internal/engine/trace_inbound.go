package engine

import (
	"net/netip"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// traceInbound says what would become of a client's first packet to a published
// port: client is an address outside, or one of the host's. to is the host's
// address that it uses, or a container, whose port is then meant.
func (e *Engine) traceInbound(r api.TraceRequest, proto uint8, client netip.Addr) (*api.Trace, error) {
	if out := e.traceHost(r, proto); out != nil {
		return out, nil
	}
	if proto == vswitch.ProtoICMP {
		return nil, api.Errorf(api.BadRequest, "containers are not pinged from outside: nobody there has a route to them; write a port")
	}
	out := &api.Trace{From: r.From, To: r.To, Address: r.To, Port: r.Port, Proto: r.Proto, Steps: []api.TraceStep{}, Verdict: string(nat.Rejected)}
	at, err := netip.ParseAddr(r.To)
	at = at.Unmap()
	e.mu.Lock()
	c := e.names[r.To]
	if err != nil && c == nil {
		e.mu.Unlock()
		return nil, api.Errorf(api.NotFound, "%s is no address of the host's, and no container", r.To)
	}
	var found *published
	var of *container
	for _, x := range e.containers {
		for _, p := range x.ports {
			if uint8(p.spec.Proto) != proto || !p.addr.IsValid() || p.addr.Addr().Is4() != client.Is4() {
				continue
			}
			host := err == nil && p.addr.Port() == r.Port && (p.addr.Addr() == at || p.addr.Addr().IsUnspecified())
			if host || err != nil && x == c && p.spec.ContainerPort == r.Port {
				found, of = p, x
			}
		}
	}
	e.mu.Unlock()
	home, id := -1, uint32(0)
	if found != nil {
		of.wiring.Lock()
		if found.live && found.fd >= 0 {
			home, id, out.Address = found.home, found.id, found.addr.String()
		}
		of.wiring.Unlock()
	}
	if home < 0 {
		info := vswitch.Refused.Info()
		out.Steps = append(out.Steps, api.TraceStep{Name: "listener", Text: "no container publishes this port: it is the host's own to answer"})
		out.Reason, out.Why, out.Remedy = info.Name, info.Why, info.Remedy
		return out, nil
	}
	var x nat.Explanation
	e.path.Shards[home].Do(func() { x = e.path.nats[home].ExplainInbound(id, client) })
	showExplanation(out, &x)
	return out, nil
}

// clientOf reads who would send it, if that is no container: an address outside,
// or host.
func (e *Engine) clientOf(from, to string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(from); err == nil {
		return a.Unmap(), true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if from != "host" || e.names[from] != nil {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(to); err == nil && a.Unmap().Is6() {
		return netip.IPv6Loopback(), true
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
}
