package dockerplugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/forward"
)

// Docker's options, as keys of a request (libnetwork/netlabel/labels.go).
const (
	optGeneric  = "com.docker.network.generic" // what -o says
	optIPv4     = "com.docker.network.enable_ipv4"
	optIPv6     = "com.docker.network.enable_ipv6"
	optInternal = "com.docker.network.internal"
	optPorts    = "com.docker.network.portmap"
	optExposed  = "com.docker.network.endpoint.exposedports"
	optName     = "com.docker.network.bridge.name"
	optMode4    = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6    = "com.docker.network.bridge.gateway_mode_ipv6"
)

// Options of our own: of a network -o, of an endpoint --network
// name=NET,driver-opt=OPTION=VALUE.
const (
	ourEgress = "tapswitch.egress" // network, endpoint
	ourName   = "tapswitch.name"   // endpoint: what the switch calls it
	ourLink   = "tapswitch.link"   // endpoint: NAME,...: whose exposed ports it may use where icc is off
)

// request holds the keys of all requests; each has some of them.
type request struct {
	NetworkID  string
	EndpointID string
	SandboxKey string
	Options    map[string]any
	IPv4Data   []pool
	IPv6Data   []pool
	Interface  *ifData

	caller int // process id of dockerd's, 0 if we do not see it
}

// pool is what Docker's address management has chosen for a network.
type pool struct {
	Pool         string // with prefix length, as the other addresses here
	Gateway      string
	AuxAddresses map[string]string
}

// ifData are the addresses of an endpoint.
type ifData struct {
	Address     string `json:",omitempty"` // with prefix length
	AddressIPv6 string `json:",omitempty"`
	MacAddress  string `json:",omitempty"`
}

// joined tells Docker what to move into the container.
type joined struct {
	InterfaceName ifName
	Gateway       string `json:",omitempty"`
	GatewayIPv6   string `json:",omitempty"`
	// Else Docker adds a kernel bridge of its own, docker_gwbridge, to a container
	// without a gateway.
	DisableGatewayService bool
}

type ifName struct{ SrcName, DstPrefix string }

// binding is a published port; one that is exposed has Proto and Port.
type binding struct {
	Proto       forward.Proto
	Port        uint16
	HostIP      string
	HostPort    uint16
	HostPortEnd uint16
}

// flag is an option that is true or false.
func (r *request) flag(key string, otherwise bool) (bool, error) {
	switch v := r.Options[key].(type) {
	case nil:
		return otherwise, nil
	case bool:
		return v, nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b, nil
		}
	}
	return false, api.Errorf(api.BadRequest, "failed to parse %s value: %v is neither true nor false", key, r.Options[key])
}

// text is an endpoint's option of ours.
func (r *request) text(key string) string {
	s, _ := r.Options[key].(string)
	return s
}

// generic are the options of -o.
func (r *request) generic() map[string]string {
	out := make(map[string]string)
	m, _ := r.Options[optGeneric].(map[string]any)
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// bindings are the ports that an option lists.
func (r *request) bindings(key string) (out []binding, err error) {
	if r.Options[key] == nil {
		return nil, nil
	}
	b, err := json.Marshal(r.Options[key])
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "failed to parse %s: %v", key, err)
	}
	return out, nil
}

// published are the ports to be published, in the grammar of docker run -p.
func (r *request) published() (specs []string, err error) {
	list, err := r.bindings(optPorts)
	if err != nil {
		return nil, err
	}
	for _, b := range list {
		s := forward.Spec{Proto: b.Proto, HostPort: b.HostPort, HostPortEnd: max(b.HostPort, b.HostPortEnd), ContainerPort: b.Port}
		if b.Port == 0 {
			return nil, api.Errorf(api.BadRequest, "failed to parse %s: a container port is missing", optPorts)
		}
		if b.Proto != forward.TCP && b.Proto != forward.UDP {
			return nil, api.Errorf(api.BadRequest, "port %d: protocol %d cannot be published: tcp and udp can", b.Port, uint8(b.Proto))
		}
		if b.HostIP != "" {
			if s.HostIP, err = netip.ParseAddr(b.HostIP); err != nil {
				return nil, api.Errorf(api.BadRequest, "port %d: %q is no host address", b.Port, b.HostIP)
			}
			s.HostIP = s.HostIP.Unmap()
		}
		specs = append(specs, s.Arg())
	}
	return specs, nil
}

// exposed are the ports that an image or --expose names.
func (r *request) exposed() (out []string, err error) {
	list, err := r.bindings(optExposed)
	for _, b := range list {
		if b.Proto == forward.TCP || b.Proto == forward.UDP {
			out = append(out, fmt.Sprintf("%d/%s", b.Port, b.Proto))
		}
	}
	return out, err
}

// bare is an address without its prefix length; none is none.
func bare(cidr string) (string, error) {
	if cidr == "" {
		return "", nil
	}
	a, _, _ := strings.Cut(cidr, "/")
	addr, err := netip.ParseAddr(a)
	if err != nil {
		return "", api.Errorf(api.BadRequest, "%q is no address", cidr)
	}
	return addr.String(), nil
}
