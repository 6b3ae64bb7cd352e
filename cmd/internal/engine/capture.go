package engine

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/switch"
)

// Captures. Each shard leaves copies of frames in a ring (vswitch.Capture), which
// one goroutine empties for all viewers, in the order of time: it says what became
// of each, and writes it as pcapng to a bounded memory of each viewer that wants
// it. A viewer's own goroutine hands that on, so that a slow one loses packets,
// which are counted, and holds up nobody.

const (
	// captureEvery is how long packets wait to be taken together: waking for each
	// costs more than the packet.
	captureEvery = 5 * time.Millisecond
	// captureSettles is how long a frame waits for older ones of other shards.
	captureSettles = 2 * time.Millisecond
	// captureDefault is what is taken of a frame unless somebody asks for more.
	captureDefault = 256
)

// hub is what the viewers share; it runs while there is one, or the past is kept.
type hub struct {
	mu      sync.Mutex
	viewers []*viewer // a change makes a new list
	past    *past     // nil: it is not kept
	snap    int       // what is captured at present
	exits   bool
	stop    chan struct{} // nil while nobody captures
	names   toldNames
}

// Capture writes what is captured to a stream socket until that is closed; the
// file is taken over.
func (e *Engine) Capture(r api.Capture, files []int) error {
	defer func() { fdpass.CloseAll(files) }()
	if len(files) != 1 {
		return api.Errorf(api.BadRequest, "capture needs one stream socket beside the request")
	}
	v, err := e.newViewer(r)
	if err != nil {
		return err
	}
	if r.Last != 0 {
		if err := e.hub.mayLook(r); err != nil {
			return err
		}
	}
	conn, err := fdpass.StreamOf(files[0])
	files = nil
	if err != nil {
		return api.Errorf(api.BadRequest, "capture: %v", err)
	}
	if r.Last != 0 {
		go e.viewPast(v, time.Duration(r.Last*float64(time.Second)), conn)
		return nil
	}
	e.hub.join(e, v)
	go e.view(v, conn)
	return nil
}

// newViewer checks a request.
func (e *Engine) newViewer(r api.Capture) (*viewer, error) {
	f, err := capture.ParseFilter(r.Filter, e.addressesOf)
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "%v", err)
	}
	if r.Snap < 0 || r.Last < 0 {
		return nil, api.Errorf(api.BadRequest, "capture: less than nothing is asked for")
	}
	if r.Direction != "" && r.Direction != "in" && r.Direction != "out" {
		return nil, api.Errorf(api.BadRequest, "direction %q: write in or out", r.Direction)
	}
	if r.Snap == 0 {
		r.Snap = captureDefault
	}
	for _, name := range r.Interfaces {
		if err := e.checkInterface(name); err != nil {
			return nil, err
		}
	}
	return newViewer(r, f, "tapswitch "+e.start.Version), nil
}

func (e *Engine) checkInterface(name string) error {
	if name == "any" {
		return nil
	}
	bare, iface, part := strings.Cut(name, ":")
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.names[bare]
	known := e.networks[name] != nil || c != nil && !part
	if c != nil && part {
		known = slices.ContainsFunc(c.endpoints, func(ep *endpoint) bool { return ep.ifname == iface })
	}
	if !known {
		return api.Errorf(api.NotFound, "no container or network %s to capture on", name).WithHint("tapswitch capture -D lists them")
	}
	return nil
}

// join adds a viewer, and begins to capture if need be.
func (h *hub) join(e *Engine, v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers = append(slices.Clone(h.viewers), v)
	h.settle(e)
}

// leave takes a viewer out, and ends capturing with the last.
func (h *hub) leave(e *Engine, v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers = slices.DeleteFunc(slices.Clone(h.viewers), func(x *viewer) bool { return x == v })
	h.settle(e)
}

// settle captures what somebody wants to see and no more. Readers whose capture
// ends finish it first. The lock is held.
func (h *hub) settle(e *Engine) {
	snap, exits := 0, false
	if h.past != nil {
		snap = pastSnap
	}
	for _, v := range h.viewers {
		snap, exits = max(snap, v.needs), exits || v.exits
	}
	if snap == h.snap && exits == h.exits {
		return
	}
	old := h.stop
	h.snap, h.exits, h.stop = snap, exits, nil
	if snap > 0 {
		h.stop = make(chan struct{})
	}
	captures := make(vswitch.Captures, len(e.path.Shards))
	if snap > 0 {
		captures = vswitch.NewCaptures(len(captures), snap, exits)
	}
	e.path.Each(func(i int, sw *vswitch.Switch) { sw.SetCapture(captures[i]) })
	if snap > 0 {
		go newReaders(e, captures).run(h.stop)
	}
	if old != nil {
		close(old)
	}
}

// watching are those that a reader writes for.
func (h *hub) watching() ([]*viewer, *past) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.viewers, h.past
}

// readers empty the captures of all shards.
type readers struct {
	e        *Engine
	captures vswitch.Captures
	list     []*reader
}

