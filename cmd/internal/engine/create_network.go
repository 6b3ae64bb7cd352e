package engine

import (
	"cmp"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
)

// Networks made by command or API. Words, default pools and refusals are
// Docker's (its bridge driver's options and default address pools).

const (
	optICC = "com.docker.network.bridge.enable_icc"
	optMTU = "com.docker.network.driver.mtu"

	optMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optMode4      = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6      = "com.docker.network.bridge.gateway_mode_ipv6"
	optBinding    = "com.docker.network.bridge.host_binding_ipv4"
	optPrefix     = "com.docker.network.container_iface_prefix"
)

// CreateNetwork makes a network that lasts over a restart.
func (e *Engine) CreateNetwork(r api.NetworkCreate) (*api.Network, error) {
	if r.Origin == "" {
		r.Origin = "api"
	}
	n, err := e.createNetwork(r)
	if err != nil {
		return nil, err
	}
	e.publishNames()
	e.refreshPolicy()
	e.save()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.viewNetwork(n), nil
}

func (e *Engine) createNetwork(r api.NetworkCreate) (*network, error) {
	n, err := e.makeNetwork(r)
	if err == nil {
		err = e.hostInterface(n)
	}
	return n, err
}

func (e *Engine) makeNetwork(r api.NetworkCreate) (*network, error) {
	switch r.Driver {
	case "", "bridge":
	case "overlay", "macvlan", "ipvlan":
		return nil, api.Errorf(api.Failed, "driver %s: not yet", r.Driver).WithHint("the driver there is is bridge")
	default:
		return nil, api.Errorf(api.NotFound, "driver %s not found", r.Driver).WithHint("the driver there is is bridge")
	}
	if err := checkID(r.ID); err != nil {
		return nil, err
	}
	c := configs.Network{Name: r.Name, Internal: r.Internal, Egress: r.Egress}
	if err := options(&c, r.Options); err != nil {
		return nil, err
	}
	if err := readFurther(&c, &r); err != nil {
		return nil, err
	}
	if err := subnets(&c, r); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return nil, api.Errorf(api.Failed, "the switch is ending")
	}
	if e.networks[r.Name] != nil {
		return nil, api.Errorf(api.Conflict, "network with name %s already exists", r.Name)
	}
	if err := e.freeNetworkID(r.ID); err != nil {
		return nil, err
	}
	if c.NoIPv4 && !r.IPv6 && !c.Subnet6.IsValid() {
		return nil, api.Errorf(api.BadRequest, "IPv4 or IPv6 must be enabled").WithHint("add --ipv6")
	}
	if !c.Subnet.IsValid() && !c.NoIPv4 {
		var err error
		if c.Subnet, err = e.freeSubnet(); err != nil {
			return nil, err
		}
	}
	if r.IPv6 && !c.Subnet6.IsValid() {
		c.Subnet6 = uniqueLocal()
	}
	c = c.WithDefaults()
	if err := configs.CheckNetwork(c); err != nil {
		return nil, api.Errorf(api.BadRequest, "network %s: %v", r.Name, err)
	}
	if err := e.checkEgress(c.Egress); err != nil {
		return nil, err
	}
	n, err := e.addNetwork(c, r.Origin)
	if err != nil {
		return nil, err
	}
	n.made = r
	n.id = cmp.Or(r.ID, n.id)
	if err := n.aux(r.Aux); err != nil {
		_ = e.removeNetwork(n)
		return nil, err
	}
	return n, nil
}

// aux keeps addresses for others, as --aux-address. The gateway of containers
// may be one of them (DefaultGatewayIPv4, DefaultGatewayIPv6).
func (n *network) aux(list map[string]string) error {
	for name, s := range list {
		a, err := netip.ParseAddr(s)
		pool := n.pool4
		if err == nil && a.Is6() {
			pool = n.pool6
		}
		if err != nil || pool == nil || !pool.Subnet().Contains(a) {
			return api.Errorf(api.BadRequest, "no matching subnet for aux-address %s", s)
		}
		special := name == "DefaultGatewayIPv4" || name == "DefaultGatewayIPv6"
		if special && n.cfg.Internal {
			return api.Errorf(api.BadRequest, "no gateway can be set on an internal bridge network")
		}
		if special && a.Is4() {
			n.router4 = a
		} else if special {
			n.router6 = a
		}
		if a == pool.Gateway() {
			continue
		}
		if err := pool.Reserve(a); err != nil && !special { // a router may be a container
			return api.Errorf(api.Conflict, "aux-address %s=%s: %v", name, s, err)
		} else if special && err == nil {
			pool.Release(a)
		}
	}
	return nil
}

