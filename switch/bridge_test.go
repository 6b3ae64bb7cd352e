package vswitch_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// TestBridgesAreApart uses the same addresses on two bridges and sends every
// kind of frame on one of them.
func TestBridgesAreApart(t *testing.T) {
	n := switchtest.NewNet(t)
	one, two := n.Bridge("one", "172.17.0.0/16", "fd00:17::/64"), n.Bridge("two", "172.17.0.0/16", "fd00:17::/64")
	a := n.Host(one, "a", "172.17.0.2", "fd00:17::2")
	b := n.Host(one, "b", "172.17.0.3", "fd00:17::3")
	vm := n.Trusted(one, "vm", "172.17.0.4")
	same := n.Host(two, "same as a", "172.17.0.2", "fd00:17::2")
	n.Host(two, "same as b", "172.17.0.3", "fd00:17::3")
	n.Trusted(two, "trusted", "172.17.0.9")
	only := n.Host(two, "only here", "172.17.0.8")
	frames := append(seeds(), switchtest.Packet{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Src: a.Addrs[0], Dst: b.Addrs[0]}.UDP(1, 2, data),
		a.To(only).UDP(1, 2, data), with(a.To(only), func(p *switchtest.Packet) { p.DstMAC = two.MAC }).UDP(1, 2, data))
	for _, f := range frames {
		a.Send(f, f)
		vm.Send(f, f)
	}
	for _, h := range n.Hosts {
		if h.Bridge() == two && (h.Stats.RxFrames != 0 || len(h.Dev.Take()) != 0) {
			t.Errorf("%s received %d frames", h.Name, h.Stats.RxFrames)
		}
	}
	if a.Stats.Drops[vswitch.UnknownMAC] != 0 || vm.Stats.RxFrames == 0 || b.Stats.RxFrames == 0 {
		t.Errorf("the bridge itself does not work: %v", a.Dropped())
	}
	before := same.Stats.RxFrames
	only.Send(only.To(same).UDP(1, 2, data))
	if same.Stats.RxFrames != before+1 {
		t.Error("the other bridge does not work by itself")
	}
}

// TestUnknownMACOnIsolatedBridge: without a trusted port nothing floods.
func TestMACOfAnotherBridgeIsUnknown(t *testing.T) {
	n := switchtest.NewNet(t)
	one, two := n.Bridge("one", "172.17.0.0/16"), n.Bridge("two", "172.18.0.0/16")
	a, far := n.Host(one, "a", "172.17.0.2"), n.Host(two, "far", "172.18.0.2")
	n.Host(one, "b", "172.17.0.3")
	frame := a.To(far).UDP(1, 2, data)
	a.Send(frame, frame)
	if got := a.Dropped(); got[vswitch.UnknownMAC] != 2 || len(got) != 1 {
		t.Errorf("dropped %v", got)
	}
}

func TestUnicastArrivesAsItIs(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b, c := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3"), n.Host(br, "c", "172.17.0.4")
	frames := [][]byte{
		v4.TCP(ack, data), v6.TCP(ack, data), v4.Ether(0x88b5, data), v4.Ether(46, make([]byte, 46)),
		switchtest.Partial(v4.TCP(ack, data)), switchtest.Super(v4.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448),
		switchtest.Super(v6.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv6|vswitch.GSOECN, 1428),
		switchtest.Super(v4.UDP(1, 2, make([]byte, 60000)), vswitch.GSOUDPL4, 1472),
		vnet(v4.TCP(ack, data), vswitch.Vnet{Flags: vswitch.VnetDataValid}),
		append(v4.UDP(1, 2, nil), make([]byte, 18)...), v4frag(true, 1480).IP(17, data),
	}
	var size uint64
	for i, f := range frames {
		a.Send(f, f)
		size += 2 * uint64(len(f)-vswitch.VnetLen)
		got := b.Dev.Take()
		if len(got) != 2 || !bytes.Equal(got[0], f) || !bytes.Equal(got[1], f) {
			t.Errorf("frame %d: %d frames arrived, or changed ones", i, len(got))
		}
	}
	if c.Stats.RxFrames != 0 {
		t.Error("a third port heard unicast")
	}
	want := 2 * uint64(len(frames))
	if a.Stats.TxFrames != want || a.Stats.TxBytes != size || b.Stats.RxFrames != want || b.Stats.RxBytes != size {
		t.Errorf("counted %d frames and %d bytes out, %d and %d in; want %d and %d", a.Stats.TxFrames, a.Stats.TxBytes, b.Stats.RxFrames, b.Stats.RxBytes, want, size)
	}
	if len(a.Dropped()) != 0 {
		t.Errorf("dropped %v", a.Dropped())
	}
}

