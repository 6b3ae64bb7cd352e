package vswitch_test

import (
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// count is what changed in a port's counters of the cache.
type count struct{ upcalls, hits uint64 }

func counted(h *switchtest.Host, f func()) count {
	before := h.Stats
	f()
	return count{h.Stats.Upcalls - before.Upcalls, h.Stats.Hits - before.Hits}
}

func TestCacheHitsAfterTheFirst(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3")
	for name, frame := range map[string][]byte{
		"tcp4": v4.TCP(ack, data), "tcp6": v6.TCP(ack, data), "udp4": v4.UDP(1, 2, data), "udp6": v6.UDP(1, 2, data), "echo": v4.Echo(1, 1, data), "echo6": v6.Echo(1, 1, data),
		"sctp": v4.IP(132, make([]byte, 12)), "odd ethertype": v4.Ether(0x88b5, data), "llc": v4.Ether(46, make([]byte, 46)),
		"super": switchtest.Super(v4.TCP(layers.TCP{SrcPort: 9, DstPort: 9, ACK: true}, make([]byte, 60000)), vswitch.GSOTCPv4, 1448),
	} {
		if got := counted(a, func() { a.Send(frame, frame, frame, frame, frame) }); got != (count{1, 4}) {
			t.Errorf("%s: %+v, want one upcall and 4 hits", name, got)
		}
		if got := len(b.Dev.Take()); got != 5 {
			t.Errorf("%s: %d of 5 frames arrived", name, got)
		}
	}
	spoofed := with(v4, func(p *switchtest.Packet) { p.Src = p.Src.Next().Next() }).UDP(1, 2, data)
	if got := counted(a, func() { a.Send(spoofed, spoofed, spoofed) }); got != (count{1, 2}) || a.Dropped()[vswitch.SpoofedIP] != 3 {
		t.Errorf("a drop: %+v, %v", got, a.Dropped())
	}
}

// TestCacheIsPerPort: the same key on two ports means two decisions.
func TestCacheIsPerPort(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, vm := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Trusted(br, "vm", "172.17.0.9")
	frame := a.To(b).UDP(1, 2, data)
	if got := counted(vm, func() { a.Send(frame, frame); vm.Send(frame, frame) }); got != (count{1, 1}) {
		t.Errorf("%+v", got)
	}
}

// TestCacheDiesWithGenerations changes one thing between two frames of a flow.
func TestCacheDiesWithGenerations(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(n *switchtest.Net, a, b, vm *switchtest.Host)
		dies   bool
	}{
		{"nothing", func(*switchtest.Net, *switchtest.Host, *switchtest.Host, *switchtest.Host) {}, false},
		{"policy", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.PolicyChanged() }, true},
		{"own addresses", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.SetAddrs(a.Port, a.PortConfig) }, true},
		{"the receiver's addresses", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.SetAddrs(b.Port, b.PortConfig) }, true},
		{"a new port", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.Host(a.Bridge(), "c", "172.17.0.7") }, true},
		{"a port less", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.RemovePort(vm.Port) }, true},
		{"a new bridge", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.Bridge("new", "10.0.0.0/8") }, true},
		{"a bridge less", func(n *switchtest.Net, a, b, vm *switchtest.Host) {
			br := n.Bridges()[1]
			for _, p := range br.Ports() {
				n.RemovePort(p)
			}
			if err := n.RemoveBridge(br); err != nil {
				n.T.Fatal(err)
			}
		}, true},
		{"a port on another bridge", func(n *switchtest.Net, a, b, vm *switchtest.Host) { n.Host(n.Bridges()[1], "c", "172.18.0.7") }, false},
		{"a frame of another flow", func(n *switchtest.Net, a, b, vm *switchtest.Host) { a.Send(a.To(b).UDP(9, 9, nil)) }, false},
		{"a SYN of the flow", func(n *switchtest.Net, a, b, vm *switchtest.Host) {
			a.Send(a.To(b).TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil))
		}, false},
	} {
		n := switchtest.NewNet(t)
		br, other := n.Bridge("bridge", "172.17.0.0/16"), n.Bridge("other", "172.18.0.0/16")
		a, b, vm := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Trusted(br, "vm", "172.17.0.9")
		n.Host(other, "far", "172.18.0.2")
		frame := a.To(b).TCP(layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}, data)
		a.Send(frame)
		c.change(n, a, b, vm)
		want := count{0, 1}
		if c.dies {
			want = count{1, 0}
		}
		if got := counted(a, func() { a.Send(frame) }); got != want {
			t.Errorf("%s: %+v, want %+v", c.name, got, want)
		}
		if got := counted(a, func() { a.Send(frame) }); got != (count{0, 1}) {
			t.Errorf("%s: the new decision was not cached: %+v", c.name, got)
		}
	}
}

