package vswitch

import (
	"sync/atomic"
)

// Capture is a ring in which the loop leaves copies of frames and what became
// of them, for one reader elsewhere. Neither waits for the other, and neither
// takes a lock: the loop owns what lies from head on, the reader what lies from
// tail to head. A frame comes over to the reader when it has been decided
// about, with one atomic store. What there is no room for is counted as missed.
type Capture struct {
	snap  int
	exits bool
	wake  chan struct{} // one token for a reader that sleeps

	slots  []Captured
	memory []byte

	// The loop's.
	next     uint64 // slots filled, those among them that are still being decided about
	used     uint64 // bytes of memory given out since the start, gaps at its end among them
	seenTail uint64 // tail and freed as they were when there last was no room
	seenUsed uint64
	before   uint64 // used, before the frame that is being decided about
	open     int    // slot of the frame that is being decided about, -1 for none
	busy     bool   // one is being decided about, recorded or missed
	from     *Port  // where it came from
	first    *byte  // and where its bytes are
	_        [64]byte

	head   atomic.Uint64 // slots that are the reader's, since the start
	missed atomic.Uint64
	_      [64]byte

	// The reader's.
	tail   atomic.Uint64 // slots given back
	freed  atomic.Uint64 // and bytes
	asleep atomic.Bool
}

// Captured is one frame: as it came to its port, as the gateway sent it to one,
// or, if exits are captured, as it went out of a port that it was forwarded to.
type Captured struct {
	Time     int64 // nanoseconds of the switch's clock
	Length   int   // of the frame, without the virtio header
	Port     PortID
	Out      PortID // the first port that it went to, or 0; of an exit, where it came from
	PortGen  uint32 // tells an old port of that number from a new one
	OutGen   uint32
	Outs     uint32 // how many it went to
	Flow     uint32 // of the gateway, +1; 0 for none
	FlowGen  uint32
	at, size uint32 // its bytes in memory, with the virtio header
	end      uint64 // bytes given out up to their end
	Reason   Reason // why it ended, or Delivered
	Received bool   // sent by the container; else to it
	Exit     bool   // forwarded to it: there is a record of where it came from, too
}

// What a capture holds for its reader at most.
const (
	captureFrames = 8192
	captureMemory = 16 << 20
)

// NewCapture makes a capture of snap bytes of each frame at most; with exits
// also where a frame leaves the switch.
func NewCapture(snap int, exits bool) *Capture {
	return &Capture{snap: snap, exits: exits, wake: make(chan struct{}, 1), slots: make([]Captured, captureFrames),
		memory: make([]byte, min(captureFrames*(snap+VnetLen), captureMemory)), open: -1}
}

// Captures are those of a group's shards, for one reader.
type Captures []*Capture

// NewCaptures makes n captures as NewCapture does.
func NewCaptures(n, snap int, exits bool) (list Captures) {
	for range n {
		c := NewCapture(snap, exits)
		if len(list) > 0 {
			c.wake = list[0].wake
		}
		list = append(list, c)
	}
	return list
}

// Wait returns true when there is something to read, false when stop is closed.
func (list Captures) Wait(stop <-chan struct{}) bool {
	for !list.filled() {
		for _, c := range list {
			c.asleep.Store(true)
		}
		if list.filled() {
			return true // to be woken once for nothing is no harm
		}
		select {
		case <-list[0].wake:
		case <-stop:
			return false
		}
	}
	return true
}

func (list Captures) filled() bool {
	for _, c := range list {
		if c.head.Load() != c.tail.Load() {
			return true
		}
	}
	return false
}

// Read is what can be read at once, in the order in which it came; it is
// borrowed until Done.
func (c *Capture) Read() []Captured {
	tail, head := c.tail.Load(), c.head.Load()
	at := tail % captureFrames
	return c.slots[at:min(at+head-tail, captureFrames)]
}

// Bytes are a frame's, a virtio header in front; borrowed as the frame is.
func (c *Capture) Bytes(f *Captured) []byte { return c.memory[f.at : f.at+f.size : f.at+f.size] }

// Done gives the first n frames of what was read back.
func (c *Capture) Done(n int) {
	if n == 0 {
		return
	}
	tail := c.tail.Load() + uint64(n)
	c.freed.Store(c.slots[(tail-1)%captureFrames].end)
	c.tail.Store(tail)
}

