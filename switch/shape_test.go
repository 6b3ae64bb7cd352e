package vswitch_test

import (
	"testing"
	"time"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// shaped is two hosts of which a has a shape.
func shaped(t *testing.T, c vswitch.Shape) (n *switchtest.Net, a, b *switchtest.Host) {
	n = switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b = n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	n.SetShape(a.Port, c)
	return n, a, b
}

// pass lets time go by in steps of a millisecond, as a loop's timers do.
func pass(n *switchtest.Net, d time.Duration) {
	for range int(d / time.Millisecond) {
		n.Clock.Advance(time.Millisecond)
		n.Poll()
	}
}

func frames(p switchtest.Packet, n, size int) (list [][]byte) {
	for range n {
		list = append(list, p.UDP(1, 2, make([]byte, size)))
	}
	return list
}

func total(list [][]byte) (n int) {
	for _, b := range list {
		n += len(b)
	}
	return n
}

// What a container sends is held to its rate: the rest waits in its own queue,
// and nothing is lost.
func TestRateOut(t *testing.T) {
	n, a, b := shaped(t, vswitch.Shape{RateOut: 8_000_000, BurstOut: 10_000}) // 1 MB/s
	a.Dev.Push(frames(a.To(b), 500, 1000)...)
	n.Poll()
	first := total(b.Dev.Take())
	if first < 9_000 || first > 13_000 {
		t.Errorf("%d bytes passed at once, of a burst of 10000", first)
	}
	pass(n, 100*time.Millisecond)
	if got := total(b.Dev.Take()); got < 90_000 || got > 112_000 {
		t.Errorf("%d bytes in 100 ms at 1 MB/s", got)
	}
	if a.Dev.Pending() == 0 {
		t.Error("nothing waits where it was sent")
	}
	pass(n, time.Second)
	if a.Dev.Pending() != 0 || len(a.Dropped()) != 0 {
		t.Errorf("%d wait, dropped %v", a.Dev.Pending(), a.Dropped())
	}
	// The other way is free.
	b.Send(frames(b.To(a), 200, 1000)...)
	if got := len(a.Dev.Take()); got != 200 {
		t.Errorf("%d of 200 frames the other way", got)
	}
}

// What a container is sent is held to its rate: a bounded part waits in order,
// the rest is dropped under its reason.
func TestRateIn(t *testing.T) {
	n, a, b := shaped(t, vswitch.Shape{RateIn: 8_000_000, BurstIn: 10_000})
	b.Send(frames(b.To(a), 100, 1000)...)
	if got := total(a.Dev.Take()); got < 9_000 || got > 13_000 {
		t.Errorf("%d bytes passed at once, of a burst of 10000", got)
	}
	if _, waits := a.Held(); waits < 80_000 {
		t.Errorf("%d bytes wait", waits)
	}
	pass(n, 50*time.Millisecond)
	if got := total(a.Dev.Take()); got < 45_000 || got > 57_000 {
		t.Errorf("%d bytes in 50 ms at 1 MB/s", got)
	}
	pass(n, 100*time.Millisecond)
	a.Dev.Take()
	b.Send(frames(b.To(a), 3000, 1000)...)
	if d := b.Dropped()[vswitch.RateLimit]; d < 1500 || d > 2500 {
		t.Errorf("%d of 3000 frames dropped, of which 1 MiB may wait", d)
	}
	// A shape that is taken away lets go of what it held.
	n.SetShape(a.Port, vswitch.Shape{})
	if got := len(a.Dev.Take()); got < 900 {
		t.Errorf("%d frames were let go", got)
	}
	b.Send(frames(b.To(a), 3000, 1000)...)
	if got := len(a.Dev.Take()); got != 3000 {
		t.Errorf("%d of 3000 frames without a shape", got)
	}
}

// Delay holds what a container sends, in its order; loss takes some away.
func TestDelayAndLoss(t *testing.T) {
	n, a, b := shaped(t, vswitch.Shape{Delay: int64(20 * time.Millisecond), Jitter: int64(5 * time.Millisecond)})
	p := a.To(b)
	for i := range 50 {
		a.Send(p.UDP(1, 2, []byte{byte(i)}))
	}
	pass(n, 14*time.Millisecond)
	if got := len(b.Dev.Take()); got != 0 {
		t.Errorf("%d frames after 14 ms", got)
	}
	pass(n, 12*time.Millisecond)
	list := b.Dev.Take()
	if len(list) != 50 {
		t.Errorf("%d of 50 frames after 26 ms", len(list))
	}
	for i, f := range list {
		if f[len(f)-1] != byte(i) {
			t.Fatalf("frame %d stands at %d", f[len(f)-1], i)
		}
	}
	n.SetShape(a.Port, vswitch.Shape{Loss: 0.1})
	a.Send(frames(p, 5000, 10)...)
	got, lost := len(b.Dev.Take()), a.Dropped()[vswitch.Impaired]
	if uint64(got)+lost != 5000 || lost < 350 || lost > 650 {
		t.Errorf("%d of 5000 frames arrived, %d counted as lost, of 10 %%", got, lost)
	}
}

// The gateway may ask before it sends, and is told when there is room.
func TestBlocked(t *testing.T) {
	n, a, b := shaped(t, vswitch.Shape{RateIn: 8_000_000, BurstIn: 10_000})
	token := vswitch.MakeToken(vswitch.KindGateway, 1, 7)
	if n.Blocked(a.Port, token) || n.Blocked(b.Port, token) {
		t.Error("blocked at once")
	}
	b.Send(frames(b.To(a), 20, 1000)...)
	for range 2 { // asked again it is told once all the same
		if !n.Blocked(a.Port, token) {
			t.Error("not blocked beyond its burst")
		}
	}
	n.Gateway.Ran = nil
	pass(n, 50*time.Millisecond)
	if len(n.Gateway.Ran) != 1 || n.Gateway.Ran[0] != token {
		t.Errorf("told %d times", len(n.Gateway.Ran))
	}
}
