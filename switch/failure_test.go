package vswitch_test

import (
	"fmt"
	"testing"
	"time"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// Every reason has a step at which it ends a frame.
func TestEveryReasonHasAStep(t *testing.T) {
	for r := vswitch.Delivered + 1; r < vswitch.NumReasons; r++ {
		if s := r.Step(); s == vswitch.StepNone || s.String() == "?" || s.String() == "" {
			t.Errorf("%s ends a frame nowhere", r)
		}
	}
}

// Equal failures are one with a count; others are told apart by what differs.
func TestFailuresAreMerged(t *testing.T) {
	w := newDropWorld(t)
	w.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action { return vswitch.DropBy(vswitch.Rule, 7) }
	syn := func(to string, from, port uint16) { w.a.Send(w.a.Out(to).UDP(from, port, data)) }
	start := w.Clock.Now()
	syn("10.0.0.1", 1000, 53)
	w.Clock.Advance(time.Second)
	w.Switch.PolicyChanged()
	syn("10.0.0.1", 1001, 53)
	syn("10.0.0.1", 1002, 54)
	syn("10.0.0.2", 1003, 53)
	w.b.Send(w.b.Out("10.0.0.1").UDP(1000, 53, data))
	var first vswitch.Failure
	all := w.Failures()
	for _, x := range all {
		if x.Port == w.a.ID && x.Dst == [16]byte{10, 0, 0, 1} && x.DstPort == 53 {
			first = x
		}
		if x.Reason != vswitch.Rule || x.Rule != 7 || x.Step != vswitch.StepRules || !x.IP || x.Proto != vswitch.ProtoUDP {
			t.Errorf("%+v", x)
		}
	}
	if len(all) != 4 || first.Count != 2 || first.First != start || first.Last != start+1e9 || first.SrcPort != 1001 {
		t.Errorf("%d failures, the first %+v", len(all), first)
	}
}

// A flood of one kind pushes out none of another, and never fills the table.
func TestFloodOfFailures(t *testing.T) {
	w := newDropWorld(t)
	w.b.Send(w.b.Out("10.0.0.1").UDP(1, 2, data))
	for port := range uint16(3000) {
		w.a.Send(w.a.Out("10.0.0.1").UDP(1, port+1, data))
	}
	mine, others := map[uint16]bool{}, 0
	for _, x := range w.Failures() {
		if x.Port == w.a.ID {
			mine[x.DstPort] = true
		} else if others++; x.Port != w.b.ID || x.Count != 1 {
			t.Errorf("%+v", x)
		}
	}
	if len(mine) != 64 || !mine[3000] || mine[2936] || others != 1 {
		t.Errorf("%d of the flood are kept, and %d others; the last %v, one too many %v", len(mine), others, mine[3000], mine[2936])
	}
}

// When all records are in use, the one that was seen least recently goes, and
// what is kept is found again.
func TestFailuresAreBounded(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	var hosts []*switchtest.Host
	for i := range 30 {
		hosts = append(hosts, n.Host(br, "h", fmt.Sprintf("172.17.1.%d", i+1)))
	}
	for range 3 {
		for port := range uint16(50) {
			for _, h := range hosts {
				h.Send(h.Out("10.0.0.1").UDP(1, port+1, data))
			}
		}
	}
	all := n.Failures()
	if len(all) != 1024 {
		t.Errorf("%d records", len(all))
	}
	seen := map[vswitch.FailureKey]bool{}
	for _, x := range all {
		if seen[x.FailureKey] {
			t.Errorf("twice: %+v", x)
		}
		seen[x.FailureKey] = true
	}
	h := hosts[29]
	h.Send(h.Out("10.0.0.1").UDP(1, 50, data))
	for _, x := range n.Failures() {
		if x.Port == h.ID && x.DstPort == 50 && x.Count < 2 {
			t.Errorf("the latest was not found again: %+v", x)
		}
	}
}

// What a cached decision drops is counted, and has a record from the first time.
func TestCachedDropsAreNotNoted(t *testing.T) {
	w := newDropWorld(t)
	frame := with(v4, func(p *switchtest.Packet) { p.DstMAC[5] = 99 }).UDP(1, 2, data)
	w.a.Send(frame, frame, frame)
	if f := w.Failures(); len(f) != 1 || f[0].Count != 1 || f[0].Reason != vswitch.UnknownMAC || w.a.Dropped()[vswitch.UnknownMAC] != 3 {
		t.Errorf("%v, %v", f, w.a.Dropped())
	}
	if a := testing.AllocsPerRun(100, func() { w.a.Send(frame) }); a != 0 {
		t.Errorf("%v allocations for a drop", a)
	}
}
