package engine

import (
	"net/netip"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/forward"
)

// Publish publishes further ports of a container that runs, all or none.
func (e *Engine) Publish(name string, specs []string) ([]api.Port, error) {
	return e.publishTo(name, specs, netip.Addr{})
}

func (e *Engine) publishTo(name string, specs []string, to netip.Addr) ([]api.Port, error) {
	c, state, err := e.look(name)
	if err != nil {
		return nil, err
	}
	if state != stateRunning {
		return nil, api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	gw := gatewayOf(c.endpoints)
	if gw == nil {
		e.mu.Unlock()
		return nil, api.Errorf(api.Conflict, "container %s: published ports need a network that is not internal", c.name)
	}
	ports, err := e.bindPorts(gw, specs)
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		p.to = to
	}
	c.wiring.Lock()
	if err = e.serve(gw, ports); err != nil {
		for _, p := range ports {
			e.withdraw(p)
		}
	}
	c.wiring.Unlock()
	if err != nil {
		return nil, api.Errorf(api.Failed, "container %s: %v", c.name, err)
	}
	e.mu.Lock()
	c.ports = append(slices.Clone(c.ports), ports...)
	e.mu.Unlock()
	e.policyOf(c)
	e.save()
	return portViews(ports), nil
}

// Unpublish closes published ports of a container: those that specs name, where
// what a spec leaves out stands for any. Connections that came through them go
// on. If one names none, nothing is changed.
func (e *Engine) Unpublish(name string, specs []string) ([]api.Port, error) {
	c, state, err := e.look(name)
	if err != nil {
		return nil, err
	}
	if state != stateRunning {
		return nil, api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	var gone []*published
	for _, text := range specs {
		wanted, err := forward.ParseSpec(text)
		if err != nil {
			e.mu.Unlock()
			return nil, api.Errorf(api.BadRequest, "%v", err)
		}
		before := len(gone)
		for _, p := range c.ports {
			if slices.ContainsFunc(wanted, func(w forward.Spec) bool { return p.is(w) }) && !slices.Contains(gone, p) {
				gone = append(gone, p)
			}
		}
		if len(gone) == before {
			e.mu.Unlock()
			return nil, api.Errorf(api.NotFound, "container %s does not publish %s", c.name, text).WithHint("tapswitch port %s lists what it publishes", c.name)
		}
	}
	c.ports = slices.DeleteFunc(slices.Clone(c.ports), func(p *published) bool { return slices.Contains(gone, p) })
	e.mu.Unlock()
	c.wiring.Lock()
	for _, p := range gone {
		e.withdraw(p)
	}
	c.wiring.Unlock()
	e.policyOf(c)
	e.save()
	return portViews(gone), nil
}

// is says whether w means p.
func (p *published) is(w forward.Spec) bool {
	if !p.addr.IsValid() { // routed
		return p.spec.Proto == w.Proto && p.spec.ContainerPort == w.ContainerPort
	}
	return p.spec.Proto == w.Proto && p.spec.ContainerPort == w.ContainerPort && (w.HostPort == 0 || w.HostPort <= p.addr.Port() && p.addr.Port() <= w.HostPortEnd) &&
		(!w.HostIP.IsValid() || w.HostIP == p.addr.Addr())
}

// withdraw closes a listener, whoever has it now.
func (e *Engine) withdraw(p *published) {
	if !p.live {
		forward.CloseAll([]forward.Listener{{FD: p.fd}})
	} else if p.fd >= 0 {
		e.path.unpublish(p.home, p.id)
		e.retract(p)
	}
	p.live, p.fd = true, -1
}

func portViews(ports []*published) []api.Port {
	out := []api.Port{}
	for _, p := range ports {
		out = append(out, p.view())
	}
	return out
}

func (p *published) view() api.Port {
	if !p.addr.IsValid() { // routed: no port of the host's
		return api.Port{Protocol: p.spec.Proto.String(), ContainerPort: p.spec.ContainerPort}
	}
	return api.Port{Protocol: p.spec.Proto.String(), HostIP: p.addr.Addr().String(), HostPort: p.addr.Port(), ContainerPort: p.spec.ContainerPort}
}