// noMeaning are options that there is nothing for here; what they ask for makes
// no difference to anybody.
var noMeaning = []string{"com.docker.network.bridge.name", "com.docker.network.bridge.default_bridge", optMessages, optPeriod, optTrusted}

// options reads Docker's options. One of Docker's that is not known is an error:
// it may be a typing error in one that closes something.
func options(c *configs.Network, o map[string]string) error {
	known := slices.Concat(noMeaning, []string{optICC, optMTU, optMasquerade, optMode4, optMode6, optBinding, optPrefix}, furtherOptions)
	for k := range o {
		if strings.HasPrefix(k, "com.docker.") && !slices.Contains(known, k) {
			return api.Errorf(api.BadRequest, "option %s is not known", k).WithHint("there are %s", strings.Join(known[len(noMeaning):], ", "))
		}
	}
	for key, not := range map[string]*bool{optICC: &c.NoICC, optMasquerade: &c.NoMasquerade} {
		if v, is := o[key]; is {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return api.Errorf(api.BadRequest, "failed to parse %s value: %q is neither true nor false", key, v)
			}
			*not = !b
		}
	}
	for key, mode := range map[string]*string{optMode4: &c.Mode4, optMode6: &c.Mode6} {
		v, is := o[key]
		if _, known := modes[v]; is && v == "isolated" && !c.Internal {
			return api.Errorf(api.BadRequest, "gateway mode 'isolated' can only be used for an internal network").WithHint("add --internal")
		} else if is && (!known || v == "") {
			return api.Errorf(api.BadRequest, "failed to parse %s value: %q: write nat, routed, nat-unprotected or isolated", key, v)
		}
		*mode = v
	}
	if v, is := o[optBinding]; is {
		a, err := netip.ParseAddr(v)
		if err != nil {
			return api.Errorf(api.BadRequest, "failed to parse %s value: %q is no address", optBinding, v)
		}
		c.HostBinding = a
	}
	if c.IfPrefix = o[optPrefix]; c.IfPrefix != "" && !configs.InterfaceName(c.IfPrefix+"99") {
		return api.Errorf(api.BadRequest, "failed to parse %s value: %q begins no interface's name", optPrefix, c.IfPrefix)
	}
	if v, is := o[optMTU]; is {
		n, err := strconv.Atoi(v)
		if err != nil {
			return api.Errorf(api.BadRequest, "failed to parse %s value: %q is no number", optMTU, v)
		}
		c.MTU = n
	}
	return nil
}

// subnets reads the subnets and gateways asked for: one of each family, as with
// Docker's bridges; a gateway belongs to the subnet that holds it.
func subnets(c *configs.Network, r api.NetworkCreate) error {
	for _, s := range r.Subnets {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			return api.Errorf(api.BadRequest, "invalid subnet %s", s).WithHint("write it like 10.1.1.0/24")
		case p != p.Masked():
			return api.Errorf(api.BadRequest, "invalid subnet %s: it should be %s", s, p.Masked())
		case p.Addr().Is4() && c.Subnet.IsValid(), p.Addr().Is6() && c.Subnet6.IsValid():
			return api.Errorf(api.BadRequest, "bridge driver doesn't support multiple subnets")
		case p.Addr().Is4():
			c.Subnet = p
		default:
			c.Subnet6 = p
		}
	}
	for _, s := range r.Ranges {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			return api.Errorf(api.BadRequest, "invalid ip-range %s", s).WithHint("write it like 10.1.1.128/25")
		case c.Subnet.IsValid() && c.Subnet.Contains(p.Addr()):
			c.Range = p.Masked()
		case c.Subnet6.IsValid() && c.Subnet6.Contains(p.Addr()):
			c.Range6 = p.Masked()
		default:
			return api.Errorf(api.BadRequest, "no matching subnet for range %s", s)
		}
	}
	for _, s := range r.Gateways {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return api.Errorf(api.BadRequest, "invalid gateway %s", s).WithHint("write it like 10.1.1.254")
		case c.Subnet.IsValid() && c.Subnet.Contains(a):
			c.Gateway = a
		case c.Subnet6.IsValid() && c.Subnet6.Contains(a):
			c.Gateway6 = a
		default:
			return api.Errorf(api.BadRequest, "no matching subnet for gateway %s", s)
		}
	}
	return nil
}