func TestFlood(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b, c := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Plain(br, "c", "172.17.0.4")
	vm, vm2 := n.Trusted(br, "vm", "172.17.0.5"), n.Trusted(br, "vm2", "172.17.0.6")
	p := with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast })
	for _, x := range []struct {
		name string
		from *switchtest.Host
		b    []byte
		to   []*switchtest.Host
	}{
		{"broadcast", a, p.UDP(1, 2, data), []*switchtest.Host{b, c, vm, vm2}},
		{"multicast", a, with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{1, 0, 0x5e, 0, 0, 251} }).UDP(1, 5353, data), []*switchtest.Host{b, c, vm, vm2}},
		{"multicast 6", b, with(switchtest.Packet{SrcMAC: macB, Src: vswitch.LinkLocal(macB), Dst: netip.MustParseAddr("ff02::fb")}, func(p *switchtest.Packet) {
			p.DstMAC = vswitch.MAC{0x33, 0x33, 0, 0, 0, 251}
		}).UDP(1, 5353, data), []*switchtest.Host{a, c, vm, vm2}},
		{"ARP request for a neighbour", a, arpRequest.Frame(), []*switchtest.Host{b, c, vm, vm2}},
		{"broadcast with an open checksum", a, switchtest.Partial(p.UDP(1, 2, data)), []*switchtest.Host{b, c, vm, vm2}},
		{"unknown unicast", a, with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{2, 9, 9, 9, 9, 9} }).UDP(1, 2, data), []*switchtest.Host{vm, vm2}},
		{"unknown unicast of a trusted port", vm, with(vm.To(a), func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{2, 9, 9, 9, 9, 9} }).UDP(1, 2, data), []*switchtest.Host{vm2}},
		{"the group behind the reserved ones", a, with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{1, 0x80, 0xc2, 0, 0, 0x10} }).UDP(1, 2, data), []*switchtest.Host{b, c, vm, vm2}},
	} {
		x.from.Send(x.b, x.b)
		heard := 0
		for _, h := range n.Hosts {
			got := h.Dev.Take()
			heard += len(got)
			for _, want := range x.to {
				if want == h && len(got) != 2 {
					t.Errorf("%s: %s heard %d frames, not 2", x.name, h.Name, len(got))
				}
			}
			if h == c && len(got) > 0 {
				switchtest.CheckFinished(t, got[0])
			} else if len(got) > 0 && h != c && x.name != "broadcast with an open checksum" && !bytes.Equal(got[0], x.b) {
				t.Errorf("%s: %s heard another frame", x.name, h.Name)
			}
		}
		if heard != 2*len(x.to) {
			t.Errorf("%s: %d frames in all, not %d", x.name, heard, 2*len(x.to))
		}
		if got := x.from.Dropped(); len(got) != 0 {
			t.Errorf("%s: dropped %v", x.name, got)
		}
	}
}

// TestFloodThatReachesNobody: a broadcast in an empty room is no drop; a frame
// for one address that nobody holds is, whoever sent it.
func TestFloodThatReachesNobody(t *testing.T) {
	n := switchtest.NewNet(t)
	vm := n.Trusted(n.Bridge("bridge", "172.17.0.0/16"), "vm", "172.17.0.2")
	p := vm.Out("172.17.0.3")
	p.DstMAC = vswitch.Broadcast
	vm.Send(p.UDP(1, 2, data))
	if got := vm.Dropped(); len(got) != 0 {
		t.Errorf("broadcast: dropped %v", got)
	}
	p.DstMAC = macB
	frame := p.UDP(1, 2, data)
	vm.Send(frame, frame)
	if got := vm.Dropped(); got[vswitch.UnknownMAC] != 2 || len(got) != 1 {
		t.Errorf("unknown unicast: dropped %v, want unknown-mac twice", got)
	}
}

