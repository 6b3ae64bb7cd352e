package vswitch

// What tests in package vswitch_test reach for below the API.

// Input lets a frame take its way as if it had been read from p.
func (s *Switch) Input(p *Port, b []byte) { s.now32 = uint32(s.cfg.Now() / 1e9); s.input(p, b) }

// Turn is Input for a capture to see.
func (s *Switch) Turn(p *Port, b []byte) {
	if s.now32 = uint32(s.cfg.Now() / 1e9); s.capture != nil {
		s.inputCaptured(p, b)
	} else {
		s.input(p, b)
	}
}

// Learn lets the FDB see m as a source on p.
func (s *Switch) Learn(p *Port, m MAC) { s.learn(p, m) }

// Learned is how many addresses the FDB has learned on p.
func (p *Port) Learned() int { return p.learnedCount }

// MovesEvictions is how often the FDB moved and evicted an address.
func (b *Bridge) MovesEvictions() (moved, evicted uint64) { return b.fdb.moved, b.fdb.evicted }

// Blocked says whether the port is blocked for a loop.
func (p *Port) Blocked() bool { return p.blockedUntil > p.sw.now32 }

// Report serves p as if epoll had said that it can be read.
func (s *Switch) Report(p *Port) { s.runPort(MakeToken(kindPort, p.wake, uint32(p.ID)), true) }

// Places is how often p stands in the run queue.
func (s *Switch) Places(p *Port) (count int) {
	for _, t := range s.queue {
		if t == MakeToken(kindPort, p.wake, uint32(p.ID)) {
			count++
		}
	}
	return count
}
