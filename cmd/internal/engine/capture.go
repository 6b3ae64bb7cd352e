package engine

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Captures. The shards copy frames for one hub, which hands those that a viewer
// wants to it; each viewer has a bounded queue of its own and a writer, so that
// a slow one loses packets, which are counted, and holds up nobody.

// captureEvery is how long packets wait to be taken together.
const captureEvery = 5 * time.Millisecond

// hub is what the viewers share; it runs while there is one.
type hub struct {
	mu      sync.Mutex
	viewers []*viewer
	snap    int
	stop    chan struct{} // nil while nobody captures
}

// viewer is one capture.
type viewer struct {
	filter     capture.Filter
	interfaces []string // container, container:interface or network; none for all
	drops      bool
	snap       int
	queue      chan *seen
	mu         sync.Mutex
	missed     uint64
	gone       chan struct{}
}

// seen is one packet with its interface.
type seen struct {
	port *portInfo
	capture.Packet
}

// portInfo is what is known of a port while it is there.
type portInfo struct{ name, container, network, description string }

// Capture writes what is captured to a stream socket until that is closed; the
// file is taken over.
func (e *Engine) Capture(r api.Capture, files []int) error {
	defer func() { fdpass.CloseAll(files) }()
	if len(files) != 1 {
		return api.Errorf(api.BadRequest, "capture needs one stream socket beside the request")
	}
	f, err := capture.ParseFilter(r.Filter)
	if err != nil {
		return api.Errorf(api.BadRequest, "%v", err)
	}
	if r.Snap <= 0 {
		r.Snap = 256
	}
	for _, name := range r.Interfaces {
		if err := e.checkInterface(name); err != nil {
			return err
		}
	}
	conn, err := fdpass.StreamOf(files[0])
	files = nil
	if err != nil {
		return api.Errorf(api.BadRequest, "capture: %v", err)
	}
	v := &viewer{filter: f, interfaces: r.Interfaces, drops: r.Drops, snap: min(r.Snap, 65535), queue: make(chan *seen, 4096), gone: make(chan struct{})}
	e.hub.join(e, v)
	go e.view(v, conn)
	return nil
}

func (e *Engine) checkInterface(name string) error {
	if name == "any" {
		return nil
	}
	bare, _, _ := strings.Cut(name, ":")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.networks[name] == nil && e.names[bare] == nil {
		return api.Errorf(api.NotFound, "no container or network %s to capture on", name).WithHint("tapswitch capture -D lists them")
	}
	return nil
}

// join adds a viewer, and begins to capture for the first. A longer snapshot
// than before begins anew.
func (h *hub) join(e *Engine, v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers = append(slices.Clone(h.viewers), v)
	if h.stop != nil && v.snap <= h.snap {
		return
	}
	if h.stop != nil {
		close(h.stop)
	}
	h.snap, h.stop = max(h.snap, v.snap), make(chan struct{})
	for i, sw := range e.path.Shards {
		c := vswitch.NewCapture(h.snap)
		sw.Do(func() { sw.SetCapture(c) })
		go h.read(e, i, c, h.stop)
	}
}

// leave takes a viewer out, and ends capturing with the last.
func (h *hub) leave(e *Engine, v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers = slices.DeleteFunc(slices.Clone(h.viewers), func(x *viewer) bool { return x == v })
	if len(h.viewers) > 0 || h.stop == nil {
		return
	}
	e.path.Each(func(_ int, sw *vswitch.Switch) { sw.SetCapture(nil) })
	close(h.stop)
	h.stop, h.snap = nil, 0
}

// read hands a shard's packets to the viewers.
func (h *hub) read(e *Engine, shard int, c *vswitch.Capture, stop chan struct{}) {
	ports := make(map[uint64]*portInfo)
	flows := make(map[uint64]string)
	base := time.Now().UnixNano() - vswitch.Monotonic()
	var frames []vswitch.Captured
	var memory []byte
	for {
		select {
		case <-stop:
			return
		case <-c.Wake():
		}
		select { // some together: waking for each frame costs more than the frame
		case <-stop:
			return
		case <-time.After(captureEvery):
		}
		var missed uint64
		frames, memory, missed = c.Take(frames, memory)
		h.mu.Lock()
		viewers := h.viewers
		h.mu.Unlock()
		for _, v := range viewers {
			v.miss(missed)
		}
		e.learnPorts(shard, frames, ports)
		for i := range frames {
			f := &frames[i]
			p := ports[portKey(f.Port, f.PortGen)]
			if p == nil {
				continue
			}
			for _, v := range viewers {
				if v.wants(f, p, ports[portKey(f.Out, f.OutGen)]) {
					v.offer(&seen{p, capture.Packet{Time: time.Unix(0, base+f.Time), Received: f.Received, Length: f.Length,
						Data: slices.Clone(f.Data[:min(len(f.Data), v.snap)]), Comment: e.fate(shard, f, ports, flows)}})
				}
			}
		}
		if len(flows) > 10_000 {
			clear(flows)
		}
	}
}

func portKey(id vswitch.PortID, gen uint32) uint64 { return uint64(id)<<32 | uint64(gen) }

