package cni

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/switch/ns"
)

// add puts a container on a network and prints the result.
func add(a *skel.CmdArgs) error {
	cf, err := readConf(a.StdinData)
	if err != nil {
		return err
	}
	h, err := open(a)
	if err != nil {
		return err
	}
	defer h.Close()
	c, err := cf.client()
	if err != nil {
		return err
	}
	n, err := joiner.Network(c, cf.onSwitch())
	if err != nil {
		return explain(err)
	}
	r, err := cf.request(a)
	if err != nil {
		return explain(err)
	}
	if cf.IPAM.Type == "" {
		res, err := enter(c, cf, h, r, nil)
		if err != nil {
			return explain(err)
		}
		return types.PrintResult(res, cf.CNIVersion)
	}
	given, err := delegate(cf, n, &r)
	if err == nil {
		var res *current.Result
		if res, err = enter(c, cf, h, r, given); err == nil {
			if err = types.PrintResult(res, cf.CNIVersion); err == nil {
				return nil
			}
			err = errors.Join(err, joiner.Remove(c, r.Key, a.IfName))
		}
	}
	// Best effort: the error that is told is why.
	_ = invoke.DelegateDel(context.Background(), cf.IPAM.Type, cf.raw, nil)
	return explain(err)
}

// open opens the namespace, which must be another than ours and have no such
// interface.
func open(a *skel.CmdArgs) (*ns.Handle, error) {
	bad := func(err error) error { return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: "+err.Error(), "") }
	h, err := ns.OfPath(a.Netns)
	if err != nil {
		return nil, bad(err)
	}
	if own, err := os.Stat("/proc/self/ns/net"); err == nil {
		if theirs, err := os.Stat(a.Netns); err == nil && os.SameFile(own, theirs) {
			h.Close()
			return nil, bad(errors.New("the network namespace is the caller's own"))
		}
	}
	in, err := h.Enter()
	if err != nil {
		h.Close()
		return nil, bad(err)
	}
	defer in.Close()
	if in.Has(a.IfName) {
		h.Close()
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_IFNAME: the container has an interface "+a.IfName+" already", "")
	}
	return h, nil
}

// delegate asks the IPAM plugin that the configuration names for addresses; they
// must be of the switch's network.
func delegate(cf *conf, n *api.Network, r *api.Reserve) (*current.Result, error) {
	raw, err := invoke.DelegateAdd(context.Background(), cf.IPAM.Type, cf.raw, nil)
	if err != nil {
		return nil, err
	}
	res, err := current.NewResultFromResult(raw)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "IPAM "+cf.IPAM.Type+": "+err.Error(), "")
	}
	if len(res.IPs) == 0 {
		return nil, invalid("IPAM %s gave no address", cf.IPAM.Type)
	}
	var ips []string
	for _, ip := range res.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		addr = addr.Unmap()
		if !ok || !holds(n, addr) {
			return nil, invalid("IPAM %s gave %s, which is in no subnet of network %s", cf.IPAM.Type, ip.Address.IP, n.Name)
		}
		ips = append(ips, addr.String())
	}
	r.Networks[0].IP, r.Networks[0].IP6 = "", ""
	return res, setIPs(&r.Networks[0], ips)
}

func holds(n *api.Network, a netip.Addr) bool {
	for _, s := range n.Subnets {
		if s.Subnet.Contains(a) {
			return true
		}
	}
	return false
}

// enter joins, and writes down what came of it.
func enter(c *client.Client, cf *conf, h *ns.Handle, r api.Reserve, given *current.Result) (*current.Result, error) {
	added, err := joiner.Add(c, h, r)
	if err != nil {
		return nil, err
	}
	e := added.Endpoint
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: e.IfName, Mac: e.MAC, Mtu: added.MTU, Sandbox: r.Netns}}, IPs: []*current.IPConfig{}, Routes: []*types.Route{}}
	for _, s := range added.Addrs {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			return nil, err
		}
		gw := net.ParseIP(e.Gateway)
		all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if ip.To4() == nil {
			gw, all = net.ParseIP(e.Gateway6), &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		res.IPs = append(res.IPs, &current.IPConfig{Interface: current.Int(0), Address: net.IPNet{IP: ip, Mask: n.Mask}, Gateway: gw})
		if gw != nil && added.Container.Mode == e.Network && !cf.Internal { // it has the default route
			res.Routes = append(res.Routes, &types.Route{Dst: *all, GW: gw})
		}
	}
	res.DNS = types.DNS{Nameservers: added.DNS, Domain: cf.DNS.Domain, Search: cf.DNS.Search, Options: cf.DNS.Options}
	if given != nil && len(given.DNS.Nameservers) > 0 {
		res.DNS.Nameservers = given.DNS.Nameservers
	}
	want := cf.RuntimeConfig.DNS
	for _, servers := range [][]string{cf.DNS.Nameservers, want.Servers} {
		if len(servers) > 0 {
			res.DNS.Nameservers = servers
		}
	}
	if len(want.Searches) > 0 {
		res.DNS.Search = want.Searches
	}
	if len(want.Options) > 0 {
		res.DNS.Options = want.Options
	}
	return res, nil
}
