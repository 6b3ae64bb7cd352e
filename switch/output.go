package vswitch

import "golang.org/x/sys/unix"

// forward is Output of a frame that goes to p alone, as it came, and may wait for the
// next of its flow (merge).
func (s *Switch) forward(f *Frame, p *Port) Reason {
	if p != nil && s.join(f, p) {
		return Delivered
	}
	return s.Output(p, f.B)
}

// Output writes b, a virtio header and a frame, to p, after making of it what
// p can take. It returns Delivered or why not; a datagram that waits for others
// of its kind (train) is counted on p if it fails later. b is borrowed; its headers may
// be rewritten while a super-frame is split. The caller counts the drop where
// the frame came from.
func (s *Switch) Output(p *Port, b []byte) Reason {
	if p == nil {
		return UnknownMAC
	}
	if s.merge.port == p {
		s.part()
	}
	if s.capture != nil {
		s.captureOut(p, b)
	}
	if p.shape != nil {
		return s.outputShaped(p, b)
	}
	if s.board(p, b) {
		return Delivered
	}
	return s.finish(p, b)
}

// outputShaped is Output to a port with a shape: a frame may wait, in no train.
func (s *Switch) outputShaped(p *Port, b []byte) Reason {
	now, r := s.shapeIn(p, b)
	if !now {
		return r
	}
	return s.finish(p, b)
}

// finish makes of b what p can take, and writes it.
func (s *Switch) finish(p *Port, b []byte) Reason {
	if need := needs(b); need&^p.caps != 0 {
		return s.soften(p, b)
	}
	return s.write(p, b)
}

// needs is what a device must know to take the frame as it is.
func needs(b []byte) Caps {
	if b[0]|b[1] == 0 {
		return 0
	}
	var c Caps
	if b[0]&VnetNeedsCsum != 0 {
		c = CapCsum
	}
	switch b[1] &^ GSOECN {
	case GSOTCPv4, GSOTCPv6:
		c |= CapTSO
	case GSOUDPL4:
		c |= CapUSO
	}
	return c
}

func (s *Switch) write(p *Port, b []byte) Reason {
	switch e := p.Device.Write(b); e {
	case 0:
	case unix.EIO, unix.EBADFD, unix.ENODEV:
		return PortDown
	case unix.EINVAL:
		return BadVnet
	case unix.EFBIG, unix.EMSGSIZE:
		return TooBig
	default:
		return NoBuffer
	}
	p.Stats.RxFrames++
	p.Stats.RxBytes += uint64(len(b) - VnetLen)
	// The kernel received the frame inside the write: the answer may be in the
	// ring already, and reading it now costs less than a turn through epoll.
	s.enqueuePort(p)
	return Delivered
}

// flood sends f to all other ports of its bridge, or to the trusted ones if it
// is for one address. A broadcast that reached nobody because nobody else is
// there is no drop.
func (s *Switch) flood(f *Frame) {
	out := fanout{asks: f.In.bridge.asksForGroups(f) && s.gateway != nil}
	unknown := f.Class&ClassGroup == 0
	if unknown {
		out.worst = UnknownMAC
	}
	for _, p := range f.In.bridge.ports {
		if !unknown || p.Spoof {
			s.fan(f, p, &out)
		}
	}
	if !out.sent && out.worst != Delivered {
		s.DropFrame(f, out.worst, 0)
	}
}

// fanout is what has become of a frame for several ports.
type fanout struct {
	asks  bool // the gateway, about each
	sent  bool
	worst Reason
}

// fan sends f to p, unless it came from there. What goes to several is never for
// the host.
func (s *Switch) fan(f *Frame, p *Port, out *fanout) {
	if p == f.In || p.Host {
		return
	}
	if p.blockedUntil > s.now32 {
		out.worst = Loop
		return
	}
	if out.asks {
		if r := s.gateway.Group(f, p); r != Delivered {
			out.worst = r
			return
		}
	}
	if r := s.Output(p, f.B); r != Delivered {
		out.worst = r
	} else {
		out.sent = true
	}
}

// asksForGroups says whether the gateway decides to whom of the bridge f goes,
// which is for several.
func (b *Bridge) asksForGroups(f *Frame) bool {
	return b.Ask && f.IP() && f.Class&(ClassNeighbour|ClassControl) == 0
}

// count notes a drop on the port that the frame came from.
func (s *Switch) count(p *Port, r Reason) {
	p.Stats.Drops[r]++
	if s.trace != nil {
		s.trace.Reason = r
	}
	if s.capture != nil {
		s.captureFate(r, 0, 0)
	}
}

// CountDrop notes for the gateway that a frame which came from p, or was meant
// for it, ended under r.
func (s *Switch) CountDrop(p *Port, r Reason) { s.count(p, r) }
