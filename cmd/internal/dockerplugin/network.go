package dockerplugin

import (
	"net/netip"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// ownerLabel is on the networks of a plugin, with its socket: two of them may
// use one switch, and each cares for its own.
const ownerLabel = "tapswitch.docker-plugin"

// origin is what the switch shows as the origin of what Docker made.
const origin = "docker"

// createNetwork is CreateNetwork: pools and gateways are Docker's choice.
func (p *Plugin) createNetwork(r *request) (any, error) {
	n, err := r.network()
	if err != nil {
		return nil, err
	}
	n.Labels = map[string]string{ownerLabel: p.opt.Owner}
	if err := p.client.Do("POST", "/networks", n, nil); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.networks[n.ID] = n
	p.mu.Unlock()
	return nil, nil
}

// deleteNetwork is DeleteNetwork.
func (p *Plugin) deleteNetwork(r *request) (any, error) {
	if err := ignoreMissing(p.client.Do("DELETE", "/networks/"+client.Escape(r.NetworkID), nil, nil)); err != nil {
		return nil, err
	}
	p.mu.Lock()
	delete(p.networks, r.NetworkID)
	p.mu.Unlock()
	return nil, nil
}

// network is what to ask the switch for. Docker does not tell drivers a
// network's name: it is called as Docker's bridge driver calls its bridges.
func (r *request) network() (n api.NetworkCreate, err error) {
	if len(r.NetworkID) < 12 {
		return n, api.Errorf(api.BadRequest, "network id %q is none", r.NetworkID)
	}
	n = api.NetworkCreate{ID: r.NetworkID, Name: "br-" + r.NetworkID[:12], Origin: origin, Options: r.generic(), Aux: make(map[string]string)}
	if name := n.Options[optName]; name != "" {
		n.Name = name
	}
	for k, v := range n.Options {
		switch {
		case k == ourEgress:
			n.Egress = v
			delete(n.Options, k)
		case strings.HasPrefix(k, "tapswitch."):
			return n, api.Errorf(api.BadRequest, "option %s is not known", k).WithHint("there is %s", ourEgress)
		}
	}
	if n.Internal, err = r.flag(optInternal, false); err != nil {
		return n, err
	}
	v4, err := r.flag(optIPv4, true)
	if err == nil && !v4 {
		err = api.Errorf(api.Failed, "a network without IPv4: not yet")
	}
	if err != nil {
		return n, err
	}
	if n.IPv6, err = r.flag(optIPv6, false); err != nil {
		return n, err
	}
	for _, p := range append(r.IPv4Data[:len(r.IPv4Data):len(r.IPv4Data)], r.IPv6Data...) {
		if err := p.into(&n); err != nil {
			return n, err
		}
	}
	if len(n.Subnets) == 0 {
		return n, api.Errorf(api.BadRequest, "no subnet: addresses are left to Docker's own IPAM driver").WithHint("leave --ipam-driver out")
	}
	return n, nil
}

func (p *pool) into(n *api.NetworkCreate) error {
	subnet, err := netip.ParsePrefix(p.Pool)
	if err != nil || subnet.Bits() == 0 { // the null driver's
		return api.Errorf(api.BadRequest, "subnet %q: addresses are left to Docker's own IPAM driver", p.Pool).WithHint("leave --ipam-driver out")
	}
	n.Subnets = append(n.Subnets, subnet.Masked().String())
	gateway, err := bare(p.Gateway)
	if err != nil {
		return err
	}
	if gateway != "" {
		n.Gateways = append(n.Gateways, gateway)
	}
	for name, cidr := range p.AuxAddresses {
		if n.Aux[name], err = bare(cidr); err != nil {
			return err
		}
	}
	return nil
}

// gatewayCheck is GwAllocCheck: for which families Docker needs no gateway's
// address.
func (p *Plugin) gatewayCheck(r *request) (any, error) {
	o := r.generic()
	return map[string]bool{"SkipIPv4": o[optMode4] == "isolated", "SkipIPv6": o[optMode6] == "isolated"}, nil
}
