package joiner

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/switch/ns"
)

// Callers of CNI and netavark set up one network after the other, each with a
// call of its own, and know a namespace by an id of theirs. Here that is the
// container's key; within it an interface's name tells which network is meant.

// Added is what Add has made: an interface of a container.
type Added struct {
	Container *api.Container
	Endpoint  api.Endpoint
	Addrs     []string // with prefix length
	MTU       int
	DNS       []string
}

// Add puts a namespace on one more network: the only one in r, whose interface
// has a name. Where the key is new, r's name is the container's; if another has
// that already, this one goes by the key's end, and has the name as an alias.
func Add(c *client.Client, h *ns.Handle, r api.Reserve) (*Added, error) {
	all, err := list(c)
	if err != nil {
		return nil, err
	}
	publish := r.Publish
	known := byKey(all, r.Key)
	if known != nil {
		r.Publish = nil
	} else if slices.ContainsFunc(all, func(x *api.Container) bool { return x.Name == r.Name }) {
		r.Networks[0].Aliases = append(r.Networks[0].Aliases, r.Name)
		r.Name = r.Name + "-" + tail(r.Key)
	}
	made, res, err := Join(c, h, r)
	if err != nil {
		return nil, err
	}
	out := &Added{Container: made, DNS: res.DNS, Addrs: res.Interfaces[0].Addrs, MTU: res.Interfaces[0].MTU}
	i := slices.IndexFunc(made.Networks, func(e api.Endpoint) bool { return e.IfName == r.Networks[0].IfName })
	if i < 0 {
		return nil, fmt.Errorf("container %s has lost its interface %s meanwhile", made.Name, r.Networks[0].IfName)
	}
	out.Endpoint = made.Networks[i]
	if more := missing(publish, made.Ports); known != nil && len(more) > 0 {
		if err := c.Do("POST", "/containers/"+made.ID+"/publish", api.Publish{Ports: more}, nil); err != nil {
			return nil, errors.Join(err, Remove(c, r.Key, out.Endpoint.IfName))
		}
	}
	return out, nil
}

// missing are the ports of want, as Port writes them, that are not published yet:
// each network of a container asks for all.
func missing(want []string, have []api.Port) (out []string) {
	for _, w := range want {
		if !slices.ContainsFunc(have, func(p api.Port) bool {
			for _, ip := range []string{"", p.HostIP} {
				for _, host := range []uint16{0, p.HostPort} { // 0: any will do
					if w == Port(ip, host, p.ContainerPort, p.Protocol) {
						return true
					}
				}
			}
			return false
		}) {
			out = append(out, w)
		}
	}
	return out
}

// Port writes a port as -p takes it; hostPort 0 lets the switch choose one.
func Port(hostIP string, hostPort, containerPort uint16, protocol string) string {
	s := fmt.Sprintf("%d/%s", containerPort, strings.ToLower(protocol))
	if hostPort == 0 && hostIP == "" {
		return s
	}
	s = ":" + s
	if hostPort > 0 {
		s = fmt.Sprint(hostPort, s)
	}
	switch {
	case strings.Contains(hostIP, ":"):
		return "[" + hostIP + "]:" + s
	case hostIP != "":
		return hostIP + ":" + s
	}
	return s
}

// Find is a container by its key, with one of its interfaces; nil where there is
// none.
func Find(c *client.Client, key, ifname string) (*api.Container, *api.Endpoint, error) {
	all, err := list(c)
	if err != nil {
		return nil, nil, err
	}
	return find(all, key, ifname)
}

func find(all []*api.Container, key, ifname string) (*api.Container, *api.Endpoint, error) {
	x := byKey(all, key)
	if x == nil {
		return nil, nil, nil
	}
	for i := range x.Networks {
		if x.Networks[i].IfName == ifname {
			return x, &x.Networks[i], nil
		}
	}
	return x, nil, nil
}

// Remove takes an interface off the switch, and with the last its container.
// What is not there is no error, nor is a switch that does not run.
func Remove(c *client.Client, key, ifname string) error {
	x, e, err := Find(c, key, ifname)
	if err != nil || e == nil {
		if err != nil && Gone(err) {
			err = nil
		}
		return err
	}
	network := e.Network
	if len(x.Networks) == 1 {
		network = ""
	}
	err = Leave(c, x.ID, network)
	if err == nil || Gone(err) {
		return nil
	}
	// It has left, but another network could not have the default route.
	if _, e, ferr := Find(c, key, ifname); ferr == nil && e == nil {
		return nil
	}
	return err
}

// Keep takes off what is known by keys with the prefix and on the network, but
// not among those that keep says.
func Keep(c *client.Client, prefix, network string, keep func(key, ifname string) bool) error {
	all, err := list(c)
	if err != nil {
		return err
	}
	for _, x := range all {
		for _, e := range x.Networks {
			if strings.HasPrefix(x.Key, prefix) && e.Network == network && !keep(x.Key, e.IfName) {
				err = errors.Join(err, Remove(c, x.Key, e.IfName))
			}
		}
	}
	return err
}

// Network makes sure that a network is there. One that is not is made if n says
// with which subnet; one that is must have it.
func Network(c *client.Client, n api.NetworkCreate) (*api.Network, error) {
	var have api.Network
	err := c.Do("GET", "/networks/"+client.Escape(n.Name), nil, &have)
	var e *api.Error
	if errors.As(err, &e) && e.Code == api.NotFound && len(n.Subnets) > 0 {
		err = c.Do("POST", "/networks", n, &have)
		if errors.As(err, &e) && e.Code == api.Conflict { // somebody was quicker, or it overlaps another
			if c.Do("GET", "/networks/"+client.Escape(n.Name), nil, &have) == nil {
				err = nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	for _, want := range n.Subnets {
		if !slices.ContainsFunc(have.Subnets, func(s api.Subnet) bool { return s.Subnet.String() == want }) {
			return nil, api.Errorf(api.Conflict, "network %s has no subnet %s", n.Name, want).WithHint("tapswitch network inspect %s shows what it has", n.Name)
		}
	}
	return &have, nil
}

func list(c *client.Client) (all []*api.Container, err error) {
	err = c.Do("GET", "/containers?all=1", nil, &all)
	return all, err
}

func byKey(all []*api.Container, key string) *api.Container {
	for _, x := range all {
		if x.Key == key && x.Key != "" && x.State == "running" {
			return x
		}
	}
	return nil
}

// tail is the part of a key that tells containers of one caller apart.
func tail(key string) string {
	_, id, _ := strings.Cut(key, ":")
	return id[:min(len(id), 12)]
}
