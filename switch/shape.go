package vswitch

import (
	"math/rand/v2"
	"sync"

	"golang.org/x/sys/unix"
)

// Shape is what a port's traffic is held to. The zero value is no limit.
type Shape struct {
	RateIn, RateOut   int64   // bits per second to the container, and from it; 0: no limit
	BurstIn, BurstOut int64   // bytes that may pass at once; 0: 5 ms of the rate, 64 KiB at least
	Delay, Jitter     int64   // nanoseconds that what the container sends is held, give or take
	Loss              float64 // the part of it that is lost, from 0 to 1
}

// shaper holds a port to its shape. What the container sends too fast waits
// where it is: the port is not read for a while, its kernel's queue fills, and
// senders notice (as with a slow link). What it is sent too fast waits here, and
// is dropped when that is more than a bound; the gateway's TCP flows do not even
// ask their sockets meanwhile (Blocked).
type shaper struct {
	Shape
	rng     *rand.Rand
	in      *meter // nil: no RateIn
	out     bucket
	paused  bool // the port is not read
	held    fifo // sent by the container, not due yet
	waiting fifo // for the container, until there are tokens
	parked  []Token
	known   map[Token]struct{} // those in parked
}

// A meter is a bucket that several threads fill from: the port's mirrors send to
// the container, too.
type meter struct {
	mu sync.Mutex
	b  bucket
}

// open says whether something may pass now.
func (m *meter) open(now int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b.open(now)
}

// take lets n bytes pass if something may pass now.
func (m *meter) take(now int64, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.b.open(now) {
		return false
	}
	m.b.tokens -= int64(n)
	return true
}

// due is when it will be open, now if it is.
func (m *meter) due(now int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b.open(now) {
		return now
	}
	return m.b.due(now)
}

// bucket is a token bucket of bytes. Its content may fall below zero: a frame
// that began to pass passes whole.
type bucket struct {
	rate   int64 // bytes per second; 0: no limit
	burst  int64
	tokens int64
	at     int64 // when tokens was right
}

func newBucket(bits, burst, now int64) bucket {
	rate := bits / 8
	if burst <= 0 {
		burst = max(rate/200, 64<<10)
	}
	return bucket{rate: rate, burst: burst, tokens: burst, at: now}
}

// open says whether something may pass now.
func (b *bucket) open(now int64) bool {
	if b.rate == 0 {
		return true
	}
	if d := now - b.at; d > 0 {
		// At most a second is counted, so that the product stays small.
		b.tokens = min(b.burst, b.tokens+min(d, 1e9)*b.rate/1e9)
		b.at = now
	}
	return b.tokens > 0
}

// due is when it will be open, asked while it is not.
func (b *bucket) due(now int64) int64 { return now + (1-b.tokens)*1e9/b.rate + 1 }

// fifo is a queue of copies of frames with the times at which they are due. The
// copies' memory is used again.
type fifo struct {
	frames []parcel
	head   int // of frames: those before are gone
	bytes  int
	spare  [][]byte
}

func (q *fifo) len() int { return len(q.frames) - q.head }

// first and last are borrowed; there must be one.
func (q *fifo) first() *parcel { return &q.frames[q.head] }
func (q *fifo) last() *parcel  { return &q.frames[len(q.frames)-1] }

type parcel struct {
	b   []byte
	due int64
}

