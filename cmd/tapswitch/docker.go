package main

import (
	"fmt"
	"strconv"
	"time"

	"tapswitch/cmd/internal/api"
)

// Shapes of Docker's command line, as far as they have a meaning here: scripts
// and templates that were written for it read them.

// dockerNetwork is a network in the shape of `docker network inspect`.
type dockerNetwork struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv6 bool
	IPAM       struct {
		Driver  string
		Options map[string]string
		Config  []map[string]string
	}
	Internal   bool
	Attachable bool
	Ingress    bool
	Containers map[string]map[string]string
	Options    map[string]string
	Labels     map[string]string
}

// asDockerNetwork shows a network as `docker network inspect` does.
func asDockerNetwork(n *api.Network) *dockerNetwork {
	d := &dockerNetwork{Name: n.Name, ID: n.ID, Created: n.Created.Format(time.RFC3339Nano), Scope: "local", Driver: n.Driver, Internal: n.Internal,
		Containers: map[string]map[string]string{}, Options: n.Options, Labels: n.Labels}
	d.IPAM.Driver, d.IPAM.Options, d.IPAM.Config = "default", map[string]string{}, []map[string]string{}
	bits := map[bool]int{}
	for _, s := range n.Subnets {
		d.EnableIPv6 = d.EnableIPv6 || s.Subnet.Addr().Is6()
		bits[s.Subnet.Addr().Is6()] = s.Subnet.Bits()
		d.IPAM.Config = append(d.IPAM.Config, map[string]string{"Subnet": s.Subnet.String(), "Gateway": s.Gateway.String()})
	}
	with := func(a string, v6 bool) string {
		if a == "" {
			return ""
		}
		return fmt.Sprintf("%s/%d", a, bits[v6])
	}
	for _, c := range n.Containers {
		d.Containers[c.ID] = map[string]string{"Name": c.Name, "MacAddress": c.MAC, "IPv4Address": with(c.IP, false), "IPv6Address": with(c.IP6, true)}
	}
	return d
}

// dockerContainer is a container in the shape of `docker inspect`.
type dockerContainer struct {
	ID      string `json:"Id"`
	Created string
	Path    string
	Args    []string
	Name    string
	LogPath string
	State   struct {
		Status   string
		Running  bool
		Pid      int
		ExitCode int
	}
	Config struct {
		Hostname string
		Cmd      []string
	}
	NetworkSettings struct {
		IPAddress         string
		Gateway           string
		MacAddress        string
		GlobalIPv6Address string
		IPv6Gateway       string
		Ports             map[string][]dockerBinding
		Networks          map[string]dockerEndpoint
	}
}

type dockerBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

type dockerEndpoint struct {
	Aliases           []string
	MacAddress        string
	Gateway           string
	IPAddress         string
	IPv6Gateway       string
	GlobalIPv6Address string
}

// asDockerContainer shows a container as `docker inspect` does.
func asDockerContainer(c *api.Container) *dockerContainer {
	d := &dockerContainer{ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Name: "/" + c.Name, LogPath: c.Log, Args: []string{}}
	if len(c.Command) > 0 {
		d.Path, d.Args = c.Command[0], c.Command[1:]
	}
	d.State.Status, d.State.Running = c.State, c.State == "running"
	if c.Pid != nil {
		d.State.Pid = *c.Pid
	}
	if c.ExitCode != nil {
		d.State.ExitCode = *c.ExitCode
	}
	if d.Config.Hostname = c.Hostname; c.Hostname == "" {
		d.Config.Hostname = c.Name
	}
	d.Config.Cmd = c.Command
	s := &d.NetworkSettings
	s.Ports, s.Networks = map[string][]dockerBinding{}, map[string]dockerEndpoint{}
	for _, p := range c.Ports {
		k := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		s.Ports[k] = append(s.Ports[k], dockerBinding{p.HostIP, strconv.Itoa(int(p.HostPort))})
	}
	for i, n := range c.Networks {
		s.Networks[n.Network] = dockerEndpoint{Aliases: append([]string{}, n.Aliases...), MacAddress: n.MAC, Gateway: n.Gateway, IPAddress: n.IP, IPv6Gateway: n.Gateway6, GlobalIPv6Address: n.IP6}
		if i == 0 {
			s.IPAddress, s.Gateway, s.MacAddress, s.GlobalIPv6Address, s.IPv6Gateway = n.IP, n.Gateway, n.MAC, n.IP6, n.Gateway6
		}
	}
	return d
}
