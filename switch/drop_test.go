package vswitch_test

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// TestEveryReasonIsExplained: a row for each, names that scripts can rely on.
func TestEveryReasonIsExplained(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	taken := map[string]vswitch.Reason{}
	for r := range vswitch.NumReasons {
		i := r.Info()
		if !name.MatchString(i.Name) {
			t.Errorf("reason %d is called %q: lower case and hyphens, please", r, i.Name)
		}
		if was, ok := taken[i.Name]; ok {
			t.Errorf("reasons %d and %d are both called %q", was, r, i.Name)
		}
		taken[i.Name] = r
		if !strings.HasSuffix(i.Why, ".") || len(i.Why) < 10 {
			t.Errorf("%s: %q is no sentence", i.Name, i.Why)
		}
		if i.Remedy != "" && !strings.HasSuffix(i.Remedy, ".") {
			t.Errorf("%s: the remedy %q is no sentence", i.Name, i.Remedy)
		}
		if r.String() != i.Name {
			t.Errorf("%d prints as %q", r, r)
		}
	}
	if vswitch.NumReasons.String() != "unknown" {
		t.Errorf("a number that is no reason prints as %q", vswitch.NumReasons)
	}
}

// dropWorld is where each reason is provoked.
type dropWorld struct {
	*switchtest.Net
	br, other            *vswitch.Bridge
	a, b, plain, vm, far *switchtest.Host
}

func newDropWorld(t *testing.T) *dropWorld {
	w := &dropWorld{Net: switchtest.NewNet(t)}
	w.br, w.other = w.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64"), w.Bridge("other", "172.18.0.0/16")
	w.a, w.b = w.Host(w.br, "a", "172.17.0.2", "fd00:17::2"), w.Host(w.br, "b", "172.17.0.3", "fd00:17::3")
	w.plain = w.Plain(w.br, "plain", "172.17.0.4", "fd00:17::4")
	w.far = w.Host(w.other, "far", "172.18.0.2")
	return w
}

// dropCase is a frame that ends under a reason.
type dropCase struct {
	want  vswitch.Reason
	name  string
	frame func(w *dropWorld) []byte
}

