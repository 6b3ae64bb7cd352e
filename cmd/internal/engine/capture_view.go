package engine

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/switch"
)

// viewer is one capture: what it wants to see, and a bounded memory of what it
// has not been sent yet.
type viewer struct {
	filter              capture.Filter
	text                string // the filter's
	interfaces          []string
	drops, exits, split bool
	in, out             bool // directions
	snap, needs         int  // bytes that are written, and that must be there for that

	mu      sync.Mutex
	w       *capture.Writer
	numbers map[*portInfo]int
	last    *portInfo // whose number is lastN
	lastN   int
	byName  map[string]int // by description: ports of several shards are one
	names   map[netip.Addr]string
	table   *nameTable
	missed  uint64
	told    uint64 // of missed
	more    chan struct{}
	gone    chan struct{}
}

// viewerMemory is what waits for a viewer at most.
const viewerMemory = 8 << 20

func newViewer(r api.Capture, f capture.Filter, app string) *viewer {
	v := &viewer{filter: f, text: r.Filter, interfaces: r.Interfaces, drops: r.Drops, exits: r.Exits, split: r.Split, in: r.Direction != "out", out: r.Direction != "in",
		snap: min(r.Snap, capture.MaxSnap), numbers: make(map[*portInfo]int), byName: make(map[string]int), names: make(map[netip.Addr]string),
		more: make(chan struct{}, 1), gone: make(chan struct{})}
	v.needs = max(v.snap, f.Needs())
	if v.split {
		v.needs = capture.MaxSnap // each piece's checksum is over all of its bytes
	}
	v.w = capture.NewWriter(nil, app, v.snap)
	return v
}

// wants says whether a viewer is shown a frame that came from p and went to out,
// which may be nil.
func (v *viewer) wants(f *vswitch.Captured, p, out *portInfo) bool {
	if f.Exit && !v.exits || v.drops && f.Reason == vswitch.Delivered || f.Received && !v.in || !f.Received && !v.out {
		return false
	}
	return len(v.interfaces) == 0 || slices.ContainsFunc(v.interfaces, func(s string) bool { return p.is(s) || !v.exits && out.is(s) })
}

// offer writes a packet if the filter takes it, or counts it as missed.
func (v *viewer) offer(p *portInfo, x *capture.Packet) {
	if !v.filter.Match(x.Data, x.Length, x.Received) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.w.Waiting() > viewerMemory {
		v.missed++
		return
	}
	if v.last != p {
		v.last, v.lastN = p, v.number(p)
	}
	x.Interface = v.lastN
	v.w.Packet(x)
}

// number is the file's for an interface. The lock is held.
func (v *viewer) number(p *portInfo) int {
	if n, ok := v.numbers[p]; ok {
		return n
	}
	n, ok := v.byName[p.pcapng.Description]
	if !ok {
		i := p.pcapng
		i.Filter = v.text
		n = v.w.Interface(i)
		v.byName[i.Description] = n
	}
	v.numbers[p] = n
	return n
}

// handOver lets what was written be sent.
func (v *viewer) handOver(missed uint64) {
	v.mu.Lock()
	v.missed += missed
	ready := v.w.Waiting() > 0 || v.missed != v.told
	v.mu.Unlock()
	if ready {
		v.wake()
	}
}

func (v *viewer) wake() {
	select {
	case v.more <- struct{}{}:
	default:
	}
}

// name writes a name of an address, if it is a new one.
func (v *viewer) name(a netip.Addr, name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.names[a] == name || len(v.names) > maxNotes || v.w.Waiting() > viewerMemory {
		return
	}
	v.names[a] = name
	v.w.Name(a, name)
}

// begin writes what a file begins with: the interfaces that are there, so that an
// empty one names them, and the names.
func (v *viewer) begin(e *Engine) {
	for shard, sw := range e.path.Shards {
		s := newFates(e, shard)
		sw.Do(func() { s.learnPorts(sw) })
		ports := slices.Collect(maps.Values(s.ports))
		slices.SortFunc(ports, func(a, b *portInfo) int { return strings.Compare(a.name, b.name) })
		v.mu.Lock()
		for _, p := range ports {
			v.number(p)
		}
		v.mu.Unlock()
	}
	e.hub.names.each(v.name)
	v.containers(e)
}

// containers writes the containers' names, if they are others than before.
func (v *viewer) containers(e *Engine) {
	t := e.table.Load()
	if v.table == t {
		return
	}
	v.table = t
	for _, list := range t.reverse {
		for a, name := range list {
			v.name(a, name)
		}
	}
}

// take is what is to be sent, in exchange for memory.
func (v *viewer) take(spare []byte) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.missed != v.told && len(v.byName) > 0 {
		v.told = v.missed
		v.w.Missed(0, v.missed, time.Now())
	}
	return v.w.Take(spare)
}

// view sends a viewer's packets until its reader goes.
func (e *Engine) view(v *viewer, conn net.Conn) {
	defer conn.Close()
	defer e.hub.leave(e, v)
	go func() { // the reader says nothing; its end is a read that ends
		_, _ = conn.Read(make([]byte, 1))
		close(v.gone)
	}()
	v.begin(e)
	v.wake()
	var spare []byte
	for {
		select {
		case <-v.more:
		case <-v.gone:
			return
		case <-e.ctx.Done():
			_, _ = conn.Write(v.take(spare))
			return
		}
		v.containers(e)
		b := v.take(spare)
		if _, err := conn.Write(b); err != nil {
			return
		}
		if spare = b; cap(spare) > 1<<20 {
			spare = nil // of a burst; it need not be kept
		}
	}
}

// toldNames are names that DNS has answered with while somebody captures, so that
// a file says them whose reader came later.
type toldNames struct {
	mu   sync.Mutex
	list map[netip.Addr]string
}

func (t *toldNames) each(f func(a netip.Addr, name string)) {
	t.mu.Lock()
	list := maps.Clone(t.list)
	t.mu.Unlock()
	for a, name := range list {
		f(a, name)
	}
}

// dnsTold hears of a name and its addresses.
func (h *hub) dnsTold(name string, addrs []netip.Addr) {
	viewers, past := h.watching()
	if len(viewers) == 0 && past == nil {
		return
	}
	name = strings.TrimSuffix(name, ".")
	h.names.mu.Lock()
	if h.names.list == nil || len(h.names.list) > maxNotes {
		h.names.list = make(map[netip.Addr]string)
	}
	for _, a := range addrs {
		h.names.list[a] = name
	}
	h.names.mu.Unlock()
	for _, v := range viewers {
		for _, a := range addrs {
			v.name(a, name)
		}
	}
}

// addressesOf are those of a container, by its names on all networks.
func (e *Engine) addressesOf(name string) (all []netip.Addr) {
	for _, names := range e.table.Load().byBridge {
		for _, a := range names[strings.ToLower(name)] {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}