func TestReservedMulticastStaysOnItsLink(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Trusted(br, "a", "172.17.0.2"), n.Trusted(br, "b", "172.17.0.3")
	for i := range byte(16) {
		a.Send(with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{1, 0x80, 0xc2, 0, 0, i} }).Ether(layers.EthernetTypeLinkLayerDiscovery, data))
	}
	if got := a.Dropped(); got[vswitch.ReservedMulticast] != 16 || len(got) != 1 || b.Stats.RxFrames != 0 {
		t.Errorf("dropped %v, forwarded %d", got, b.Stats.RxFrames)
	}
}

func TestAddPortRefuses(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a := n.Host(br, "a", "172.17.0.2")
	for _, c := range []struct {
		name, want string
		c          vswitch.PortConfig
	}{
		{"a MAC that is taken", "port x: bridge bridge has 02:42:ac:11:00:02 already, on port a", vswitch.PortConfig{MAC: a.MAC}},
		{"a MAC that is taken, trusted", "on port a", vswitch.PortConfig{MAC: a.MAC, Spoof: true}},
		{"the gateway's MAC", "gateway", vswitch.PortConfig{MAC: br.MAC}},
		{"a group's MAC", "group", vswitch.PortConfig{MAC: vswitch.MAC{1, 0, 0x5e, 0, 0, 1}}},
		{"broadcast", "group", vswitch.PortConfig{MAC: vswitch.Broadcast, Spoof: true}},
	} {
		c.c.Name, c.c.Bridge, c.c.Device = "x", br, switchtest.NewDevice(t, 0)
		if p, err := n.AddPort(c.c); err == nil || !strings.Contains(err.Error(), c.want) || p != nil {
			t.Errorf("%s: %v, %v; want an error that says %q", c.name, p, err, c.want)
		}
	}
	b := n.Host(br, "b", "172.17.0.3")
	if len(br.Ports()) != 2 || b.ID != a.ID+1 {
		t.Errorf("%d ports, the last is %d: a refused port left something behind", len(br.Ports()), b.ID)
	}
	b.Send(b.To(a).UDP(1, 2, data))
	if a.Stats.RxFrames != 1 {
		t.Error("a no longer holds its address")
	}
	other := n.Bridge("other", "172.17.0.0/16")
	n.Host(other, "a on another bridge", "172.17.0.2") // no conflict
}

// TestLearnedAddressIsTakenOver: what a trusted port has claimed cannot keep a
// container from being attached.
func TestLearnedAddressIsTakenOver(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	vm, a := n.Trusted(br, "vm", "172.17.0.9"), n.Host(br, "a", "172.17.0.2")
	vm.Send(with(v4, func(p *switchtest.Packet) { p.SrcMAC, p.DstMAC = macB, macA }).UDP(1, 2, data))
	frame := v4.UDP(1, 2, data)
	a.Send(frame, frame)
	if vm.Stats.RxFrames != 2 {
		t.Fatalf("the address was not learned: %d frames", vm.Stats.RxFrames)
	}
	b := n.Host(br, "b", "172.17.0.3")
	a.Send(frame, frame)
	if b.Stats.RxFrames != 2 || vm.Stats.RxFrames != 2 || vm.Learned() != 0 {
		t.Errorf("b received %d, vm %d frames; %d addresses still learned", b.Stats.RxFrames, vm.Stats.RxFrames, vm.Learned())
	}
}

