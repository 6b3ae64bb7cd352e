package engine

import (
	"net"
	"slices"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/switch"
)

// pastSnap is how much of each frame is kept of the past: headers.
const pastSnap = 128

// past keeps the last packets' headers and fates, in memory of a fixed size, for
// those that ask after the fact (capture_ring).
type past struct {
	size int

	mu    sync.Mutex
	ring  *capture.Ring
	ports []*portInfo // by the number that the ring has for them, less first
	first uint32
	known map[*portInfo]uint32
}

// maxPastPorts bounds the interfaces that the past knows: of those that are long
// gone the packets are forgotten.
const maxPastPorts = 4 * vswitch.MaxPorts

func newPast(size int) *past {
	return &past{size: size, ring: capture.NewRing(size), known: make(map[*portInfo]uint32)}
}

// put keeps a packet that came from p and went to out, which may be nil.
func (h *past) put(p, out *portInfo, x *capture.Packet, dropped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := capture.Kept{Packet: *x, From: h.number(p), Dropped: dropped}
	if r.Data = x.Data[:min(len(x.Data), pastSnap)]; out != nil {
		r.To = h.number(out)
	}
	h.ring.Put(&r)
}

// number is the ring's for a port, never 0. The lock is held.
func (h *past) number(p *portInfo) uint32 {
	if n, ok := h.known[p]; ok {
		return n
	}
	if len(h.ports) == maxPastPorts {
		delete(h.known, h.ports[0])
		h.ports = slices.Delete(h.ports, 0, 1)
		h.first++
	}
	h.ports = append(h.ports, p)
	n := h.first + uint32(len(h.ports))
	h.known[p] = n
	return n
}

func (h *past) port(n uint32) *portInfo {
	if i := int64(n) - int64(h.first) - 1; n != 0 && i >= 0 && i < int64(len(h.ports)) {
		return h.ports[i]
	}
	return nil
}

// setPast begins to keep size bytes of the past, or, with 0, ends it.
func (h *hub) setPast(e *Engine, size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if size == 0 {
		h.past = nil
	} else if h.past == nil || h.past.size != size {
		h.past = newPast(size)
	}
	h.settle(e)
}

// mayLook says whether there is a past as it is asked for.
func (h *hub) mayLook(r api.Capture) error {
	if r.Split || r.Exits {
		return api.Errorf(api.BadRequest, "of the past there are headers where packets came from: no exits, nothing to split")
	}
	if _, past := h.watching(); past == nil {
		return api.Errorf(api.Conflict, "the past is not kept").WithHint("set capture_ring: 16MB in the configuration")
	}
	return nil
}

// viewPast writes what a viewer wants to see of the past.
func (e *Engine) viewPast(v *viewer, last time.Duration, conn net.Conn) {
	defer conn.Close()
	v.begin(e)
	_, past := e.hub.watching()
	if past == nil {
		return
	}
	since := time.Now().Add(-last)
	var list []capture.Kept
	past.mu.Lock()
	past.ring.Each(func(k *capture.Kept) {
		p, out := past.port(k.From), past.port(k.To)
		f := vswitch.Captured{Received: k.Received}
		if k.Dropped {
			f.Reason = vswitch.Rule // or any
		}
		if p != nil && !k.Time.Before(since) && v.wants(&f, p, out) && v.filter.Match(k.Data, k.Length, k.Received) {
			v.mu.Lock()
			k.Interface = v.number(p)
			v.mu.Unlock()
			k.Data = slices.Clone(k.Data)
			list = append(list, *k)
		}
	})
	past.mu.Unlock()
	slices.SortStableFunc(list, func(a, b capture.Kept) int { return a.Time.Compare(b.Time) }) // of several shards
	var spare []byte
	for i := range list {
		v.mu.Lock()
		v.w.Packet(&list[i].Packet)
		v.mu.Unlock()
		if i%256 == 255 {
			b := v.take(spare)
			if _, err := conn.Write(b); err != nil {
				return
			}
			spare = b
		}
	}
	_, _ = conn.Write(v.take(spare))
}
