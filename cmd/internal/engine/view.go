package engine

import (
	"maps"
	"net/netip"
	"os"
	"sort"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/switch"
)

func (e *Engine) sortedContainers() []*container {
	out := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].order < out[j].order })
	return out
}

// Containers lists containers in the order they were made; without all, those
// on the switch.
func (e *Engine) Containers(all bool) []*api.Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []*api.Container{}
	for _, c := range e.sortedContainers() {
		if all || c.state == stateRunning {
			out = append(out, c.view())
		}
	}
	return out
}

// Container shows one container with its interfaces' counters.
func (e *Engine) Container(name string) (*api.Container, error) {
	e.mu.Lock()
	c, err := e.find(name)
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	v := c.view()
	eps := c.endpoints
	e.mu.Unlock()
	c.wiring.Lock()
	for i, ep := range eps {
		if ep.seat != nil {
			s := e.path.stats(ep.seat)
			v.Networks[i].Stats = &s
		}
	}
	c.wiring.Unlock()
	return v, nil
}

func (c *container) view() *api.Container {
	v := &api.Container{ID: c.id, Name: c.name, Origin: c.origin, Kind: c.kind, State: c.state, Command: c.create.Command,
		Created: c.created.UTC().Truncate(time.Millisecond), Networks: []api.Endpoint{}, Ports: []api.Port{}, Hostname: c.create.Hostname, Log: c.log,
		Links: c.create.Links, Expose: c.create.Expose, Egress: c.egress(), Key: c.reserve.Key}
	if s := *c.shape(); s != (api.Shape{}) {
		v.Shape = &s
	}
	if v.Command == nil {
		v.Command = []string{}
	}
	if c.pid > 0 {
		pid := c.pid
		v.Pid = &pid
	}
	if c.state == stateExited {
		code := c.code
		v.ExitCode = &code
	}
	v.Mode = modeNone
	if gw := gatewayOf(c.endpoints); gw != nil {
		v.Mode = gw.net.cfg.Name
	} else if len(c.endpoints) > 0 {
		v.Mode = c.endpoints[0].net.cfg.Name
	} else if c.onHost() || c.guest() {
		v.Mode = modeOf(c.create.Networks)
	}
	for _, ep := range c.endpoints {
		v4, v6 := ep.net.gateways()
		a := api.Endpoint{Network: ep.net.cfg.Name, IP: written(ep.ip), MAC: ep.mac.String(), Gateway: written(v4), IfName: ep.ifname, Aliases: ep.aliases}
		if ep.ip6.IsValid() {
			a.IP6, a.Gateway6 = ep.ip6.String(), written(v6)
		}
		a.Mirror, a.Priority, a.Sysctls = ep.shown.Load(), ep.priority, ep.sysctls
		v.Networks = append(v.Networks, a)
	}
	for _, p := range c.ports {
		v.Ports = append(v.Ports, p.view())
	}
	return v
}

func drops(d *[vswitch.NumReasons]uint64) map[string]uint64 {
	out := make(map[string]uint64)
	for r, n := range d {
		if n > 0 {
			out[vswitch.Reason(r).String()] = n
		}
	}
	return out
}

// Networks lists networks in the order they were made.
func (e *Engine) Networks() []*api.Network {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []*api.Network{}
	for _, n := range e.sortedNetworks() {
		out = append(out, e.viewNetwork(n))
	}
	return out
}

// Network shows one network.
func (e *Engine) Network(name string) (*api.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.findNetwork(name)
	if err != nil {
		return nil, err
	}
	v := e.viewNetwork(n)
	v.Multicast = e.multicast(n)
	v.Host = e.viewHost(n)
	return v, nil
}

