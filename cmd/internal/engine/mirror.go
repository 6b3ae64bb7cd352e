package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch/ns"
)

// A mirror lets the host reach containers that have published nothing: with
// 127.17.0.0/16 as the mirror of 172.17.0.0/16, 127.17.0.3 is 172.17.0.3. Without
// privileges no address can be had whole, only ports of it, one listener each. So
// there is one for each port that the container listens at (looked up each second
// by the kernel's socket monitor), or for those that the network names.
//
// They are published ports in all but name: rules see them, the container sees
// its gateway, and they go with the interface.

const mirrorEvery = time.Second

// mirrorMost bounds the listeners for one interface.
const mirrorMost = 1024

// mirrorEphemeral is where a client's own UDP ports begin in a namespace as
// kernels make it (net.ipv4.ip_local_port_range).
const mirrorEphemeral = 32768

type mirrorPort struct {
	proto forward.Proto
	port  uint16
}

func (p mirrorPort) String() string { return fmt.Sprintf("%d/%s", p.port, p.proto) }

// mirror is that of one endpoint.
type mirror struct {
	sockets *ns.Sockets // of the container; nil: not asked for, or it failed
	problem string
	open    map[mirrorPort]*published
	closed  map[mirrorPort]string
}

// wakeMirrors has mirrors looked at soon.
func (e *Engine) wakeMirrors() {
	select {
	case e.mirrors <- struct{}{}:
	default:
	}
}

// keepMirrors opens and closes ports of mirrors as long as the switch runs. It
// wakes up only while a container has a mirror that follows what it listens at.
func (e *Engine) keepMirrors() {
	again := time.NewTimer(time.Hour)
	again.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.mirrors:
		case <-again.C:
		}
		if e.followMirrors() {
			again.Reset(mirrorEvery)
		}
	}
}

// followMirrors brings all mirrors up to date, and says whether one is to be
// looked at again.
func (e *Engine) followMirrors() (again bool) {
	type one struct {
		c  *container
		ep *endpoint
	}
	var all []one
	e.mu.Lock()
	for _, c := range e.containers {
		if c.state != stateRunning && c.state != stateCreated {
			continue
		}
		for _, ep := range c.endpoints {
			if ep.net.cfg.Mirror.IsValid() {
				all = append(all, one{c, ep})
			}
		}
	}
	e.mu.Unlock()
	for _, x := range all {
		again = e.followMirror(x.c, x.ep) || again
	}
	return again
}

func (e *Engine) followMirror(c *container, ep *endpoint) bool {
	auto := ep.net.cfg.MirrorPorts.Auto()
	c.wiring.Lock()
	fresh := ep.seat != nil && ep.mirror == nil
	c.wiring.Unlock()
	var made *mirror
	if fresh {
		made = &mirror{open: make(map[mirrorPort]*published), closed: make(map[mirrorPort]string)}
		if auto {
			made.sockets, made.problem = e.socketsOf(c)
		}
	}
	c.wiring.Lock()
	defer c.wiring.Unlock()
	if ep.seat == nil {
		if made != nil && made.sockets != nil {
			made.sockets.Close()
		}
		return auto && c.kind != kindJoin // it may be about to begin
	}
	if ep.mirror == nil {
		if ep.mirror = made; made == nil {
			return true // it came meanwhile
		}
	}
	want, err := ep.mirror.wanted(ep)
	if err != nil {
		ep.mirror.problem = err.Error()
	}
	e.openMirror(ep, want)
	ep.shown.Store(ep.mirror.view(ep))
	return auto && ep.mirror.sockets != nil || len(ep.mirror.closed) > 0
}

