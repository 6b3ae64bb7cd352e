package vswitch

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// Trace collects the steps of a decision, be it about a packet that is not sent
// or about a real one that is followed; nil collects nothing.
type Trace struct {
	Steps  []TraceStep
	Reason Reason // under which a real one ended, or Delivered
}

// TraceStep is one step of a decision.
type TraceStep struct{ Name, Text string }

// Add adds a step. Where a trace is seldom wanted the caller asks first: the
// arguments cost something.
func (t *Trace) Add(name, format string, args ...any) {
	if t != nil {
		t.Steps = append(t.Steps, TraceStep{name, strings.TrimSpace(fmt.Sprintf(format, args...))})
	}
}

// Live follows real packets: those that are decided about anew and that match.
// The loop fills it and never waits: what is too much, or what its reader is too
// slow for, is counted.
type Live struct {
	match  func(frame []byte) bool // called on the loop's thread
	out    chan Followed
	missed atomic.Uint64
	second uint32 // of the switch's clock
	count  int    // followed in it
	begun  Followed
}

// Followed is one packet with the steps of the decision about it.
type Followed struct {
	Time      int64 // nanoseconds of the switch's clock
	Interface string
	Container string
	Length    int    // of the frame
	Data      []byte // its beginning
	Trace     Trace
}

const (
	liveQueue = 256
	liveRate  = 500 // packets a second
	liveSnap  = 256
)

// NewLive makes a Live for the frames that match takes.
func NewLive(match func(frame []byte) bool) *Live {
	return &Live{match: match, out: make(chan Followed, liveQueue)}
}

// Packets is where the followed packets come.
func (l *Live) Packets() <-chan Followed { return l.out }

// Missed is how many were not followed since it was asked last.
func (l *Live) Missed() uint64 { return l.missed.Swap(0) }

// SetLive begins or, with nil, ends following. Flows that are open are decided
// about once more, so that they are seen, too.
func (s *Switch) SetLive(l *Live) {
	if s.live = l; l != nil {
		s.PolicyChanged()
	}
}

// Trace is that of the packet that is being decided about, or nil.
func (s *Switch) Trace() *Trace { return s.trace }

// liveBegin follows f, if somebody wants that.
func (s *Switch) liveBegin(f *Frame) {
	l := s.live
	if len(f.B) < VnetLen || !l.match(f.B[VnetLen:]) {
		return
	}
	if l.second != s.now32 {
		l.second, l.count = s.now32, 0
	}
	if l.count++; l.count > liveRate || len(l.out) == cap(l.out) {
		l.missed.Add(1)
		return
	}
	frame := f.B[VnetLen:]
	l.begun = Followed{Time: s.nowNs, Interface: f.In.Name, Container: f.In.Label, Length: len(frame), Data: append([]byte(nil), frame[:min(len(frame), liveSnap)]...)}
	s.trace = &l.begun.Trace
	s.trace.Add("interface", "%s on network %s", f.In.Name, f.In.bridge.Name)
}

// liveEnd hands over the packet that was followed; act is what was decided.
func (s *Switch) liveEnd(f *Frame, act Action) {
	t := s.trace
	s.trace = nil
	switch act.Kind {
	case ActHandOver: // whoever carries it out is followed, too
		s.live.begun = Followed{}
		return
	case ActOutput:
		if p := s.port(act.Port); p != nil {
			t.Add("output", "switched to %s", p.Name)
		}
	case ActFlood:
		t.Add("output", "to all of network %s that it concerns", f.In.bridge.Name)
	}
	if act.Kind != ActConsumed && s.cacheable(f, act) {
		t.Add("cache", "what follows of this flow is treated alike, without being asked about")
	}
	select {
	case s.live.out <- s.live.begun:
	default:
		s.live.missed.Add(1)
	}
	s.live.begun = Followed{}
}

// traceGuard adds the step of the frame's sources.
func (s *Switch) traceGuard(f *Frame, r Reason) {
	switch {
	case f.In.Spoof:
		s.trace.Add("guard", "any source may be used here (spoof: allow)")
	case r == Delivered:
		s.trace.Add("guard", "its sources are the interface's own, with MAC %s", f.SrcMAC())
	default:
		s.trace.Add("guard", "%s", r.Info().Why)
	}
}
