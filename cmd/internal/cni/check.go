package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/switch/ns"
)

// check says whether a container is still as ADD left it: on the switch with the
// addresses of that result, and with the interface in its namespace.
func check(a *skel.CmdArgs) error {
	cf, err := readConf(a.StdinData)
	if err != nil {
		return err
	}
	if err := version.ParsePrevResult(&cf.PluginConf); err != nil {
		return types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	if cf.PrevResult == nil {
		return invalid("CHECK needs prevResult")
	}
	prev, err := current.NewResultFromResult(cf.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	if cf.IPAM.Type != "" {
		if err := invoke.DelegateCheck(context.Background(), cf.IPAM.Type, cf.raw, nil); err != nil {
			return explain(err)
		}
	}
	c, err := cf.client()
	if err != nil {
		return err
	}
	x, e, err := joiner.Find(c, keyPrefix+a.ContainerID, a.IfName)
	if err != nil {
		return explain(err)
	}
	if e == nil || e.Network != cf.Network {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("container %s is not on network %s of the switch by %s", a.ContainerID, cf.Network, a.IfName), "")
	}
	if err := same(prev, a.IfName, e); err != nil {
		return types.NewError(errRefused, fmt.Sprintf("container %s: %v", x.Name, err), "")
	}
	h, err := ns.OfPath(a.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: "+err.Error(), "")
	}
	defer h.Close()
	in, err := h.Enter()
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "CNI_NETNS: "+err.Error(), "")
	}
	defer in.Close()
	if !in.Has(a.IfName) {
		return types.NewError(errRefused, fmt.Sprintf("container %s has no interface %s", x.Name, a.IfName), "")
	}
	return nil
}

// same compares what the result of ADD says of an interface with what it has.
func same(prev *current.Result, ifname string, e *api.Endpoint) error {
	at := -1
	for i, x := range prev.Interfaces {
		if x.Name == ifname {
			at = i
			if x.Mac != "" && x.Mac != e.MAC {
				return fmt.Errorf("%s had the MAC address %s and has %s", ifname, x.Mac, e.MAC)
			}
		}
	}
	if at < 0 {
		return fmt.Errorf("prevResult has no interface %s", ifname)
	}
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface != at {
			continue
		}
		if had := ip.Address.IP.String(); had != e.IP && had != e.IP6 {
			return fmt.Errorf("%s had the address %s and has %s %s", ifname, had, e.IP, e.IP6)
		}
	}
	return nil
}

// status says whether ADD would do: the switch runs, and has the network or would
// make it.
func status(a *skel.CmdArgs) error {
	cf, err := readConf(a.StdinData)
	if err != nil {
		return err
	}
	if cf.IPAM.Type != "" {
		if err := invoke.DelegateStatus(context.Background(), cf.IPAM.Type, cf.raw, nil); err != nil {
			return explain(err)
		}
	}
	c, err := cf.client()
	if err != nil {
		return err
	}
	var n api.Network
	err = c.Do("GET", "/networks/"+client.Escape(cf.Network), nil, &n)
	var e *api.Error
	switch {
	case err == nil, errors.As(err, &e) && e.Code == api.NotFound && len(cf.Subnets) > 0:
		return nil
	case errors.As(err, &e):
		return types.NewError(errNotAvailable, e.Message, e.Hint)
	}
	return types.NewError(errNotAvailable, err.Error(), "")
}
