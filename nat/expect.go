package nat

import (
	"sync"

	"tapswitch/switch"
)

// Expectations are the answers that shards wait for from each other's ports:
// where two containers of different shards talk, the answer is read by a shard
// that has no record of the question. It is asked on the slow path alone, so a
// lock is no harm.
type Expectations struct {
	mu sync.Mutex
	m  map[expected]struct{}
}

// expected is a packet as its sender's port gives it.
type expected struct {
	proto         uint8
	local, remote addr
	lport, rport  uint16
}

// NewExpectations makes one for the NATs of all shards.
func NewExpectations() *Expectations { return &Expectations{m: make(map[expected]struct{})} }

func (e *Expectations) add(x expected) {
	if e != nil {
		e.mu.Lock()
		e.m[x] = struct{}{}
		e.mu.Unlock()
	}
}

func (e *Expectations) remove(x expected) {
	if e != nil {
		e.mu.Lock()
		delete(e.m, x)
		e.mu.Unlock()
	}
}

func (e *Expectations) has(x expected) bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, is := e.m[x]
	return is
}

// answerOf is the answer that side 1 of a pair will send.
func answerOf(fl *flow) expected {
	s := &fl.sides[1]
	return expected{fl.proto, s.local, s.remote, s.lport, s.rport}
}

// frameOf is a packet as it came.
func frameOf(f *vswitch.Frame) (x expected) {
	x.proto, x.lport, x.rport = f.Proto, f.SrcPort(), f.DstPort()
	copy(x.local[:], f.SrcIP())
	copy(x.remote[:], f.DstIP())
	return x
}