// socketsOf opens what says which ports a container listens at.
func (e *Engine) socketsOf(c *container) (*ns.Sockets, string) {
	plug := c.whereabouts()
	if plug.Pid == 0 && plug.Netns != "" {
		// It would keep alive what is to end by itself.
		return nil, "the ports of a namespace that was joined by its path are not looked up: name them with mirror_ports"
	}
	_, fds, err := e.porter.Call(porter.Message{Op: porter.OpSockets, Name: c.id, Plug: plug})
	if err == nil && len(fds) != 1 {
		closeFDs(fds)
		err = api.Errorf(api.Failed, "no socket came")
	}
	if err != nil {
		return nil, fmt.Sprintf("what it listens at is not known: %v", err)
	}
	return ns.SocketsOf(fds[0]), ""
}

// wanted are the ports that lead to the container, lowest first.
func (m *mirror) wanted(ep *endpoint) ([]mirrorPort, error) {
	set := make(map[mirrorPort]bool)
	if spans, err := ep.net.cfg.MirrorPorts.Spans(); err == nil {
		for _, s := range spans {
			proto := forward.TCP
			if s.UDP {
				proto = forward.UDP
			}
			for p := int(s.First); p <= int(s.Last); p++ {
				set[mirrorPort{proto, uint16(p)}] = true
			}
		}
	}
	var err error
	if m.sockets != nil {
		var bound []ns.Bound
		bound, err = m.sockets.Bound()
		for _, b := range bound {
			a := b.Addr.Addr().Unmap()
			reached := a == ep.ip || a.IsUnspecified() && (a.Is4() || !b.V6Only)
			switch {
			case !reached || b.UDP && b.Addr.Port() >= mirrorEphemeral:
			case b.UDP:
				set[mirrorPort{forward.UDP, b.Addr.Port()}] = true
			default:
				set[mirrorPort{forward.TCP, b.Addr.Port()}] = true
			}
		}
	}
	want := slices.SortedFunc(maps.Keys(set), func(a, b mirrorPort) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	})
	return want[:min(len(want), mirrorMost)], err
}

// openMirror opens what is wanted and closes the rest. The container's wiring is
// held.
func (e *Engine) openMirror(ep *endpoint, want []mirrorPort) {
	m := ep.mirror
	for k, p := range m.open {
		if !slices.Contains(want, k) {
			e.withdraw(p)
			delete(m.open, k)
		}
	}
	clear(m.closed)
	at := ep.net.cfg.MirrorOf(ep.ip)
	for _, k := range want {
		if m.open[k] != nil {
			continue
		}
		spec := forward.Spec{Proto: k.proto, HostIP: at, HostPort: k.port, HostPortEnd: k.port, ContainerPort: k.port}
		ls, _, err := forward.Listen(spec)
		if err != nil {
			m.closed[k] = err.Error()
			continue
		}
		p := &published{spec: spec, addr: ls[0].Addr, fd: ls[0].FD}
		if p.id, err = e.path.publish(ep.seat, nat.Publish{Proto: uint8(k.proto), Host: p.addr, FD: p.fd, ContainerPort: k.port, Target4: ep.ip}); err != nil {
			forward.CloseAll(ls)
			m.closed[k] = err.Error()
			continue
		}
		p.live, p.home = true, ep.seat.Shard
		m.open[k] = p
	}
}

// forgetMirror is for an endpoint whose port is gone, and its listeners with it.
// The container's wiring is held.
func (e *Engine) forgetMirror(ep *endpoint) {
	m := ep.mirror
	if m == nil {
		return
	}
	ep.mirror = nil
	ep.shown.Store(nil)
	for _, p := range m.open {
		e.retract(p)
	}
	if m.sockets != nil {
		m.sockets.Close()
	}
}

func (m *mirror) view(ep *endpoint) *api.Mirror {
	v := &api.Mirror{Address: ep.net.cfg.MirrorOf(ep.ip).String(), Ports: []string{}, Problem: m.problem}
	for _, k := range slices.SortedFunc(maps.Keys(m.open), func(a, b mirrorPort) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	}) {
		v.Ports = append(v.Ports, k.String())
	}
	for k, why := range m.closed {
		if v.Closed == nil {
			v.Closed = make(map[string]string)
		}
		v.Closed[k.String()] = why
	}
	return v
}
