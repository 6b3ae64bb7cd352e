package netavark

import (
	"encoding/json"
	"fmt"
)

type info struct {
	Version    string `json:"version"`
	APIVersion string `json:"api_version"`
}

// network is a network of podman's. All that came goes back from create, also
// what we do not know: rest.
type network struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Driver   string            `json:"driver"`
	Subnets  []subnet          `json:"subnets"`
	IPv6     bool              `json:"ipv6_enabled"`
	Internal bool              `json:"internal"`
	Options  map[string]string `json:"options"`

	rest map[string]json.RawMessage
}

type subnet struct {
	Subnet  string          `json:"subnet"`
	Gateway string          `json:"gateway,omitempty"`
	Lease   json.RawMessage `json:"lease_range,omitempty"`
}

func (n *network) UnmarshalJSON(b []byte) error {
	type plain network
	if err := json.Unmarshal(b, (*plain)(n)); err != nil {
		return err
	}
	return json.Unmarshal(b, &n.rest)
}

func (n *network) MarshalJSON() ([]byte, error) {
	out := make(map[string]any, len(n.rest)+1)
	for k, v := range n.rest {
		out[k] = v
	}
	if len(n.Subnets) > 0 {
		out["subnets"] = n.Subnets
	}
	return json.Marshal(out)
}

// exec is a container on one network, as setup and teardown get it.
type exec struct {
	ContainerID   string        `json:"container_id"`
	ContainerName string        `json:"container_name"`
	PortMappings  []portMapping `json:"port_mappings"`
	Network       network       `json:"network"`
	Options       struct {
		Aliases       []string `json:"aliases"`
		InterfaceName string   `json:"interface_name"`
		StaticIPs     []string `json:"static_ips"`
		StaticMAC     string   `json:"static_mac"`
	} `json:"network_options"`
}

// portMapping publishes range ports from host_port on.
type portMapping struct {
	ContainerPort uint16 `json:"container_port"`
	HostIP        string `json:"host_ip"`
	HostPort      uint16 `json:"host_port"`
	Protocol      string `json:"protocol"` // or several, between commas
	Range         uint16 `json:"range"`
}

func readExec(text []byte) (*exec, error) {
	var x exec
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("the container's description: %w", err)
	}
	switch {
	case x.ContainerID == "":
		return nil, fmt.Errorf("the container's description has no container_id")
	case x.Network.Name == "":
		return nil, fmt.Errorf("the container's description has no network")
	case x.Options.InterfaceName == "":
		return nil, fmt.Errorf("the container's description has no interface_name")
	}
	return &x, nil
}

// status is the answer to setup.
type status struct {
	DNSServers []string         `json:"dns_server_ips"`
	DNSSearch  []string         `json:"dns_search_domains"`
	Interfaces map[string]iface `json:"interfaces"`
}

type iface struct {
	MAC     string    `json:"mac_address"`
	Subnets []address `json:"subnets"`
}

type address struct {
	Gateway string `json:"gateway,omitempty"`
	IPNet   string `json:"ipnet"` // the container's address, with the subnet's length
}
