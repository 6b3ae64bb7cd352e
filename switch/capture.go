package vswitch

import (
	"sync"
)

// Capture collects copies of frames and what became of them. The loop's thread
// fills it and never waits: what its reader is too slow for is counted as
// missed.
type Capture struct {
	snap int
	wake chan struct{} // one token while there is something to take

	mu     sync.Mutex
	frames []Captured
	memory []byte
	used   int
	missed uint64

	open int  // index in frames of the frame that is being decided about, -1 for none
	busy bool // one is being decided about, recorded or missed; the loop's alone
}

// Captured is one frame as it came to its port, or as the gateway sent it there.
type Captured struct {
	Time     int64 // nanoseconds of the switch's clock
	Port     PortID
	PortGen  uint32 // tells an old port of that number from a new one
	Received bool   // sent by the container; else to it, by the gateway
	Length   int    // of the frame, without the virtio header
	Data     []byte
	GSO      uint8  // kind of super-frame, or 0
	GSOSize  uint16 // payload bytes of each of its segments
	Partial  bool   // its checksum is open
	Reason   Reason // why it ended, or Delivered
	Out      PortID // the first port that it went to, or 0
	OutGen   uint32
	Outs     int    // how many it went to
	Flow     uint32 // of the gateway, +1; 0 for none
	FlowGen  uint32
}

const captureFrames = 8192

// NewCapture makes a capture of snap bytes of each frame at most.
func NewCapture(snap int) *Capture {
	return &Capture{snap: snap, wake: make(chan struct{}, 1), frames: make([]Captured, 0, captureFrames), memory: make([]byte, captureFrames*min(snap, 2048)), open: -1}
}

// Wake is sent to when there is something to Take.
func (c *Capture) Wake() <-chan struct{} { return c.wake }

// Take hands over what was captured and how much was missed since, in exchange
// for the slices of an earlier Take or nil.
func (c *Capture) Take(frames []Captured, memory []byte) ([]Captured, []byte, uint64) {
	if frames == nil {
		frames, memory = make([]Captured, 0, captureFrames), make([]byte, len(c.memory))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open >= 0 {
		// The loop still writes to the last one: it stays.
		last := c.frames[c.open]
		frames, memory = append(frames[:0], last), memory[:cap(memory)]
		n := copy(memory, last.Data)
		frames[0].Data = memory[:n:n]
		out, mem, missed := c.frames[:c.open], c.memory, c.missed
		c.frames, c.memory, c.used, c.missed, c.open = frames, memory, n, 0, 0
		return out, mem, missed
	}
	out, mem, missed := c.frames, c.memory, c.missed
	c.frames, c.memory, c.used, c.missed = frames[:0], memory[:cap(memory)], 0, 0
	return out, mem, missed
}

// add takes a copy of b, a virtio header and a frame. What a container has sent
// stays open until it has been decided about.
func (c *Capture) add(now int64, p *Port, received bool, b []byte) {
	frame := b[VnetLen:]
	n := min(len(frame), c.snap)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == cap(c.frames) || c.used+n > len(c.memory) {
		c.missed++
		return
	}
	data := c.memory[c.used : c.used+n : c.used+n]
	c.used += copy(data, frame)
	v := ReadVnet(b)
	c.frames = append(c.frames, Captured{Time: now, Port: p.ID, PortGen: p.wake, Received: received, Length: len(frame), Data: data,
		GSO: v.GSOType, GSOSize: v.GSOSize, Partial: v.Flags&VnetNeedsCsum != 0})
	if received {
		c.open = len(c.frames) - 1
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// SetCapture begins or, with nil, ends capturing.
func (s *Switch) SetCapture(c *Capture) { s.capture = c }

// inputCaptured is input with a record of the frame.
func (s *Switch) inputCaptured(p *Port, b []byte) {
	s.captureIn(p, b)
	s.input(p, b)
	s.captured()
}

// captureIn begins the record of a frame from a container.
func (s *Switch) captureIn(p *Port, b []byte) {
	if s.capture.busy = true; len(b) > VnetLen {
		s.capture.add(s.nowNs, p, true, b)
	}
}

// captured ends it.
func (s *Switch) captured() {
	c := s.capture
	c.busy = false
	c.mu.Lock()
	c.open = -1
	c.mu.Unlock()
}

// captureOut notes where a frame goes that is being decided about, or takes one
// of the gateway's own.
func (s *Switch) captureOut(p *Port, b []byte) {
	c := s.capture
	if !c.busy {
		if len(b) > VnetLen {
			c.add(s.nowNs, p, false, b)
		}
		return
	}
	c.mu.Lock()
	if c.open >= 0 {
		f := &c.frames[c.open]
		if f.Outs++; f.Out == 0 {
			f.Out, f.OutGen = p.ID, p.wake
		}
	}
	c.mu.Unlock()
}

// captureFate notes the end of the frame that is being decided about.
func (s *Switch) captureFate(r Reason, flow, gen uint32) {
	c := s.capture
	c.mu.Lock()
	if c.open >= 0 {
		f := &c.frames[c.open]
		if r != Delivered {
			f.Reason = r
		} else {
			f.Flow, f.FlowGen = flow+1, gen
		}
	}
	c.mu.Unlock()
}
