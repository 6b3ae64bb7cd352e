package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Kinds of containers.
const (
	kindRun  = "run"  // a command in its own namespaces
	kindHold = "hold" // namespaces that are held open
	kindJoin = "join" // a namespace that somebody else made
)

// States of a container.
//
//	created  addresses and host ports are taken; the command does not run yet
//	running  its interfaces are on the switch
//	exited   its command has ended; interfaces and host ports are gone, the name
//	         and the log stay until rm
const (
	stateCreated = "created"
	stateRunning = "running"
	stateExited  = "exited"
)

// container is a namespace with a name on the switch.
type container struct {
	id, name  string
	kind      string
	origin    string
	created   time.Time
	order     uint64
	create    api.Create
	reserve   api.Reserve // of a joined one
	state     string
	code      int
	pid       int
	startTime uint64 // of a joined process
	spoof     bool
	attached  bool // runs on somebody's terminal: not kept over a restart
	endpoints []*endpoint
	ports     []*published
	last      []api.Stats // of interfaces that are gone
	log       string
	done      chan struct{} // closed at the end
	ending    bool
	from      any // the configuration it was made from, to tell a change
}

func gatewayOf(eps []*endpoint) *endpoint {
	for _, ep := range eps {
		if ep.gateway {
			return ep
		}
	}
	return nil
}

var nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// newContainer takes a name, addresses and host ports. On error nothing is
// taken. The lock is held.
func (e *Engine) newContainer(name, origin, kind string, nets []api.Attachment, ports []string) (*container, error) {
	if e.closing {
		return nil, api.Errorf(api.Failed, "the switch is ending")
	}
	id := newID()
	if name == "" {
		name = e.inventName()
	}
	if !nameRE.MatchString(name) {
		return nil, api.Errorf(api.BadRequest, "container name %q: letters, digits and _ . - after a letter or digit", name)
	}
	if old := e.names[name]; old != nil {
		return nil, api.Errorf(api.Conflict, "the name %s is used by container %s", name, old.id[:12]).WithHint("remove it with tapswitch rm -f %s, or choose another", name)
	}
	eps, err := e.plan(nets)
	if err != nil {
		return nil, err
	}
	if len(ports) > 0 && len(eps) == 0 {
		return nil, api.Errorf(api.BadRequest, "published ports need a network")
	}
	bound, err := e.bindPorts(name, ports)
	if err != nil {
		release(eps)
		return nil, err
	}
	e.order++
	c := &container{id: id, name: name, kind: kind, origin: origin, created: time.Now(), order: e.order, state: stateCreated,
		endpoints: eps, ports: bound, done: make(chan struct{})}
	e.containers[id], e.names[name] = c, c
	return c, nil
}

var inventFirst = []string{"brisk", "calm", "clear", "eager", "fleet", "keen", "lucid", "nimble", "quick", "ready", "steady", "swift"}
var inventLast = []string{"bridge", "cable", "fabric", "frame", "hub", "link", "node", "packet", "port", "relay", "route", "trunk"}

func (e *Engine) inventName() string {
	for {
		id := newID()
		n := inventFirst[int(id[0])%len(inventFirst)] + "-" + inventLast[int(id[1])%len(inventLast)] + "-" + id[:4]
		if e.names[n] == nil {
			return n
		}
	}
}

// forget gives up what newContainer took.
func (e *Engine) forget(c *container) {
	e.detachAll(c)
	e.mu.Lock()
	if e.containers[c.id] == c {
		e.unlist(c)
		if c.state != stateExited {
			release(c.endpoints)
		}
	}
	e.mu.Unlock()
	e.publishNames()
}

// Create makes a container and starts its command; files are its standard
// files, which the engine takes over.
func (e *Engine) Create(req api.Create, files []int) (*api.Container, error) {
	c, err := e.make(req, files, nil)
	if err != nil {
		return nil, err
	}
	e.save()
	e.mu.Lock()
	defer e.mu.Unlock()
	return c.view(), nil // it may have ended and removed itself by now
}

