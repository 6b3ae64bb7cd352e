package engine

import (
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/switch"
)

// Some callers set up one network after the other, each with a call of its own
// (CNI, netavark). They name the namespace by a key of theirs, and what they
// reserve under a key that is there joins that container. The interface is made
// with the caller's rights, as the first was: the porter may not see the
// namespace.

// byKey is the joined container that a caller knows by key, or nil. The lock is
// held.
func (e *Engine) byKey(key string) *container {
	for _, c := range e.containers {
		if c.kind == kindJoin && c.reserve.Key == key && !c.ending {
			return c
		}
	}
	return nil
}

// reserveMore takes addresses on further networks for a joined container. What
// concerns all of it, such as its name, stays as it was. The lock is held.
func (e *Engine) reserveMore(c *container, r api.Reserve) (*api.Reservation, error) {
	switch {
	case c.state != stateRunning:
		return nil, api.Errorf(api.Conflict, "container %s is being joined by somebody else", c.name).WithHint("try again")
	case len(r.Publish) > 0:
		return nil, api.Errorf(api.BadRequest, "container %s is there already", c.name).WithHint("publish further ports with POST /v1/containers/%s/publish", c.name)
	case len(r.Networks) == 0:
		r.Networks = []api.Attachment{{}}
	}
	var more []*endpoint
	for _, w := range r.Networks {
		others := slices.Concat(c.endpoints, more)
		ep, err := (*endpoint)(nil), error(nil)
		if w.IfName != "" && slices.ContainsFunc(others, func(x *endpoint) bool { return x.ifname == w.IfName }) {
			err = api.Errorf(api.Conflict, "container %s has an interface %s already", c.name, w.IfName)
		} else {
			ep, err = e.planOne(w, others)
		}
		if err != nil {
			release(more)
			return nil, err
		}
		more = append(more, ep)
	}
	return e.hold(newID(), &reservation{c: c, more: more}, more), nil
}

// enterMore puts the TAPs of further networks on the switch; it takes the
// descriptors over. On error those that are on it are taken off, and the
// addresses are still reserved.
func (e *Engine) enterMore(r *reservation, fds []int) error {
	c := r.c
	if len(fds) != len(r.more) {
		closeFDs(fds)
		return api.Errorf(api.BadRequest, "container %s has %d further interfaces, not %d", c.name, len(r.more), len(fds))
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	var err error
	for _, ep := range r.more { // it may have changed since
		if slices.ContainsFunc(c.endpoints, func(x *endpoint) bool { return x.net == ep.net || x.ifname == ep.ifname || x.gateway && ep.gateway }) {
			err = api.Errorf(api.Conflict, "container %s was put on another network meanwhile", c.name).WithHint("try again")
		}
		if e.networks[ep.net.cfg.Name] != ep.net {
			err = api.Errorf(api.NotFound, "network %s was removed meanwhile", ep.net.cfg.Name)
		}
	}
	e.mu.Unlock()
	if err != nil {
		closeFDs(fds)
		return err
	}
	for i, ep := range r.more {
		if err := e.seat(c, ep, fds[i]); err != nil {
			closeFDs(fds[i+1:])
			e.unseat(c, r.more[:i])
			return err
		}
	}
	e.publishNames()
	e.policyOf(c)
	return nil
}

// unseat takes endpoints off the switch again.
func (e *Engine) unseat(c *container, eps []*endpoint) {
	e.mu.Lock()
	c.endpoints = slices.DeleteFunc(slices.Clone(c.endpoints), func(x *endpoint) bool { return slices.Contains(eps, x) })
	e.mu.Unlock()
	var devices []vswitch.Device
	c.wiring.Lock()
	for _, ep := range eps {
		if d, _ := e.unplug(ep); d != nil {
			devices = append(devices, d)
			e.left(c.name, ep)
		}
	}
	c.wiring.Unlock()
	for _, d := range devices {
		e.closeDevice(d)
	}
}
