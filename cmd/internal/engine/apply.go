package engine

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
)

// Apply makes what the configuration says and is not there, and takes away
// what came from an earlier one and is no longer in it. What did not change is
// not touched, nor is what came by command or API.
func (e *Engine) Apply(c porter.Config) error {
	e.applying.Lock()
	defer e.applying.Unlock()
	if err := e.checkHosts(c.Config); err != nil {
		return err
	}
	e.mu.Lock()
	if err := e.refuse(c.Config); err != nil {
		e.mu.Unlock()
		return err
	}
	if err := e.applySOCKS(c.Config.SOCKS); err != nil {
		e.mu.Unlock()
		return err
	}
	e.config = c
	doomed, fresh := e.difference(c.Config)
	e.mu.Unlock()
	for _, d := range doomed {
		e.remove(d)
	}
	if err := e.applyNetworks(c.Config); err != nil {
		return err
	}
	e.applyPolicies(c.Config)
	e.upstreams.Store(&upstreamSet{c.Config.DNS.Upstream, c.Config.DNS.Domains})
	e.dns.Flush()
	e.refreshPolicy()
	e.publishNames()
	e.hub.setPast(e, c.Config.CaptureRing)
	if err := e.createAll(fresh); err != nil {
		return err
	}
	e.tell(api.Event{Type: "config", Action: "applied", Text: c.Config.Path})
	return nil
}

// refuse says what of a configuration cannot be beside what came by command or
// API, before anything is changed. The lock is held.
func (e *Engine) refuse(c *configs.Config) error {
	changed := e.changedNetworks(c)
	for _, n := range e.sortedNetworks() {
		for _, w := range c.Networks {
			if n.origin != "file" && (w.Name == n.cfg.Name || w.Subnet.Overlaps(n.cfg.Subnet) || w.Subnet6.IsValid() && n.cfg.Subnet6.IsValid() && w.Subnet6.Overlaps(n.cfg.Subnet6)) {
				return api.Errorf(api.Conflict, "network %s (%s) meets network %s (%s), made by command", w.Name, w.Subnet, n.cfg.Name, n.cfg.Subnet).WithHint("remove that first: tapswitch network rm %s", n.cfg.Name)
			}
		}
	}
	named := func(name string) bool {
		return slices.ContainsFunc(c.Egress, func(x configs.Egress) bool { return x.Name == name })
	}
	for name, x := range e.egress {
		users := slices.DeleteFunc(e.viewEgress(name).Users, e.ofFile)
		switch {
		case x.origin != "file" && named(name):
			return api.Errorf(api.Conflict, "egress policy %s is there already, made by command", name).WithHint("remove it first: tapswitch egress rm %s", name)
		case x.origin == "file" && !named(name) && len(users) > 0:
			return api.Errorf(api.Conflict, "egress policy %s goes, but %s has it", name, strings.Join(users, ", ")).WithHint("remove that first")
		}
	}
	for _, x := range e.sortedContainers() {
		if x.origin == "file" {
			continue
		}
		for _, ep := range x.endpoints {
			if name := ep.net.cfg.Name; changed[name] && x.state != stateExited {
				return api.Errorf(api.Conflict, "network %s changes, but container %s is on it", name, x.name).WithHint("remove it first: tapswitch rm -f %s", x.name)
			}
		}
		if slices.ContainsFunc(c.Containers, func(y configs.Container) bool { return y.Name == x.name }) {
			return api.Errorf(api.Conflict, "container %s is there already, made by command", x.name).WithHint("remove it first: tapswitch rm -f %s", x.name)
		}
	}
	return nil
}

// ofFile says whether a user of a policy, container:NAME or network:NAME, comes
// from the file. The lock is held.
func (e *Engine) ofFile(user string) bool {
	kind, name, _ := strings.Cut(user, ":")
	if kind == "network" {
		return e.networks[name] != nil && e.networks[name].origin == "file"
	}
	return e.names[name] != nil && e.names[name].origin == "file"
}

