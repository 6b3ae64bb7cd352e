package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
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
	changing sync.Mutex // its networks; one change after the other
	wiring   sync.Mutex // its ports on the switch; taken after the engine's lock is let go

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

// onHost says whether the container has no network namespace of its own.
func (c *container) onHost() bool { return modeOf(c.create.Networks) == modeHost }

// guest says whether the container is on the network of another.
func (c *container) guest() bool { return strings.HasPrefix(modeOf(c.create.Networks), modeContainer) }

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
	if len(ports) > 0 && gatewayOf(eps) == nil {
		release(eps)
		return nil, api.Errorf(api.BadRequest, "published ports need a network that is not internal")
	}
	bound, err := e.bindPorts(gatewayOf(eps), ports)
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
			c.state = stateExited
			close(c.done)
		}
	}
	e.mu.Unlock()
	e.publishNames()
	e.policyOf(c) // its links, egress and open ports are nobody's
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
	if modeOf(req.Networks) == modeHost {
		switch {
		case kind == kindHold:
			closeFDs(files)
			return nil, nil, api.Errorf(api.BadRequest, "a container without a command has nothing on the host's network")
		case req.PlainTAP || req.Spoof || req.Egress != "" || req.Shape != (api.Shape{}) || len(req.Links) > 0:
			closeFDs(files)
			return nil, nil, api.Errorf(api.BadRequest, "conflicting options: the host's network has no interface of ours")
		}
		if len(req.Publish) > 0 {
			e.log.Warn("published ports are discarded when using host network mode", "container", req.Name)
			req.Publish = nil
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.checkGuest(&req, kind); err != nil {
		closeFDs(files)
		return nil, nil, err
	}
	for _, s := range req.Expose {
		if _, err := configs.ParseExpose(s); err != nil {
			closeFDs(files)
			return nil, nil, api.Errorf(api.BadRequest, "%v", err)
		}
	}
	if req.Publishes {
		req.Publish = append(slices.Clone(req.Publish), exposed(req)...)
	}
	if err = e.checkEgress(req.Egress); err == nil {
		err = checkShape(req.Shape)
	}
	if err == nil {
		c, err = e.newContainer(req.Name, req.Origin, kind, req.Networks, req.Publish)
	}
	if err == nil {
		if err = e.checkLinks(&req, c.endpoints); err != nil {
			e.unlist(c)
			release(c.endpoints)
			closePorts(c.ports)
		}
	}
	if err != nil {
		closeFDs(files)
		return nil, nil, err
	}
	c.create, c.spoof, c.from = req, req.Spoof, from
	c.attached = len(files) > 0 || req.Ephemeral
	spec := e.spec(c)
	return c, func() error {
		if err := e.attachGuest(c, spec); err != nil {
			closeFDs(files)
			e.forget(c)
			return err
		}
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
	e.policyOf(c) // before its first packet
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
	e.tellLinkers(c)
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
	s := &porter.Spec{ID: c.id, Name: c.name, Hostname: host, Mask: e.start.Mask, Command: req.Command, Env: environment(req, host, e.linkEnv(c)),
		Workdir: req.Workdir, TTY: req.TTY, Init: req.Init, Hold: c.kind == kindHold, HostNet: c.onHost()}
	if name, err := os.Hostname(); err == nil && s.HostNet && req.Hostname == "" {
		s.Hostname = name
	}
	s.Resolv, s.Hosts = e.files(c, host)
	s.Interfaces, s.Sysctls = interfaces(c, !req.PlainTAP, true), sysctls(c.endpoints)
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
func environment(req api.Create, host string, links []string) []string {
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=" + host}, links...)
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
		i := api.Interface{Name: ep.ifname, MAC: ep.mac.String(), MTU: n.MTU, Offload: offload}
		if ep.ip.IsValid() {
			i.Addrs = append(i.Addrs, fmt.Sprintf("%s/%d", ep.ip, n.Subnet.Bits()))
		}
		if ep.ip6.IsValid() {
			i.Addrs = append(i.Addrs, fmt.Sprintf("%s/%d", ep.ip6, n.Subnet6.Bits()))
		}
		if ep.gateway && routes {
			v4, v6 := ep.net.routers()
			i.Gateway = written(v4)
			if ep.ip6.IsValid() {
				i.Gateway6 = v6.String()
			}
		}
		out = append(out, i)
	}
	return out
}
