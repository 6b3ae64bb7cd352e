package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

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
	gateway bool // holds the default route

	priority int      // for the default route
	sysctls  []string // of the interface, as they were asked for

	seat   *vswitch.Seat // nil while no TAP is there; under the container's wiring
	mirror *mirror       // of a network that has one; under the container's wiring, too
	shown  atomic.Pointer[api.Mirror]
}

// first is the endpoint's IPv4 address, or the one that it has.
func (ep *endpoint) first() netip.Addr {
	if ep.ip.IsValid() {
		return ep.ip
	}
	return ep.ip6
}

// published is one host listener of a container.
type published struct {
	spec forward.Spec
	addr netip.AddrPort
	id   uint32 // the NAT's, once live; these are under the container's wiring
	live bool
	home int // the shard it is live in
	fd   int // until the NAT owns it

	to    netip.Addr // where it leads, if that is none of the container's own addresses
	owner string     // whose it is, once live
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
	if mode := modeOf(wants); mode != "" {
		if len(wants) > 1 {
			return nil, api.Errorf(api.BadRequest, "conflicting options: %s goes with no other network", mode)
		}
		if w := wants[0]; w.IP != "" || w.IP6 != "" || w.MAC != "" || len(w.Aliases) > 0 || w.IfName != "" {
			return nil, api.Errorf(api.BadRequest, "network %s has neither addresses nor names", mode)
		}
		return nil, nil
	}
	for _, w := range wants {
		ep, err := e.planOne(w, eps)
		if err != nil {
			return eps, err
		}
		eps = append(eps, ep)
	}
	chooseGateway(eps)
	return eps, nil
}

// What stands for a network and is none, in Docker's words.
const (
	modeNone = "none" // only lo
	modeHost = "host" // the host's own network namespace

	modeContainer = "container:" // and a name: the network of another container
)

// modeOf is the one of those words that wants hold, or "".
func modeOf(wants []api.Attachment) string {
	for _, w := range wants {
		if w.Network == modeNone || w.Network == modeHost || strings.HasPrefix(w.Network, modeContainer) {
			return w.Network
		}
	}
	return ""
}

// planOne takes addresses on one more network for a container that has others.
// On error nothing is taken. The lock is held.
func (e *Engine) planOne(w api.Attachment, others []*endpoint) (*endpoint, error) {
	if err := endpointOptions(&w); err != nil {
		return nil, err
	}
	ep := &endpoint{aliases: w.Aliases, ifname: w.IfName, priority: w.GwPriority, sysctls: w.Sysctls}
	var err error
	if ep.net, err = e.network(w.Network); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(others, func(x *endpoint) bool { return x.net == ep.net }) {
		return nil, api.Errorf(api.BadRequest, "network %s is named twice, or the container is on it already", ep.net.cfg.Name)
	}
	ep.gateway = !ep.net.cfg.Internal && gatewayOf(others) == nil
	prefix := cmp.Or(ep.net.cfg.IfPrefix, "eth")
	for i := 0; ep.ifname == ""; i++ {
		name := fmt.Sprintf("%s%d", prefix, i)
		if !slices.ContainsFunc(others, func(x *endpoint) bool { return x.ifname == name }) {
			ep.ifname = name
		}
	}
	ep.mac, err = macOf(w.MAC)
	if err != nil {
		return nil, err
	}
	if ep.net.pool6 == nil && w.IP6 != "" {
		return nil, api.Errorf(api.BadRequest, "network %s has no IPv6 subnet for %s", ep.net.cfg.Name, w.IP6)
	}
	if ep.net.pool4 == nil && w.IP != "" {
		return nil, api.Errorf(api.BadRequest, "network %s has no IPv4 for %s", ep.net.cfg.Name, w.IP)
	}
	if ep.net.pool4 != nil {
		if ep.ip, err = address(ep.net.pool4, w.IP); err != nil {
			return nil, err
		}
	}
	if ep.net.pool6 != nil {
		if ep.ip6, err = address(ep.net.pool6, w.IP6); err != nil {
			release([]*endpoint{ep})
			return nil, err
		}
	}
	if w.MAC == "" {
		ep.mac = ipam.MAC(ep.first())
	}
	return ep, nil
}

// macOf reads a MAC address; none is none.
func macOf(s string) (vswitch.MAC, error) {
	if s == "" {
		return vswitch.MAC{}, nil
	}
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 {
		return vswitch.MAC{}, api.Errorf(api.BadRequest, "%q is no unicast MAC address", s)
	}
	return vswitch.MAC(m), nil
}

// release gives the addresses back. The lock is held.
func release(eps []*endpoint) {
	for _, ep := range eps {
		if ep.ip.IsValid() {
			ep.net.pool4.Release(ep.ip)
		}
		if ep.ip6.IsValid() {
			ep.net.pool6.Release(ep.ip6)
		}
	}
}

