package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/cmd/internal/place"
)

// conf is the plugin's part of a network configuration.
type conf struct {
	types.PluginConf

	Socket   string   `json:"socket"`   // of the switch; default as for commands
	Network  string   `json:"network"`  // on the switch; default: the configuration's name
	Subnets  []string `json:"subnets"`  // with them a network that is not there is made
	Gateways []string `json:"gateways"` // of it
	Internal bool     `json:"internal"` // it has no way out
	Publish  *bool    `json:"publish"`  // bind the host's ports; default: yes as root
	Egress   string   `json:"egress"`
	Spoof    bool     `json:"spoof"`

	// What the caller knows of this container, by capabilities that the
	// configuration declares.
	RuntimeConfig struct {
		PortMappings []portMapping       `json:"portMappings"`
		IPs          []string            `json:"ips"`
		MAC          string              `json:"mac"`
		Aliases      map[string][]string `json:"aliases"` // by the configuration's name
		DNS          struct {
			Servers  []string `json:"servers"`
			Searches []string `json:"searches"`
			Options  []string `json:"options"`
		} `json:"dns"`
		Bandwidth *struct {
			IngressRate uint64 `json:"ingressRate"` // bits per second; bursts are ours
			EgressRate  uint64 `json:"egressRate"`
		} `json:"bandwidth"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
			MAC string   `json:"mac"`
		} `json:"cni"`
	} `json:"args"`

	raw []byte // for a delegated IPAM
}

type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

func readConf(stdin []byte) (*conf, error) {
	c := &conf{raw: stdin}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "network configuration: "+err.Error(), "")
	}
	if c.Network == "" {
		c.Network = c.Name
	}
	return c, nil
}

// onSwitch is the network as the switch would make it.
func (c *conf) onSwitch() api.NetworkCreate {
	return api.NetworkCreate{Name: c.Network, Subnets: c.Subnets, Gateways: c.Gateways, Internal: c.Internal, Origin: "cni"}
}

func (c *conf) client() (*client.Client, error) {
	s, err := place.Socket(c.Socket)
	if err != nil {
		return nil, err
	}
	return &client.Client{Socket: s}, nil
}

// keyPrefix begins the keys of what came by CNI; the caller's id follows.
const keyPrefix = "cni:"

// request is what ADD asks the switch for.
func (c *conf) request(a *skel.CmdArgs) (api.Reserve, error) {
	words := readArgs(a.Args)
	att := api.Attachment{Network: c.Network, IfName: a.IfName, MAC: first(c.RuntimeConfig.MAC, c.Args.CNI.MAC, words["MAC"]), Aliases: c.RuntimeConfig.Aliases[c.Name]}
	ips := c.RuntimeConfig.IPs
	if len(ips) == 0 {
		ips = c.Args.CNI.IPs
	}
	if len(ips) == 0 && words["IP"] != "" {
		ips = strings.Split(words["IP"], ",")
	}
	if err := setIPs(&att, ips); err != nil {
		return api.Reserve{}, err
	}
	r := api.Reserve{Key: keyPrefix + a.ContainerID, Origin: "cni", Lifetime: joiner.ByDevice, Netns: a.Netns, Networks: []api.Attachment{att}, Egress: c.Egress, Spoof: c.Spoof,
		Name: first(words["K8S_POD_NAME"], a.ContainerID[:min(len(a.ContainerID), 12)])}
	if ns := words["K8S_POD_NAMESPACE"]; ns != "" && words["K8S_POD_NAME"] != "" && ns != words["K8S_POD_NAME"] {
		r.Name += "." + ns // pods have their names within a namespace
	}
	if b := c.RuntimeConfig.Bandwidth; b != nil {
		r.Shape.RateIn, r.Shape.RateOut = rate(b.IngressRate), rate(b.EgressRate)
	}
	if c.publishes() {
		for _, p := range c.RuntimeConfig.PortMappings {
			if p.HostPort == 0 {
				continue // declared, not published
			}
			if p.HostPort < 0 || p.HostPort > 65535 || p.ContainerPort < 1 || p.ContainerPort > 65535 {
				return r, invalid("port mapping %d to %d: ports are 1 to 65535", p.HostPort, p.ContainerPort)
			}
			r.Publish = append(r.Publish, joiner.Port(p.HostIP, uint16(p.HostPort), uint16(p.ContainerPort), first(p.Protocol, "tcp")))
		}
	}
	return r, nil
}

// publishes says whether the host's ports are ours to bind. Rootless callers bind
// them themselves (rootlessport, RootlessKit), and would find them taken.
func (c *conf) publishes() bool {
	if c.Publish != nil {
		return *c.Publish
	}
	return !place.Rootless()
}

// setIPs enters addresses, with or without a prefix length, at most one of each
// family.
func setIPs(a *api.Attachment, ips []string) error {
	for _, s := range ips {
		addr, _, _ := strings.Cut(strings.TrimSpace(s), "/")
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			return invalid("ip %q is no address", s)
		}
		to := &a.IP
		if ip.Is6() {
			to = &a.IP6
		}
		if *to != "" {
			return invalid("ips %s and %s: one of a family", *to, addr)
		}
		*to = ip.String()
	}
	return nil
}

// readArgs reads CNI_ARGS: K=V;K=V.
func readArgs(s string) map[string]string {
	out := make(map[string]string)
	for _, kv := range strings.Split(s, ";") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			out[k] = v
		}
	}
	return out
}

func rate(bits uint64) string {
	if bits == 0 {
		return ""
	}
	return fmt.Sprintf("%dbit", bits)
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