// pools are Docker's local default address pools, in their order.
var pools = []struct {
	base netip.Prefix
	bits int
}{
	{netip.MustParsePrefix("172.17.0.0/16"), 16}, {netip.MustParsePrefix("172.18.0.0/16"), 16}, {netip.MustParsePrefix("172.19.0.0/16"), 16},
	{netip.MustParsePrefix("172.20.0.0/14"), 16}, {netip.MustParsePrefix("172.24.0.0/14"), 16}, {netip.MustParsePrefix("172.28.0.0/14"), 16},
	{netip.MustParsePrefix("192.168.0.0/16"), 20},
}

// freeSubnet is the first of the default pools' subnets that overlaps no
// network of ours, no address range of the host's interfaces and no resolver:
// containers could not reach what they hide. The lock is held.
func (e *Engine) freeSubnet() (netip.Prefix, error) {
	var taken []netip.Prefix
	for _, n := range e.networks {
		taken = append(taken, n.cfg.Subnet)
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
				taken = append(taken, p.Masked())
			}
		}
	}
	for _, u := range e.resolvers() {
		taken = append(taken, netip.PrefixFrom(u.Addr(), u.Addr().BitLen()))
	}
	for _, pool := range pools {
		for a := pool.base.Addr(); pool.base.Contains(a); a = next(a, pool.bits) {
			p := netip.PrefixFrom(a, pool.bits)
			if !slices.ContainsFunc(taken, p.Overlaps) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, api.Errorf(api.Conflict, "all predefined address pools have been fully subnetted").WithHint("name one: --subnet 10.1.1.0/24")
}

// next is the address one subnet of bits further; of the IPv4 addresses behind
// the last it is the zero Addr.
func next(a netip.Addr, bits int) netip.Addr {
	b := a.As4()
	n := uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	if n += 1 << (32 - bits); n > 0xffffffff {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// uniqueLocal is a random /64 (RFC 4193, 3.2.2).
func uniqueLocal() netip.Prefix {
	var b [16]byte
	b[0] = 0xfd
	rand.Read(b[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// DeleteNetwork takes a network away that nobody uses. One of the file goes by
// the file.
func (e *Engine) DeleteNetwork(name string) error {
	e.mu.Lock()
	n, err := e.findNetwork(name)
	if err == nil && n.origin == "file" {
		err = api.Errorf(api.Conflict, "network %s stands in the configuration", n.cfg.Name).WithHint("take it out of the file, then: tapswitch reload")
	}
	if err == nil {
		err = e.removeNetwork(n)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.publishNames()
	e.save()
	return nil
}

// PruneNetworks removes the networks made by command or API that nobody uses.
// Those of an engine with ids of its own are that engine's to remove.
func (e *Engine) PruneNetworks() *api.Pruned {
	out := &api.Pruned{Networks: []string{}}
	e.mu.Lock()
	for _, n := range e.sortedNetworks() {
		if n.origin != "file" && n.made.ID == "" && len(e.usersOf(n)) == 0 && e.removeNetwork(n) == nil {
			out.Networks = append(out.Networks, n.cfg.Name)
		}
	}
	e.mu.Unlock()
	e.publishNames()
	e.save()
	return out
}

// findNetwork finds a network by name, id or the start of an id. The lock is
// held.
func (e *Engine) findNetwork(name string) (*network, error) {
	if n := e.networks[name]; n != nil {
		return n, nil
	}
	var found *network
	for _, n := range e.networks {
		if len(name) >= 3 && strings.HasPrefix(n.id, name) {
			if found != nil {
				return nil, api.Errorf(api.BadRequest, "%s names several networks", name)
			}
			found = n
		}
	}
	if found == nil {
		return nil, api.Errorf(api.NotFound, "network %s not found", name).WithHint("tapswitch network ls lists them")
	}
	return found, nil
}