func (e *Engine) make(req api.Create, files []int, from any) (*container, error) {
	c, finish, err := e.prepare(req, files, from)
	if err != nil {
		return nil, err
	}
	return c, finish()
}

// prepare takes a container's name, addresses and ports, and returns what makes
// it.
func (e *Engine) prepare(req api.Create, files []int, from any) (c *container, finish func() error, err error) {
	kind := kindRun
	if len(req.Command) == 0 {
		kind = kindHold
	}
	if req.Origin == "" {
		req.Origin = "api"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err = e.newContainer(req.Name, req.Origin, kind, req.Networks, req.Publish)
	if err != nil {
		closeFDs(files)
		return nil, nil, err
	}
	c.create, c.spoof, c.from = req, req.Spoof, from
	c.attached = len(files) > 0 || req.Ephemeral
	spec := e.spec(c)
	return c, func() error {
		if err := e.begin(c, spec, files); err != nil {
			e.forget(c)
			return err
		}
		return nil
	}, nil
}

// begin makes the namespaces, puts the interfaces on the switch and only then
// lets the command run: its network is there from the first instruction.
func (e *Engine) begin(c *container, spec *porter.Spec, files []int) error {
	r, taps, err := e.porter.Call(porter.Message{Op: porter.OpCreate, Spec: spec}, files...)
	closeFDs(files)
	if err != nil {
		return err
	}
	undo := func(err error) error {
		_, _, _ = e.porter.Call(porter.Message{Op: porter.OpRelease, Name: c.id})
		return err
	}
	if err := e.connect(c, taps); err != nil {
		return undo(err)
	}
	e.mu.Lock()
	dead := c.ending // while it was being connected
	if !dead {
		c.pid, c.state = r.Pid, stateRunning
	}
	e.mu.Unlock()
	if dead {
		return undo(api.Errorf(api.Failed, "container %s: its first process died", c.name))
	}
	e.publishNames()
	if c.kind == kindHold {
		return nil
	}
	if _, _, err := e.porter.Call(porter.Message{Op: porter.OpGo, Name: c.id}); err != nil {
		return undo(err)
	}
	return nil
}

// spec is what the porter needs to make the container. The lock is held.
func (e *Engine) spec(c *container) *porter.Spec {
	req := c.create
	host := req.Hostname
	if host == "" {
		host = c.name
	}
	s := &porter.Spec{ID: c.id, Name: c.name, Hostname: host, Mask: e.start.Mask, Command: req.Command, Env: environment(req, host),
		Workdir: req.Workdir, TTY: req.TTY, Init: req.Init, Hold: c.kind == kindHold}
	s.Resolv, s.Hosts = e.files(c, host)
	s.Interfaces = interfaces(c, !req.PlainTAP, true)
	for _, ep := range c.endpoints {
		s.V6 = s.V6 || ep.ip6.IsValid()
	}
	if c.kind == kindRun {
		c.log = filepath.Join(e.start.Logs, c.name+".log")
		s.Log = c.log
		if !c.attached {
			_ = os.MkdirAll(e.start.Logs, 0o700)
			_ = os.Remove(c.log)
		}
	}
	return s
}

// environment is Docker's: PATH, HOSTNAME and what was asked for. Without a
// value a name takes nothing here: the client fills those in.
func environment(req api.Create, host string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + host}
	if req.TTY {
		env = append(env, "TERM=xterm")
	}
	for _, kv := range req.Env {
		k, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(x string) bool { return strings.HasPrefix(x, k+"=") })
		env = append(env, kv)
	}
	if !slices.ContainsFunc(env, func(x string) bool { return strings.HasPrefix(x, "HOME=") }) {
		if h, err := os.UserHomeDir(); err == nil {
			env = append(env, "HOME="+h)
		}
	}
	return env
}

