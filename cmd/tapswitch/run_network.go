package main

import (
	"fmt"

	"github.com/spf13/pflag"
	"tapswitch/cmd/internal/api"
)

// firstNetwork is what docker's run has as flags of its own, about the first
// network.
type firstNetwork struct {
	ip, ip6, mac string
	aliases      []string
}

func (n *firstNetwork) flags(fl *pflag.FlagSet) {
	fl.StringVar(&n.ip, "ip", "", "IPv4 `address` on the first network")
	fl.StringVar(&n.ip6, "ip6", "", "IPv6 `address` on the first network")
	fl.StringVar(&n.mac, "mac-address", "", "`MAC` of the first interface")
	fl.StringArrayVar(&n.aliases, "network-alias", nil, "further DNS `name` on the first network")
}

// apply puts them where they belong; what stands at the network, too, must be
// the same.
func (n *firstNetwork) apply(req *api.Create) error {
	if n.ip == "" && n.ip6 == "" && n.mac == "" && len(n.aliases) == 0 {
		return nil
	}
	if len(req.Networks) == 0 {
		req.Networks = []api.Attachment{{}}
	}
	a := &req.Networks[0]
	for _, x := range []struct {
		flag, value string
		to          *string
	}{{"--ip", n.ip, &a.IP}, {"--ip6", n.ip6, &a.IP6}, {"--mac-address", n.mac, &a.MAC}} {
		if x.value != "" && *x.to != "" && *x.to != x.value {
			return usageError{fmt.Errorf("%s %s: --network %s says %s", x.flag, x.value, a.Network, *x.to)}
		}
		if x.value != "" {
			*x.to = x.value
		}
	}
	a.Aliases = append(a.Aliases, n.aliases...)
	return nil
}
