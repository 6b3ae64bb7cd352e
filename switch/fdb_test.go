package vswitch_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// vmMAC is the i-th address behind a trusted port.
func vmMAC(i int) vswitch.MAC {
	return vswitch.MAC{0x52, 0x54, 0, byte(i >> 16), byte(i >> 8), byte(i)}
}

// speak lets the i-th machine behind h say something to the MAC dst.
func speak(h *switchtest.Host, i int, dst vswitch.MAC) {
	h.Send(switchtest.Packet{SrcMAC: vmMAC(i), DstMAC: dst, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
}

// holder is the port that the FDB has m on, or 0.
func holder(b *vswitch.Bridge, m vswitch.MAC) vswitch.PortID {
	for _, e := range b.FDB() {
		if e.MAC == m {
			return e.Port
		}
	}
	return 0
}

func TestLearn(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")

	toVM := with(v4, func(p *switchtest.Packet) { p.DstMAC = vmMAC(1) }).UDP(1, 2, data)
	a.Send(toVM)
	if vm.Stats.RxFrames != 1 || vm2.Stats.RxFrames != 1 {
		t.Error("an unknown address was not looked for on both trusted ports")
	}
	speak(vm, 1, a.MAC)
	a.Send(toVM, toVM)
	if vm.Stats.RxFrames != 3 || vm2.Stats.RxFrames != 1 || a.Stats.RxFrames != 1 {
		t.Errorf("after learning: vm %d, vm2 %d, a %d frames", vm.Stats.RxFrames, vm2.Stats.RxFrames, a.Stats.RxFrames)
	}
	if vm.Learned() != 1 || a.Learned() != 0 {
		t.Errorf("learned %d on vm, %d on a", vm.Learned(), a.Learned())
	}
	vm.Send(switchtest.Packet{SrcMAC: vm.MAC, DstMAC: vmMAC(1), Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
	if got := vm.Dropped(); got[vswitch.Reflected] != 1 || len(got) != 1 {
		t.Errorf("between two machines on one port: %v", got)
	}
}

// TestContainersAreNotLearned: what the guard drops leaves no trace.
func TestContainersAreNotLearned(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	speak(a, 1, b.MAC)
	a.Send(with(v4, func(p *switchtest.Packet) { p.SrcMAC = b.MAC }).UDP(1, 2, data))
	if fdb := br.FDB(); len(fdb) != 2 || holder(br, b.MAC) != b.ID || holder(br, a.MAC) != a.ID {
		t.Errorf("%+v", fdb)
	}
}

func TestStaticEntriesStay(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, vm := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Trusted(br, "vm", "172.17.0.9")
	// The trusted port uses b's address: it may send so, but draws nothing to it,
	// and does not make b look alive.
	asB := with(vm.To(a), func(p *switchtest.Packet) { p.SrcMAC = b.MAC }).UDP(1, 2, data)
	vm.Send(asB)
	n.Clock.Advance(time.Hour)
	vm.Send(asB)
	a.Send(a.To(b).UDP(1, 2, data))
	if b.Stats.RxFrames != 1 || vm.Stats.RxFrames != 0 || a.Stats.RxFrames != 2 || vm.Stats.Hits != 1 {
		t.Errorf("a %d, b %d, vm %d frames, %d hits", a.Stats.RxFrames, b.Stats.RxFrames, vm.Stats.RxFrames, vm.Stats.Hits)
	}
	for _, e := range br.FDB() {
		if !e.Static || e.MAC == b.MAC && e.Age != 3600 || e.MAC == a.MAC && e.Age != 0 {
			t.Errorf("%+v", e)
		}
	}
}

func TestAge(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	speak(vm, 1, a.MAC)
	n.Clock.Advance(200 * time.Second)
	speak(vm, 1, a.MAC) // through the cache: ages there, too
	if vm.Stats.Hits != 1 {
		t.Fatal("the second frame did not hit the cache")
	}
	n.Clock.Advance(300 * time.Second)
	toVM := with(v4, func(p *switchtest.Packet) { p.DstMAC = vmMAC(1) }).UDP(1, 2, data)
	a.Send(toVM, toVM)
	if vm.Stats.RxFrames != 2 || vm2.Stats.RxFrames != 0 || a.Stats.Hits != 1 {
		t.Errorf("aged too early, or not cached: vm %d, vm2 %d frames, %d hits", vm.Stats.RxFrames, vm2.Stats.RxFrames, a.Stats.Hits)
	}
	if e := br.FDB(); holder(br, vmMAC(1)) != vm.ID {
		t.Errorf("not in %+v", e)
	}
	n.Clock.Advance(time.Second)
	a.Send(toVM, toVM)
	if vm.Stats.RxFrames != 4 || vm2.Stats.RxFrames != 2 {
		t.Errorf("after 301 s a frame goes everywhere, also one that was cached: vm %d, vm2 %d frames", vm.Stats.RxFrames, vm2.Stats.RxFrames)
	}
	if holder(br, vmMAC(1)) != 0 {
		t.Error("an aged entry is listed")
	}
	speak(vm2, 1, a.MAC)
	a.Send(toVM)
	if vm2.Stats.RxFrames != 3 || vm.Stats.RxFrames != 4 || vm.Learned() != 0 || vm2.Learned() != 1 {
		t.Errorf("learned anew: vm %d, vm2 %d frames, %d and %d learned", vm.Stats.RxFrames, vm2.Stats.RxFrames, vm.Learned(), vm2.Learned())
	}
}

// TestReflectedAges: a drop that was cached because both machines stood on one
// port ends with what the FDB knew of them.
func TestReflectedAges(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	speak(vm, 1, a.MAC)
	n.Clock.Advance(200 * time.Second)
	speak(vm, 2, vmMAC(1))
	speak(vm, 2, vmMAC(1))
	if got := vm.Dropped(); got[vswitch.Reflected] != 2 || vm.Stats.Hits != 1 {
		t.Fatalf("dropped %v, %d hits", got, vm.Stats.Hits)
	}
	n.Clock.Advance(101 * time.Second)
	speak(vm, 2, vmMAC(1))
	if got := vm.Dropped(); got[vswitch.Reflected] != 2 || vm2.Stats.RxFrames != 1 {
		t.Errorf("an aged address is not looked for: dropped %v, vm2 heard %d frames", got, vm2.Stats.RxFrames)
	}
}

func TestMove(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	toVM := with(v4, func(p *switchtest.Packet) { p.DstMAC = vmMAC(1) }).UDP(1, 2, data)
	for i, h := range []*switchtest.Host{vm, vm2, vm, vm2} {
		speak(h, 1, a.MAC)
		before := h.Stats.RxFrames
		a.Send(toVM, toVM)
		if h.Stats.RxFrames != before+2 || holder(br, vmMAC(1)) != h.ID {
			t.Errorf("move %d: %d frames to %s", i, h.Stats.RxFrames-before, h.Name)
		}
	}
	if moved, _ := br.MovesEvictions(); moved != 3 {
		t.Errorf("%d moves, not 3", moved)
	}
	if vm.Learned() != 0 || vm2.Learned() != 1 {
		t.Errorf("%d and %d learned", vm.Learned(), vm2.Learned())
	}
}

// TestLearnedIsBoundedPerPort: a port that floods addresses evicts its own,
// the longest unseen first.
func TestLearnedIsBoundedPerPort(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	sink, vm, other := n.Host(br, "sink", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "other", "172.17.0.9")
	sink.Dev.Discard()
	for i := range 10 {
		speak(other, 1_000_000+i, sink.MAC)
	}
	for i := range 1024 {
		speak(vm, i, sink.MAC)
	}
	if _, evicted := br.MovesEvictions(); evicted != 0 || vm.Learned() != 1024 {
		t.Fatalf("%d learned, %d evicted", vm.Learned(), evicted)
	}
	n.Clock.Advance(time.Second)
	speak(vm, 0, sink.MAC) // the first learned is heard again, by cache or not
	for i := range 100 {
		speak(vm, 1024+i, sink.MAC)
	}
	if _, evicted := br.MovesEvictions(); evicted != 100 || vm.Learned() != 1024 || other.Learned() != 10 {
		t.Errorf("%d evicted, %d and %d learned", evicted, vm.Learned(), other.Learned())
	}
	for i := range 1024 + 100 {
		gone := i >= 1 && i <= 100
		if got := holder(br, vmMAC(i)); (got == 0) != gone {
			t.Fatalf("address %d is on port %d; only 1 to 100 were unseen for longest", i, got)
		}
	}
}

// TestFullTableEvictsFromTheFullest: the bridge's bound hits who holds most.
func TestFullTableEvictsFromTheFullest(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.AddBridge(vswitch.BridgeConfig{Name: "small", MaxFDB: 64})
	greedy, modest := n.Trusted(br, "greedy", "172.17.0.8"), n.Trusted(br, "modest", "172.17.0.9")
	for i := range 60 {
		speak(greedy, i, modest.MAC)
	}
	for i := range 20 {
		speak(modest, 1000+i, greedy.MAC)
	}
	if len(br.FDB()) != 64 || modest.Learned() != 20 || greedy.Learned() != 42 {
		t.Errorf("%d entries, %d of the modest and %d of the greedy port", len(br.FDB()), modest.Learned(), greedy.Learned())
	}
	for i := range 200 {
		speak(greedy, 2000+i, modest.MAC)
	}
	if len(br.FDB()) != 64 || modest.Learned() != 20 {
		t.Errorf("%d entries; the modest port was left with %d of 20", len(br.FDB()), modest.Learned())
	}
}

// TestTableOfContainersOnly has more static entries than the bound: containers
// are never evicted, and next to nothing is learned.
func TestTableOfContainersOnly(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.AddBridge(vswitch.BridgeConfig{Name: "small", MaxFDB: 4})
	for i := range byte(8) {
		n.Attach(vswitch.PortConfig{Name: "c", Bridge: br, MAC: vswitch.MAC{2, 0, 0, 0, 0, i}}, switchtest.NewDevice(t, switchtest.All))
	}
	vm := n.Trusted(br, "vm", "172.17.0.9")
	for i := range 100 {
		speak(vm, i, vswitch.MAC{2})
	}
	if fdb := br.FDB(); len(fdb) > 10 || vm.Learned() > 1 {
		t.Errorf("%d entries, %d of them learned", len(fdb), vm.Learned())
	}
	for i := range byte(8) {
		if holder(br, vswitch.MAC{2, 0, 0, 0, 0, i}) == 0 {
			t.Errorf("container %d was evicted", i)
		}
	}
}

// TestRemovedPortTakesItsAddresses, and nobody else's.
func TestRemovedPortTakesItsAddresses(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	for i := range 50 {
		speak(vm, i, a.MAC)
		speak(vm2, 100+i, a.MAC)
	}
	n.RemovePort(vm.Port)
	fdb := br.FDB()
	if len(fdb) != 52 || vm2.Learned() != 50 {
		t.Errorf("%d entries left, %d learned; want 52 and 50", len(fdb), vm2.Learned())
	}
	for _, e := range fdb {
		if e.Port == vm.ID {
			t.Errorf("%s is still on the port that is gone", e.MAC)
		}
	}
	again := n.Trusted(br, "again", "172.17.0.8")
	for i := range 50 {
		speak(again, i, a.MAC)
	}
	if len(br.FDB()) != 103 || again.Learned() != 50 || again.ID != vm.ID {
		t.Errorf("%d entries after another port took the number", len(br.FDB()))
	}
	n.RemovePort(vm2.Port)
	n.RemovePort(again.Port)
	// No trusted port is left to look for an address on: a drop, and cached.
	if got := counted(a, func() { a.Send(v4.UDP(1, 2, data), v4.UDP(1, 2, data)) }); got != (count{1, 1}) || a.Dropped()[vswitch.UnknownMAC] != 2 {
		t.Errorf("without trusted ports: %+v, dropped %v", got, a.Dropped())
	}
}

// TestFDBModel plays at random against a map.
func TestFDBModel(t *testing.T) {
	rnd := switchtest.Rand(t)
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	type row struct {
		port vswitch.PortID
		seen time.Duration
	}
	var now time.Duration
	model := map[vswitch.MAC]row{}
	var ports []*switchtest.Host
	attach := func() {
		h := n.Attach(vswitch.PortConfig{Name: "vm", Bridge: br, Spoof: true, MAC: vswitch.MAC{2, 0, 0, 0, byte(len(n.Hosts) >> 8), byte(len(n.Hosts))}}, switchtest.NewDevice(t, switchtest.All))
		h.Dev.Discard()
		ports = append(ports, h)
	}
	for range 3 {
		attach()
	}
	for step := range 20_000 {
		switch x := rnd.IntN(1000); {
		case x < 5 && len(ports) > 2:
			i := rnd.IntN(len(ports))
			n.RemovePort(ports[i].Port)
			for m, r := range model {
				if r.port == ports[i].ID {
					delete(model, m)
				}
			}
			ports = append(ports[:i], ports[i+1:]...)
		case x < 10 && len(ports) < 6:
			attach()
		case x < 200:
			d := time.Duration(1+rnd.IntN(30)) * time.Second
			n.Clock.Advance(d)
			now += d
		default:
			h, m := ports[rnd.IntN(len(ports))], vmMAC(rnd.IntN(200))
			n.Input(h.Port, switchtest.Packet{SrcMAC: m, DstMAC: vswitch.Broadcast}.Ether(0x88b5, nil))
			model[m] = row{h.ID, now}
		}
		if step%50 != 0 {
			continue
		}
		n.Poll() // reads the clock
		got, statics := map[vswitch.MAC]vswitch.PortID{}, 0
		for _, e := range br.FDB() {
			if e.Static {
				statics++
			} else if _, twice := got[e.MAC]; twice {
				t.Fatalf("step %d: %s is listed twice", step, e.MAC)
			} else {
				got[e.MAC] = e.Port
			}
		}
		want := 0
		for m, r := range model {
			if now-r.seen > 300*time.Second {
				continue
			}
			if want++; got[m] != r.port {
				t.Fatalf("step %d: %s is on port %d, want %d", step, m, got[m], r.port)
			}
		}
		if len(got) != want || statics != len(ports) {
			t.Fatalf("step %d: %d learned and %d static entries; want %d and %d", step, len(got), statics, want, len(ports))
		}
	}
}

// storm joins two trusted ports outside of the switch and lets speaker
// broadcast. It returns the two ports when nothing moves any more, and fails if
// that never comes to be.
func storm(t *testing.T, n *switchtest.Net, br *vswitch.Bridge, speaker *switchtest.Host, src vswitch.MAC) (p, q *vswitch.Port) {
	t.Helper()
	x, y := switchtest.Cable(t, switchtest.All)
	add := func(d vswitch.Device, mac byte) *vswitch.Port {
		port, err := n.AddPort(vswitch.PortConfig{Name: "nested", Bridge: br, Device: d, Spoof: true, MAC: vswitch.MAC{2, 0, 0, 0, 9, mac}})
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	p, q = add(x, 1), add(y, 2)
	speaker.Send(switchtest.Packet{SrcMAC: src, DstMAC: vswitch.Broadcast, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
	settle(t, n, p, q)
	return p, q
}

// settle turns the switch until no frame is on its way between p and q.
func settle(t *testing.T, n *switchtest.Net, p, q *vswitch.Port) {
	t.Helper()
	for range 1000 {
		before := p.Stats.TxFrames + q.Stats.TxFrames
		if n.Poll(); p.Stats.TxFrames+q.Stats.TxFrames == before {
			return
		}
	}
	t.Fatalf("after 1000 turns frames still go around: %d and %d", p.Stats.TxFrames, q.Stats.TxFrames)
}

// TestLoopEnds: whoever's frame goes around, learned or programmed, one of the
// two joined ports is blocked, nobody else, and not for ever.
func TestLoopEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted bool
		src     vswitch.MAC // zero for the port's own
	}{
		{"a container's broadcast", false, vswitch.MAC{}},
		{"a trusted port's own broadcast", true, vswitch.MAC{}},
		{"a learned machine's broadcast", true, vmMAC(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := switchtest.NewNet(t)
			br := n.Bridge("bridge", "172.17.0.0/16")
			listener := n.Host(br, "listener", "172.17.0.3")
			speaker := n.Attach(vswitch.PortConfig{Name: "speaker", Bridge: br, Spoof: c.trusted}, switchtest.NewDevice(t, switchtest.All), "172.17.0.2")
			src := c.src
			if src == (vswitch.MAC{}) {
				src = speaker.MAC
			}
			p, q := storm(t, n, br, speaker, src)
			if p.Blocked() == q.Blocked() {
				t.Fatalf("blocked: %t and %t; want one of the two", p.Blocked(), q.Blocked())
			}
			if got := p.Stats.Drops[vswitch.Loop] + q.Stats.Drops[vswitch.Loop]; got == 0 {
				t.Error("no frame was counted under loop")
			}
			if got := listener.Stats.RxFrames; got > 17*64 { // 64 frames a turn, and a jump a turn
				t.Errorf("the listener heard one broadcast %d times", got)
			}

			// The speaker goes on in the same second, and is not taken for the loop.
			unicast := switchtest.Packet{SrcMAC: src, DstMAC: listener.MAC, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data)
			before := listener.Stats.RxFrames
			speaker.Send(unicast, unicast)
			if speaker.Blocked() || listener.Stats.RxFrames != before+2 {
				t.Errorf("the speaker was blocked: %v", speaker.Dropped())
			}

			// Broadcasts reach the open one of the two ports, not the other.
			blocked, open := p, q
			if q.Blocked() {
				blocked, open = q, p
			}
			rx, was := blocked.Stats.RxFrames, open.Stats.RxFrames
			speaker.Send(switchtest.Packet{SrcMAC: src, DstMAC: vswitch.Broadcast, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
			settle(t, n, p, q)
			if blocked.Stats.RxFrames != rx || open.Stats.RxFrames != was+1 {
				t.Errorf("the blocked port was given %d frames, the open one %d", blocked.Stats.RxFrames-rx, open.Stats.RxFrames-was)
			}
		})
	}
}

// TestLoopOpensAgain: a port that was blocked works again after 10 s, also for
// a flow that was dropped and decided meanwhile.
func TestLoopOpensAgain(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	for i := range 40 {
		h := vm
		if i%2 == 1 {
			h = vm2
		}
		h.Send(h.To(a).UDP(1, 2, data)) // a flow of its own, cached
		speak(h, 1, a.MAC)
		if vm.Blocked() || vm2.Blocked() {
			if i < 16 {
				t.Fatalf("blocked after %d jumps already", i)
			}
			break
		}
	}
	port := vm
	if vm2.Blocked() {
		port = vm2
	} else if !vm.Blocked() {
		t.Fatal("40 jumps within a second, and no port is blocked")
	}
	dropped, heard := port.Stats.Drops[vswitch.Loop], a.Stats.RxFrames
	frame := port.To(a).UDP(1, 2, data)
	port.Send(frame, frame, frame)
	if got := port.Stats.Drops[vswitch.Loop]; got != dropped+3 || a.Stats.RxFrames != heard {
		t.Errorf("a blocked port's frames: %d dropped, %d delivered", got-dropped, a.Stats.RxFrames-heard)
	}
	n.Clock.Advance(9 * time.Second)
	if port.Send(frame); a.Stats.RxFrames != heard {
		t.Error("opened too early")
	}
	n.Clock.Advance(time.Second)
	port.Send(frame, frame, frame)
	if got := a.Stats.RxFrames; got != heard+3 {
		t.Errorf("after 10 s %d of 3 frames were delivered; dropped %v", got-heard, port.Dropped())
	}
}

// TestForeignUnicastIsNoLoop: what is not flooded cannot go around, so a trusted
// port may send from a container's address as much as it likes.
func TestForeignUnicastIsNoLoop(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, vm := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Trusted(br, "vm", "172.17.0.9")
	for range 100 {
		vm.Send(with(vm.To(a), func(p *switchtest.Packet) { p.SrcMAC = b.MAC }).TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil))
	}
	if vm.Blocked() || a.Stats.RxFrames != 100 {
		t.Errorf("%d of 100 frames; dropped %v", a.Stats.RxFrames, vm.Dropped())
	}
}

// TestFloodToBlockedPortsOnly is counted: the frame reached nobody, for a reason.
func TestFloodToBlockedPortsOnly(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	vm, vm2 := n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	speak(vm, 1, vm2.MAC)
	for !vm.Blocked() {
		speak(vm2, 1, vm.MAC)
		if vm2.Blocked() {
			vm, vm2 = vm2, vm
			break
		}
		speak(vm, 1, vm2.MAC)
	}
	vm2.Send(switchtest.Packet{SrcMAC: vm2.MAC, DstMAC: vswitch.Broadcast, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
	if got := vm2.Dropped(); got[vswitch.Loop] != 1 || len(got) != 1 {
		t.Errorf("dropped %v", got)
	}
}

// TestSlowMovesAreNoLoop: a machine that migrates often is not punished.
func TestSlowMovesAreNoLoop(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
	for i := range 100 {
		h := vm
		if i%2 == 1 {
			h = vm2
		}
		if speak(h, 1, a.MAC); i%16 == 15 {
			n.Clock.Advance(time.Second)
		}
	}
	if vm.Blocked() || vm2.Blocked() || a.Stats.RxFrames != 100 {
		t.Errorf("%d of 100 frames", a.Stats.RxFrames)
	}
}

// TestLoopOfContainersIsSpoofing: two ports that may not spoof cannot form a
// loop, since the guard drops what comes around.
func TestLoopOfContainersIsSpoofing(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a := n.Host(br, "a", "172.17.0.2")
	x, y := switchtest.Cable(t, switchtest.All)
	p := n.Attach(vswitch.PortConfig{Name: "p", Bridge: br, Device: x}, nil, "172.17.0.5")
	q := n.Attach(vswitch.PortConfig{Name: "q", Bridge: br, Device: y}, nil, "172.17.0.6")
	a.Send(switchtest.Packet{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Src: v4.Src, Dst: v4.Dst}.UDP(1, 2, data))
	settle(t, n, p.Port, q.Port)
	if p.Stats.Drops[vswitch.SpoofedMAC] != 1 || q.Stats.Drops[vswitch.SpoofedMAC] != 1 || a.Stats.RxFrames != 0 {
		t.Errorf("p dropped %v, q %v; a heard itself %d times", p.Dropped(), q.Dropped(), a.Stats.RxFrames)
	}
}

// A machine that was silent for long and speaks again in a flow of before is
// found again, by those, too, who were told meanwhile that nobody has it.
func TestAgedSourceIsFoundAgain(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1500, Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"), NoICC: true})
	br.Ask = true // a rule lets these two speak; nothing floods here
	a, vm := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.9")
	said := switchtest.Packet{SrcMAC: vmMAC(1), DstMAC: a.MAC, Src: netip.MustParseAddr("172.17.0.10"), Dst: a.Addrs[0]}.UDP(1, 2, nil)
	asked := switchtest.Packet{SrcMAC: a.MAC, DstMAC: vmMAC(1), Src: a.Addrs[0], Dst: netip.MustParseAddr("172.17.0.10")}.UDP(2, 1, nil)
	vm.Send(said)
	vm.Send(said) // decided, and in the cache
	n.Clock.Advance(301 * time.Second)
	a.Send(asked)
	vm.Dev.Take()
	vm.Send(said)
	a.Send(asked)
	if got := len(vm.Dev.Take()); got != 1 {
		t.Errorf("%d frames reached it", got)
	}
}