// interfaces says how a container's interfaces are set up inside.
func interfaces(c *container, offload, routes bool) []api.Interface {
	var out []api.Interface
	for _, ep := range c.endpoints {
		n := ep.net.cfg
		i := api.Interface{Name: ep.ifname, MAC: ep.mac.String(), MTU: n.MTU, Offload: offload,
			Addrs: []string{fmt.Sprintf("%s/%d", ep.ip, n.Subnet.Bits())}}
		if ep.ip6.IsValid() {
			i.Addrs = append(i.Addrs, fmt.Sprintf("%s/%d", ep.ip6, n.Subnet6.Bits()))
		}
		if ep.gateway && routes {
			i.Gateway = n.Gateway.String()
			if ep.ip6.IsValid() {
				i.Gateway6 = n.Gateway6.String()
			}
		}
		out = append(out, i)
	}
	return out
}

// Exited is the porter's word that a container's first process has ended.
func (e *Engine) Exited(id string, code int) {
	e.mu.Lock()
	c := e.containers[id]
	e.mu.Unlock()
	if c != nil {
		e.ended(c, code)
	}
}

// ended takes a container whose processes are gone off the switch: one of ours
// stays listed as exited, a joined one leaves.
func (e *Engine) ended(c *container, code int) {
	e.mu.Lock()
	if c.ending {
		e.mu.Unlock()
		return
	}
	c.ending = true
	e.mu.Unlock()
	e.detachAll(c)
	if c.kind != kindJoin {
		_, _, _ = e.porter.Call(porter.Message{Op: porter.OpRelease, Name: c.id})
	}
	e.mu.Lock()
	if c.state == stateExited || e.containers[c.id] != c {
		e.mu.Unlock()
		return
	}
	release(c.endpoints)
	c.state, c.code, c.pid = stateExited, code, 0
	c.ports = nil
	remove := c.kind == kindJoin || c.create.Remove
	if remove {
		e.unlist(c)
		e.keepCode(c)
		if c.log != "" {
			_ = os.Remove(c.log)
		}
	}
	close(c.done)
	e.mu.Unlock()
	e.log.Info("container ended", "container", c.name, "exit_code", code)
	e.publishNames()
	e.save()
}

// unlist takes a container out of the maps; its counters stay in the totals.
// The lock is held.
func (e *Engine) unlist(c *container) {
	if e.containers[c.id] != c {
		return
	}
	delete(e.containers, c.id)
	delete(e.names, c.name)
	t := &e.lastTotals
	for _, s := range c.last {
		t.RxFrames, t.RxBytes = t.RxFrames+s.RxFrames, t.RxBytes+s.RxBytes
		t.TxFrames, t.TxBytes = t.TxFrames+s.TxFrames, t.TxBytes+s.TxBytes
		for r, n := range s.Drops {
			if t.Drops == nil {
				t.Drops = make(map[string]uint64)
			}
			t.Drops[r] += n
		}
	}
}

// keepCode remembers how a container that removed itself ended, for a wait that
// comes a moment later. The lock is held.
func (e *Engine) keepCode(c *container) {
	for id, x := range e.codes {
		if time.Since(x.at) > time.Minute {
			delete(e.codes, id)
		}
	}
	e.codes[c.id] = exited{c.code, time.Now()}
}

// Wait waits for a container's end and returns its exit code.
func (e *Engine) Wait(name string, gone <-chan struct{}) (int, error) {
	e.mu.Lock()
	if x, ok := e.codes[name]; ok {
		e.mu.Unlock()
		return x.code, nil
	}
	c, err := e.find(name)
	e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case <-c.done:
		return c.code, nil
	case <-gone:
		return 0, api.Errorf(api.Failed, "the client left")
	case <-e.ctx.Done():
		return 137, nil
	}
}

// Signal sends a signal to a container's command.
func (e *Engine) Signal(name string, sig syscall.Signal) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if c.kind != kindRun || state != stateRunning {
		return api.Errorf(api.Conflict, "container %s has no command that runs", c.name)
	}
	_, _, err = e.porter.Call(porter.Message{Op: porter.OpSignal, Name: c.id, Signal: int(sig)})
	return err
}

