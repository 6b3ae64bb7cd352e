package engine

import (
	"net/netip"

	"tapswitch/cmd/internal/api"
)

// Forward publishes ports that lead to another address of the network than the
// container's own: of a guest that has configured itself behind its interface.
// Such ports are not kept over a restart, so that only a switch that keeps
// nothing has them.
func (e *Engine) Forward(name string, f api.Forward) ([]api.Port, error) {
	if e.start.State != "" {
		return nil, api.Errorf(api.BadRequest, "ports that lead to other addresses than the container's are for a switch that keeps no state")
	}
	to, err := netip.ParseAddr(f.To)
	if err != nil || !to.IsValid() {
		return nil, api.Errorf(api.BadRequest, "%q is no IP address", f.To)
	}
	return e.publishTo(name, f.Ports, to)
}

// targets are the addresses that a published port leads to.
func (p *published) targets(gw *endpoint) (v4, v6 netip.Addr) {
	switch {
	case !p.to.IsValid():
		return gw.ip, gw.ip6
	case p.to.Is4():
		return p.to, v6
	}
	return v4, p.to
}