// bindPorts binds the host's side of what a container publishes. On error
// nothing is bound. The lock is held.
func (e *Engine) bindPorts(gw *endpoint, specs []string) (out []*published, err error) {
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
			n := gw.net.cfg
			if !s.HostIP.IsValid() {
				s.HostIP = n.HostBinding
			}
			// Where it is reached directly the host's port is not bound.
			routed4, routed6 := n.Mode4 == "routed", n.Mode6 == "routed"
			if routed4 && (routed6 || !n.Subnet6.IsValid()) {
				out = append(out, &published{spec: s, fd: -1, live: true})
				continue
			}
			ls, chosen, err := forward.Listen(s)
			if err != nil {
				return out, e.portError(s, err)
			}
			if routed4 || routed6 {
				out = append(out, &published{spec: chosen, fd: -1, live: true})
			}
			for _, l := range ls {
				if v4 := l.Addr.Addr().Is4(); v4 && routed4 || !v4 && routed6 {
					forward.CloseAll([]forward.Listener{l})
					continue
				}
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
	devices := make([]vswitch.Device, 0, len(taps))
	for i, fd := range taps {
		d, err := vswitch.NewDevice(fd)
		if err != nil {
			closeFDs(taps[i+1:])
			for _, d := range devices {
				e.closeDevice(d)
			}
			return api.Errorf(api.BadRequest, "container %s: %v", c.name, err)
		}
		devices = append(devices, d)
	}
	if err := e.plug(c, eps, ports, devices); err != nil {
		for _, d := range devices {
			e.closeDevice(d)
		}
		return api.Errorf(api.Failed, "container %s: %v", c.name, err)
	}
	return nil
}

// plug puts all interfaces of a container on one shard, and what it publishes.
// On error nothing is attached, and the devices are still the caller's.
func (e *Engine) plug(c *container, eps []*endpoint, ports []*published, devices []vswitch.Device) (err error) {
	c.wiring.Lock()
	defer c.wiring.Unlock()
	defer func() {
		if err == nil {
			return
		}
		for _, ep := range eps {
			if ep.seat != nil {
				e.path.RemovePort(ep.seat)
				e.left(c.name, ep)
				ep.seat = nil
			}
		}
		for _, p := range ports {
			e.retract(p)
		}
	}()
	home := e.path.Home()
	for i, ep := range eps {
		if err := e.plugOne(c, ep, home, devices[i]); err != nil {
			return err
		}
	}
	return e.serve(gatewayOf(eps), ports)
}

// plugOne makes a port of an endpoint's device. On error the device is still
// the caller's.
func (e *Engine) plugOne(c *container, ep *endpoint, home int, d vswitch.Device) (err error) {
	var addrs []netip.Addr
	if ep.ip.IsValid() {
		addrs = append(addrs, ep.ip)
	}
	if ep.ip6.IsValid() {
		addrs = append(addrs, ep.ip6)
	}
	shape, flows := shapeOf(c.shape())
	ep.seat, err = e.path.AddPort(home, ep.net.bridge, vswitch.PortConfig{Name: c.name + ":" + ep.ifname, Owner: c.id, Label: c.name, Device: d,
		MAC: ep.mac, Addrs: addrs, Spoof: c.spoof, Shape: shape, Flows: flows})
	if err == nil && ep.net.cfg.Mirror.IsValid() {
		e.wakeMirrors()
	}
	if err == nil {
		e.joined(c, ep)
	}
	if err == nil && ep.mac != ipam.MAC(ep.first()) { // else whoever had the address had this MAC, too
		e.path.Announce(ep.seat)
	}
	return err
}

// serve lets the NAT take over what is published through an endpoint.
func (e *Engine) serve(gw *endpoint, ports []*published) (err error) {
	for _, p := range ports {
		if p.live && p.fd < 0 {
			continue // routed
		}
		if gw == nil || gw.seat == nil {
			return errors.New("published ports need a network")
		}
		t4, t6 := p.targets(gw)
		p.id, err = e.path.publish(gw.seat, nat.Publish{Proto: uint8(p.spec.Proto), Host: p.addr, FD: p.fd,
			ContainerPort: p.spec.ContainerPort, Target4: t4, Target6: t6})
		if err != nil {
			return err
		}
		p.live, p.home, p.owner = true, gw.seat.Shard, gw.seat.Port.Label
		e.portChanged("published", p)
	}
	return nil
}

// retract tells the other shards of a published port that has gone with its
// container's.
func (e *Engine) retract(p *published) {
	if p.live && p.fd >= 0 {
		e.path.unpublished(p.home, uint8(p.spec.Proto), p.addr)
		e.portChanged("unpublished", p)
	}
}

// detachAll takes a container's ports off the switch; published ports close
// with them.
func (e *Engine) detachAll(c *container) {
	e.mu.Lock()
	eps, ports := c.endpoints, c.ports
	e.mu.Unlock()
	var devices []vswitch.Device
	var last []api.Stats
	var gone []*endpoint
	c.wiring.Lock()
	for _, ep := range eps {
		if d, s := e.unplug(ep); d != nil {
			devices, last, gone = append(devices, d), append(last, s), append(gone, ep)
		}
	}
	for _, p := range ports {
		if !p.live {
			forward.CloseAll([]forward.Listener{{FD: p.fd}})
		}
		e.retract(p)
		p.live, p.fd = true, -1
	}
	for _, ep := range gone {
		e.left(c.name, ep)
	}
	c.wiring.Unlock()
	e.mu.Lock()
	c.last = append(c.last, last...)
	e.mu.Unlock()
	for _, d := range devices {
		e.closeDevice(d)
	}
}

// unplug takes an endpoint's port off the switch and returns the device, which
// is the caller's to close, and what the port counted; nil if there was none.
func (e *Engine) unplug(ep *endpoint) (vswitch.Device, api.Stats) {
	if ep.seat == nil {
		return nil, api.Stats{}
	}
	d, s := e.path.RemovePort(ep.seat)
	ep.seat = nil
	e.forgetMirror(ep)
	return d, statsOf(s)
}

// portGone is called when a port's device reports the end of its namespace.
func (e *Engine) portGone(p *vswitch.Port) {
	if p.Host {
		e.hostGone(p)
		return
	}
	e.mu.Lock()
	owner := e.containers[p.Owner]
	e.mu.Unlock()
	if owner != nil {
		e.log.Info("namespace ended", "container", owner.name, "interface", p.Name)
		e.ended(owner, -1)
	}
}