// Stop ends a container: SIGTERM, and SIGKILL when patience is over. A held or
// joined one leaves the switch.
func (e *Engine) Stop(name string, patience time.Duration) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	switch {
	case state == stateExited:
		return nil
	case c.kind != kindRun:
		e.ended(c, 0)
		return nil
	}
	_ = e.Signal(c.id, syscall.SIGTERM)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c.done:
		return nil
	case <-t.C:
	}
	_ = e.Signal(c.id, syscall.SIGKILL)
	select {
	case <-c.done:
	case <-e.ctx.Done():
	}
	return nil
}

// Remove takes a container away; one that runs only by force.
func (e *Engine) Remove(name string, force bool) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if state != stateExited {
		if !force && c.kind == kindRun {
			return api.Errorf(api.Conflict, "container %s is running", c.name).WithHint("stop it first, or use rm -f")
		}
		e.remove(c)
	} else {
		e.erase(c)
	}
	e.save()
	return nil
}

// remove ends and erases a container.
func (e *Engine) remove(c *container) {
	if c.kind == kindRun {
		_ = e.Signal(c.id, syscall.SIGKILL)
		select {
		case <-c.done:
		case <-e.ctx.Done():
		}
	} else {
		e.ended(c, 0)
	}
	e.erase(c)
}

func (e *Engine) erase(c *container) {
	e.mu.Lock()
	e.unlist(c)
	log := c.log
	e.mu.Unlock()
	if log != "" {
		_ = os.Remove(log)
	}
	e.publishNames()
}

// Exec runs a command in a container; files are its standard files, which the
// engine takes over. The session's end is told by Session.
func (e *Engine) Exec(name string, x api.Exec, files []int) (string, error) {
	defer closeFDs(files)
	c, state, err := e.look(name)
	if err != nil {
		return "", err
	}
	if len(x.Command) == 0 {
		return "", api.Errorf(api.BadRequest, "no command given")
	}
	if state != stateRunning {
		return "", api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	req := api.Create{Env: slices.Concat(c.create.Env, x.Env), TTY: x.TTY}
	host := c.create.Hostname
	if host == "" {
		host = c.name
	}
	spec := &porter.ExecSpec{Command: x.Command, Env: environment(req, host), Workdir: x.Workdir, TTY: x.TTY}
	if spec.Workdir == "" {
		spec.Workdir = c.create.Workdir
	}
	if c.kind == kindJoin {
		if c.pid == 0 {
			return "", api.Errorf(api.BadRequest, "container %s was joined by path: its other namespaces are unknown", c.name).WithHint("use its own tool, such as ip netns exec")
		}
		spec.Pid = c.pid
	}
	r, _, err := e.porter.Call(porter.Message{Op: porter.OpExec, Name: c.id, Exec: spec}, files...)
	if err != nil {
		return "", err
	}
	e.session(r.Name)
	return r.Name, nil
}

// session finds or makes the channel that carries a session's exit code: the
// porter's event may come before anybody waits.
func (e *Engine) session(id string) chan int {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := e.sessions[id]
	if ch == nil {
		ch = make(chan int, 1)
		e.sessions[id] = ch
	}
	return ch
}

// Ended is the porter's word that a session has ended.
func (e *Engine) Ended(id string, code int) { e.session(id) <- code }

// WaitSession waits for a session's end.
func (e *Engine) WaitSession(id string, gone <-chan struct{}) (int, error) {
	ch := e.session(id)
	select {
	case code := <-ch:
		e.mu.Lock()
		delete(e.sessions, id)
		e.mu.Unlock()
		return code, nil
	case <-gone:
		return 0, api.Errorf(api.Failed, "the client left")
	case <-e.ctx.Done():
		return 137, nil
	}
}

// SignalSession sends a signal to a session's command.
func (e *Engine) SignalSession(id string, sig syscall.Signal) error {
	_, _, err := e.porter.Call(porter.Message{Op: porter.OpSignal, Name: id, Signal: int(sig)})
	return err
}
