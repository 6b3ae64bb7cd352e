package engine

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"time"

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
	pool4  *ipam.Pool // nil without IPv4
	pool6  *ipam.Pool // nil without an IPv6 subnet
	bridge *vswitch.Segment
	order  uint64
	at     time.Time
	made   api.NetworkCreate // of one that no file made

	host *vswitch.Seat // the host's own interface; nil: none

	router4, router6 netip.Addr // the default route, where it is not the gateway
}

// addNetwork makes a network. The lock is held.
func (e *Engine) addNetwork(c configs.Network, origin string) (*network, error) {
	if e.networks[c.Name] != nil {
		return nil, api.Errorf(api.Conflict, "network %s is there already", c.Name)
	}
	for _, n := range e.networks {
		if n.cfg.Subnet.Overlaps(c.Subnet) || c.Subnet6.IsValid() && n.cfg.Subnet6.IsValid() && n.cfg.Subnet6.Overlaps(c.Subnet6) {
			return nil, api.Errorf(api.Conflict, "network %s (%s) overlaps network %s (%s)", c.Name, both(c), n.cfg.Name, both(n.cfg))
		}
	}
	e.order++
	n := &network{id: newID(), cfg: c, origin: origin, order: e.order, at: time.Now()}
	var err error
	gateway, gateway6 := n.gateways()
	kept := gateway // an address that nobody else gets
	if c.NoAddress4 && !c.Internal {
		kept = c.Gateway // containers' default route leads there, whoever that is
	}
	if !c.NoIPv4 {
		if n.pool4, err = ipam.New(c.Subnet, kept); err != nil {
			return nil, api.Errorf(api.BadRequest, "network %s: %v", c.Name, err)
		}
	}
	if c.Subnet6.IsValid() {
		if n.pool6, err = ipam.New(c.Subnet6, gateway6); err != nil {
			return nil, api.Errorf(api.BadRequest, "network %s: %v", c.Name, err)
		}
	}
	for pool, within := range map[*ipam.Pool]netip.Prefix{n.pool4: c.Range, n.pool6: c.Range6} {
		if pool != nil && within.IsValid() {
			if err := pool.Limit(within); err != nil {
				return nil, api.Errorf(api.BadRequest, "network %s: %v", c.Name, err)
			}
		}
	}
	service := vswitch.Service{Resolver: c.Resolver, Resolver6: c.Resolver6, NoDNS: c.NoDNS, First: c.LeaseFirst, Last: c.LeaseLast, Autoconf: c.Autoconf, Proxy: c.Proxy}
	for i, m := range c.Maps {
		service.Maps[i] = vswitch.Mapping(m)
	}
	n.bridge = e.path.AddBridge(vswitch.BridgeConfig{Name: c.Name, Subnet: c.Subnet, Gateway: gateway,
		Subnet6: c.Subnet6, Gateway6: gateway6, MTU: c.MTU, MaxFDB: e.start.Config.Config.Limits.FDB, Internal: c.Internal, NoICC: c.NoICC, NoDHCP: c.NoDHCP, Advertise: c.Advertise, NoSnooping: c.NoSnooping,
		Service: service})
	e.networks[c.Name] = n
	e.networkChanged("made", n)
	return n, nil
}

// gateways are the gateway's own addresses on the network: none in the gateway
// mode isolated.
func (n *network) gateways() (v4, v6 netip.Addr) {
	if n.cfg.Mode4 != "isolated" && !n.cfg.NoAddress4 {
		v4 = n.cfg.Gateway
	}
	if n.cfg.Mode6 != "isolated" {
		v6 = n.cfg.Gateway6
	}
	return v4, v6
}

// resolver is where the network's gateway answers DNS.
func (n *network) resolver() netip.Addr {
	v4, v6 := n.gateways()
	switch {
	case n.cfg.NoIPv4 && !n.cfg.NoDNS && !n.cfg.Resolver6.IsValid():
		return v6
	case n.cfg.NoDNS:
		return netip.Addr{}
	case n.cfg.Resolver.IsValid():
		return n.cfg.Resolver
	}
	return v4
}

// written is an address for people: nothing for none.
func written(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// routers are where the network's containers send what is not for a neighbour.
func (n *network) routers() (v4, v6 netip.Addr) {
	v4, v6 = n.cfg.Gateway, n.cfg.Gateway6
	if n.router4.IsValid() {
		v4 = n.router4
	}
	if n.router6.IsValid() {
		v6 = n.router6
	}
	return v4, v6
}

// both are a network's subnets, for people.
func both(c configs.Network) string {
	if c.NoIPv4 {
		return c.Subnet6.String()
	}
	if c.Subnet6.IsValid() {
		return c.Subnet.String() + ", " + c.Subnet6.String()
	}
	return c.Subnet.String()
}

// removeNetwork takes an unused network away. The lock is held.
func (e *Engine) removeNetwork(n *network) error {
	if users := e.usersOf(n); len(users) > 0 {
		return api.Errorf(api.Conflict, "network %s has active endpoints: %s", n.cfg.Name, strings.Join(users, ", ")).WithHint("tapswitch rm -f %s", users[0])
	}
	e.dropHost(n.host)
	n.host = nil
	if err := e.path.RemoveBridge(n.bridge); err != nil {
		return err
	}
	delete(e.networks, n.cfg.Name)
	e.networkChanged("removed", n)
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
		return e.findNetwork(name)
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
