package vswitch

import (
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Group is one switch on several threads. Each of its shards is a Switch with
// its own epoll set, run queue, caches, buffers and gateway; what crosses from
// one to another is a write to a TAP, which the kernel takes from any thread.
//
//   - A port is read by one shard, its home, and written by all: the others have
//     a mirror of it, a port whose device only takes frames.
//   - Every bridge is in every shard, with all its ports. Addresses of containers
//     are programmed everywhere; what is learned from a port that may spoof is
//     known at its home, and the others flood to that port.
//   - Flows of the gateway belong to the home of their container's port.
//
// So shards share no memory but what never changes, and take no locks but for
// what they hand over (across.go). Changes come one at a time, from any goroutine
// but the shards' own.
type Group struct {
	Shards []*Switch

	mu    sync.Mutex // one change after the other
	ports []int      // at home, by shard
}

// Segment is a bridge with its part in each shard.
type Segment struct {
	Bridges []*Bridge
}

// MAC is the gateway's address.
func (s *Segment) MAC() MAC { return s.Bridges[0].MAC }

// Seat is a port with its mirrors in the other shards.
type Seat struct {
	Shard   int
	Port    *Port // at home
	mirrors []*Port
}

// NewGroup makes a switch of n shards without ports.
func NewGroup(n int, c Config) (*Group, error) {
	g := &Group{ports: make([]int, n)}
	crowd := newSpinners(runtime.NumCPU())
	for range n {
		s, err := New(c)
		if err != nil {
			g.Close()
			return nil, err
		}
		s.spin.crowd = crowd
		g.Shards = append(g.Shards, s)
	}
	return g, nil
}

// Run starts the shards, each on a goroutine of its own.
func (g *Group) Run() {
	for _, s := range g.Shards {
		go s.Run()
	}
}

// Close ends all shards and waits for them, as Switch.Close.
func (g *Group) Close() {
	for _, s := range g.Shards {
		s.Close()
	}
}

// Each runs f on the thread of each shard in turn, and waits. It is false if
// the switch has stopped.
func (g *Group) Each(f func(shard int, s *Switch)) bool {
	for i, s := range g.Shards {
		if !s.Do(func() { f(i, s) }) {
			return false
		}
	}
	return true
}

// AddBridge makes an empty bridge.
func (g *Group) AddBridge(c BridgeConfig) *Segment {
	g.mu.Lock()
	defer g.mu.Unlock()
	seg := &Segment{Bridges: make([]*Bridge, len(g.Shards))}
	g.Each(func(i int, s *Switch) { seg.Bridges[i] = s.AddBridge(c) })
	return seg
}

// RemoveBridge takes an empty bridge away.
func (g *Group) RemoveBridge(seg *Segment) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	g.Each(func(i int, s *Switch) {
		if e := s.RemoveBridge(seg.Bridges[i]); err == nil {
			err = e
		}
	})
	return err
}

// Home is the shard with the fewest ports, for the ports of a new container.
func (g *Group) Home() (least int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, n := range g.ports {
		if n < g.ports[least] {
			least = i
		}
	}
	return least
}

// AddPort attaches a device to seg with its home in a shard; c.Bridge is not
// asked. On error nothing is attached.
func (g *Group) AddPort(home int, seg *Segment, c PortConfig) (*Seat, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.in = newMeter(c.Shape) // all send to it
	seat := &Seat{Shard: home, mirrors: make([]*Port, len(g.Shards))}
	err := fmt.Errorf("port %s: the switch has stopped", c.Name)
	add := func(i int, c PortConfig) (p *Port) {
		c.Bridge = seg.Bridges[i]
		g.Shards[i].Do(func() { p, err = g.Shards[i].AddPort(c) })
		return p
	}
	if seat.Port = add(home, c); seat.Port == nil {
		return nil, err
	}
	g.ports[home]++
	c.Device = mirror{c.Device}
	for i := range g.Shards {
		if i == home {
			continue
		}
		if seat.mirrors[i] = add(i, c); seat.mirrors[i] == nil {
			g.remove(seat)
			return nil, err
		}
	}
	if len(g.Shards) > 1 {
		peers := slices.Clone(seat.mirrors)
		peers[home] = seat.Port
		g.Shards[home].Do(func() { seat.Port.peers = peers })
	}
	return seat, nil
}

// Announce tells the port's bridge of its addresses.
func (g *Group) Announce(seat *Seat) {
	g.Shards[seat.Shard].Do(func() { g.Shards[seat.Shard].Announce(seat.Port) })
}

// RemovePort detaches a port everywhere and returns its device, which the
// caller closes, and what was counted. The device is nil if the port was gone.
func (g *Group) RemovePort(seat *Seat) (Device, PortStats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.remove(seat)
}

func (g *Group) remove(seat *Seat) (d Device, sum PortStats) {
	if len(g.Shards) > 1 {
		g.Shards[seat.Shard].Do(func() { seat.Port.peers = nil })
	}
	for i, m := range seat.mirrors { // first those who write to it
		if m != nil {
			g.Shards[i].Do(func() { sum.Add(&m.Stats); g.Shards[i].RemovePort(m) })
			seat.mirrors[i] = nil
		}
	}
	g.Shards[seat.Shard].Do(func() {
		sum.Add(&seat.Port.Stats)
		d = g.Shards[seat.Shard].RemovePort(seat.Port)
	})
	if d != nil {
		g.ports[seat.Shard]--
	}
	return d, sum
}

// SetShape holds a port to a shape in every shard.
func (g *Group) SetShape(seat *Seat, c Shape) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := newMeter(c)
	g.Each(func(i int, s *Switch) {
		if i == seat.Shard {
			s.setShape(seat.Port, c, in)
		} else if m := seat.mirrors[i]; m != nil {
			s.setShape(m, c, in)
		}
	})
}

// Stats is what all shards have counted on the port.
func (g *Group) Stats(seat *Seat) (sum PortStats) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Each(func(i int, _ *Switch) {
		if i == seat.Shard {
			sum.Add(&seat.Port.Stats)
		} else if m := seat.mirrors[i]; m != nil {
			sum.Add(&m.Stats)
		}
	})
	return sum
}

// Add adds what o counted.
func (s *PortStats) Add(o *PortStats) {
	s.RxFrames, s.RxBytes = s.RxFrames+o.RxFrames, s.RxBytes+o.RxBytes
	s.TxFrames, s.TxBytes = s.TxFrames+o.TxFrames, s.TxBytes+o.TxBytes
	s.Upcalls, s.Hits = s.Upcalls+o.Upcalls, s.Hits+o.Hits
	for r, n := range o.Drops {
		s.Drops[r] += n
	}
}

// mirror is another shard's device: it takes frames and gives none.
type mirror struct{ Device }

func (mirror) Read([]byte) (int, unix.Errno) { return 0, unix.EAGAIN }
func (mirror) FD() int                       { return -1 }

// Mirror says whether another shard of the group is the port's home.
func (p *Port) Mirror() bool { _, is := p.Device.(mirror); return is }
