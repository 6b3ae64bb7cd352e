package vswitch_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// threads is a group with hosts behind sockets.
type threads struct {
	*vswitch.Group
	t     testing.TB
	seats []*vswitch.Seat
	ends  []*switchtest.Socket
	shape vswitch.Shape // of the next host
}

func newThreads(t testing.TB, n int) *threads {
	t.Helper()
	g, err := vswitch.NewGroup(n, vswitch.Config{Logf: t.Logf, Spin: -1})
	if err != nil {
		t.Fatal(err)
	}
	g.Run()
	t.Cleanup(g.Close)
	return &threads{Group: g, t: t}
}

func (g *threads) host(home int, seg *vswitch.Segment, spoof bool, addrs ...string) *vswitch.Seat {
	g.t.Helper()
	dev, end := switchtest.SocketPair(g.t, switchtest.All)
	c := vswitch.PortConfig{Name: addrs[0], Device: dev, Spoof: spoof, Shape: g.shape}
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParseAddr(a))
	}
	c.MAC = switchtest.MACOf(c.Addrs[0])
	seat, err := g.AddPort(home, seg, c)
	if err != nil {
		g.t.Fatal(err)
	}
	g.seats, g.ends = append(g.seats, seat), append(g.ends, end)
	g.t.Cleanup(func() {
		if d, _ := g.RemovePort(seat); d != nil {
			d.Close()
		}
	})
	return seat
}

// idle returns when every shard has done what it was given before.
func (g *threads) idle() {
	for range 2 {
		g.Each(func(int, *vswitch.Switch) {})
	}
}