func (e *Engine) viewNetwork(n *network) *api.Network {
	v4, v6 := n.gateways()
	v := &api.Network{ID: n.id, Name: n.cfg.Name, Driver: "bridge", MTU: n.cfg.MTU, Internal: n.cfg.Internal, ICC: !n.cfg.NoICC, Egress: n.cfg.Egress, Created: n.at.UTC().Truncate(time.Millisecond),
		Labels: map[string]string{}, Options: map[string]string{}, Origin: n.origin, MAC: n.bridge.MAC().String(),
		Subnets: []api.Subnet{}, Containers: []api.Attached{}}
	if !n.cfg.NoIPv4 {
		v.Subnets = append(v.Subnets, api.Subnet{Subnet: n.cfg.Subnet, Gateway: v4})
		if n.cfg.Range.IsValid() {
			v.Subnets[0].Range = &n.cfg.Range
		}
	}
	maps.Copy(v.Labels, n.made.Labels)
	maps.Copy(v.Options, n.made.Options)
	v.Aux = maps.Clone(n.made.Aux)
	maps.Copy(v.Options, optionsOf(n.cfg))
	if n.cfg.Subnet6.IsValid() {
		v.Subnets = append(v.Subnets, api.Subnet{Subnet: n.cfg.Subnet6, Gateway: v6})
		if n.cfg.Range6.IsValid() {
			v.Subnets[len(v.Subnets)-1].Range = &n.cfg.Range6
		}
	}
	for _, c := range e.sortedContainers() {
		if c.state != stateRunning {
			continue
		}
		for _, ep := range c.endpoints {
			if ep.net == n {
				a := api.Attached{ID: c.id, Name: c.name, IP: written(ep.ip), MAC: ep.mac.String()}
				if ep.ip6.IsValid() {
					a.IP6 = ep.ip6.String()
				}
				v.Containers = append(v.Containers, a)
			}
		}
	}
	return v
}

// Status shows the switch.
func (e *Engine) Status() *api.Status {
	used, limit := descriptors()
	e.mu.Lock()
	s := &api.Status{Version: e.start.Version, Pid: e.start.PorterPid, WorkerPid: os.Getpid(), Started: e.started.UTC().Truncate(time.Second),
		UptimeSec: time.Since(e.started).Seconds(), Socket: e.start.Socket, ConfigError: e.configErr, Ephemeral: e.start.State == "",
		Networks: len(e.networks), Threads: len(e.path.Shards), FDs: used, FDLimit: limit, Upstreams: []string{}, Sandbox: e.start.Sandbox}
	s.Forward, s.Rules = true, len(e.rules)
	if e.config.Config != nil {
		s.Forward = e.config.Config.Forward
		s.Config = e.config.Config.Path
	}
	for _, c := range e.containers {
		if c.state == stateRunning {
			s.Containers++
		}
	}
	gone := e.gone()
	e.mu.Unlock()
	for _, u := range e.resolvers() {
		s.Upstreams = append(s.Upstreams, u.String())
	}
	s.Drops = make(map[string]uint64)
	add := func(x api.Stats) {
		s.RxFrames, s.RxBytes = s.RxFrames+x.RxFrames, s.RxBytes+x.RxBytes
		s.TxFrames, s.TxBytes = s.TxFrames+x.TxFrames, s.TxBytes+x.TxBytes
		for r, n := range x.Drops {
			s.Drops[r] += n
		}
	}
	for _, x := range gone {
		add(x)
	}
	e.path.Each(func(_ int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			for _, p := range b.Ports() {
				add(statsOf(p.Stats))
			}
		}
	})
	s.Flows, s.NAT = e.path.counts()
	d := e.dns.Stats()
	s.DNS = map[string]uint64{"queries": d.Queries, "local": d.Local, "cached": d.Cached, "forwarded": d.Forwarded, "failed": d.Failed, "refused": d.Refused, "timeouts": d.Timeouts}
	return s
}

// gone are the counters of interfaces that have left. The lock is held.
func (e *Engine) gone() (out []api.Stats) {
	for _, c := range e.containers {
		out = append(out, c.last...)
	}
	return append(out, e.lastTotals)
}

// FDB lists all forwarding databases.
func (e *Engine) FDB() []api.FDBEntry {
	out := []api.FDBEntry{}
	e.path.Each(func(_ int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			for _, x := range b.FDB() {
				if p := sw.Port(x.Port); p != nil && !p.Mirror() { // its home knows best
					out = append(out, api.FDBEntry{Network: b.Name, MAC: x.MAC.String(), Interface: p.Name, Static: x.Static, AgeSec: x.Age})
				}
			}
		}
	})
	sort.Slice(out, func(i, j int) bool {
		return out[i].Network+out[i].MAC < out[j].Network+out[j].MAC
	})
	return out
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func protocol(p uint8) string {
	switch p {
	case vswitch.ProtoTCP:
		return "tcp"
	case vswitch.ProtoUDP:
		return "udp"
	case vswitch.ProtoICMP:
		return "icmp"
	case vswitch.ProtoICMPv6:
		return "icmp6"
	}
	return "?"
}
