package engine

import (
	"errors"
	"fmt"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/forward"
)

// What commands have changed on a container of the file lasts over a restart,
// too: the file says how it begins, this what came after. A container whose
// place in the file changes begins anew.

// savedChange is what a container of the file has beyond what the file gives
// it, or no more.
type savedChange struct {
	Name       string           `json:"name"`
	From       string           `json:"from"` // what the file said then
	Connect    []api.Attachment `json:"connect,omitempty"`
	Disconnect []string         `json:"disconnect,omitempty"`
	Publish    []string         `json:"publish,omitempty"`
	Unpublish  []string         `json:"unpublish,omitempty"`
	Shape      *configs.Shape   `json:"shape,omitempty"`
}

func (c *savedChange) empty() bool {
	return len(c.Connect)+len(c.Disconnect)+len(c.Publish)+len(c.Unpublish) == 0 && c.Shape == nil
}

// change compares a container of the file with what the file says. The lock is
// held.
func (c *container) change() (out savedChange) {
	from, ok := c.from.(configs.Container)
	if !ok {
		return out
	}
	out.Name, out.From = c.name, fingerprint(from)
	in := func(name string) bool {
		return slices.ContainsFunc(from.Networks, func(a configs.Attachment) bool { return a.Network == name })
	}
	for _, ep := range c.endpoints {
		if name := ep.net.cfg.Name; !in(name) {
			out.Connect = append(out.Connect, ep.asked())
		}
	}
	for _, a := range from.Networks {
		if !c.guest() && !slices.ContainsFunc(c.endpoints, func(ep *endpoint) bool { return ep.net.cfg.Name == a.Network }) {
			out.Disconnect = append(out.Disconnect, a.Network)
		}
	}
	var own []forward.Spec
	for _, text := range from.Publish {
		specs, err := forward.ParseSpec(text)
		if err != nil {
			continue
		}
		own = append(own, specs...)
		for _, s := range specs {
			if !slices.ContainsFunc(c.ports, func(p *published) bool { return p.is(s) }) {
				out.Unpublish = append(out.Unpublish, s.Arg())
			}
		}
	}
	for _, p := range c.ports {
		if arg := p.spec.Arg(); !slices.ContainsFunc(own, p.is) && !slices.Contains(out.Publish, arg) {
			out.Publish = append(out.Publish, arg)
		}
	}
	if s := *c.shape(); s != from.Shape {
		out.Shape = &s
	}
	return out
}

// asked is what to ask for to get the endpoint again.
func (ep *endpoint) asked() api.Attachment {
	w := api.Attachment{Network: ep.net.cfg.Name, IP: written(ep.ip), MAC: ep.mac.String(), Aliases: ep.aliases, IfName: ep.ifname, GwPriority: ep.priority, Sysctls: ep.sysctls}
	if ep.ip6.IsValid() {
		w.IP6 = ep.ip6.String()
	}
	return w
}

// fingerprint tells whether the file says the same of a container.
func fingerprint(c configs.Container) string {
	c.Line = 0
	return fmt.Sprintf("%+v", c)
}

// again makes a saved change once more.
func (e *Engine) again(ch savedChange) error {
	e.mu.Lock()
	c := e.names[ch.Name]
	if c == nil || c.origin != "file" {
		e.mu.Unlock()
		return nil // the file has it no more
	}
	from, _ := c.from.(configs.Container)
	e.mu.Unlock()
	if fingerprint(from) != ch.From {
		return nil
	}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", ch.Name, err))
		}
	}
	for _, a := range ch.Connect {
		note(e.Connect(a.Network, ch.Name, a))
	}
	for _, n := range ch.Disconnect {
		note(e.Disconnect(n, ch.Name))
	}
	if len(ch.Unpublish) > 0 {
		_, err := e.Unpublish(ch.Name, ch.Unpublish)
		note(err)
	}
	if len(ch.Publish) > 0 {
		_, err := e.Publish(ch.Name, ch.Publish)
		note(err)
	}
	if ch.Shape != nil {
		e.mu.Lock()
		*c.shape() = configs.Shape{}
		e.mu.Unlock()
		_, err := e.Update(ch.Name, *ch.Shape)
		note(err)
	}
	return errors.Join(errs...)
}
