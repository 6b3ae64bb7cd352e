package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/switch"
)

// Neighbours says who is where on each network: what is programmed for
// containers, what was learned of others, and the gateways.
func (e *Engine) Neighbours() []api.Neighbour {
	out := []api.Neighbour{}
	e.path.Each(func(shard int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			if shard == 0 {
				for _, a := range []netip.Addr{b.Gateway, b.Gateway6} {
					if a.IsValid() {
						out = append(out, api.Neighbour{Network: b.Name, Address: a.String(), MAC: b.MAC.String(), Interface: "gateway", Origin: "gateway"})
					}
				}
			}
			for _, x := range b.FDB() {
				p := sw.Port(x.Port)
				if p == nil || p.Mirror() {
					continue
				}
				n := api.Neighbour{Network: b.Name, MAC: x.MAC.String(), Interface: p.Name, Origin: "learned", AgeSec: x.Age}
				if x.Static {
					n.Origin = "programmed"
				}
				if !x.Static || len(p.Addrs) == 0 {
					out = append(out, n)
				}
				for i := 0; x.Static && i < len(p.Addrs); i++ {
					n.Address = p.Addrs[i].String()
					out = append(out, n)
				}
			}
		}
	})
	slices.SortStableFunc(out, func(a, b api.Neighbour) int {
		x, _ := netip.ParseAddr(a.Address)
		y, _ := netip.ParseAddr(b.Address)
		return cmp.Or(cmp.Compare(a.Network, b.Network), x.Compare(y), cmp.Compare(a.MAC, b.MAC))
	})
	return out
}
