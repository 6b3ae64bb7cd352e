// Package engine is the control plane of the switch: networks, containers and
// published ports, and how they become bridges, ports and listeners. It lives
// in the worker; what needs namespaces it asks the porter for.
//
//	engine.go      the engine and its lock
//	network.go     networks: addresses, bridges
//	hostif.go      the host's own interface on a network
//	create_network.go  networks by command: default pools, Docker's options
//	network_options.go  more of them, and our own
//	container.go   containers of ours: create, run, stop, remove
//	join.go        namespaces of others: reserve, join, leave
//	given.go       what an engine with ids of its own brings along
//	more.go        further networks that their callers add
//	attach.go      endpoints: ports of the switch, published ports
//	publish.go     further published ports for a container that runs
//	forward.go     published ports that lead to other addresses
//	connect.go     further networks for a container that runs
//	gateway.go     which network has the default route; options of one endpoint
//	policy.go      who may talk to whom: rules, routes, egress policies
//	trace.go       what would become of a packet, and expectations of that
//	trace_inbound.go  the same for clients of published ports
//	guest.go       containers on the network of another
//	shape.go       rates, delay and loss of a container
//	capture.go     captures: who watches (capture_fate.go: what became of a frame, capture_owner.go: whose
//	               it is, capture_view.go: what is written, capture_past.go: what is kept)
//	mirror.go      containers reached at loopback addresses of the host
//	groups.go      multicast groups and who asked for them
//	why.go         what came to nothing, to be asked for later
//	questions.go   what DNS was asked, and what became of it
//	flows.go       flows listed and ended
//	live.go        real packets, followed through the steps of their decision
//	events.go      what happens, as it happens, to those who follow
//	neigh.go       who is where on which network
//	dial.go        containers reached from the host without a published port
//	links.go       --link: hosts entries and environment
//	datapath.go    the switch's shards and their gateways
//	apply.go       the configuration: what differs from what is there
//	state.go       what lasts over a restart
//	names.go       DNS, resolv.conf and hosts
//	source.go      the address that questions leave from
//	hostaddr.go    the host's own addresses, as they change
//	lifetime.go    processes whose end takes their port away
//	view.go        what the API shows
//	measure.go     what metrics show
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/cmd/internal/porter"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Porter is what the engine asks the porter for: one request, one reply.
type Porter interface {
	Call(m porter.Message, fds ...int) (porter.Message, []int, error)
	Tell(m porter.Message)
}

// Engine holds everything that was made. Its lock guards the maps and is not
// held while the porter works.
type Engine struct {
	log    *slog.Logger
	start  porter.Start
	porter Porter
	path   *datapath
	dns    *forward.DNS
	resolv *forward.Resolv

	applying   sync.Mutex // one configuration is applied after the other
	policing   sync.Mutex // one policy is set after the other; taken before mu
	mu         sync.Mutex
	config     porter.Config
	configErr  string
	networks   map[string]*network
	containers map[string]*container // by id
	names      map[string]*container // by name
	reserved   map[string]*reservation
	codes      map[string]exited // of containers that removed themselves
	sessions   map[string]chan int
	rules      []*ruleEntry // in their order; a change makes a new list
	routes     []*ruleEntry
	egress     map[string]*egressEntry
	early      []error     // what was wrong with the state file when rules were read from it
	kept       []*keptRule // until the first configuration is applied
	lastRule   uint32      // the highest number that a rule has had
	policy     nat.Policy  // as the gateways have it
	openings   *forward.Openings
	hub        hub
	memory     memory
	questions  questionLog
	events     events
	live       liveHub
	socks      net.Listener // under applying
	socksAt    string
	order      uint64
	started    time.Time
	closing    bool
	restored   bool      // the state file has been read, and may be written
	lastTotals api.Stats // of containers that are gone

	askers    atomic.Pointer[map[string]func(name string) bool] // whose egress is a list, and which names it holds
	upstreams atomic.Pointer[upstreamSet]
	table     atomic.Pointer[nameTable]
	lifetimes *lifetimes
	mirrors   chan struct{} // wakes who keeps mirrors
	closer    chan struct{} // bounds threads that close TAPs
	asking    atomic.Int64  // DNS questions in flight
	ctx       context.Context
	cancel    context.CancelFunc
}

type exited struct {
	code int
	at   time.Time
}

