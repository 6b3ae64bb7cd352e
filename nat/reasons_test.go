package nat

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// farWorld is an outside that leads to sockets of the test's own on the host's
// loopback.
type farWorld struct {
	Kernel
	refuse map[int]unix.Errno // sockets that the host does not give, by type
	to     map[netip.AddrPort]netip.AddrPort
	small  bool // sockets hold next to nothing
}

func (w *farWorld) Socket(domain, typ, proto int) (int, unix.Errno) {
	if e := w.refuse[typ]; e != 0 {
		return -1, e
	}
	fd, e := w.Kernel.Socket(domain, typ, proto)
	if e == 0 && w.small {
		setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1)
	}
	return fd, e
}

func (w *farWorld) Address(a netip.AddrPort) netip.AddrPort {
	if to, is := w.to[a]; is {
		return to
	}
	return a
}

// Datagram has no time.
func (w *farWorld) Datagram(Query, []byte) bool { return false }

// Stream never comes about.
func (w *farWorld) Stream(Query, func(fd int)) {}

// provoker is the world that drops are provoked in: two networks, an internal
// one, and an outside at 198.51.100.1.
type provoker struct {
	*switchtest.Net
	t       *testing.T
	far     *farWorld
	nat     *NAT
	a, c, i *switchtest.Host // on the first, another, an internal network
}

func newProvoker(t *testing.T) *provoker {
	w := &provoker{Net: switchtest.NewNet(t), t: t, far: &farWorld{refuse: map[int]unix.Errno{}, to: map[netip.AddrPort]netip.AddrPort{}}}
	var err error
	if w.nat, err = New(w.Switch, Config{Outside: w.far, Local: w.far, PerPort: 2, HalfOpen: 1, Logf: t.Logf}); err != nil {
		t.Fatal(err)
	}
	one, two := w.Bridge("one", "172.17.0.0/16"), w.Bridge("two", "172.18.0.0/16")
	inner := w.AddBridge(vswitch.BridgeConfig{Name: "inner", MTU: 1500, Subnet: netip.MustParsePrefix("172.19.0.0/16"), Gateway: netip.MustParseAddr("172.19.0.1"), Internal: true})
	attach := func(b *vswitch.Bridge, name, addr string) *switchtest.Host {
		return w.Attach(vswitch.PortConfig{Name: name + ":eth0", Label: name, Bridge: b}, switchtest.NewDevice(t, switchtest.All), addr)
	}
	w.a, w.c, w.i = attach(one, "a", "172.17.0.2"), attach(two, "c", "172.18.0.2"), attach(inner, "i", "172.19.0.2")
	t.Cleanup(func() { // its sockets
		for _, h := range []*switchtest.Host{w.a, w.c, w.i} {
			w.RemovePort(h.Port)
		}
	})
	return w
}

const farAway = "198.51.100.1"

// listens makes farAway's port lead to a listener on the loopback. One that is
// full lets no connection come about: its kernel drops the SYN.
func (w *provoker) listens(port uint16, full bool) (fd int) {
	fd, at, err := rawListener("tcp4", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { unix.Close(fd) })
	if full {
		unix.Listen(fd, 0)
		for range 2 { // one more than the backlog; no handshake ends with an error here
			c, _ := sysSocket(unix.AF_INET, unix.SOCK_STREAM, 0)
			w.t.Cleanup(func() { unix.Close(c) })
			var sa sockaddr
			sa.set(at)
			sysConnect(c, &sa)
		}
	}
	w.far.to[netip.AddrPortFrom(netip.MustParseAddr(farAway), port)] = at
	return fd
}

func (w *provoker) policy(p Policy) { w.nat.SetPolicy(p) }

// out is a packet of a's to an address.
func (w *provoker) out(to string) switchtest.Packet { return w.a.Out(to) }

func syn(from, to uint16) layers.TCP {
	return layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(to), Seq: 1000, SYN: true, Window: 65535}
}

