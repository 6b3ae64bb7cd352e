package netavark

import (
	"fmt"
	"net/netip"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/switch/ns"
)

// keyPrefix begins the keys of what came by netavark; podman's id follows.
const keyPrefix = "netavark:"

// setup puts a container on a network: path is its network namespace. Rootless,
// we are in podman's user and mount namespaces already, where that path is bound.
func setup(path string, text []byte) (any, error) {
	x, err := readExec(text)
	if err != nil {
		return nil, err
	}
	r, err := x.request(path)
	if err != nil {
		return nil, err
	}
	want, err := x.Network.onSwitch()
	if err != nil {
		return nil, err
	}
	c, err := x.Network.client()
	if err != nil {
		return nil, err
	}
	if _, err := ensure(c, want); err != nil {
		return nil, err
	}
	h, err := ns.OfPath(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	added, err := joiner.Add(c, h, r)
	if err != nil {
		return nil, err
	}
	return statusOf(added), nil
}

// request is what a container asks the switch for.
func (x *exec) request(path string) (api.Reserve, error) {
	att := api.Attachment{Network: x.Network.Name, IfName: x.Options.InterfaceName, MAC: x.Options.StaticMAC, Aliases: x.Options.Aliases}
	if s := x.Network.Options[optNetwork]; s != "" {
		att.Network = s
	}
	r := api.Reserve{Key: keyPrefix + x.ContainerID, Name: x.ContainerName, Origin: "netavark", Lifetime: joiner.ByDevice, Netns: path}
	if r.Name == "" {
		r.Name = x.ContainerID[:min(len(x.ContainerID), 12)]
	}
	for _, s := range x.Options.StaticIPs {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return r, fmt.Errorf("static_ips: %q is no address", s)
		}
		to := &att.IP
		if ip.Is6() {
			to = &att.IP6
		}
		if *to != "" {
			return r, fmt.Errorf("static_ips %s and %s: one of a family", *to, s)
		}
		*to = ip.String()
	}
	r.Networks = []api.Attachment{att}
	ours, err := x.Network.publishes()
	if err != nil || !ours {
		return r, err
	}
	for _, p := range x.PortMappings {
		last := max(int(p.Range), 1) - 1
		if int(p.HostPort)+last > 65535 || int(p.ContainerPort)+last > 65535 || p.ContainerPort == 0 {
			return r, fmt.Errorf("port mapping %d to %d, %d ports: ports are 1 to 65535", p.HostPort, p.ContainerPort, last+1)
		}
		for i := range uint16(last + 1) {
			for _, proto := range strings.Split(p.Protocol, ",") {
				if proto == "" {
					proto = "tcp"
				}
				r.Publish = append(r.Publish, joiner.Port(p.HostIP, p.HostPort+i, p.ContainerPort+i, proto))
			}
		}
	}
	return r, nil
}

func statusOf(a *joiner.Added) *status {
	i := iface{MAC: a.Endpoint.MAC, Subnets: []address{}}
	for _, s := range a.Addrs {
		gw := a.Endpoint.Gateway
		if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is6() {
			gw = a.Endpoint.Gateway6
		}
		i.Subnets = append(i.Subnets, address{Gateway: gw, IPNet: s})
	}
	dns := a.DNS
	if dns == nil {
		dns = []string{}
	}
	return &status{DNSServers: dns, DNSSearch: []string{}, Interfaces: map[string]iface{a.Endpoint.IfName: i}}
}

// teardown takes a container off a network. Its namespace may be gone, and so may
// the switch.
func teardown(text []byte) error {
	x, err := readExec(text)
	if err != nil {
		return err
	}
	c, err := x.Network.client()
	if err != nil {
		return err
	}
	return joiner.Remove(c, keyPrefix+x.ContainerID, x.Options.InterfaceName)
}