// difference lists containers of the file to be taken away, and those to be
// made. The lock is held.
func (e *Engine) difference(c *configs.Config) (doomed []*container, fresh []configs.Container) {
	want := make(map[string]configs.Container)
	for _, x := range c.Containers {
		want[x.Name] = x
	}
	changed := e.changedNetworks(c)
	going := make(map[string]bool)
	judge := func(guests bool) {
		for _, old := range e.containers {
			if old.origin != "file" || old.guest() != guests {
				continue
			}
			w, ok := want[old.name]
			from, _ := old.from.(configs.Container)
			if ok && old.state != stateExited && from.Equal(w) && !old.uses(changed) && !going[strings.TrimPrefix(modeOf(old.create.Networks), modeContainer)] {
				delete(want, old.name)
				continue
			}
			doomed, going[old.name] = append(doomed, old), true
		}
	}
	judge(false)
	judge(true) // they go with those whose network they are on
	for _, x := range c.Containers {
		if w, ok := want[x.Name]; ok {
			fresh = append(fresh, w)
		}
	}
	return doomed, fresh
}

func (c *container) uses(names map[string]bool) bool {
	for _, ep := range c.endpoints {
		if names[ep.net.cfg.Name] {
			return true
		}
	}
	return false
}

// changedNetworks are those of the file that go or become different.
func (e *Engine) changedNetworks(c *configs.Config) map[string]bool {
	want := make(map[string]configs.Network)
	for _, n := range c.Networks {
		want[n.Name] = n
	}
	changed := make(map[string]bool)
	for name, n := range e.networks {
		if w, ok := want[name]; n.origin == "file" && (!ok || !w.Equal(n.cfg)) {
			changed[name] = true
		}
	}
	return changed
}

func (e *Engine) applyNetworks(c *configs.Config) error {
	fresh, err := e.exchangeNetworks(c)
	for _, n := range fresh {
		if err == nil {
			err = e.hostInterface(n)
		}
	}
	return err
}

// exchangeNetworks takes away what changes, and makes what is not there.
func (e *Engine) exchangeNetworks(c *configs.Config) (fresh []*network, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.changedNetworks(c) {
		if err := e.removeNetwork(e.networks[name]); err != nil {
			return fresh, fmt.Errorf("network %s changes: %w", name, err)
		}
	}
	for _, n := range c.Networks {
		if e.networks[n.Name] == nil {
			made, err := e.addNetwork(n, "file")
			if err != nil {
				return fresh, err
			}
			fresh = append(fresh, made)
		}
	}
	return fresh, nil
}