// TestCachedOutputAfterReuse: the port a flow was cached to goes, and another
// one takes its number: on this bridge, or on another, which must never see it.
func TestCachedOutputAfterReuse(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		n := switchtest.NewNet(t)
		br, other := n.Bridge("bridge", "172.17.0.0/16"), n.Bridge("other", "172.18.0.0/16")
		a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
		frame := a.To(b).UDP(1, 2, data)
		a.Send(frame, frame)
		n.RemovePort(b.Port)
		on := br
		if elsewhere {
			on = other
		}
		c := n.Attach(vswitch.PortConfig{Name: "c", Bridge: on, MAC: vswitch.MAC{2, 0, 0, 0, 0, 9}}, switchtest.NewDevice(t, switchtest.All), "172.18.0.9")
		if c.ID != b.ID {
			t.Fatalf("the number %d was not reused but %d", b.ID, c.ID)
		}
		a.Send(frame, frame)
		if c.Stats.RxFrames != 0 || a.Dropped()[vswitch.UnknownMAC] != 2 {
			t.Errorf("elsewhere %t: the new port was given %d frames; dropped %v", elsewhere, c.Stats.RxFrames, a.Dropped())
		}
	}
}

// TestGatewayOutputAfterReuse is the same for a port that the gateway named.
func TestGatewayOutputAfterReuse(t *testing.T) {
	n := switchtest.NewNet(t)
	br, other := n.Bridge("bridge", "172.17.0.0/16"), n.Bridge("other", "172.18.0.0/16")
	another := n.Bridge("another", "172.19.0.0/16")
	a, far := n.Host(br, "a", "172.17.0.2"), n.Host(other, "far", "172.18.0.2")
	n.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action {
		for _, b := range n.Bridges() {
			if p := b.PortOf(f.Dst()); p != nil {
				return vswitch.Action{Kind: vswitch.ActOutput, Port: p.ID}
			}
		}
		return vswitch.Drop(vswitch.NoRoute)
	}
	frame := a.Out("172.18.0.2").UDP(1, 2, data)
	if got := counted(a, func() { a.Send(frame, frame, frame) }); got != (count{1, 2}) || far.Stats.RxFrames != 3 {
		t.Fatalf("%+v, %d frames", got, far.Stats.RxFrames)
	}
	n.RemovePort(far.Port)
	a.Send(frame)
	third := n.Host(another, "third", "172.19.0.2")
	if third.ID != far.ID {
		t.Fatalf("the number %d was not reused but %d", far.ID, third.ID)
	}
	a.Send(frame)
	if third.Stats.RxFrames != 0 || a.Dropped()[vswitch.NoRoute] != 2 {
		t.Errorf("%d frames went astray; dropped %v", third.Stats.RxFrames, a.Dropped())
	}
}

// TestClassesAreNeverCached: each of these goes up every time.
func TestClassesAreNeverCached(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3")
	n.Trusted(br, "vm", "172.17.0.9")
	flags := func(f layers.TCP) []byte {
		f.SrcPort, f.DstPort, f.ACK = 40000, 80, true
		return v4.TCP(f, data)
	}
	a.Send(v4.TCP(ack, data), v4.UDP(1, 2, data)) // the flows are cached
	b.Dev.Take()
	for name, frame := range map[string][]byte{
		"bad":              set16(v4.UDP(1, 2, data), 16, 0),
		"first fragment":   v4frag(true, 0).IP(17, udpOf(v4)),
		"later fragment":   v4frag(false, 8).IP(17, data),
		"IPv6 fragment":    v6.IP(44, switchtest.Fragment(17, 0, true, 1, udpOf(v6))),
		"options":          with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 4) }).UDP(1, 2, data),
		"extension":        v6.IP(60, switchtest.Extension(17, udpOf(v6))),
		"ttl 1":            with(v4, func(p *switchtest.Packet) { p.TTL = 1 }).UDP(1, 2, data),
		"hop limit 1":      with(v6, func(p *switchtest.Packet) { p.TTL = 1 }).UDP(1, 2, data),
		"syn":              flags(layers.TCP{SYN: true}),
		"fin":              flags(layers.TCP{FIN: true}),
		"rst":              flags(layers.TCP{RST: true}),
		"arp":              arpRequest.Frame(),
		"nd":               switchtest.Neighbour{Packet: v6, Target: v6.Dst}.Solicit(),
		"dhcp":             v4.UDP(68, 67, data),
		"igmp":             v4.IP(2, make([]byte, 8)),
		"icmp error":       set8(v4.Echo(1, 1, make([]byte, 28)), 34, 3),
		"broadcast":        with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(1, 2, data),
		"unknown unicast":  with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{2, 9, 9, 9, 9, 9} }).UDP(1, 2, data),
		"vlan":             with(v4, func(p *switchtest.Packet) { p.VLAN = 5 }).UDP(1, 2, data),
		"reserved":         with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{1, 0x80, 0xc2} }).Ether(0x88b5, data),
		"a gateway's drop": with(v4, func(p *switchtest.Packet) { p.DstMAC = br.MAC }).UDP(1, 2, data),
	} {
		if got := counted(a, func() { a.Send(frame, frame, frame) }); got != (count{3, 0}) {
			t.Errorf("%s: %+v, want three upcalls", name, got)
		}
	}
	if got := counted(a, func() { a.Send(v4.TCP(ack, data), v4.UDP(1, 2, data)) }); got != (count{0, 2}) {
		t.Errorf("the flows themselves: %+v", got)
	}
}