// Missed is how many frames there was no room for since it was last asked.
func (c *Capture) Missed() uint64 { return c.missed.Swap(0) }

// add takes a copy of b, a virtio header and a frame, which is the reader's with
// the next publish. It returns its slot, or -1.
func (c *Capture) add(now int64, p *Port, b []byte) int {
	if len(b) <= VnetLen {
		return -1
	}
	size := uint64(min(len(b), VnetLen+c.snap))
	used := c.used
	if at := used % uint64(len(c.memory)); at+size > uint64(len(c.memory)) {
		used += uint64(len(c.memory)) - at // a frame lies in one piece
	}
	if c.next-c.seenTail == captureFrames || used+size-c.seenUsed > uint64(len(c.memory)) {
		if c.seenTail, c.seenUsed = c.tail.Load(), c.freed.Load(); c.next == c.seenTail {
			c.seenUsed = used // it is empty
		}
		if c.next-c.seenTail == captureFrames || used+size-c.seenUsed > uint64(len(c.memory)) {
			c.missed.Add(1)
			return -1
		}
	}
	at := used % uint64(len(c.memory))
	copy(c.memory[at:at+size], b)
	i := int(c.next % captureFrames)
	c.next++
	c.used = used + size
	c.slots[i] = Captured{Time: now, Port: p.ID, PortGen: p.wake, Length: len(b) - VnetLen, at: uint32(at), size: uint32(size), end: c.used}
	return i
}

// publish hands over what was added.
func (c *Capture) publish() {
	c.head.Store(c.next)
	if c.asleep.Load() && c.asleep.CompareAndSwap(true, false) {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// SetCapture begins or, with nil, ends capturing.
func (s *Switch) SetCapture(c *Capture) { s.capture = c }

// inputCaptured is input with a record of the frame. The clock is read for each,
// since what one turn handles may be apart by more than it takes to answer.
func (s *Switch) inputCaptured(p *Port, b []byte) {
	s.captureIn(p, b)
	s.input(p, b)
	s.captured()
}

// captureIn begins the record of a frame from a container.
func (s *Switch) captureIn(p *Port, b []byte) {
	c := s.capture
	c.busy, c.from, c.first, c.before = true, p, &b[:1][0], c.used
	if c.open = c.add(s.cfg.Now(), p, b); c.open >= 0 {
		c.slots[c.open].Received = true
	}
}

// captureNot takes the record back of a frame that another shard decides about,
// and records.
func (s *Switch) captureNot() {
	if c := s.capture; c.open >= 0 && uint64(c.open) == (c.next-1)%captureFrames {
		c.next--
		c.used, c.open = c.before, -1
	}
}

// captured ends it.
func (s *Switch) captured() {
	c := s.capture
	c.busy, c.open, c.from, c.first = false, -1, nil, nil
	c.publish()
}

// captureDrop records a frame that ends before it is looked at.
func (s *Switch) captureDrop(p *Port, b []byte, r Reason) {
	if s.capture == nil {
		s.dropUnread(p, b, r)
		return
	}
	s.captureIn(p, b)
	s.dropUnread(p, b, r)
	s.captured()
}

// captureOut notes where the frame goes that is being decided about, or records
// one of the gateway's own: an answer, or anything that lies elsewhere.
func (s *Switch) captureOut(p *Port, b []byte) {
	c := s.capture
	own := !c.busy || p == c.from || &b[0] != c.first
	if c.open >= 0 && (!own || p == c.from) {
		f := &c.slots[c.open]
		if f.Outs++; f.Out == 0 {
			f.Out, f.OutGen = p.ID, p.wake
		}
	}
	switch {
	case own:
		if c.add(s.cfg.Now(), p, b); !c.busy {
			c.publish()
		}
	case c.exits:
		if i := c.add(s.cfg.Now(), p, b); i >= 0 {
			c.slots[i].Exit, c.slots[i].Out, c.slots[i].OutGen = true, c.from.ID, c.from.wake
		}
	}
}

// captureFate notes the end of the frame that is being decided about.
func (s *Switch) captureFate(r Reason, flow, gen uint32) {
	c := s.capture
	if c.open < 0 {
		return
	}
	f := &c.slots[c.open]
	if r != Delivered {
		f.Reason = r
	} else {
		f.Flow, f.FlowGen = flow+1, gen
	}
}
