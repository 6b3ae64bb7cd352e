package engine

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/switch"
)

// Real packets, followed through the steps of the decision about them. The shards
// follow what any of the watchers wants; each has a bounded queue of its own.

type liveHub struct {
	mu       sync.Mutex
	watchers atomic.Pointer[[]*LiveWatcher]
	stop     chan struct{} // nil while nobody watches
}

// LiveWatcher is one who follows packets.
type LiveWatcher struct {
	filter capture.Filter
	traces chan api.LiveTrace
	missed atomic.Uint64
}

// Traces is where the watcher reads.
func (w *LiveWatcher) Traces() <-chan api.LiveTrace { return w.traces }

// WatchLive begins to follow packets that a filter takes.
func (e *Engine) WatchLive(filter string) (*LiveWatcher, error) {
	f, err := capture.ParseFilter(filter, e.addressesOf)
	if err != nil {
		return nil, api.Errorf(api.BadRequest, "%v", err)
	}
	w := &LiveWatcher{filter: f, traces: make(chan api.LiveTrace, 1024)}
	h := &e.live
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(append(h.all(), w))
	if h.stop != nil {
		for _, sw := range e.path.Shards {
			sw.Do(sw.PolicyChanged) // so that it sees open flows, too
		}
		return w, nil
	}
	h.stop = make(chan struct{})
	for _, sw := range e.path.Shards {
		l := vswitch.NewLive(h.wanted)
		sw.Do(func() { sw.SetLive(l) })
		go h.read(l, h.stop)
	}
	return w, nil
}

// UnwatchLive ends that.
func (e *Engine) UnwatchLive(w *LiveWatcher) {
	h := &e.live
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(slices.DeleteFunc(h.all(), func(x *LiveWatcher) bool { return x == w }))
	if len(h.all()) > 0 || h.stop == nil {
		return
	}
	e.path.Each(func(_ int, sw *vswitch.Switch) { sw.SetLive(nil) })
	close(h.stop)
	h.stop = nil
}

// all is a copy of the list of watchers.
func (h *liveHub) all() []*LiveWatcher {
	if l := h.watchers.Load(); l != nil {
		return slices.Clone(*l)
	}
	return nil
}

func (h *liveHub) set(list []*LiveWatcher) { h.watchers.Store(&list) }

// wanted says on the loop's thread whether anybody wants a frame.
func (h *liveHub) wanted(frame []byte) bool {
	for _, w := range *h.watchers.Load() {
		if w.filter.Match(frame, len(frame), true) {
			return true
		}
	}
	return false
}

// read hands a shard's packets to those who want them.
func (h *liveHub) read(l *vswitch.Live, stop chan struct{}) {
	base := time.Now().UnixNano() - vswitch.Monotonic()
	for {
		var p vswitch.Followed
		select {
		case <-stop:
			return
		case p = <-l.Packets():
		}
		missed := l.Missed()
		for _, w := range *h.watchers.Load() {
			w.missed.Add(missed)
			if !w.filter.Match(p.Data, p.Length, true) {
				continue
			}
			x := liveTrace(&p, base)
			x.Missed = w.missed.Swap(0)
			select {
			case w.traces <- x:
			default:
				w.missed.Add(x.Missed + 1)
			}
		}
	}
}

func liveTrace(p *vswitch.Followed, base int64) api.LiveTrace {
	at := time.Unix(0, base+p.Time)
	_, packet, _ := strings.Cut(new(capture.Printer).Line(p.Interface, &capture.Packet{Time: at, Received: true, Length: p.Length, Data: p.Data}), " > ")
	x := api.LiveTrace{Time: at.UTC().Truncate(time.Microsecond), Interface: p.Interface, Packet: packet, Steps: []api.TraceStep{}, Verdict: "accept"}
	for _, s := range p.Trace.Steps {
		x.Steps = append(x.Steps, api.TraceStep{Name: s.Name, Text: s.Text})
	}
	if r := p.Trace.Reason; r != vswitch.Delivered {
		info := r.Info()
		x.Verdict, x.Reason, x.Why, x.Remedy = "drop", info.Name, info.Why, info.Remedy
	}
	return x
}
