package vswitch

// What one shard of a group leaves to another. A flow has one owner: the shard
// that has its record. Most flows belong to the shard that reads their
// container's port; one to a published port belongs to the shard of the
// container that publishes it, which hears both its answers and its clients
// outside. A frame that opens or continues such a flow is read by the client's
// shard and handed over, as if the owner had read it from its own mirror of the
// client's port. What a container reports about multicast is told to all.
//
// It costs a copy and, if the other sleeps, a wake-up: no path for those in a
// hurry, but for containers that reach each other by way of the gateway.

// Kinds of what is handed over, in the tokens that go with it.
const (
	kindVisit  = iota // a frame to be decided about
	kindReport        // one that was: what it says of groups counts here, too
)

// inboxBytes bounds what waits for a shard.
const inboxBytes = 4 << 20

// handOver gives f to the shard that owns its flow.
func (s *Switch) handOver(f *Frame, shard int) {
	if p := f.In.peer(shard); s.visiting || p == nil || !p.sw.leave(kindVisit, p, f.B) {
		s.DropFrame(f, NoBuffer, 0)
	} else if s.capture != nil {
		s.captureNot() // the other one sees what becomes of it
	}
}

// peer is the port as another shard has it, or nil.
func (p *Port) peer(shard int) *Port {
	if shard >= len(p.peers) {
		return nil
	}
	return p.peers[shard]
}

// tellShards passes a report of f's port on to the other shards.
func (s *Switch) tellShards(f *Frame) {
	for _, p := range f.In.peers {
		if p != nil && p != f.In {
			p.sw.leave(kindReport, p, f.B)
		}
	}
}

// leave puts a copy of b, which came from p, before the switch. It is called on
// the threads of other shards. It is false if there is no room.
func (s *Switch) leave(kind uint8, p *Port, b []byte) bool {
	return s.give(func() bool {
		if s.inbox.bytes+len(b) > inboxBytes {
			return false
		}
		s.inbox.push(b, int64(MakeToken(kind, p.wake, uint32(p.ID))))
		return true
	})
}

// visits handles what other shards have left.
func (s *Switch) visits() {
	for s.visitors.len() > 0 {
		t := Token(s.visitors.first().due)
		b := s.visitors.pop()
		p := s.port(PortID(t.Index()))
		switch {
		case p == nil || p.wake != t.Gen(): // it is gone
		case t.Kind() == kindReport:
			s.overhear(p, b)
		default:
			s.visiting = true
			s.visit(p, b)
			s.visiting = false
		}
	}
}

// visit is input for a frame that another shard has read and counted.
func (s *Switch) visit(p *Port, b []byte) {
	s.frame.Parse(p, b)
	if s.capture == nil {
		s.handle(&s.frame)
		return
	}
	s.captureIn(p, b)
	s.handle(&s.frame)
	s.captured()
}

// overhear takes a report that another shard has read, and found good.
func (s *Switch) overhear(p *Port, b []byte) {
	f := &s.frame
	f.Parse(p, b)
	if p.bridge.groups != nil && f.L4 != 0 && f.L4 < f.End {
		s.report(p, f.B[f.L4:f.End])
	}
}
