package engine

import (
	"fmt"
	"net/netip"
	"sort"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/switch"
	"tapswitch/switch/ipam"
)

// network is an L2 domain with its addresses.
type network struct {
	id     string
	cfg    configs.Network
	origin string
	pool4  *ipam.Pool
	pool6  *ipam.Pool // nil without an IPv6 subnet
	bridge *vswitch.Bridge
	order  uint64
}

// addNetwork makes a network. The lock is held.
func (e *Engine) addNetwork(c configs.Network, origin string) (*network, error) {
	if e.networks[c.Name] != nil {
		return nil, api.Errorf(api.Conflict, "network %s is there already", c.Name)
	}
	for _, n := range e.networks {
		if n.cfg.Subnet.Overlaps(c.Subnet) || c.Subnet6.IsValid() && n.cfg.Subnet6.IsValid() && n.cfg.Subnet6.Overlaps(c.Subnet6) {
			return nil, api.Errorf(api.Conflict, "network %s overlaps network %s", c.Name, n.cfg.Name)
		}
	}
	e.order++
	n := &network{id: newID(), cfg: c, origin: origin, order: e.order}
	var err error
	if n.pool4, err = ipam.New(c.Subnet, c.Gateway); err != nil {
		return nil, api.Errorf(api.BadRequest, "network %s: %v", c.Name, err)
	}
	if c.Subnet6.IsValid() {
		if n.pool6, err = ipam.New(c.Subnet6, c.Gateway6); err != nil {
			return nil, api.Errorf(api.BadRequest, "network %s: %v", c.Name, err)
		}
	}
	e.sw.Do(func() {
		n.bridge = e.sw.AddBridge(vswitch.BridgeConfig{Name: c.Name, Subnet: c.Subnet, Gateway: c.Gateway,
			Subnet6: c.Subnet6, Gateway6: c.Gateway6, MTU: c.MTU, MaxFDB: e.start.Config.Config.Limits.FDB})
	})
	e.networks[c.Name] = n
	return n, nil
}

// removeNetwork takes an unused network away. The lock is held.
func (e *Engine) removeNetwork(n *network) error {
	if users := e.usersOf(n); len(users) > 0 {
		return api.Errorf(api.Conflict, "network %s is in use by %v", n.cfg.Name, users)
	}
	var err error
	e.sw.Do(func() { err = e.sw.RemoveBridge(n.bridge) })
	if err != nil {
		return err
	}
	delete(e.networks, n.cfg.Name)
	return nil
}

func (e *Engine) usersOf(n *network) (users []string) {
	for _, c := range e.containers {
		for _, ep := range c.endpoints {
			if ep.net == n && c.state != stateExited {
				users = append(users, c.name)
			}
		}
	}
	sort.Strings(users)
	return users
}

// network finds a network by name, or the default one. The lock is held.
func (e *Engine) network(name string) (*network, error) {
	if name != "" {
		if n := e.networks[name]; n != nil {
			return n, nil
		}
		return nil, api.Errorf(api.NotFound, "network %s not found", name).WithHint("tapswitch network ls lists them")
	}
	if n := e.networks["bridge"]; n != nil {
		return n, nil
	}
	if all := e.sortedNetworks(); len(all) > 0 {
		return all[0], nil
	}
	return nil, api.Errorf(api.NotFound, "there is no network")
}

func (e *Engine) sortedNetworks() []*network {
	out := make([]*network, 0, len(e.networks))
	for _, n := range e.networks {
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].order < out[j].order })
	return out
}

// address takes an address from a pool: the one asked for, or the lowest free.
func address(p *ipam.Pool, want string) (netip.Addr, error) {
	if want == "" {
		a, err := p.Allocate()
		if err != nil {
			return a, api.Errorf(api.Conflict, "%v", err)
		}
		return a, nil
	}
	a, err := netip.ParseAddr(want)
	if err != nil {
		return a, api.Errorf(api.BadRequest, "%q is no IP address", want)
	}
	if err := p.Reserve(a); err != nil {
		return a, api.Errorf(api.Conflict, "%v", err)
	}
	return a, nil
}

// sprintf keeps the logger's arguments out of the way of vet.
func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }
