package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch"
	"tapswitch/switch/ipam"
)

// endpoint is a container's attachment to one network.
type endpoint struct {
	net     *network
	ip, ip6 netip.Addr
	mac     vswitch.MAC
	ifname  string
	aliases []string
	gateway bool          // holds the default route
	port    *vswitch.Port // nil while no TAP is there; the loop's alone
}

// published is one host listener of a container.
type published struct {
	spec forward.Spec
	addr netip.AddrPort
	id   uint32 // the NAT's, once live; these three are the loop's alone
	live bool
	fd   int // until the NAT owns it
}

// plan takes addresses for a container's networks. On error nothing is taken.
// The lock is held.
func (e *Engine) plan(wants []api.Attachment) (eps []*endpoint, err error) {
	defer func() {
		if err != nil {
			release(eps)
			eps = nil
		}
	}()
	if len(wants) == 0 {
		wants = []api.Attachment{{}}
	}
	if len(wants) == 1 && wants[0].Network == "none" {
		return nil, nil
	}
	for i, w := range wants {
		ep := &endpoint{aliases: w.Aliases, ifname: w.IfName, gateway: i == 0}
		if ep.net, err = e.network(w.Network); err != nil {
			return eps, err
		}
		if slices.ContainsFunc(eps, func(x *endpoint) bool { return x.net == ep.net }) {
			return eps, api.Errorf(api.BadRequest, "network %s is named twice", ep.net.cfg.Name)
		}
		if ep.ifname == "" {
			ep.ifname = fmt.Sprintf("eth%d", i)
		}
		if ep.ip, err = address(ep.net.pool4, w.IP); err != nil {
			return eps, err
		}
		eps = append(eps, ep)
		if ep.net.pool6 != nil {
			if ep.ip6, err = address(ep.net.pool6, w.IP6); err != nil {
				return eps, err
			}
		} else if w.IP6 != "" {
			return eps, api.Errorf(api.BadRequest, "network %s has no IPv6 subnet for %s", ep.net.cfg.Name, w.IP6)
		}
		ep.mac = ipam.MAC(ep.ip)
		if w.MAC != "" {
			m, err := net.ParseMAC(w.MAC)
			if err != nil || len(m) != 6 || m[0]&1 != 0 {
				return eps, api.Errorf(api.BadRequest, "%q is no unicast MAC address", w.MAC)
			}
			ep.mac = vswitch.MAC(m)
		}
	}
	return eps, nil
}

// release gives the addresses back. The lock is held.
func release(eps []*endpoint) {
	for _, ep := range eps {
		ep.net.pool4.Release(ep.ip)
		if ep.ip6.IsValid() {
			ep.net.pool6.Release(ep.ip6)
		}
	}
}

// bindPorts binds the host's side of what a container publishes. On error
// nothing is bound. The lock is held.
func (e *Engine) bindPorts(name string, specs []string) (out []*published, err error) {
	defer func() {
		if err != nil {
			closePorts(out)
			out = nil
		}
	}()
	for _, text := range specs {
		parsed, err := forward.ParseSpec(text)
		if err != nil {
			return out, api.Errorf(api.BadRequest, "%v", err)
		}
		for _, s := range parsed {
			ls, chosen, err := forward.Listen(s)
			if err != nil {
				return out, e.portError(s, err)
			}
			for _, l := range ls {
				out = append(out, &published{spec: chosen, addr: l.Addr, fd: l.FD})
			}
		}
	}
	return out, nil
}

// portError says who has a port: one of ours, as Docker's allocator does, or
// somebody else on the host.
func (e *Engine) portError(s forward.Spec, err error) error {
	for _, c := range e.containers {
		for _, p := range c.ports {
			if p.spec.Proto == s.Proto && p.addr.Port() == s.HostPort && s.HostPort != 0 {
				return api.Errorf(api.Conflict, "Bind for %s failed: port is already allocated", p.addr).WithHint("container %s publishes it", c.name)
			}
		}
	}
	return api.Errorf(api.Conflict, "%v", err)
}

func closePorts(ps []*published) {
	for _, p := range ps {
		if !p.live {
			forward.CloseAll([]forward.Listener{{FD: p.fd}})
		}
	}
}

// connect makes ports of a container's TAPs and starts what it publishes. It
// takes the descriptors over. On error nothing is attached and they are closed.
func (e *Engine) connect(c *container, taps []int) error {
	e.mu.Lock()
	eps, ports := c.endpoints, c.ports
	e.mu.Unlock()
	if len(taps) != len(eps) {
		closeFDs(taps)
		return api.Errorf(api.BadRequest, "container %s has %d interfaces, not %d", c.name, len(eps), len(taps))
	}
	devices := make([]*vswitch.TAP, 0, len(taps))
	for i, fd := range taps {
		d, err := vswitch.NewTAP(fd)
		if err != nil {
			closeFDs(taps[i+1:])
			for _, d := range devices {
				e.closeDevice(d)
			}
			return api.Errorf(api.BadRequest, "container %s: %v", c.name, err)
		}
		devices = append(devices, d)
	}
	err := errors.New("the switch has stopped")
	e.sw.Do(func() { err = e.connectOnLoop(c, eps, ports, devices) })
	if err != nil {
		for _, d := range devices {
			e.closeDevice(d)
		}
		return api.Errorf(api.Failed, "container %s: %v", c.name, err)
	}
	return nil
}

func (e *Engine) connectOnLoop(c *container, eps []*endpoint, ports []*published, devices []*vswitch.TAP) (err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, ep := range eps {
			if ep.port != nil {
				e.sw.RemovePort(ep.port)
				ep.port = nil
			}
		}
	}()
	for i, ep := range eps {
		addrs := []netip.Addr{ep.ip}
		if ep.ip6.IsValid() {
			addrs = append(addrs, ep.ip6)
		}
		ep.port, err = e.sw.AddPort(vswitch.PortConfig{Name: c.name + ":" + ep.ifname, Owner: c.id, Device: devices[i],
			Bridge: ep.net.bridge, MAC: ep.mac, Addrs: addrs, Spoof: c.spoof})
		if err != nil {
			return err
		}
	}
	gw := gatewayOf(eps)
	for _, p := range ports {
		if gw == nil {
			return errors.New("published ports need a network")
		}
		p.id, err = e.nat.Publish(nat.Publish{Proto: uint8(p.spec.Proto), Host: p.addr, FD: p.fd, Port: gw.port,
			ContainerPort: p.spec.ContainerPort, Target4: gw.ip, Target6: gw.ip6})
		if err != nil {
			return err
		}
		p.live = true
	}
	return nil
}

// detachAll takes a container's ports off the switch; published ports close
// with them.
func (e *Engine) detachAll(c *container) {
	e.mu.Lock()
	eps, ports := c.endpoints, c.ports
	e.mu.Unlock()
	var devices []vswitch.Device
	var last []api.Stats
	e.sw.Do(func() {
		for _, ep := range eps {
			if ep.port != nil {
				last = append(last, statsOf(ep.port))
				if d := e.sw.RemovePort(ep.port); d != nil {
					devices = append(devices, d)
				}
				ep.port = nil
			}
		}
		for _, p := range ports {
			if !p.live {
				forward.CloseAll([]forward.Listener{{FD: p.fd}})
			}
			p.live, p.fd = true, -1
		}
	})
	e.mu.Lock()
	c.last = append(c.last, last...)
	e.mu.Unlock()
	for _, d := range devices {
		e.closeDevice(d)
	}
}

// portGone is called when a port's device reports the end of its namespace.
func (e *Engine) portGone(p *vswitch.Port) {
	e.mu.Lock()
	owner := e.containers[p.Owner]
	e.mu.Unlock()
	if owner != nil {
		e.log.Info("namespace ended", "container", owner.name, "interface", p.Name)
		e.ended(owner, -1)
	}
}