// TestClassesLeaveNothing: the first plain frame of a flow is decided for itself.
func TestClassesLeaveNothing(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	a.Send(v4.UDP(9, 9, nil)) // the cache is there
	a.Send(v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil))
	if got := counted(a, func() { a.Send(v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}, nil)) }); got != (count{1, 0}) || b.Stats.RxFrames != 3 {
		t.Errorf("after a SYN: %+v", got)
	}
}

// TestConsumedIsNeverCached: the gateway sees each frame that it took.
func TestConsumedIsNeverCached(t *testing.T) {
	n := switchtest.NewNet(t)
	a := n.Host(n.Bridge("bridge", "172.17.0.0/16"), "a", "172.17.0.2")
	n.Gateway.Decide = func(*vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActConsumed} }
	frame := a.Out("10.0.0.1").UDP(1, 2, data)
	if a.Send(frame, frame, frame); n.Gateway.Resolved != 3 || len(a.Dropped()) != 0 {
		t.Errorf("%d of 3 frames went up; dropped %v", n.Gateway.Resolved, a.Dropped())
	}
}

// TestGatewayDropsAreDecidedAnew: a datagram with a bad checksum, or one that
// met a limit, does not take the rest of its flow with it.
func TestGatewayDropsAreDecidedAnew(t *testing.T) {
	n := switchtest.NewNet(t)
	a := n.Host(n.Bridge("bridge", "172.17.0.0/16"), "a", "172.17.0.2")
	good, bad := a.Out("10.0.0.1").UDP(1, 2, data), a.Out("10.0.0.1").UDP(1, 2, data)
	bad[len(bad)-1] ^= 1
	full := true
	n.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action {
		switch {
		case switchtest.NaiveChecksum(f.B[f.L4:f.End], uint64(^switchtest.NaiveChecksum(f.B[f.L3+12:f.L3+20], 0))+17+uint64(f.End-f.L4)) != 0:
			return vswitch.Drop(vswitch.BadChecksum)
		case full:
			return vswitch.Drop(vswitch.FlowLimit)
		}
		return vswitch.Action{Kind: vswitch.ActGateway, Flow: 7, FlowGen: 3}
	}
	a.Send(bad, good, bad)
	if got := a.Dropped(); got[vswitch.BadChecksum] != 2 || got[vswitch.FlowLimit] != 1 {
		t.Fatalf("dropped %v", got)
	}
	full = false
	a.Send(good, good)
	if got := n.Gateway.Delivered; len(got) != 2 || got[1].Flow != 7 || got[1].Gen != 3 || got[1].In != a.Port {
		t.Errorf("%d of 2 frames came to the flow; dropped %v", len(got), a.Dropped())
	}
	if n.Gateway.Resolved != 4 {
		t.Errorf("%d frames went up, not 4", n.Gateway.Resolved)
	}
}

// TestCachedGatewayFlows: the flow's end sends the next frame up; a flow that
// dies right away is a drop, counted once.
func TestCachedGatewayFlows(t *testing.T) {
	n := switchtest.NewNet(t)
	a := n.Host(n.Bridge("bridge", "172.17.0.0/16"), "a", "172.17.0.2")
	var gen uint32
	n.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action {
		gen++
		return vswitch.Action{Kind: vswitch.ActGateway, Flow: 1, FlowGen: gen}
	}
	n.Gateway.Alive = func(_, g uint32) bool { return g == gen }
	frame := a.Out("10.0.0.1").UDP(1, 2, data)
	a.Send(frame, frame, frame)
	if n.Gateway.Resolved != 1 || len(n.Gateway.Delivered) != 3 || a.Stats.Hits != 2 {
		t.Errorf("%d resolved, %d delivered", n.Gateway.Resolved, len(n.Gateway.Delivered))
	}
	gen++ // the flow ends
	a.Send(frame, frame)
	if n.Gateway.Resolved != 2 || len(n.Gateway.Delivered) != 5 {
		t.Errorf("after its end: %d resolved, %d delivered", n.Gateway.Resolved, len(n.Gateway.Delivered))
	}
	n.Gateway.Alive = func(_, _ uint32) bool { return false }
	a.Send(frame)
	if got := a.Dropped(); got[vswitch.NoFlow] != 1 || len(got) != 1 {
		t.Errorf("a flow that is never there: %v", got)
	}
}

// TestCacheEvictsAndStaysRight sends more flows than the cache holds.
func TestCacheEvictsAndStaysRight(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	b.Dev.Discard()
	const flows = 5000
	for range 2 {
		for i := range flows {
			n.Input(a.Port, a.To(b).UDP(uint16(i), 2, nil))
		}
	}
	if b.Stats.RxFrames != 2*flows || a.Stats.Hits+a.Stats.Upcalls != 2*flows || a.Stats.Upcalls <= flows {
		t.Errorf("%d frames arrived, %d upcalls, %d hits", b.Stats.RxFrames, a.Stats.Upcalls, a.Stats.Hits)
	}
}
