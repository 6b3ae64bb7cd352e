package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Events as they happen. Each follower has a bounded queue, so that a slow one
// loses events, which it is told of, and holds up nobody. Flows are logged by
// the gateways, and drops looked at once a second, only while somebody follows.

const followQueue = 4096

// events is what the followers share.
type events struct {
	count     atomic.Int32
	mu        sync.Mutex
	followers []*Follower
	logs      []*nat.FlowLog // by shard; nil while nobody follows
	stop      chan struct{}
	drain     sync.Mutex // one takes from the logs at a time, so that events keep their order
}

// Follower is one who is told.
type Follower struct {
	events chan api.Event
	mu     sync.Mutex
	missed uint64
	wants  func(*api.Event) bool
}

// Events is where the follower reads. What it was too slow for stands in front of
// the next event.
func (f *Follower) Events() <-chan api.Event { return f.events }

// Missed is how many events were lost since it was asked last.
func (f *Follower) Missed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.missed
	f.missed = 0
	return n
}

// followed says whether anybody is to be told.
func (v *events) followed() bool { return v.count.Load() > 0 }

// Follow begins to tell of the events that wants takes, or of all if it is nil.
func (e *Engine) Follow(wants func(*api.Event) bool) *Follower {
	f := &Follower{events: make(chan api.Event, followQueue), wants: wants}
	v := &e.events
	v.mu.Lock()
	defer v.mu.Unlock()
	v.followers = append(slices.Clone(v.followers), f)
	v.count.Add(1)
	if v.stop != nil {
		return f
	}
	v.stop = make(chan struct{})
	for i, sw := range e.path.Shards {
		l := nat.NewFlowLog()
		v.logs = append(v.logs, l)
		sw.Do(func() { e.path.nats[i].SetFlowLog(l) })
		go e.readFlows(l, v.stop)
	}
	go e.watchDrops(v.stop)
	return f
}

// Unfollow ends that.
func (e *Engine) Unfollow(f *Follower) {
	v := &e.events
	v.mu.Lock()
	defer v.mu.Unlock()
	v.followers = slices.DeleteFunc(slices.Clone(v.followers), func(x *Follower) bool { return x == f })
	v.count.Add(-1)
	if len(v.followers) > 0 || v.stop == nil {
		return
	}
	e.path.Each(func(i int, _ *vswitch.Switch) { e.path.nats[i].SetFlowLog(nil) })
	close(v.stop)
	v.stop, v.logs = nil, nil
}

// tell tells all followers.
func (e *Engine) tell(x api.Event) {
	if !e.events.followed() {
		return
	}
	if x.Time.IsZero() {
		x.Time = time.Now()
	}
	x.Time = x.Time.UTC().Truncate(time.Microsecond)
	e.events.mu.Lock()
	followers := e.events.followers
	e.events.mu.Unlock()
	for _, f := range followers {
		if f.wants != nil && !f.wants(&x) {
			continue
		}
		select {
		case f.events <- x:
		default:
			f.mu.Lock()
			f.missed++
			f.mu.Unlock()
		}
	}
}

// readFlows tells of flows as they open and end.
func (e *Engine) readFlows(l *nat.FlowLog, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-l.Wake():
			e.tellFlows(l)
		}
	}
}

// tellFlows tells of what a log holds.
func (e *Engine) tellFlows(l *nat.FlowLog) {
	e.events.drain.Lock()
	defer e.events.drain.Unlock()
	base := time.Now().UnixNano() - vswitch.Monotonic()
	list, missed := l.Take()
	for i := range list {
		x := &list[i]
		f := viewFlow(&flowAt{x.Flow, x.Container, x.Interface, x.Network})
		ev := api.Event{Time: time.Unix(0, base+x.Time), Type: "flow", Action: "opened", Container: x.Container, Interface: x.Interface, Network: x.Network, Flow: &f}
		if x.Closed {
			ev.Action, ev.End = "closed", x.End
		}
		e.tell(ev)
	}
	if missed > 0 {
		e.tell(api.Event{Type: "missed", Action: "missed", Count: missed, Text: "flows that opened or ended too fast to be told of"})
	}
}

// flushFlows tells of all flows that have ended by now, before something that is
// to stand behind them.
func (e *Engine) flushFlows() {
	e.events.mu.Lock()
	logs := e.events.logs
	e.events.mu.Unlock()
	for _, l := range logs {
		e.tellFlows(l)
	}
}

// limits are the reasons for drops that mean that something is used up.
var limits = []vswitch.Reason{vswitch.FlowLimit, vswitch.HalfOpenLimit, vswitch.FragmentLimit, vswitch.SocketFailed, vswitch.LocalBusy, vswitch.RateLimit}

// watchDrops tells once a second what was dropped since.
func (e *Engine) watchDrops(stop chan struct{}) {
	last := e.dropCounts()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-e.ctx.Done():
			return
		case <-tick.C:
		}
		now := e.dropCounts()
		for p, counts := range now {
			before := last[p]
			for r := range counts {
				if n := counts[r] - before[r]; n > 0 && counts[r] > before[r] {
					e.tellDrop(p, vswitch.Reason(r), n)
				}
			}
		}
		last = now
	}
}

func (e *Engine) tellDrop(p seatName, r vswitch.Reason, n uint64) {
	info := r.Info()
	x := api.Event{Type: "drop", Action: "dropped", Container: p.container, Interface: p.iface, Network: p.network, Reason: info.Name, Why: info.Why, Remedy: info.Remedy, Count: n}
	if slices.Contains(limits, r) {
		x.Type, x.Action = "limit", "reached"
	}
	e.tell(x)
}

// dropCounts are the counters of drops by interface, over all shards.
func (e *Engine) dropCounts() map[seatName][vswitch.NumReasons]uint64 {
	out := make(map[seatName][vswitch.NumReasons]uint64)
	e.path.Each(func(_ int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			for _, p := range b.Ports() {
				k := seatName{p.Label, p.Name, b.Name}
				sum := out[k]
				for r, n := range p.Stats.Drops {
					sum[r] += n
				}
				out[k] = sum
			}
		}
	})
	return out
}

// joined tells that a container's interface is on a network.
func (e *Engine) joined(c *container, ep *endpoint) {
	e.memory.remember(ep.seat.Shard, ep.seat.Port)
	x := api.Event{Type: "container", Action: "joined", Container: c.name, Interface: ep.seat.Port.Name, Network: ep.net.cfg.Name, Addresses: []string{ep.ip.String()}}
	if ep.ip6.IsValid() {
		x.Addresses = append(x.Addresses, ep.ip6.String())
	}
	e.tell(x)
}

// left tells that it is gone, after all of its flows.
func (e *Engine) left(container string, ep *endpoint) {
	if !e.events.followed() {
		return
	}
	e.flushFlows()
	e.tell(api.Event{Type: "container", Action: "left", Container: container, Interface: container + ":" + ep.ifname, Network: ep.net.cfg.Name})
}

// portChanged tells of a published port.
func (e *Engine) portChanged(action string, p *published) {
	v := p.view()
	e.tell(api.Event{Type: "port", Action: action, Container: p.owner, Port: &v})
}

// networkChanged tells of a network.
func (e *Engine) networkChanged(action string, n *network) {
	e.tell(api.Event{Type: "network", Action: action, Network: n.cfg.Name, Text: both(n.cfg)})
}
