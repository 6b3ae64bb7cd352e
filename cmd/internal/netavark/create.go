package netavark

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/cmd/internal/place"
)

// Options of a network, with -o: the socket of the switch, the network's name
// there if it is another, whether host ports are ours to bind (default: as root),
// and what tapswitch network create takes with -o.
const (
	optSocket  = "socket"
	optNetwork = "network"
	optPublish = "publish"
	optMTU     = "mtu"
)

// create answers with the network as it will be: the switch makes it, and has
// chosen a subnet where podman names none.
func create(text []byte) (any, error) {
	var n network
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("the network's description: %w", err)
	}
	if n.Name == "" {
		return nil, fmt.Errorf("the network's description has no name")
	}
	want, err := n.onSwitch()
	if err != nil {
		return nil, err
	}
	if _, err := n.publishes(); err != nil {
		return nil, err
	}
	c, err := n.client()
	if err != nil {
		return nil, err
	}
	have, err := ensure(c, want)
	if err != nil {
		return nil, err
	}
	if len(n.Subnets) == 0 {
		for _, s := range have.Subnets {
			n.Subnets = append(n.Subnets, subnet{Subnet: s.Subnet.String(), Gateway: gateway(s)})
		}
	}
	for i := range n.Subnets {
		for _, s := range have.Subnets {
			if n.Subnets[i].Gateway == "" && n.Subnets[i].Subnet == s.Subnet.String() {
				n.Subnets[i].Gateway = gateway(s)
			}
		}
	}
	return &n, nil
}

func gateway(s api.Subnet) string {
	if !s.Gateway.IsValid() {
		return ""
	}
	return s.Gateway.String()
}

// onSwitch is the network as the switch would make it.
func (n *network) onSwitch() (api.NetworkCreate, error) {
	out := api.NetworkCreate{Name: n.Name, Internal: n.Internal, IPv6: n.IPv6, Origin: "netavark"}
	if s := n.Options[optNetwork]; s != "" {
		out.Name = s
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, s.Subnet)
		if s.Gateway != "" {
			out.Gateways = append(out.Gateways, s.Gateway)
		}
		if len(s.Lease) > 0 && string(s.Lease) != "null" {
			return out, fmt.Errorf("network %s: --ip-range is not for this driver: make the network with tapswitch network create --ip-range, and name it with -o network=NAME", n.Name)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(n.Options)) {
		v := n.Options[k]
		switch {
		case k == optSocket, k == optNetwork, k == optPublish:
		case k == optMTU:
			set(&out, "com.docker.network.driver.mtu", v)
		case strings.HasPrefix(k, "com.docker.network."):
			set(&out, k, v)
		default:
			return out, fmt.Errorf("network %s: unknown option %s: %s, %s, %s, %s, or one that begins with com.docker.network", n.Name, k, optSocket, optNetwork, optPublish, optMTU)
		}
	}
	return out, nil
}

func set(n *api.NetworkCreate, k, v string) {
	if n.Options == nil {
		n.Options = make(map[string]string)
	}
	n.Options[k] = v
}

// publishes says whether the host's ports are ours to bind: rootless podman has
// rootlessport or pasta do it, which would find them taken.
func (n *network) publishes() (bool, error) {
	v := n.Options[optPublish]
	if v == "" {
		return !place.Rootless(), nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("network %s: option %s=%s: true or false", n.Name, optPublish, v)
	}
	return b, nil
}

func (n *network) client() (*client.Client, error) {
	s, err := place.Socket(n.Options[optSocket])
	if err != nil {
		return nil, err
	}
	return &client.Client{Socket: s}, nil
}

// ensure makes the network on the switch if it is not there; podman tells nobody
// when it removes one, so it may be there from another time.
func ensure(c *client.Client, want api.NetworkCreate) (*api.Network, error) {
	if len(want.Subnets) > 0 {
		return joiner.Network(c, want)
	}
	var have api.Network
	if err := c.Do("GET", "/networks/"+client.Escape(want.Name), nil, &have); err == nil {
		return &have, nil
	}
	err := c.Do("POST", "/networks", want, &have)
	return &have, err
}
