package vswitch_test

import (
	"testing"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// Each frame is captured once, where it came from, with what became of it.
func TestCapture(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	n.Gateway.Decide = func(*vswitch.Frame) vswitch.Action {
		return vswitch.Action{Kind: vswitch.ActGateway, Flow: 6, FlowGen: 9}
	}
	a.Send(a.To(b).UDP(1, 2, nil)) // before anybody watches
	c := vswitch.NewCapture(64)
	n.SetCapture(c)
	a.Send(a.To(b).UDP(1, 2, make([]byte, 500)))
	a.Send(with(a.To(b), func(p *switchtest.Packet) { p.SrcMAC = vswitch.MAC{2, 9} }).UDP(1, 2, nil))
	a.Send(a.Out("192.0.2.1").UDP(1, 2, nil))
	n.Output(b.Port, b.To(a).UDP(3, 4, nil)) // the gateway's own
	<-c.Wake()
	got, _, missed := c.Take(nil, nil)
	if len(got) != 4 || missed != 0 {
		t.Fatalf("%d frames, %d missed", len(got), missed)
	}
	for i, want := range []vswitch.Captured{
		{Port: a.ID, Received: true, Length: 542, Out: b.ID, Outs: 1},
		{Port: a.ID, Received: true, Length: 42, Reason: vswitch.SpoofedMAC},
		{Port: a.ID, Received: true, Length: 42, Flow: 7, FlowGen: 9},
		{Port: b.ID, Length: 42},
	} {
		g := got[i]
		if g.Port != want.Port || g.Received != want.Received || g.Length != want.Length || g.Out != want.Out || g.Outs != want.Outs || g.Reason != want.Reason ||
			g.Flow != want.Flow || g.FlowGen != want.FlowGen || len(g.Data) != min(want.Length, 64) {
			t.Errorf("frame %d is %+v", i, g)
		}
	}
	// Nobody takes them: what is too much is counted, and nothing waits.
	for range 9000 {
		a.Send(a.To(b).UDP(1, 2, nil))
		b.Dev.Discard()
	}
	if got, _, missed = c.Take(nil, nil); uint64(len(got))+missed != 9000 || missed == 0 {
		t.Errorf("%d frames, %d missed", len(got), missed)
	}
	n.SetCapture(nil)
	a.Send(a.To(b).UDP(1, 2, nil))
	if got, _, _ = c.Take(nil, nil); len(got) != 0 {
		t.Errorf("%d frames with nobody watching", len(got))
	}
}

// Taking while frames pass loses and mixes up nothing.
func TestCaptureWhileTaken(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	c := vswitch.NewCapture(64)
	n.SetCapture(c)
	const total = 20_000
	done := make(chan int)
	go func() {
		var frames []vswitch.Captured
		var memory []byte
		seen, want := 0, byte(0)
		for seen < total {
			<-c.Wake()
			var missed uint64
			frames, memory, missed = c.Take(frames, memory)
			seen += int(missed)
			want += byte(missed)
			for _, f := range frames {
				if f.Out != b.ID || f.Outs != 1 || f.Data[42] != want {
					t.Errorf("after %d: %+v", seen, f)
					done <- seen
					return
				}
				want++
				seen++
			}
		}
		done <- seen
	}()
	p := a.To(b)
	for i := range total {
		a.Send(p.UDP(1, 2, []byte{byte(i)}))
		b.Dev.Discard()
	}
	if got := <-done; got != total {
		t.Errorf("%d of %d", got, total)
	}
}
