package vswitch_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// world is one of two switches to which the same happens. The second forgets
// all decisions before each frame, so that it never hits its cache.
type world struct {
	*switchtest.Net
	bridges []*vswitch.Bridge
	hosts   []*switchtest.Host // by place; nil where no one is attached
	closed  uint16             // a port that the gateway's policy closes
	routes  map[netip.Addr]int // and to which place it leads an address
	log     []string

	consumed int
}

// judge is a gateway that looks at each frame of a flow, as it must: the cache
// says only whose frame it is.
type judge struct {
	*switchtest.Gateway
	w *world
}

func bad(f *vswitch.Frame) bool { return f.B[f.End-1] == 0xbb }

func (j judge) Deliver(f *vswitch.Frame, flow, gen uint32) bool {
	if bad(f) {
		j.w.CountDrop(f.In, vswitch.BadChecksum)
		return true
	}
	return j.Gateway.Deliver(f, flow, gen)
}

const places = 9 // two bridges with four places each, of which the last is trusted, and one more

func newWorld(t *testing.T) *world {
	w := &world{Net: switchtest.NewNet(t), hosts: make([]*switchtest.Host, places), routes: map[netip.Addr]int{}}
	for place := range places {
		w.routes[netip.MustParseAddr(address(place))] = place
	}
	w.SetGateway(judge{w.Gateway, w})
	w.bridges = []*vswitch.Bridge{w.AddBridge(vswitch.BridgeConfig{Name: "one", MaxFDB: 32, Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}),
		w.Bridge("two", "172.18.0.0/16")}
	// The gateway routes to places, refuses one port, and carries the rest away.
	w.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action {
		place, inside := w.routes[f.Dst()]
		switch {
		case f.DstPort() == w.closed:
			return vswitch.Drop(vswitch.Refused)
		case f.DstPort() == 99:
			w.consumed++
			return vswitch.Action{Kind: vswitch.ActConsumed}
		case inside && w.hosts[place] != nil:
			return vswitch.Action{Kind: vswitch.ActOutput, Port: w.hosts[place].ID}
		case inside:
			return vswitch.Drop(vswitch.NoRoute)
		case bad(f):
			return vswitch.Drop(vswitch.BadChecksum)
		}
		return vswitch.Action{Kind: vswitch.ActGateway, Flow: uint32(f.DstPort())}
	}
	return w
}

func (w *world) attach(place int) {
	br := w.bridges[place%2]
	c := vswitch.PortConfig{Name: fmt.Sprint(place), Bridge: br, MAC: vswitch.MAC{2, 0, 0, 0, 0, byte(place)}, Spoof: place >= 5}
	caps := switchtest.All
	if place%3 == 0 {
		caps = 0
	}
	w.hosts[place] = w.Attach(c, switchtest.NewDevice(w.T, caps), address(place))
	w.Hosts = nil
}

func address(place int) string { return fmt.Sprintf("172.%d.0.%d", 17+place%2, 10+place) }