// dropCases provoke the reasons that the switch itself knows.
func dropCases() []dropCase {
	toPlain := func(w *dropWorld) switchtest.Packet { return w.a.To(w.plain) }
	fails := func(e unix.Errno) func(*dropWorld) []byte {
		return func(w *dropWorld) []byte {
			w.b.Dev.Fail(e)
			return w.a.To(w.b).UDP(1, 2, data)
		}
	}
	return []dropCase{
		{vswitch.Truncated, "cut", func(w *dropWorld) []byte { return v4.UDP(1, 2, data)[:l3+30] }},
		{vswitch.Truncated, "no Ethernet header", func(w *dropWorld) []byte { return make([]byte, vswitch.VnetLen+13) }},
		{vswitch.Truncated, "not even a virtio header", func(w *dropWorld) []byte { return make([]byte, 3) }},
		{vswitch.BadIP, "version", func(w *dropWorld) []byte { return set8(v4.UDP(1, 2, data), 14, 0x65) }},
		{vswitch.BadTransport, "UDP length", func(w *dropWorld) []byte { return set16(v4.UDP(1, 2, data), 14+20+4, 3) }},
		{vswitch.BadVnet, "offset", func(w *dropWorld) []byte {
			return vnet(v4.UDP(1, 2, data), vswitch.Vnet{Flags: 1, CsumStart: 0xfff0, CsumOff: 6})
		}},
		{vswitch.BadVnet, "refused by the kernel", fails(unix.EINVAL)},
		{vswitch.BadVnet, "segments of the wrong protocol", func(w *dropWorld) []byte {
			return switchtest.Super(toPlain(w).UDP(1, 2, make([]byte, 4000)), vswitch.GSOTCPv4, 1400)
		}},
		{vswitch.BadVnet, "segments of the wrong family", func(w *dropWorld) []byte {
			return switchtest.Super(toPlain(w).TCP(ack, make([]byte, 4000)), vswitch.GSOTCPv6, 1400)
		}},
		{vswitch.VLAN, "tagged", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.VLAN = 7 }).UDP(1, 2, data)
		}},
		{vswitch.SourceMulticast, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.SrcMAC[0] |= 1 }).UDP(1, 2, data)
		}},
		{vswitch.SourceGateway, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.SrcMAC = w.br.MAC }).UDP(1, 2, data)
		}},
		{vswitch.SpoofedMAC, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.SrcMAC[5] = 77 }).UDP(1, 2, data)
		}},
		{vswitch.SpoofedIP, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.Src = p.Dst }).UDP(1, 2, data)
		}},
		{vswitch.SpoofedIP, "broadcast", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.Src, p.DstMAC = p.Dst, vswitch.Broadcast }).UDP(1, 2, data)
		}},
		{vswitch.SpoofedIP, "to the gateway", func(w *dropWorld) []byte {
			return with(w.a.Out("10.0.0.1"), func(p *switchtest.Packet) { p.Src = v4.Dst }).UDP(1, 2, data)
		}},
		{vswitch.SpoofedNeighbour, "", func(w *dropWorld) []byte {
			x := arpRequest
			x.SenderIP = v4.Dst
			return x.Frame()
		}},
		{vswitch.RogueRouter, "", func(w *dropWorld) []byte {
			return switchtest.Neighbour{Packet: with(v6, func(p *switchtest.Packet) { p.Src = vswitch.LinkLocal(macA) })}.RouterAdvertise()
		}},
		{vswitch.ReservedMulticast, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{1, 0x80, 0xc2, 0, 0, 14} }).Ether(0x88cc, data)
		}},
		{vswitch.UnknownMAC, "no trusted port", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.DstMAC[5] = 99 }).UDP(1, 2, data)
		}},
		{vswitch.UnknownMAC, "another bridge's container", func(w *dropWorld) []byte { return w.a.To(w.far).UDP(1, 2, data) }},
		{vswitch.Reflected, "", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.DstMAC = macA }).UDP(1, 2, data)
		}},
		{vswitch.BadIP, "ARP for another kind of address, at the gateway", func(w *dropWorld) []byte {
			return edit(switchtest.ARP{SrcMAC: macA, DstMAC: w.br.MAC, Op: 1, SenderMAC: macA, SenderIP: v4.Src, TargetIP: w.br.Gateway}.Frame(), func(b []byte) { b[l3+1] = 7 })
		}},
		{vswitch.NotForGateway, "ARP", func(w *dropWorld) []byte {
			return switchtest.ARP{SrcMAC: macA, DstMAC: w.br.MAC, Op: 1, SenderMAC: macA, SenderIP: v4.Src, TargetIP: v4.Dst}.Frame()
		}},
		{vswitch.NotForGateway, "neighbour solicitation", func(w *dropWorld) []byte {
			return switchtest.Neighbour{Packet: with(v6, func(p *switchtest.Packet) { p.DstMAC = w.br.MAC }), Target: v6.Dst}.Solicit()
		}},
		{vswitch.BadIP, "neighbour solicitation from beyond the link", func(w *dropWorld) []byte {
			return switchtest.Neighbour{Packet: with(v6, func(p *switchtest.Packet) { p.DstMAC, p.TTL = w.br.MAC, 254 }), Target: w.br.Gateway6}.Solicit()
		}},
		{vswitch.NoProtocol, "no IP", func(w *dropWorld) []byte {
			return with(v4, func(p *switchtest.Packet) { p.DstMAC = w.br.MAC }).Ether(0x88b5, data)
		}},
		{vswitch.NoRoute, "the gateway's word", func(w *dropWorld) []byte { return w.a.Out("10.0.0.1").UDP(1, 2, data) }},
		{vswitch.NoFlow, "the gateway's flow is gone", func(w *dropWorld) []byte {
			w.Gateway.Decide = func(*vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActGateway} }
			w.Gateway.Alive = func(_, _ uint32) bool { return false }
			return w.a.Out("10.0.0.1").UDP(1, 2, data)
		}},
		{vswitch.UnknownMAC, "the gateway names a port that is gone", func(w *dropWorld) []byte {
			w.Gateway.Decide = func(*vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActOutput, Port: 99} }
			return w.a.Out("10.0.0.1").UDP(1, 2, data)
		}},
		{vswitch.PortDown, "EIO", fails(unix.EIO)},
		{vswitch.PortDown, "EBADFD", fails(unix.EBADFD)},
		{vswitch.NoBuffer, "ENOBUFS", fails(unix.ENOBUFS)},
		{vswitch.NoBuffer, "ENOMEM", fails(unix.ENOMEM)},
		{vswitch.TooBig, "EMSGSIZE", fails(unix.EMSGSIZE)},
		{vswitch.PortDown, "broadcast that all ports refuse", func(w *dropWorld) []byte {
			w.b.Dev.Fail(unix.EIO)
			w.plain.Dev.Fail(unix.EIO)
			return with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(1, 2, data)
		}},
		{vswitch.PortDown, "super-frame whose pieces all fail", func(w *dropWorld) []byte {
			w.plain.Dev.Fail(unix.EIO)
			return switchtest.Super(toPlain(w).TCP(ack, make([]byte, 9000)), vswitch.GSOTCPv4, 1448)
		}},
		{vswitch.PortDown, "answer of the gateway", func(w *dropWorld) []byte {
			w.a.Dev.Fail(unix.EIO)
			return switchtest.ARP{SrcMAC: macA, DstMAC: vswitch.Broadcast, Op: 1, SenderMAC: macA, SenderIP: v4.Src, TargetIP: w.br.Gateway}.Frame()
		}},
		{vswitch.NotOffloadable, "segments of a fragment", func(w *dropWorld) []byte {
			f := switchtest.Super(toPlain(w).UDP(1, 2, make([]byte, 4000)), vswitch.GSOUDPL4, 1400)
			return set16(f, 14+6, 0x2000)
		}},
		{vswitch.NotOffloadable, "tiny segments", func(w *dropWorld) []byte {
			return switchtest.Super(toPlain(w).TCP(ack, make([]byte, 9000)), vswitch.GSOTCPv4, 8)
		}},
		{vswitch.NotOffloadable, "too many datagrams", func(w *dropWorld) []byte {
			return switchtest.Super(toPlain(w).UDP(1, 2, make([]byte, 8*129)), vswitch.GSOUDPL4, 8)
		}},
	}
}

