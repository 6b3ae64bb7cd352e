package vswitch_test

import (
	"slices"
	"testing"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// otherDrops provoke the reasons that need more than one frame in the usual world;
// each returns the host whose port has counted.
var otherDrops = map[vswitch.Reason]func(t *testing.T) *switchtest.Host{
	vswitch.ICC: func(t *testing.T) *switchtest.Host {
		n := switchtest.NewNet(t)
		br := n.AddBridge(vswitch.BridgeConfig{Name: "apart", MTU: 1500, NoICC: true})
		a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
		a.Send(a.To(b).UDP(1, 2, data))
		return a
	},
	vswitch.UnicastInGroup: func(t *testing.T) *switchtest.Host {
		w := newDropWorld(t)
		w.br.Ask = true
		w.a.Send(with(w.a.To(w.b), func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(1, 2, data))
		return w.a
	},
	vswitch.Loop: func(t *testing.T) *switchtest.Host {
		n := switchtest.NewNet(t)
		br := n.Bridge("bridge", "172.17.0.0/16")
		a, vm, vm2 := n.Host(br, "a", "172.17.0.2"), n.Trusted(br, "vm", "172.17.0.8"), n.Trusted(br, "vm2", "172.17.0.9")
		for i := 0; !vm.Blocked() && !vm2.Blocked(); i++ {
			if i == 40 {
				t.Fatal("40 jumps within a second, and no port is blocked")
			}
			speak([]*switchtest.Host{vm, vm2}[i%2], 1, a.MAC)
		}
		h := vm
		if vm2.Blocked() {
			h = vm2
		}
		h.Send(h.To(a).UDP(1, 2, data))
		return h
	},
	vswitch.RateLimit: func(t *testing.T) *switchtest.Host {
		n, a, b := shaped(t, vswitch.Shape{RateIn: 8_000, BurstIn: 10_000})
		b.Dev.Push(frames(b.To(a), 2000, 1400)...)
		for range 2000 {
			n.Poll()
		}
		return b
	},
	vswitch.Impaired: func(t *testing.T) *switchtest.Host {
		_, a, b := shaped(t, vswitch.Shape{Loss: 1})
		a.Send(a.To(b).UDP(1, 2, data))
		return a
	},
}

// Every reason is provoked by a real frame: here, or by the gateway's tests. Each
// is remembered with its step.
func TestEveryReasonIsProvoked(t *testing.T) {
	provoked := map[vswitch.Reason]bool{}
	for _, c := range dropCases() {
		if provoked[c.want] {
			continue
		}
		provoked[c.want] = true
		t.Run(c.want.String(), func(t *testing.T) {
			w := newDropWorld(t)
			w.a.Send(c.frame(w))
			remembers(t, w.Failures(), w.a, c.want)
		})
	}
	for r, provoke := range otherDrops {
		provoked[r] = true
		t.Run(r.String(), func(t *testing.T) {
			h := provoke(t)
			if h.Stats.Drops[r] == 0 {
				t.Fatalf("dropped %v, not %s", h.Dropped(), r)
			}
			remembers(t, h.Failures(), h, r)
		})
	}
	for r := vswitch.Delivered + 1; r < vswitch.NumReasons; r++ {
		if !provoked[r] && !slices.Contains(switchtest.ByGateway, r) {
			t.Errorf("nothing provokes %s: give it a frame in dropCases, or a row in the gateway's tests and in switchtest.ByGateway", r)
		}
	}
}

func remembers(t *testing.T, all []vswitch.Failure, h *switchtest.Host, r vswitch.Reason) {
	t.Helper()
	if !slices.ContainsFunc(all, func(f vswitch.Failure) bool { return f.Port == h.ID && f.Reason == r && f.Step == r.Step() }) {
		t.Errorf("%s is not remembered: %+v", r, all)
	}
}