var twoSubnets = []vswitch.BridgeConfig{
	{Name: "one", MTU: 1500, Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")},
	{Name: "two", MTU: 1500, Subnet: netip.MustParsePrefix("172.18.0.0/16"), Gateway: netip.MustParseAddr("172.18.0.1")},
}

// TestGroupIsOneSwitch: whatever frames hosts send, a switch of several threads
// delivers and counts what one of one thread does.
func TestGroupIsOneSwitch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for shards := 2; shards <= 3; shards++ {
		r := rand.New(rand.NewPCG(seed, uint64(shards)))
		one, many := switchtest.NewNet(t), newThreads(t, shards)
		var hosts []*switchtest.Host
		for k, c := range twoSubnets {
			br, seg := one.AddBridge(c), many.AddBridge(c)
			for i := range 4 {
				a := fmt.Sprintf("172.%d.0.%d", 17+k, 2+i)
				if i == 3 { // one that may send from any address
					hosts = append(hosts, one.Trusted(br, a, a))
				} else {
					hosts = append(hosts, one.Host(br, a, a))
				}
				many.host(r.IntN(shards), seg, i == 3, a)
			}
		}
		var all []byte
		for _, h := range hosts {
			all = append(all, h.MAC[:]...)
		}
		got := make([][]string, len(hosts))
		for range 2000 {
			from := r.IntN(len(hosts))
			p := hosts[from].To(hosts[(from/4)*4+r.IntN(4)])
			frame := p.UDP(uint16(r.IntN(3)), uint16(r.IntN(3)), make([]byte, r.IntN(100)))
			switch r.IntN(8) { // its destination or its source is somebody else
			case 0:
				copy(frame[vswitch.VnetLen:], all[6*r.IntN(len(hosts)):][:6])
			case 1:
				copy(frame[vswitch.VnetLen:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
			case 2:
				frame[vswitch.VnetLen+5] ^= 0x40 // nobody
			case 3:
				if from%4 != 3 {
					copy(frame[vswitch.VnetLen+6:], all[6*r.IntN(len(hosts)):][:6])
				}
			}
			hosts[from].Send(frame)
			if e := many.ends[from].Write(frame); e != 0 {
				t.Fatal(e)
			}
			for i, h := range hosts { // in step, so that sockets never run over
				for _, want := range h.Dev.Take() {
					got[i] = append(got[i], string(want))
					if b := many.ends[i].Wait(t); string(b) != string(want) {
						t.Fatalf("%s was given %x, not %x", h.Name, b, want)
					}
				}
			}
		}
		many.idle()
		for i, h := range hosts {
			if _, e := many.ends[i].Read(make([]byte, 2000)); e != unix.EAGAIN {
				t.Errorf("%d threads: %s was given a frame too many", shards, h.Name)
			}
			a, b := h.Stats, many.Stats(many.seats[i])
			a.Upcalls, a.Hits, b.Upcalls, b.Hits = 0, 0, 0, 0
			if a != b {
				t.Errorf("%d threads: %s counts %+v, not %+v", shards, h.Name, b, a)
			}
			if len(got[i]) == 0 {
				t.Errorf("%s was given nothing at all", h.Name)
			}
		}
	}
}

// TestGroupShape: what a container may be sent is for all threads together, be
// the shape there from the start or set later.
func TestGroupShape(t *testing.T) {
	limit := vswitch.Shape{RateIn: 80, BurstIn: 10_000} // hardly anything but the burst
	t.Run("set later", func(t *testing.T) { groupShape(t, vswitch.Shape{}, limit) })
	t.Run("from the start", func(t *testing.T) { groupShape(t, limit, vswitch.Shape{}) })
}

func groupShape(t *testing.T, first, later vswitch.Shape) {
	g := newThreads(t, 3)
	seg := g.AddBridge(twoSubnets[0])
	g.shape = first
	for i := range 3 {
		g.host(i, seg, false, fmt.Sprintf("172.17.0.%d", 2+i))
		g.shape = vswitch.Shape{}
	}
	to := g.seats[0]
	if later != (vswitch.Shape{}) {
		g.SetShape(to, later)
	}
	for i, from := range g.seats[1:] {
		p := switchtest.Packet{SrcMAC: from.Port.MAC, DstMAC: to.Port.MAC, Src: from.Port.Addrs[0], Dst: to.Port.Addrs[0]}
		for range 20 {
			if e := g.ends[1+i].Write(p.UDP(1, 2, make([]byte, 1000))); e != 0 {
				t.Fatal(e)
			}
		}
	}
	g.idle()
	if n := g.Stats(to).RxFrames; n < 9 || n > 11 {
		t.Errorf("%d frames of 1 kB passed at once, of a burst of 10 kB", n)
	}
	g.SetShape(to, vswitch.Shape{})
	g.idle()
	if n := g.Stats(to).RxFrames; n != 40 {
		t.Errorf("%d of 40 frames arrived when there was no limit any more", n)
	}
}

// TestGroupUnderChange: while pairs of hosts on two threads exchange frames, not
// one of which is lost, others come and go.
func TestGroupUnderChange(t *testing.T) {
	g := newThreads(t, 2)
	seg := g.AddBridge(twoSubnets[0])
	const pairs, frames = 2, 3000
	for i := range 2 * pairs {
		g.host(i%2, seg, false, fmt.Sprintf("172.17.0.%d", 2+i))
	}
	var wg sync.WaitGroup
	for k := range pairs {
		a, b := g.seats[2*k], g.seats[2*k+1]
		there := switchtest.Packet{SrcMAC: a.Port.MAC, DstMAC: b.Port.MAC, Src: a.Port.Addrs[0], Dst: b.Port.Addrs[0]}
		back := switchtest.Packet{SrcMAC: b.Port.MAC, DstMAC: a.Port.MAC, Src: b.Port.Addrs[0], Dst: a.Port.Addrs[0]}
		wg.Go(func() {
			for i := range frames {
				out, in := there.UDP(1, 2, fmt.Appendf(nil, "ask %d", i)), back.UDP(2, 1, fmt.Appendf(nil, "answer %d", i))
				for _, step := range []struct {
					from, to *switchtest.Socket
					frame    []byte
				}{{g.ends[2*k], g.ends[2*k+1], out}, {g.ends[2*k+1], g.ends[2*k], in}} {
					if e := step.from.Write(step.frame); e != 0 {
						t.Error(e)
						return
					}
					if got := step.to.Wait(t); !slices.Equal(got, step.frame) {
						t.Errorf("pair %d: %x, not %x", k, got, step.frame)
						return
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for i := 0; ; i++ {
		select {
		case <-done:
			if i == 0 {
				t.Error("nobody came or went")
			}
			return
		default:
		}
		dev, _ := switchtest.SocketPair(t, switchtest.All)
		other := g.AddBridge(twoSubnets[1])
		seat, err := g.AddPort(g.Home(), other, vswitch.PortConfig{Name: "guest", Device: dev, MAC: vswitch.MAC{2, 0, 0, 0, 0, byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.RemoveBridge(other); err == nil {
			t.Fatal("a bridge with a port was removed")
		}
		d, _ := g.RemovePort(seat)
		d.Close()
		if err := g.RemoveBridge(other); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGroupRefusal: a port that one shard refuses is nowhere, and new containers
// go where the fewest are.
func TestGroupRefusal(t *testing.T) {
	g := newThreads(t, 2)
	seg := g.AddBridge(twoSubnets[0])
	first := g.host(g.Home(), seg, false, "172.17.0.2")
	dev, _ := switchtest.SocketPair(t, switchtest.All)
	defer dev.Close()
	if _, err := g.AddPort(g.Home(), seg, vswitch.PortConfig{Name: "again", Device: dev, MAC: first.Port.MAC}); err == nil {
		t.Fatal("two ports have one address")
	}
	g.Each(func(i int, s *vswitch.Switch) {
		if n := len(seg.Bridges[i].Ports()); n != 1 {
			t.Errorf("shard %d has %d ports", i, n)
		}
	})
	if second := g.host(g.Home(), seg, false, "172.17.0.3"); second.Shard == first.Shard {
		t.Error("both are in one shard")
	}
	if d, _ := g.RemovePort(first); d == nil {
		t.Error("no device")
	} else {
		d.Close()
	}
	if d, _ := g.RemovePort(first); d != nil {
		t.Error("it could be removed twice")
	}
}
