package engine

import (
	"fmt"
	"net/netip"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
	"tapswitch/nat"
	"tapswitch/switch"
)

// The host's own interface on a network (host_interface), as docker0 is Docker's:
// a TAP that the porter makes in the host's network namespace, which takes root.
// The host reaches containers at their own addresses with its own kernel; what it
// opens is judged by rules, as from host. Containers see the gateway's address
// as before: what of the host they reach there says host: in the configuration,
// and not, as with Docker, whatever listens at all of the host's addresses.
// switch/host.go has the frames, nat/hostport.go the flows.
//
// The device is not persistent: it goes with the worker, whichever way that
// ends.

// hostInterface gives the host its interface on a network that has just been
// made, and takes the network away if it cannot. No lock is held.
func (e *Engine) hostInterface(n *network) error {
	if n.cfg.HostInterface == "" {
		return nil
	}
	seat, err := e.openHost(n)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && e.networks[n.cfg.Name] == n {
		n.host = seat
		return nil
	}
	if err == nil { // it was removed meanwhile
		e.dropHost(seat)
		return nil
	}
	if e.networks[n.cfg.Name] == n {
		_ = e.removeNetwork(n)
	}
	return fmt.Errorf("network %s: %w", n.cfg.Name, err)
}

func (e *Engine) openHost(n *network) (*vswitch.Seat, error) {
	c := hostInterfaceOf(n.cfg)
	c.MAC = n.bridge.MAC().String()
	v4, v6 := n.gateways()
	var addrs []netip.Addr
	for gw, subnet := range map[netip.Addr]netip.Prefix{v4: n.cfg.Subnet, v6: n.cfg.Subnet6} {
		if gw.IsValid() && subnet.IsValid() {
			addrs = append(addrs, gw)
			c.Addrs = append(c.Addrs, netip.PrefixFrom(gw, subnet.Bits()).String())
		}
	}
	_, fds, err := e.porter.Call(porter.Message{Op: porter.OpHost, Interface: &c})
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		closeFDs(fds)
		return nil, api.Errorf(api.Failed, "host_interface %s: the porter sent %d TAPs", c.Name, len(fds))
	}
	d, err := vswitch.NewDevice(fds[0])
	if err != nil {
		return nil, err
	}
	name := "host:" + c.Name
	seat, err := e.path.AddPort(e.path.Home(), n.bridge, vswitch.PortConfig{Name: name, Label: name, Device: d, MAC: n.bridge.MAC(), Addrs: addrs, Host: true})
	if err != nil {
		e.closeDevice(d)
	}
	return seat, err
}

func hostInterfaceOf(c configs.Network) api.Interface {
	return api.Interface{Name: c.HostInterface, MTU: c.MTU, Offload: true, MAC: "02:00:00:00:00:00"}
}

// checkHosts says, before anything is changed, whether the interfaces that a
// configuration wants and that are not there can be made. No lock is held.
func (e *Engine) checkHosts(c *configs.Config) error {
	e.mu.Lock()
	var wanted []api.Interface
	for _, w := range c.Networks {
		n := e.networks[w.Name]
		if w.HostInterface == "" || n != nil && w.Equal(n.cfg) {
			continue
		}
		x := hostInterfaceOf(w)
		for _, n := range e.networks {
			if n.cfg.HostInterface == x.Name && n.origin == "file" {
				x.Replace = true // it goes with that network, or names would meet in the file
			}
		}
		wanted = append(wanted, x)
	}
	e.mu.Unlock()
	for _, x := range wanted {
		if _, _, err := e.porter.Call(porter.Message{Op: porter.OpHost, Interface: &x, Text: "check"}); err != nil {
			return err
		}
	}
	return nil
}

// viewHost shows the host's interface with its counters. The lock is held.
func (e *Engine) viewHost(n *network) *api.HostInterface {
	if n.host == nil {
		return nil
	}
	p := n.host.Port
	h := &api.HostInterface{Name: n.cfg.HostInterface, Interface: p.Name, MAC: p.MAC.String(), Addresses: p.Addrs, Stats: e.path.stats(n.host)}
	return h
}

// traceHost says what would become of the host's packet to a container that it
// reaches by its own interface; nil if it has none there.
func (e *Engine) traceHost(r api.TraceRequest, proto uint8) *api.Trace {
	if r.From != "host" {
		return nil
	}
	at, err := netip.ParseAddr(r.To)
	e.mu.Lock()
	var to *endpoint
	var of *container
	for _, c := range e.containers {
		for _, ep := range c.endpoints {
			if c.state == stateRunning && ep.net.host != nil && to == nil && (err == nil && (ep.ip == at || ep.ip6 == at) || err != nil && c.name == r.To) {
				to, of = ep, c
			}
		}
	}
	e.mu.Unlock()
	if to == nil {
		return nil
	}
	if err != nil {
		at = to.first()
	}
	if at.Is6() && proto == vswitch.ProtoICMP {
		proto = vswitch.ProtoICMPv6
	}
	of.wiring.Lock()
	defer of.wiring.Unlock()
	seat := to.seat
	if seat == nil {
		return nil
	}
	out := &api.Trace{From: r.From, To: r.To, Address: at.String(), Port: r.Port, Proto: r.Proto, Steps: []api.TraceStep{}}
	var x nat.Explanation
	e.path.Shards[seat.Shard].Do(func() { x = e.path.nats[seat.Shard].ExplainHost(seat.Port, proto, r.Port, at.Is6()) })
	showExplanation(out, &x)
	return out
}

// dropHost takes the host's interface off a network. The lock is held.
func (e *Engine) dropHost(seat *vswitch.Seat) {
	if seat != nil {
		d, s := e.path.RemovePort(seat)
		e.total(statsOf(s))
		e.closeDevice(d)
	}
}

// hostGone is called when somebody has deleted the host's interface.
func (e *Engine) hostGone(p *vswitch.Port) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		if n.host != nil && n.host.Port == p {
			e.dropHost(n.host)
			n.host = nil
			e.log.Warn("the host's interface was deleted: it is made again with the network", "network", n.cfg.Name, "interface", n.cfg.HostInterface)
		}
	}
}