// reader empties one shard's capture.
type reader struct {
	e      *Engine
	shard  int
	c      *vswitch.Capture
	base   int64 // wall clock less the switch's
	frames []vswitch.Captured
	at     int // of frames: those before are shown
	fates
	split vswitch.Splitter
}

func newReaders(e *Engine, captures vswitch.Captures) *readers {
	r := &readers{e: e, captures: captures}
	base := time.Now().UnixNano() - vswitch.Monotonic()
	for i, c := range captures {
		r.list = append(r.list, &reader{e: e, shard: i, c: c, base: base, fates: newFates(e, i)})
	}
	return r
}

func (r *readers) run(stop chan struct{}) {
	for r.captures.Wait(stop) {
		select {
		case <-stop:
		case <-time.After(captureEvery):
		}
		until := int64(math.MaxInt64)
		if len(r.list) > 1 {
			until = vswitch.Monotonic() - int64(captureSettles)
		}
		r.empty(until)
	}
	r.empty(math.MaxInt64)
}

// empty hands what the captures hold of the time before until to the viewers,
// the oldest first.
func (r *readers) empty(until int64) {
	viewers, past := r.e.hub.watching()
	for {
		var oldest *reader
		limit := until // of what the oldest may show before another is
		for _, x := range r.list {
			switch t, is := x.next(until, len(viewers) > 0); {
			case !is:
			case oldest == nil:
				oldest = x
			case t < oldest.time():
				oldest, limit = x, min(limit, oldest.time())
			default:
				limit = min(limit, t)
			}
		}
		if oldest == nil {
			break
		}
		for ok := true; ok; ok = oldest.at < len(oldest.frames) && oldest.time() < limit {
			oldest.show(oldest.at, &oldest.frames[oldest.at], viewers, past)
			oldest.at++
		}
	}
	missed := uint64(0)
	for _, x := range r.list {
		missed += x.c.Missed()
	}
	for _, v := range viewers {
		v.handOver(missed)
	}
}

func (r *reader) time() int64 { return r.frames[r.at].Time }

// next is the time of the reader's next frame, if there is one before until.
func (r *reader) next(until int64, watched bool) (t int64, is bool) {
	if r.at < len(r.frames) {
		return r.time(), true
	}
	r.c.Done(len(r.frames))
	r.at, r.frames = 0, r.c.Read()
	r.frames = r.frames[:min(len(r.frames), 512)] // so that the loop has room again before long
	for i := range r.frames {
		if r.frames[i].Time >= until {
			r.frames = r.frames[:i]
			break
		}
	}
	if len(r.frames) == 0 {
		return 0, false
	}
	r.learn(r.frames, r.c, watched)
	return r.time(), true
}

// show writes one frame for those that want to see it.
func (r *reader) show(i int, f *vswitch.Captured, viewers []*viewer, past *past) {
	p := r.portOf(f.Port, f.PortGen)
	if p == nil {
		return
	}
	out := r.portOf(f.Out, f.OutGen)
	b := r.c.Bytes(f)
	x := capture.Packet{Time: time.Unix(0, r.base+f.Time), Received: f.Received, Length: f.Length, Data: b[vswitch.VnetLen:]}
	told := false
	for _, v := range viewers {
		if !v.wants(f, p, out) {
			continue
		}
		if !told {
			told = true
			x.Comment = r.fate(i, f, p, out, b)
		}
		if v.split && vswitch.ReadVnet(b) != (vswitch.Vnet{}) {
			r.split.Split(b, func(b []byte) {
				y := x
				y.Data = b[vswitch.VnetLen:]
				y.Length = len(y.Data)
				v.offer(p, &y)
			})
			continue
		}
		v.offer(p, &x)
	}
	if past != nil && !f.Exit {
		if !told {
			x.Comment = r.fate(i, f, p, out, b)
		}
		past.put(p, out, &x, f.Reason != vswitch.Delivered)
	}
}

// portInfo is what is known of a port while it is there.
type portInfo struct {
	name, container, network string
	id                       string // the container's
	pcapng                   capture.Interface
}

// is says whether a port is what -i names.
func (p *portInfo) is(s string) bool {
	return p != nil && (s == p.name || s == p.container || s == p.network || s == "any")
}

// infoOf describes a port of a bridge. It runs on the switch's thread.
func infoOf(b *vswitch.Bridge, p *vswitch.Port) *portInfo {
	i := &portInfo{name: p.Name, container: p.Label, network: b.Name, id: p.Owner}
	var addrs []string
	for _, a := range p.Addrs {
		addrs = append(addrs, a.String())
		bits := b.Subnet.Bits()
		if a.Is6() {
			bits = b.Subnet6.Bits()
		}
		if net := netip.PrefixFrom(a, bits); net.IsValid() {
			i.pcapng.Addrs = append(i.pcapng.Addrs, net)
		}
	}
	i.pcapng.Name, i.pcapng.MAC = p.Name, append(i.pcapng.MAC, p.MAC[:]...)
	i.pcapng.Description = fmt.Sprintf("%s on %s, %s, MAC %s, MTU %d", p.Name, b.Name, strings.Join(addrs, " "), p.MAC, b.MTU)
	return i
}
