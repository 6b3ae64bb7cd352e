package engine

import (
	"net/netip"
	"os"
	"sort"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
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
	e.sw.Do(func() {
		for i, ep := range eps {
			if ep.port != nil {
				s := statsOf(ep.port)
				v.Networks[i].Stats = &s
			}
		}
	})
	return v, nil
}

func (c *container) view() *api.Container {
	v := &api.Container{ID: c.id, Name: c.name, Origin: c.origin, Kind: c.kind, State: c.state, Command: c.create.Command,
		Created: c.created.UTC().Truncate(time.Millisecond), Networks: []api.Endpoint{}, Ports: []api.Port{}, Hostname: c.create.Hostname, Log: c.log}
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
	for _, ep := range c.endpoints {
		a := api.Endpoint{Network: ep.net.cfg.Name, IP: ep.ip.String(), MAC: ep.mac.String(), Gateway: ep.net.cfg.Gateway.String(), IfName: ep.ifname, Aliases: ep.aliases}
		if ep.ip6.IsValid() {
			a.IP6, a.Gateway6 = ep.ip6.String(), ep.net.cfg.Gateway6.String()
		}
		v.Networks = append(v.Networks, a)
	}
	for _, p := range c.ports {
		v.Ports = append(v.Ports, api.Port{Protocol: p.spec.Proto.String(), HostIP: p.addr.Addr().String(), HostPort: p.addr.Port(), ContainerPort: p.spec.ContainerPort})
	}
	return v
}

// statsOf reads a port's counters. It runs on the switch's thread.
func statsOf(p *vswitch.Port) api.Stats {
	s := p.Stats
	return api.Stats{RxFrames: s.RxFrames, RxBytes: s.RxBytes, TxFrames: s.TxFrames, TxBytes: s.TxBytes, Upcalls: s.Upcalls, Hits: s.Hits, Drops: drops(&s.Drops)}
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
	n := e.networks[name]
	if n == nil {
		for _, x := range e.networks {
			if len(name) >= 3 && len(name) <= len(x.id) && x.id[:len(name)] == name {
				n = x
			}
		}
	}
	if n == nil {
		return nil, api.Errorf(api.NotFound, "network %s not found", name).WithHint("tapswitch network ls lists them")
	}
	return e.viewNetwork(n), nil
}

func (e *Engine) viewNetwork(n *network) *api.Network {
	v := &api.Network{ID: n.id, Name: n.cfg.Name, Driver: "bridge", MTU: n.cfg.MTU, Origin: n.origin, MAC: n.bridge.MAC.String(),
		Subnets: []api.Subnet{{Subnet: n.cfg.Subnet, Gateway: n.cfg.Gateway}}, Containers: []api.Attached{}}
	if n.cfg.Subnet6.IsValid() {
		v.Subnets = append(v.Subnets, api.Subnet{Subnet: n.cfg.Subnet6, Gateway: n.cfg.Gateway6})
	}
	for _, c := range e.sortedContainers() {
		if c.state != stateRunning {
			continue
		}
		for _, ep := range c.endpoints {
			if ep.net == n {
				a := api.Attached{ID: c.id, Name: c.name, IP: ep.ip.String(), MAC: ep.mac.String()}
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
		Networks: len(e.networks), FDs: used, FDLimit: limit, Upstreams: []string{}}
	if e.config.Config != nil {
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
	e.sw.Do(func() {
		for _, b := range e.sw.Bridges() {
			for _, p := range b.Ports() {
				add(statsOf(p))
			}
		}
		s.Flows = e.nat.Counts()
		n := e.nat.Stats
		s.NAT = map[string]uint64{"tcp_opened": n.TCPOpened, "tcp_accepted": n.TCPAccepted, "tcp_reset": n.TCPReset, "tcp_retransmits": n.TCPRetransmits,
			"tcp_timeouts": n.TCPTimeouts, "udp_flows": n.UDPFlows, "ping_flows": n.PingFlows, "pair_flows": n.PairFlows, "spilled_bytes": n.SpillBytes,
			"fragments": n.Fragments, "reassembled": n.Reassembled, "socket_errors": n.Errors}
	})
	d := e.dns.Stats()
	s.DNS = map[string]uint64{"queries": d.Queries, "local": d.Local, "forwarded": d.Forwarded, "failed": d.Failed, "refused": d.Refused, "timeouts": d.Timeouts}
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
	e.sw.Do(func() {
		for _, b := range e.sw.Bridges() {
			for _, x := range b.FDB() {
				r := api.FDBEntry{Network: b.Name, MAC: x.MAC.String(), Static: x.Static, AgeSec: x.Age}
				if p := e.sw.Port(x.Port); p != nil {
					r.Interface = p.Name
				}
				out = append(out, r)
			}
		}
	})
	sort.Slice(out, func(i, j int) bool {
		return out[i].Network+out[i].MAC < out[j].Network+out[j].MAC
	})
	return out
}

// Flows lists all flows.
func (e *Engine) Flows() []api.Flow {
	out := []api.Flow{}
	var list []nat.Flow
	names := make(map[vswitch.PortID]string)
	e.sw.Do(func() {
		list = e.nat.Flows()
		for _, b := range e.sw.Bridges() {
			for _, p := range b.Ports() {
				names[p.ID] = p.Name
			}
		}
	})
	for _, f := range list {
		out = append(out, api.Flow{Protocol: protocol(f.Proto), Kind: f.Kind, State: f.State, Container: names[f.Port],
			Local: f.Local.String(), Remote: f.Remote.String(), HostLocal: text(f.Host), HostPeer: text(f.Peer), AgeSec: float64(f.Age) / 1e9,
			TxBytes: f.Bytes[0], RxBytes: f.Bytes[1], TxPackets: f.Packets[0], RxPackets: f.Packets[1]})
	}
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