// TestDropsAreCountedOnce provokes each reason that the switch itself knows,
// twice, since the second frame may meet a cached decision: both are counted
// under that reason, on the sender's port, and reach nobody.
func TestDropsAreCountedOnce(t *testing.T) {
	for _, c := range dropCases() {
		t.Run(c.want.String()+" "+c.name, func(t *testing.T) {
			w := newDropWorld(t)
			frame := c.frame(w)
			for i := range uint64(2) {
				w.a.Send(frame)
				if got := w.a.Dropped(); got[c.want] != i+1 || len(got) != 1 {
					t.Errorf("after frame %d the sender's port has %v, want %s: %d", i+1, got, c.want, i+1)
				}
			}
			if w.a.Stats.TxFrames != 2 {
				t.Errorf("%d frames sent", w.a.Stats.TxFrames)
			}
			if size := uint64(max(0, len(frame)-vswitch.VnetLen)); w.a.Stats.TxBytes != 2*size {
				t.Errorf("%d bytes sent, want %d", w.a.Stats.TxBytes, 2*size)
			}
			for _, h := range w.Hosts {
				if h.Dev.Written() != 0 || h.Stats.RxFrames != 0 {
					t.Errorf("%s received %d frames", h.Name, h.Stats.RxFrames)
				}
				if h != w.a && len(h.Dropped()) != 0 {
					t.Errorf("%s, which sent nothing, has %v", h.Name, h.Dropped())
				}
			}
		})
	}
}

// TestNoGateway: a switch without one carries frames, and drops those for it.
func TestNoGateway(t *testing.T) {
	n := switchtest.NewNet(t)
	n.SetGateway(nil)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	a.Send(a.To(b).UDP(1, 2, data), a.Out("10.0.0.1").UDP(1, 2, data), a.Out("172.17.0.1").Echo(1, 1, nil))
	if got := a.Dropped(); got[vswitch.NoProtocol] != 2 || len(got) != 1 || b.Stats.RxFrames != 1 {
		t.Errorf("dropped %v, b received %d", got, b.Stats.RxFrames)
	}
	n.RemovePort(b.Port)
}

// TestPartOfAFloodIsNoDrop: a frame that reached someone was delivered.
func TestPartOfAFloodIsNoDrop(t *testing.T) {
	w := newDropWorld(t)
	w.b.Dev.Fail(unix.EIO)
	w.a.Send(with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(1, 2, data))
	if got := w.a.Dropped(); len(got) != 0 || w.plain.Stats.RxFrames != 1 || w.b.Stats.RxFrames != 0 {
		t.Errorf("dropped %v, plain received %d, b %d", got, w.plain.Stats.RxFrames, w.b.Stats.RxFrames)
	}
}

// TestPortThatHeals delivers again without a change of the cached decision.
func TestPortThatHeals(t *testing.T) {
	w := newDropWorld(t)
	frame := w.a.To(w.b).UDP(1, 2, data)
	w.a.Send(frame)
	w.b.Dev.Fail(unix.EIO)
	w.a.Send(frame)
	w.b.Dev.Fail(0)
	w.a.Send(frame)
	if got := w.a.Dropped(); got[vswitch.PortDown] != 1 || w.b.Stats.RxFrames != 2 {
		t.Errorf("dropped %v, %d received", got, w.b.Stats.RxFrames)
	}
}