// learnPorts asks the shard for the ports that are not known yet.
func (e *Engine) learnPorts(shard int, frames []vswitch.Captured, ports map[uint64]*portInfo) {
	unknown := false
	for i := range frames {
		unknown = unknown || ports[portKey(frames[i].Port, frames[i].PortGen)] == nil || frames[i].Out != 0 && ports[portKey(frames[i].Out, frames[i].OutGen)] == nil
	}
	if !unknown {
		return
	}
	e.path.Shards[shard].Do(func() {
		for _, b := range e.path.Shards[shard].Bridges() {
			for _, p := range b.Ports() {
				var addrs []string
				for _, a := range p.Addrs {
					addrs = append(addrs, a.String())
				}
				ports[portKey(p.ID, p.Gen())] = &portInfo{p.Name, p.Label, b.Name, fmt.Sprintf("%s on %s, %s, MAC %s, MTU %d", p.Name, b.Name, strings.Join(addrs, " "), p.MAC, b.MTU)}
			}
		}
	})
}

// fate says what became of a frame.
func (e *Engine) fate(shard int, f *vswitch.Captured, ports map[uint64]*portInfo, flows map[uint64]string) string {
	name := func(id vswitch.PortID, gen uint32) string {
		if p := ports[portKey(id, gen)]; p != nil {
			return p.name
		}
		return "an interface that is gone"
	}
	var text string
	switch {
	case !f.Received:
		text = "from the gateway"
	case f.Reason != vswitch.Delivered:
		text = fmt.Sprintf("dropped: %s: %s", f.Reason, f.Reason.Info().Why)
	case f.Out == f.Port:
		text = "answered by the gateway"
	case f.Outs > 1:
		text = fmt.Sprintf("forwarded to %d interfaces", f.Outs)
	case f.Out != 0:
		text = "forwarded to " + name(f.Out, f.OutGen)
	case f.Flow != 0:
		key := uint64(f.Flow)<<32 | uint64(f.FlowGen)
		d, known := flows[key]
		if !known {
			e.path.Shards[shard].Do(func() { d = describe(e.path.nats[shard].FlowOf(f.Flow-1, f.FlowGen)) })
			flows[key] = d
		}
		text = "to the host: " + d
	default:
		text = "taken by the gateway"
	}
	if f.GSO != 0 {
		text += fmt.Sprintf(" (segments of %d bytes)", f.GSOSize)
	}
	return text
}

// describe is a flow with both its sides.
func describe(f nat.Flow, ok bool) string {
	if !ok {
		return "a flow that is over"
	}
	return fmt.Sprintf("%s %s -> %s => %s -> %s, %s", protocol(f.Proto), f.Local, f.Remote, f.Host, f.Peer, f.State)
}

// is says whether a port is what -i names.
func (p *portInfo) is(s string) bool { return s == p.name || s == p.container || s == p.network }

// wants says whether a viewer is shown a frame that came from p and went to out,
// which may be nil.
func (v *viewer) wants(f *vswitch.Captured, p, out *portInfo) bool {
	if v.drops && f.Reason == vswitch.Delivered {
		return false
	}
	if len(v.interfaces) > 0 && !slices.ContainsFunc(v.interfaces, func(s string) bool { return s == "any" || p.is(s) || out != nil && out.is(s) }) {
		return false
	}
	return v.filter.Match(f.Data, f.Length)
}

// offer queues a packet, or counts it as missed.
func (v *viewer) offer(s *seen) {
	select {
	case v.queue <- s:
	default:
		v.miss(1)
	}
}

func (v *viewer) miss(n uint64) {
	v.mu.Lock()
	v.missed += n
	v.mu.Unlock()
}

// view writes a viewer's packets until its reader goes.
func (e *Engine) view(v *viewer, conn net.Conn) {
	defer conn.Close()
	defer e.hub.leave(e, v)
	go func() { // the reader says nothing; its end is a read that ends
		_, _ = conn.Read(make([]byte, 1))
		close(v.gone)
	}()
	w := capture.NewWriter(conn, "tapswitch "+e.start.Version, v.snap)
	numbers := make(map[*portInfo]int)
	byName := make(map[string]int)
	number := func(p *portInfo) int {
		if n, ok := numbers[p]; ok {
			return n
		}
		n, ok := byName[p.description]
		if !ok {
			n = w.Interface(p.name, p.description)
			byName[p.description] = n
		}
		numbers[p] = n
		return n
	}
	for shard := range e.path.Shards { // those that are there, so that an empty file names them
		ports := make(map[uint64]*portInfo)
		e.learnPorts(shard, []vswitch.Captured{{}}, ports)
		for _, p := range ports {
			number(p)
		}
	}
	for a, name := range e.allNames() {
		w.Name(a, name)
	}
	var told uint64
	for {
		if len(v.queue) == 0 {
			v.mu.Lock()
			missed := v.missed
			v.mu.Unlock()
			if missed != told && len(byName) > 0 {
				w.Missed(0, missed, time.Now())
				told = missed
			}
			if w.Flush() != nil {
				return
			}
		}
		select {
		case s := <-v.queue:
			s.Interface = number(s.port)
			w.Packet(&s.Packet)
		case <-v.gone:
			return
		case <-e.ctx.Done():
			_ = w.Flush()
			return
		}
	}
}

// allNames are the containers' addresses with their names.
func (e *Engine) allNames() map[netip.Addr]string {
	out := make(map[netip.Addr]string)
	for _, list := range e.table.Load().reverse {
		maps.Copy(out, list)
	}
	return out
}