// New makes an engine with a running switch and nothing on it.
func New(start porter.Start, p Porter, log *slog.Logger) (*Engine, error) {
	e := &Engine{
		log: log, start: start, porter: p, started: time.Now(),
		networks: make(map[string]*network), containers: make(map[string]*container), names: make(map[string]*container),
		reserved: make(map[string]*reservation), codes: make(map[string]exited), sessions: make(map[string]chan int),
		egress: make(map[string]*egressEntry), openings: forward.NewOpenings(nil),
		closer: make(chan struct{}, 32), mirrors: make(chan struct{}, 1), resolv: forward.NewResolv("/etc/resolv.conf", nil),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.table.Store(&nameTable{})
	e.upstreams.Store(&upstreamSet{})
	e.resolv.Open = e.openFile
	logf := func(format string, args ...any) { log.Info(sprintf(format, args...)) }
	var err error
	e.dns = forward.NewDNS(forward.DNSConfig{Names: e, Upstreams: e.resolvers, Split: e.split, Cache: start.Config.Config.DNS.Cache, Closed: e.closed, Allowed: e.mayAsk, Told: e.told, Answered: e.answered, Dial: e.dialUpstream, Logger: log})
	limits := start.Config.Config.Limits
	e.path, err = newDatapath(start.Config.Config.Threads, vswitch.Config{Logf: logf, Gone: e.portGone},
		nat.Config{Local: e, Logf: logf, Source4: start.Source4, Source6: start.Source6, PerPort: limits.Flows, HalfOpen: limits.HalfOpen, Reassemblies: limits.Fragments})
	if err != nil {
		return nil, err
	}
	if e.lifetimes, err = newLifetimes(); err != nil {
		return nil, err
	}
	e.path.Run()
	e.upstreams.Store(&upstreamSet{start.Config.Config.DNS.Upstream, start.Config.Config.DNS.Domains})
	e.refreshPolicy()
	go e.watchHost()
	go e.keepMirrors()
	return e, nil
}

// Done is closed when the engine is about to end.
func (e *Engine) Done() <-chan struct{} { return e.ctx.Done() }

// Close takes all ports away and stops the switch. Containers are the porter's
// to end.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closing = true
	var all []*container
	for _, c := range e.containers {
		all = append(all, c)
	}
	e.mu.Unlock()
	e.cancel()
	e.applying.Lock()
	_ = e.applySOCKS("")
	e.applying.Unlock()
	for _, c := range all {
		e.detachAll(c)
	}
	e.path.Close()
	for range cap(e.closer) {
		e.closer <- struct{}{} // the last of those that close
	}
}

// closeDevice closes a device on a thread of its own: each takes up to 20 ms.
func (e *Engine) closeDevice(d vswitch.Device) {
	if d == nil {
		return
	}
	e.closer <- struct{}{}
	go func() {
		_ = d.Close()
		<-e.closer
	}()
}

// newID is a random id as Docker's: 64 hexadecimal digits, shown as 12.
func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// find is the container named, by name, id or an unambiguous start of an id.
// The lock is held.
func (e *Engine) find(name string) (*container, error) {
	if c := e.names[name]; c != nil {
		return c, nil
	}
	if c := e.containers[name]; c != nil {
		return c, nil
	}
	var found *container
	if len(name) >= 3 {
		for id, c := range e.containers {
			if len(id) >= len(name) && id[:len(name)] == name {
				if found != nil {
					return nil, api.Errorf(api.BadRequest, "%s names several containers", name)
				}
				found = c
			}
		}
	}
	if found == nil {
		return nil, api.Errorf(api.NotFound, "no such container: %s", name).WithHint("tapswitch ps lists them")
	}
	return found, nil
}

// look finds a container, and says in which state it is now.
func (e *Engine) look(name string) (c *container, state string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err = e.find(name); err == nil {
		state = c.state
	}
	return c, state, err
}

// Config is the configuration in force.
func (e *Engine) Config() porter.Config {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.config
}

// SetConfigError notes a configuration that was refused; status names it.
func (e *Engine) SetConfigError(s string) {
	e.mu.Lock()
	e.configErr = s
	e.mu.Unlock()
	if s != "" {
		e.tell(api.Event{Type: "config", Action: "refused", Text: s})
	}
}

// limits of descriptors, for status.
func descriptors() (used int, limit uint64) {
	if d, err := os.ReadDir("/proc/self/fd"); err == nil {
		used = len(d)
	}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		limit = r.Cur
	}
	return used, limit
}

func closeFDs(fds []int) { fdpass.CloseAll(fds) }
