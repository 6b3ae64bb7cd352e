package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
)

// del takes a container off a network. It may be called again, and when
// container, namespace, network or switch are gone.
func del(a *skel.CmdArgs) error {
	cf, err := readConf(a.StdinData)
	if err != nil {
		return err
	}
	if cf.IPAM.Type != "" {
		if err := invoke.DelegateDel(context.Background(), cf.IPAM.Type, cf.raw, nil); err != nil {
			return explain(err)
		}
	}
	c, err := cf.client()
	if err != nil {
		return err
	}
	return explain(joiner.Remove(c, keyPrefix+a.ContainerID, a.IfName))
}

// gc takes off what came by this configuration and is not among the attachments
// that the caller knows of.
func gc(a *skel.CmdArgs) error {
	cf, err := readConf(a.StdinData)
	if err != nil {
		return err
	}
	if cf.IPAM.Type != "" {
		if err := invoke.DelegateGC(context.Background(), cf.IPAM.Type, cf.raw, nil); err != nil {
			return explain(err)
		}
	}
	c, err := cf.client()
	if err != nil {
		return err
	}
	type attachment struct{ key, ifname string }
	valid := make(map[attachment]bool)
	for _, v := range cf.ValidAttachments {
		valid[attachment{keyPrefix + v.ContainerID, v.IfName}] = true
	}
	err = joiner.Keep(c, keyPrefix, cf.Network, func(key, ifname string) bool { return valid[attachment{key, ifname}] })
	var off *client.NotRunning
	if errors.As(err, &off) {
		return nil // then nothing is on it
	}
	return explain(err)
}