// createAll makes containers. Addresses are taken in the file's order, those
// that are given first, so that the same file gives the same ones each time;
// then several are made at a time, since most of the time is the kernel's. They
// are listed as they stand in the file.
func (e *Engine) createAll(list []configs.Container) error {
	place := make(map[string]uint64)
	e.mu.Lock()
	for _, c := range list {
		e.order++
		place[c.Name] = e.order
	}
	e.mu.Unlock()
	slices.SortStableFunc(list, func(a, b configs.Container) int { return e.chosen(a) - e.chosen(b) })
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	fail := func(c configs.Container, err error) {
		mu.Lock()
		errs = append(errs, fmt.Errorf("container %s: %w", c.Name, err))
		mu.Unlock()
	}
	slots := make(chan struct{}, 8)
	level := func(c configs.Container) int { // of those that others need
		switch {
		case len(c.Networks) > 0 && strings.HasPrefix(c.Networks[0].Network, modeContainer):
			return 2
		case len(c.Links) > 0:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b configs.Container) int { return level(a) - level(b) })
	for i, c := range list {
		if i > 0 && level(c) > level(list[i-1]) {
			wg.Wait()
		}
		finish, err := e.createConfigured(c)
		if err != nil {
			fail(c, err)
			continue
		}
		e.mu.Lock()
		if x := e.names[c.Name]; x != nil {
			x.order = place[c.Name]
		}
		e.mu.Unlock()
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			if err := finish(); err != nil {
				fail(c, err)
			}
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// chosen is how many addresses are ours to choose.
func (e *Engine) chosen(c configs.Container) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range c.Networks {
		if !a.IP.IsValid() {
			n++
		}
		if net := e.networks[a.Network]; net != nil && net.pool6 != nil && !a.IP6.IsValid() {
			n++
		}
	}
	return n
}

// createConfigured takes what a configured container needs, and returns what
// makes it.
func (e *Engine) createConfigured(c configs.Container) (finish func() error, err error) {
	var nets []api.Attachment
	for _, a := range c.Networks {
		w := api.Attachment{Network: a.Network, Aliases: a.Aliases, MAC: net.HardwareAddr(a.MAC).String(), GwPriority: a.GwPriority, Sysctls: a.Sysctls}
		if a.IP.IsValid() {
			w.IP = a.IP.String()
		}
		if a.IP6.IsValid() {
			w.IP6 = a.IP6.String()
		}
		nets = append(nets, w)
	}
	if len(nets) == 0 {
		nets = []api.Attachment{{Network: modeNone}}
	}
	if len(nets) == 1 {
		nets[0].IfName = c.IfName
	}
	if c.Pid > 0 || c.Netns != "" {
		return e.joinConfigured(c, nets)
	}
	_, finish, err = e.prepare(api.Create{Name: c.Name, Networks: nets, Publish: c.Publish, Command: c.Command, Env: c.Env, Workdir: c.Workdir,
		Links: c.Links, Expose: c.Expose, Egress: c.Egress, Shape: c.Shape, Hostname: c.Hostname, Init: true, PlainTAP: !c.Offload, Spoof: c.Spoof, Origin: "file"}, nil, c)
	return finish, err
}

func (e *Engine) joinConfigured(c configs.Container, nets []api.Attachment) (func() error, error) {
	r := api.Reserve{Name: c.Name, Networks: nets, Publish: c.Publish, PlainTAP: !c.Offload, Spoof: c.Spoof, Pid: c.Pid, Netns: c.Netns, Origin: "file", Lifetime: lifeError, Egress: c.Egress, Shape: c.Shape}
	if c.Pid > 0 {
		r.Lifetime = lifePidfd
	}
	return e.prepareRejoin(r, 0, c)
}

// prepareRejoin takes addresses for a namespace, and returns what lets the
// porter enter it and puts it on the switch.
func (e *Engine) prepareRejoin(r api.Reserve, startTime uint64, from any) (func() error, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.checkEgress(r.Egress); err != nil {
		return nil, err
	}
	c, err := e.newContainer(r.Name, r.Origin, kindJoin, r.Networks, r.Publish)
	if err != nil {
		return nil, err
	}
	c.reserve, c.spoof, c.from = r, r.Spoof, from
	c.create.Hostname, c.create.Links, c.create.Expose = r.Hostname, r.Links, r.Expose
	return func() error { return e.rejoin(c, startTime) }, nil
}

func (e *Engine) rejoin(c *container, startTime uint64) error {
	r := c.reserve
	ifs := interfaces(c, !r.PlainTAP, !r.NoRoute)
	_, fds, err := e.porter.Call(porter.Message{Op: porter.OpRejoin, Rejoin: &porter.Rejoin{Pid: r.Pid, StartTime: startTime, Netns: r.Netns, Interfaces: ifs}})
	if err == nil {
		err = e.enter(c, r.Pid, fds)
	}
	if err != nil {
		e.forget(c)
	}
	return err
}

// Made lists what is there, for `up` to print.
func (e *Engine) Made() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, n := range e.sortedNetworks() {
		v4, _ := n.gateways()
		fmt.Fprintf(&b, "network %s", n.cfg.Name)
		sep := ""
		if !n.cfg.NoIPv4 {
			fmt.Fprintf(&b, " %s gateway %s", n.cfg.Subnet, cmp.Or(written(v4), "none"))
			sep = ","
		}
		if n.cfg.Subnet6.IsValid() {
			b.WriteString(sep)
			fmt.Fprintf(&b, " %s gateway %s", n.cfg.Subnet6, n.cfg.Gateway6)
		}
		b.WriteByte('\n')
	}
	for _, c := range e.sortedContainers() {
		fmt.Fprintf(&b, "container %s", c.name)
		for _, ep := range c.endpoints {
			fmt.Fprintf(&b, " %s on %s", ep.first(), ep.net.cfg.Name)
		}
		b.WriteByte('\n')
		for _, p := range c.ports {
			if !p.addr.IsValid() {
				fmt.Fprintf(&b, "published %s:%d/%s, routed\n", c.name, p.spec.ContainerPort, p.spec.Proto)
				continue
			}
			fmt.Fprintf(&b, "published %s -> %s:%d/%s\n", p.addr, c.name, p.spec.ContainerPort, p.spec.Proto)
		}
	}
	return b.String()
}
