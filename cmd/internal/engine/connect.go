package engine

import (
	"errors"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/forward"
	"tapswitch/switch"
)

// Containers that run are put on further networks and taken off. The default
// route stays where it is until that network is left, unless the new one has a
// higher priority; then another has it (gateway.go), and what is published moves
// there.

// Connect puts a running container on one more network.
func (e *Engine) Connect(network, name string, w api.Attachment) error {
	w.Network = network
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if state != stateRunning {
		return api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	if c.onHost() || c.guest() || strings.HasPrefix(network, modeContainer) {
		return api.Errorf(api.Conflict, "container sharing network namespace with another container or host cannot be connected to any other network")
	}
	if c.kind == kindJoin && c.pid == 0 && c.reserve.Netns == "" {
		return api.Errorf(api.Conflict, "container %s: its interface is %s's, who alone knows its namespace", c.name, c.origin).WithHint("connect it there, as with docker network connect")
	}
	if network == modeHost || network == modeNone {
		return api.Errorf(api.BadRequest, "cannot connect container to %s network - container must be created in %s network mode", network, network)
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	ep, err := e.planOne(w, c.endpoints)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if c.kind == kindJoin && len(ep.sysctls) > 0 {
		err = api.Errorf(api.BadRequest, "%s: not for a namespace that was joined", optSysctls)
	} else {
		err = e.connectOne(c, ep)
	}
	if err != nil {
		e.mu.Lock()
		release([]*endpoint{ep})
		e.mu.Unlock()
		return err
	}
	err = errors.Join(e.writeSysctls(c, ep), e.takeOver(c, ep))
	e.publishNames()
	e.rewriteFiles(c)
	e.save()
	e.wakeMirrors()
	return err
}

// rewriteFiles lets a container of ours know of its networks by its resolv.conf
// and hosts.
func (e *Engine) rewriteFiles(c *container) {
	if c.kind == kindJoin {
		return
	}
	host := c.create.Hostname
	if host == "" {
		host = c.name
	}
	e.mu.Lock()
	s := &porter.Spec{Mask: e.start.Mask}
	s.Resolv, s.Hosts = e.files(c, host)
	e.mu.Unlock()
	if _, _, err := e.porter.Call(porter.Message{Op: porter.OpFiles, Name: c.id, Spec: s}); err != nil {
		e.log.Warn("resolv.conf and hosts", "container", c.name, "err", err)
	}
}

// connectOne makes the interface inside and puts it on the switch.
func (e *Engine) connectOne(c *container, ep *endpoint) error {
	plug := c.whereabouts()
	one := &container{endpoints: []*endpoint{ep}}
	plug.Interfaces = interfaces(one, !c.create.PlainTAP && !c.reserve.PlainTAP, !c.reserve.NoRoute)
	_, taps, err := e.porter.Call(porter.Message{Op: porter.OpPlug, Name: c.id, Plug: plug})
	if err != nil {
		return err
	}
	if len(taps) != 1 {
		closeFDs(taps)
		return api.Errorf(api.Failed, "container %s: no interface came", c.name)
	}
	return e.seat(c, ep, taps[0])
}

// seat puts one more interface of a container that runs on the switch. It takes
// the descriptor over.
func (e *Engine) seat(c *container, ep *endpoint, tap int) error {
	d, err := vswitch.NewTAP(tap)
	if err != nil {
		return api.Errorf(api.Failed, "container %s: %v", c.name, err)
	}
	c.wiring.Lock()
	home := e.path.Home()
	if len(c.endpoints) > 0 && c.endpoints[0].seat != nil {
		home = c.endpoints[0].seat.Shard
	}
	err = e.plugOne(c, ep, home, d)
	c.wiring.Unlock()
	if err != nil {
		e.closeDevice(d)
		return api.Errorf(api.Failed, "container %s: %v", c.name, err)
	}
	e.mu.Lock()
	ended := c.ending || c.state != stateRunning
	if !ended {
		c.endpoints = append(slices.Clone(c.endpoints), ep)
	}
	e.mu.Unlock()
	if ended { // meanwhile: nobody else knows of this port
		c.wiring.Lock()
		d, _ := e.unplug(ep)
		e.left(c.name, ep)
		c.wiring.Unlock()
		e.closeDevice(d)
		return api.Errorf(api.Conflict, "container %s has ended", c.name)
	}
	return nil
}

// whereabouts is where the porter finds a joined namespace; one of ours it
// knows by its id.
func (c *container) whereabouts() *porter.Plug {
	if c.kind != kindJoin {
		return &porter.Plug{}
	}
	return &porter.Plug{Pid: c.pid, Netns: c.reserve.Netns}
}

// Disconnect takes a container off one network. A joined namespace leaves the
// switch with its last one.
func (e *Engine) Disconnect(network, name string) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if c.onHost() {
		return api.Errorf(api.Conflict, "cannot disconnect container from host network - container should be created in host network mode")
	}
	if c.guest() {
		return api.Errorf(api.Conflict, "container %s is on the network of another container and cannot be disconnected from it", c.name)
	}
	if state != stateRunning {
		return api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	n, err := e.findNetwork(network)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	i := slices.IndexFunc(c.endpoints, func(ep *endpoint) bool { return ep.net == n })
	if i < 0 {
		e.mu.Unlock()
		return api.Errorf(api.NotFound, "container %s is not on network %s", c.name, n.cfg.Name).WithHint("tapswitch inspect %s shows where it is", c.name)
	}
	if len(c.endpoints) == 1 && c.kind == kindJoin {
		e.mu.Unlock()
		e.ended(c, 0)
		return nil
	}
	ep := c.endpoints[i]
	left := slices.Concat(c.endpoints[:i], c.endpoints[i+1:])
	var heir *endpoint
	var moving []*published
	if ep.gateway {
		if heir = heirOf(left); heir != nil {
			heir.gateway = true
		}
		moving, c.ports = c.ports, nil
	}
	c.endpoints = left
	e.mu.Unlock()
	c.wiring.Lock()
	d, last := e.unplug(ep)
	for _, p := range moving {
		e.retract(p)
	}
	if d != nil {
		e.left(c.name, ep)
	}
	c.wiring.Unlock()
	e.closeDevice(d)
	e.mu.Lock()
	c.last = append(c.last, last)
	release([]*endpoint{ep})
	e.mu.Unlock()
	e.publishNames()
	if heir != nil {
		err = e.inherit(c, heir, moving)
	}
	e.policyOf(c)
	e.rewriteFiles(c)
	e.save()
	return err
}

// inherit gives an endpoint the default route, and what was published through
// the one that had it.
func (e *Engine) inherit(c *container, heir *endpoint, moving []*published) error {
	if !c.reserve.NoRoute {
		plug := c.whereabouts()
		plug.Route = &interfaces(&container{endpoints: []*endpoint{heir}}, true, true)[0]
		plug.Route.Replace = true // it had another's, or none
		if _, _, err := e.porter.Call(porter.Message{Op: porter.OpPlug, Name: c.id, Plug: plug}); err != nil {
			return api.Errorf(api.Failed, "container %s: default route by %s: %v", c.name, heir.net.cfg.Name, err)
		}
	}
	var specs []forward.Spec
	for _, p := range moving {
		if !slices.Contains(specs, p.spec) { // one has a listener for each family
			specs = append(specs, p.spec)
		}
	}
	for _, s := range specs {
		e.mu.Lock()
		ports, err := e.bindPorts(heir, []string{s.Arg()})
		e.mu.Unlock()
		if err != nil {
			return err
		}
		c.wiring.Lock()
		err = e.serve(heir, ports)
		c.wiring.Unlock()
		if err != nil {
			closePorts(ports)
			return api.Errorf(api.Failed, "container %s: %v", c.name, err)
		}
		e.mu.Lock()
		c.ports = append(slices.Clone(c.ports), ports...)
		e.mu.Unlock()
	}
	return nil
}
