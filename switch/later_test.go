package vswitch_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// What can wait is done piece by piece when nothing else is to be done: what has
// come during one piece goes before the next.
func TestLater(t *testing.T) {
	r := run(t)
	br := r.bridge()
	_, x := r.attach(t, br, 2, switchtest.All)
	frame := with(v4, func(p *switchtest.Packet) {
		p.DstMAC, p.Dst = br.MAC, netip.MustParseAddr("192.0.2.1")
	}).UDP(1, 2, data)
	var order []string
	r.gateway.Decide = func(*vswitch.Frame) vswitch.Action {
		order = append(order, "frame")
		return vswitch.Action{Kind: vswitch.ActConsumed}
	}
	ended, left := make(chan struct{}), 3
	r.gateway.Rest = func() bool {
		order = append(order, "piece")
		if left--; left == 0 {
			close(ended)
			return false
		}
		x.Write(frame)
		return true
	}
	r.Do(func() {
		r.Later()
		x.Write(frame)
	})
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("%v, and then nothing", order)
	}
	if want := []string{"frame", "piece", "frame", "piece", "frame", "piece"}; !slices.Equal(order, want) {
		t.Errorf("%v, not %v", order, want)
	}
}

// What waits is done before a loop that always had something to do has ended.
func TestLaterAtTheEnd(t *testing.T) {
	r := run(t)
	left := 3
	r.gateway.Work = func(vswitch.Token) bool { return true }
	r.gateway.Rest = func() bool { left--; return left > 0 }
	r.Do(func() {
		r.Enqueue(vswitch.MakeToken(vswitch.KindGateway, 0, 0))
		r.Later()
	})
	r.Do(func() {
		if left != 3 {
			t.Errorf("%d of 3 pieces were left while there was work", left)
		}
	})
	r.Close()
	if left != 0 {
		t.Errorf("%d pieces are left", left)
	}
}