func TestRemovePort(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	frame := a.To(b).UDP(1, 2, data)
	a.Send(frame, frame)
	if err := n.RemoveBridge(br); err == nil || !strings.Contains(err.Error(), "bridge bridge has 2 ports") {
		t.Errorf("a bridge with ports was taken away: %v", err)
	}
	b.Dev.Push(b.To(a).UDP(1, 2, data))
	if d := n.RemovePort(b.Port); d != vswitch.Device(b.Dev) {
		t.Errorf("RemovePort returned %v", d)
	}
	if n.RemovePort(b.Port) != nil {
		t.Error("removed twice")
	}
	if b.Dev.Closed() {
		t.Error("the device was closed on the loop")
	}
	if len(n.Gateway.Gone) != 1 || n.Gateway.Gone[0] != b.Port {
		t.Errorf("the gateway heard of %v", n.Gateway.Gone)
	}
	if n.Port(b.ID) != nil || br.PortOf(b.Addrs[0]) != nil || br.PortOf(a.Addrs[0]) != a.Port {
		t.Error("the port can still be found, or the other cannot")
	}
	a.Send(frame, frame)
	if got := a.Dropped(); got[vswitch.UnknownMAC] != 2 || len(got) != 1 {
		t.Errorf("dropped %v", got)
	}
	if a.Stats.RxFrames != 0 || b.Dev.Pending() != 1 {
		t.Error("a removed port was read")
	}
	n.RemovePort(a.Port)
	if err := n.RemoveBridge(br); err != nil || len(n.Bridges()) != 0 {
		t.Errorf("%v, %d bridges left", err, len(n.Bridges()))
	}
	if again := n.Bridge("again", "172.17.0.0/16"); again.ID != 1 {
		t.Errorf("the bridge's number %d was not reused", again.ID)
	}
}

// TestPortsAreBounded fills the switch.
func TestPortsAreBounded(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	d := switchtest.NewDevice(t, switchtest.All)
	attach := func(i int) (*vswitch.Port, error) {
		return n.AddPort(vswitch.PortConfig{Name: "p", Bridge: br, Device: d, MAC: vswitch.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}})
	}
	var last *vswitch.Port
	for i := range vswitch.MaxPorts - 1 {
		p, err := attach(i)
		if err != nil {
			t.Fatalf("port %d: %v", i, err)
		}
		if p.ID == 0 {
			t.Fatal("a port has the number of none")
		}
		last = p
	}
	if _, err := attach(5000); err == nil || !strings.Contains(err.Error(), "4095 ports") {
		t.Errorf("one port too many: %v", err)
	}
	n.RemovePort(last)
	if p, err := attach(5001); err != nil || p.ID != last.ID {
		t.Errorf("no room after one left: %v", err)
	}
}

func TestGatewayMACs(t *testing.T) {
	n := switchtest.NewNet(t)
	for _, c := range []struct{ subnet, subnet6, want string }{
		{"172.17.0.0/16", "fd00:17::/64", "02:42:ac:11:00:01"},
		{"172.18.0.0/16", "", "02:42:ac:12:00:01"},
		{"fd00:17::/64", "", "02:42:fd:00:00:16"},
	} {
		subnets := []string{c.subnet}
		if c.subnet6 != "" {
			subnets = append(subnets, c.subnet6)
		}
		br := n.Bridge("b", subnets...)
		if br.MAC.String() != c.want {
			t.Errorf("gateway of %v has %s, want %s", subnets, br.MAC, c.want)
		}
		for _, a := range []netip.Addr{br.Gateway, br.Gateway6, br.LinkLocal()} {
			if a.IsValid() && !br.IsGateway(a) {
				t.Errorf("%s is not the gateway", a)
			}
		}
		if br.IsGateway(netip.Addr{}) || br.IsGateway(v4.Src) || br.Contains(netip.MustParseAddr("10.0.0.1")) || br.Subnet.IsValid() && !br.Contains(br.Subnet.Addr()) {
			t.Errorf("%v holds the wrong addresses", subnets)
		}
	}
	if n.BridgeOf(func(b *vswitch.Bridge) bool { return b.Contains(netip.MustParseAddr("172.18.3.4")) }) != n.Bridges()[1] {
		t.Error("BridgeOf found another bridge")
	}
}