// state is what a switch shows of itself.
func (w *world) state() string {
	var b bytes.Buffer
	for i, h := range w.hosts {
		if h == nil {
			continue
		}
		fmt.Fprintf(&b, "place %d port %d: rx %d %d tx %d %d drops %v learned %d blocked %t\n", i, h.ID, h.Stats.RxFrames, h.Stats.RxBytes,
			h.Stats.TxFrames, h.Stats.TxBytes, h.Dropped(), h.Learned(), h.Blocked())
	}
	for _, br := range w.bridges {
		rows := br.FDB()
		slices.SortFunc(rows, func(a, b vswitch.FDBEntry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
		fmt.Fprintf(&b, "%s: %v\n", br.Name, rows)
	}
	fmt.Fprintf(&b, "gateway: %d delivered, %d consumed\n", len(w.Gateway.Delivered), w.consumed)
	return b.String()
}

// flow is what a place says again and again.
type flow struct {
	place int
	frame []byte
}

func randomFlow(r *rand.Rand, w *world) flow {
	place, to := r.IntN(places), r.IntN(places)
	if r.IntN(8) > 0 {
		to = (to&^1 + place&1) % places // a neighbour: the rest is unknown and floods
	}
	dst := vswitch.MAC{2, 0, 0, 0, 0, byte(to)}
	src := vswitch.MAC{2, 0, 0, 0, 0, byte(place)}
	switch r.IntN(16) {
	case 0:
		dst = vmMAC(r.IntN(12))
	case 1:
		dst = vswitch.Broadcast
	case 2, 3, 4:
		dst = w.bridges[place%2].MAC
	}
	switch r.IntN(24) {
	case 0, 1:
		src = vmMAC(r.IntN(12)) // spoofed, or a machine behind a trusted port
	case 2:
		src = vswitch.MAC{2, 0, 0, 0, 0, byte(r.IntN(places))} // somebody else's
	}
	p := switchtest.Packet{SrcMAC: src, DstMAC: dst, Src: netip.MustParseAddr(address(place)), Dst: netip.MustParseAddr(address(to))}
	if r.IntN(10) == 0 {
		p.Dst = netip.MustParseAddr("10.0.0.1")
	}
	port := uint16(1 + r.IntN(4))
	if r.IntN(20) == 0 {
		port = 99
	}
	body := []byte{0}
	if r.IntN(6) == 0 {
		body[0] = 0xbb
	}
	switch r.IntN(8) {
	case 0:
		return flow{place, switchtest.Partial(p.TCP(layers.TCP{SrcPort: 7, DstPort: layers.TCPPort(port), ACK: true}, body))}
	case 1:
		return flow{place, switchtest.Super(p.TCP(layers.TCP{SrcPort: 7, DstPort: layers.TCPPort(port), ACK: true}, append(make([]byte, 3000), body...)), vswitch.GSOTCPv4, 1448)}
	case 2:
		return flow{place, p.TCP(layers.TCP{SrcPort: 7, DstPort: layers.TCPPort(port), SYN: true}, body)}
	case 3:
		return flow{place, p.Ether(0x88b5, body)}
	}
	return flow{place, p.UDP(7, port, body)}
}

// plainFlow is a random flow of frames that may be cached.
func plainFlow(r *rand.Rand, w *world) flow {
	for {
		f := randomFlow(r, w)
		var x vswitch.Frame
		if x.Parse(nil, f.frame); x.Class == 0 && x.DstPort() != 99 {
			return f
		}
	}
}

// TestCachedEqualsUncached: whatever happens, a switch with a flow cache does
// with each frame what one without does.
func TestCachedEqualsUncached(t *testing.T) {
	r := switchtest.Rand(t)
	with, without := newWorld(t), newWorld(t)
	both := []*world{with, without}
	for place := range places - 1 {
		for _, w := range both {
			w.attach(place)
		}
	}
	hot, any := make([]flow, 40), make([]flow, 80)
	for i := range hot {
		hot[i] = plainFlow(r, with)
	}
	for i := range any {
		any[i] = randomFlow(r, with)
	}
	var hits, frames uint64
	note := func(h *switchtest.Host) { hits, frames = hits+h.Stats.Hits, frames+h.Stats.TxFrames }
	for step := range 8_000 {
		what := ""
		switch x := r.IntN(3000); {
		case x < 3:
			place := r.IntN(places)
			what = fmt.Sprintf("attach or detach %d", place)
			if h := with.hosts[place]; h != nil {
				if r.IntN(3) > 0 {
					continue // most places are taken at most times
				}
				note(h)
			}
			for _, w := range both {
				if h := w.hosts[place]; h != nil {
					w.RemovePort(h.Port)
					w.hosts[place] = nil
				} else {
					w.attach(place)
				}
			}
		case x < 6:
			place, to := r.IntN(places), r.IntN(places)
			what = fmt.Sprintf("place %d gets the addresses of %d", place, to)
			for _, w := range both {
				if h := w.hosts[place]; h != nil {
					w.SetAddrs(h.Port, vswitch.PortConfig{Addrs: []netip.Addr{netip.MustParseAddr(address(to))}})
				}
			}
		case x < 9:
			port := uint16(r.IntN(6))
			what = fmt.Sprintf("port %d is closed", port)
			for _, w := range both {
				w.closed = port
				w.PolicyChanged()
			}
		case x < 10:
			a, to := netip.MustParseAddr(address(r.IntN(places))), r.IntN(places)
			what = fmt.Sprintf("%s is routed to place %d", a, to)
			for _, w := range both {
				w.routes[a] = to
				w.PolicyChanged()
			}
		case x < 13:
			d := []time.Duration{time.Second, 9 * time.Second, 11 * time.Second, 301 * time.Second}[r.IntN(4)]
			what = fmt.Sprintf("%v pass", d)
			for _, w := range both {
				w.Clock.Advance(d)
			}
		case x < 60:
			hot[r.IntN(len(hot))], any[r.IntN(len(any))] = plainFlow(r, with), randomFlow(r, with)
			continue
		default:
			f := any[r.IntN(len(any))]
			if r.IntN(10) > 0 {
				f = hot[r.IntN(len(hot))]
			}
			if with.hosts[f.place] == nil {
				continue
			}
			what = fmt.Sprintf("place %d sends %x", f.place, f.frame[:min(len(f.frame), 60)])
			for range 1 + r.IntN(24) {
				without.PolicyChanged()
				for _, w := range both {
					w.Input(w.hosts[f.place].Port, append([]byte(nil), f.frame...))
				}
			}
		}
		for _, w := range both {
			w.log = append(w.log, what)
		}
		for place, h := range with.hosts {
			if h == nil {
				continue
			}
			a, b := h.Dev.Take(), without.hosts[place].Dev.Take()
			if !slices.EqualFunc(a, b, bytes.Equal) {
				t.Fatalf("step %d: place %d was given %d frames with the cache, %d without, or different ones\n%v", step, place, len(a), len(b), last(with.log))
			}
		}
		if a, b := with.state(), without.state(); a != b {
			t.Fatalf("step %d: with the cache\n%s\nwithout\n%s\n%v", step, a, b, last(with.log))
		}
	}
	for i, h := range with.hosts {
		if h != nil {
			note(h)
			if without.hosts[i].Stats.Hits != 0 {
				t.Fatal("the switch without a cache hit its cache: the test compares nothing")
			}
		}
	}
	t.Logf("%d hits of %d frames", hits, frames)
	// Most runs hit with two frames of three; one where the loop guard blocks a
	// busy place hits less. A cache that is never used has none.
	if hits*10 <= frames {
		t.Errorf("%d hits of %d frames: the test hardly meets the cache", hits, frames)
	}
}

func last(log []string) string {
	var b bytes.Buffer
	for _, l := range log[max(0, len(log)-12):] {
		fmt.Fprintln(&b, "  ", l)
	}
	return b.String()
}