// provocations end a frame, or a flow, of a's port under a reason of the gateway's.
var provocations = map[vswitch.Reason]func(w *provoker){
	vswitch.BadChecksum: func(w *provoker) {
		b := w.out(farAway).UDP(1, 9, []byte("x"))
		b[len(b)-1] ^= 1
		w.a.Send(b)
	},
	vswitch.Isolated: func(w *provoker) { w.a.Send(w.out("172.18.0.2").UDP(1, 9, nil)) },
	vswitch.Internal: func(w *provoker) { w.a = w.i; w.a.Send(w.out(farAway).UDP(1, 9, nil)) },
	vswitch.Rule: func(w *provoker) {
		w.policy(Policy{Rules: []Rule{{ID: 100, Action: RuleDrop}}})
		w.a.Send(w.out(farAway).UDP(1, 9, nil))
	},
	vswitch.Egress: func(w *provoker) {
		w.policy(Policy{Egress: map[string]*Egress{"a": {Mode: EgressNone}}})
		w.a.Send(w.out(farAway).UDP(1, 9, nil))
	},
	vswitch.NoForwarding: func(w *provoker) { w.policy(Policy{NoForward: true}); w.a.Send(w.out(farAway).UDP(1, 9, nil)) },
	vswitch.NoMasquerade: func(w *provoker) {
		w.policy(Policy{Nets: map[string]NetPolicy{"one": {NoMasquerade: true}}})
		w.a.Send(w.out(farAway).UDP(1, 9, nil))
	},
	vswitch.TTLExceeded: func(w *provoker) {
		p := w.out(farAway)
		p.TTL = 1
		w.a.Send(p.UDP(1, 9, nil))
	},
	vswitch.HostLoopback: func(w *provoker) { w.a.Send(w.out("127.0.0.1").UDP(1, 9, nil)) },
	vswitch.HostAddress: func(w *provoker) {
		w.policy(Policy{HostAddrs: map[netip.Addr]struct{}{netip.MustParseAddr(farAway): {}}})
		w.a.Send(w.out(farAway).UDP(1, 9, nil))
	},
	vswitch.LinkLocalOnly:   func(w *provoker) { w.a.Send(w.out("169.254.169.254").UDP(1, 9, nil)) },
	vswitch.MulticastRouted: func(w *provoker) { w.a.Send(w.out("224.0.0.5").UDP(1, 9, nil)) },
	vswitch.Refused:         func(w *provoker) { w.a.Send(w.out("172.17.0.1").UDP(1, 9, nil)) },
	vswitch.NoAnswer: func(w *provoker) {
		w.listens(80, true)
		w.a.Send(w.out(farAway).TCP(syn(1, 80), nil))
		w.Clock.Advance(200 * time.Second)
		w.Poll()
	},
	vswitch.FlowLimit: func(w *provoker) {
		for port := range uint16(3) {
			w.a.Send(w.out(farAway).UDP(1000, 9+port, nil))
		}
	},
	vswitch.HalfOpenLimit: func(w *provoker) {
		w.listens(80, true)
		w.a.Send(w.out(farAway).TCP(syn(1, 80), nil), w.out(farAway).TCP(syn(2, 80), nil))
	},
	vswitch.SocketFailed: func(w *provoker) {
		w.far.refuse[unix.SOCK_STREAM] = unix.EMFILE
		w.a.Send(w.out(farAway).TCP(syn(1, 80), nil))
	},
	vswitch.OutOfWindow: func(w *provoker) {
		w.listens(80, true)
		early := syn(1, 80)
		early.SYN, early.ACK = false, true
		w.a.Send(w.out(farAway).TCP(syn(1, 80), nil), w.out(farAway).TCP(early, nil))
	},
	vswitch.SocketFull: func(w *provoker) {
		w.far.small = true
		w.listens(80, false)
		w.flood(syn(1, 80))
	},
	vswitch.FragmentLimit: func(w *provoker) {
		p := w.out(farAway)
		w.a.Send(part(p, 7, 0, true, vswitch.ProtoUDP, make([]byte, 64)), part(p, 7, 32, true, vswitch.ProtoUDP, make([]byte, 64)))
	},
	vswitch.FragmentTimeout: func(w *provoker) {
		w.a.Send(part(w.out(farAway), 7, 0, true, vswitch.ProtoUDP, make([]byte, 64)))
		w.Clock.Advance(time.Minute)
		w.Poll()
	},
	vswitch.Unsolicited: func(w *provoker) {
		w.policy(Policy{Rules: []Rule{{ID: 100, Action: RuleAccept}}})
		w.a.Send(w.out(farAway).EchoReply(1, 1, nil))
	},
	vswitch.PingDenied: func(w *provoker) {
		w.far.refuse[unix.SOCK_DGRAM] = unix.EACCES
		w.a.Send(w.out(farAway).Echo(1, 1, nil))
	},
	vswitch.LocalBusy: func(w *provoker) { w.a.Send(w.out("172.17.0.1").UDP(1, 53, []byte("?"))) },
	vswitch.NoContainer: func(w *provoker) {
		w.a.Send(part(w.out(farAway), 7, 0, true, vswitch.ProtoUDP, make([]byte, 64)))
		w.RemovePort(w.a.Port)
	},
}

// flood opens a connection and sends more than its socket takes, whatever window
// it is offered.
func (w *provoker) flood(t layers.TCP) {
	w.a.Send(w.out(farAway).TCP(t, nil))
	var answer *layers.TCP
	for end := time.Now().Add(patience); answer == nil; w.Poll() {
		for _, b := range w.a.Dev.Take() {
			answer = switchtest.Layer[*layers.TCP](w.t, b)
		}
		if time.Now().After(end) {
			w.t.Fatal("the connection does not come about")
		}
	}
	t.SYN, t.ACK, t.Seq, t.Ack = false, true, t.Seq+1, answer.Seq+1
	w.a.Send(w.out(farAway).TCP(t, nil))
	for range 2000 {
		b := make([]byte, 1400)
		w.a.Send(w.out(farAway).TCP(t, b))
		if t.Seq += uint32(len(b)); w.a.Stats.Drops[vswitch.SocketFull] > 0 {
			return
		}
	}
}

// Every reason that the gateway gives is provoked by a real frame, counted on the
// port that it came from, and remembered with its step.
func TestEveryReasonIsProvoked(t *testing.T) {
	for _, r := range switchtest.ByGateway {
		provoke := provocations[r]
		if provoke == nil {
			t.Errorf("nothing provokes %s: give it a row", r)
			continue
		}
		t.Run(r.String(), func(t *testing.T) {
			w := newProvoker(t)
			provoke(w)
			if got := w.a.Dropped(); got[r] == 0 {
				t.Errorf("dropped %v, not %s", got, r)
			}
			if all := w.Failures(); r != vswitch.OutOfWindow && r != vswitch.SocketFull && !slices.ContainsFunc(all, func(f vswitch.Failure) bool { return f.Port == w.a.ID && f.Reason == r && f.Step == r.Step() }) {
				t.Errorf("%s is not remembered: %+v", r, all)
			}
		})
	}
	for r := range provocations {
		if !slices.Contains(switchtest.ByGateway, r) {
			t.Errorf("%s is provoked here and not in switchtest.ByGateway", r)
		}
	}
}