func (q *fifo) push(b []byte, due int64) {
	var c []byte
	if n := len(q.spare); n > 0 {
		c, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	q.frames = append(q.frames, parcel{append(c[:0], b...), due})
	q.bytes += len(b)
}

// pop takes the first out; it is the queue's again with the next push.
func (q *fifo) pop() []byte {
	b := q.frames[q.head].b
	q.frames[q.head].b = nil
	if q.head++; q.head == len(q.frames) {
		q.frames, q.head = q.frames[:0], 0
	} else if q.head > 1024 && q.head > len(q.frames)/2 {
		q.frames, q.head = q.frames[:copy(q.frames, q.frames[q.head:])], 0
	}
	q.bytes -= len(b)
	if len(q.spare) < 16 {
		q.spare = append(q.spare, b)
	}
	return b
}

// Bounds of what is held for one port.
const (
	heldBytes    = 8 << 20
	waitingBytes = 1 << 20
)

// SetShape holds a port to a shape from now on; the zero one frees it. What was
// held passes at once.
func (s *Switch) SetShape(p *Port, c Shape) { s.setShape(p, c, newMeter(c)) }

// newMeter makes a full one for RateIn, or none where there is no limit.
func newMeter(c Shape) *meter {
	if c.RateIn == 0 {
		return nil
	}
	return &meter{b: newBucket(c.RateIn, c.BurstIn, 0)}
}

func (s *Switch) setShape(p *Port, c Shape, in *meter) {
	if old := p.shape; old != nil {
		p.shape = nil
		for old.held.len() > 0 {
			s.input(p, old.held.pop())
		}
		for old.waiting.len() > 0 {
			if r := s.finish(p, old.waiting.pop()); r != Delivered {
				s.count(p, r)
			}
		}
		s.unpark(old)
		if old.paused {
			s.resumePort(p)
		}
	}
	if c == (Shape{}) {
		return
	}
	p.shape = &shaper{Shape: c, known: make(map[Token]struct{}), rng: rand.New(rand.NewPCG(uint64(s.nowNs), uint64(p.ID))),
		in: in, out: newBucket(c.RateOut, c.BurstOut, s.nowNs)}
}

// Blocked says whether a port has had its share for now; t is then queued when
// it may be sent more. The gateway asks before it takes bytes out of a socket.
func (s *Switch) Blocked(p *Port, t Token) bool {
	h := p.shape
	if h == nil || h.in == nil || h.waiting.len() == 0 && h.in.open(s.nowNs) {
		return false
	}
	if _, is := h.known[t]; !is {
		h.parked = append(h.parked, t)
		h.known[t] = struct{}{}
	}
	s.scheduleShape(h.in.due(s.nowNs))
	return true
}

// shapeOut holds a frame that the container has sent, and says whether it may
// pass now. The rate is for what has been read.
func (s *Switch) shapeOut(p *Port, b []byte) bool {
	h := p.shape
	if h.out.rate != 0 {
		h.out.open(s.nowNs)
		h.out.tokens -= int64(len(b))
	}
	if h.Loss > 0 && h.rng.Float64() < h.Loss {
		s.captureDrop(p, b, Impaired)
		return false
	}
	if h.Delay == 0 && h.Jitter == 0 {
		return true
	}
	if h.held.bytes+len(b) > heldBytes {
		s.captureDrop(p, b, RateLimit)
		return false
	}
	due := s.nowNs + h.Delay
	if h.Jitter > 0 {
		due += h.rng.Int64N(2*h.Jitter+1) - h.Jitter
	}
	if n := h.held.len(); n > 0 {
		due = max(due, h.held.last().due) // in their order
	}
	if due <= s.nowNs && h.held.len() == 0 {
		return true
	}
	h.held.push(b, due)
	s.scheduleShape(due)
	return false
}

// dropUnread ends a frame that has not been looked at yet.
func (s *Switch) dropUnread(p *Port, b []byte, r Reason) {
	s.frame.Parse(p, b)
	s.DropFrame(&s.frame, r, 0)
}

// outOpen says whether the port may be read; else it is not read until it may.
func (s *Switch) outOpen(p *Port) bool {
	h := p.shape
	if h.out.open(s.nowNs) {
		return true
	}
	if !h.paused {
		h.paused = true
		if fd := p.Device.FD(); fd >= 0 {
			s.Unwatch(fd)
		}
	}
	s.scheduleShape(h.out.due(s.nowNs))
	return false
}

// shapeIn lets a frame to the container pass now, or keeps it for later, or
// says why not.
func (s *Switch) shapeIn(p *Port, b []byte) (now bool, r Reason) {
	h := p.shape
	if h.in == nil {
		return true, Delivered
	}
	if h.waiting.len() == 0 && h.in.take(s.nowNs, len(b)) {
		return true, Delivered
	}
	if h.waiting.bytes+len(b) > waitingBytes {
		return false, RateLimit
	}
	h.waiting.push(b, 0)
	s.scheduleShape(h.in.due(s.nowNs))
	return false, Delivered
}

func (s *Switch) scheduleShape(at int64) {
	if s.shapeDue == 0 || at < s.shapeDue {
		s.shapeDue = at
	}
}

// runShapes does what is due for the ports that have a shape, and for queriers.
func (s *Switch) runShapes() {
	s.shapeDue = 0
	s.runQueriers()
	for _, b := range s.bridges {
		for _, p := range b.ports {
			if p.shape != nil {
				s.runShape(p)
			}
		}
	}
}

func (s *Switch) runShape(p *Port) {
	h := p.shape
	for h.held.len() > 0 && h.held.first().due <= s.nowNs {
		if b := h.held.pop(); s.capture != nil {
			s.inputCaptured(p, b)
		} else {
			s.input(p, b)
		}
		s.settle()
	}
	if h.held.len() > 0 {
		s.scheduleShape(h.held.first().due)
	}
	for h.waiting.len() > 0 && h.in.take(s.nowNs, len(h.waiting.first().b)) {
		b := h.waiting.pop()
		if r := s.finish(p, b); r != Delivered {
			s.count(p, r)
		}
	}
	switch {
	case h.waiting.len() > 0:
		s.scheduleShape(h.in.due(s.nowNs))
	case h.in == nil || h.in.open(s.nowNs):
		s.unpark(h)
	case len(h.parked) > 0:
		s.scheduleShape(h.in.due(s.nowNs))
	}
	if h.paused {
		if h.out.open(s.nowNs) {
			s.resumePort(p)
			h.paused = false
		} else {
			s.scheduleShape(h.out.due(s.nowNs))
		}
	}
}

func (s *Switch) unpark(h *shaper) {
	s.queue = append(s.queue, h.parked...)
	h.parked = h.parked[:0]
	clear(h.known)
}

// resumePort reads a port again that was left alone.
func (s *Switch) resumePort(p *Port) {
	if fd := p.Device.FD(); fd >= 0 {
		if err := s.Watch(fd, unix.EPOLLIN, MakeToken(kindPort, p.wake, uint32(p.ID))); err != nil {
			s.logf("port %s: %v", p.Name, err)
		}
		s.enqueuePort(p)
	}
}

// Held is what waits for a port: bytes that the container has sent and bytes
// for it.
func (p *Port) Held() (sent, received int) {
	if p.shape == nil {
		return 0, 0
	}
	return p.shape.held.bytes, p.shape.waiting.bytes
}
