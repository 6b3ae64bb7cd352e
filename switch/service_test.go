package vswitch_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// serviceBridge has a gateway with an address more, for DNS.
func serviceBridge(n *switchtest.Net, s vswitch.Service) *vswitch.Bridge {
	return n.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1400, Subnet: netip.MustParsePrefix("10.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.2.2"),
		Subnet6: netip.MustParsePrefix("fd00::/64"), Gateway6: netip.MustParseAddr("fd00::2"), Advertise: true, Service: s})
}

var resolvers = vswitch.Service{Resolver: netip.MustParseAddr("10.0.2.3"), Resolver6: netip.MustParseAddr("fd00::3"), Autoconf: true}

func TestResolverIsTheGateways(t *testing.T) {
	n := switchtest.NewNet(t)
	br := serviceBridge(n, resolvers)
	a := n.Host(br, "a", "10.0.2.100", "fd00::64")
	arp := func(target string) []byte {
		return switchtest.ARP{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: a.MAC, SenderIP: a.Addrs[0], TargetIP: netip.MustParseAddr(target)}.Frame()
	}
	solicit := func(target string) []byte {
		to := netip.MustParseAddr(target)
		group, mac := switchtest.SolicitedNode(to)
		return switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: mac, Src: a.Addrs[1], Dst: group}, Target: to, Option: a.MAC}.Solicit()
	}
	for name, c := range map[string]struct {
		frame []byte
		want  int
	}{
		"the gateway": {arp("10.0.2.2"), 1}, "the resolver": {arp("10.0.2.3"), 1}, "nobody": {arp("10.0.2.4"), 0},
		"the gateway, IPv6": {solicit("fd00::2"), 1}, "the resolver, IPv6": {solicit("fd00::3"), 1}, "nobody, IPv6": {solicit("fd00::4"), 0},
	} {
		a.Send(c.frame)
		got := a.Dev.Take()
		if len(got) != c.want {
			t.Errorf("%s: %d answers, want %d", name, len(got), c.want)
		}
		for _, f := range got {
			if eth := switchtest.Layer[*layers.Ethernet](t, f); eth.SrcMAC.String() != br.MAC.String() {
				t.Errorf("%s: answered by %s", name, eth.SrcMAC)
			}
		}
	}
}

func TestResolves(t *testing.T) {
	usual := serviceBridge(switchtest.NewNet(t), vswitch.Service{})
	apart := serviceBridge(switchtest.NewNet(t), resolvers)
	none := serviceBridge(switchtest.NewNet(t), vswitch.Service{Resolver: resolvers.Resolver, NoDNS: true})
	for _, c := range []struct {
		br   *vswitch.Bridge
		a    string
		want bool
	}{
		{usual, "10.0.2.2", true}, {usual, "fd00::2", true}, {usual, usual.LinkLocal().String(), true}, {usual, "10.0.2.3", false},
		{apart, "10.0.2.3", true}, {apart, "fd00::3", true}, {apart, "10.0.2.2", false}, {apart, "fd00::2", false}, {apart, apart.LinkLocal().String(), false},
		{none, "10.0.2.2", false}, {none, "10.0.2.3", false}, {none, "fd00::2", false},
	} {
		if got := c.br.Resolves(netip.MustParseAddr(c.a)); got != c.want {
			t.Errorf("%+v at %s: %v", c.br.Service, c.a, got)
		}
	}
}

// Guests make their own address where the prefix says so, and ask the resolver;
// where there is none, nobody.
func TestAutoconf(t *testing.T) {
	for _, c := range []struct {
		service  vswitch.Service
		managed  bool
		flags    byte
		server   string
		lifetime bool
	}{
		{vswitch.Service{}, true, 0x80, "fd00::2", true},
		{resolvers, false, 0xc0, "fd00::3", true},
		{vswitch.Service{NoDNS: true, Autoconf: true}, false, 0xc0, "fd00::2", false},
	} {
		n := switchtest.NewNet(t)
		a := n.Host(serviceBridge(n, c.service), "a", "fd00::64")
		a.Send(switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: vswitch.MAC{0x33, 0x33, 0, 0, 0, 2}, Src: vswitch.LinkLocal(a.MAC), Dst: netip.MustParseAddr("ff02::2")}}.RouterSolicit())
		ra := switchtest.Layer[*layers.ICMPv6RouterAdvertisement](t, one(t, a))
		var server string
		var lifetime uint32
		for _, o := range ra.Options {
			switch o.Type {
			case layers.ICMPv6OptPrefixInfo:
				if o.Data[1] != c.flags {
					t.Errorf("%+v: prefix flags %#x", c.service, o.Data[1])
				}
			case 25:
				a, _ := netip.AddrFromSlice(o.Data[6:22])
				server, lifetime = a.String(), uint32(o.Data[2])<<24|uint32(o.Data[3])<<16|uint32(o.Data[4])<<8|uint32(o.Data[5])
			}
		}
		if ra.ManagedAddressConfig() != c.managed || server != c.server || (lifetime > 0) != c.lifetime {
			t.Errorf("%+v: %+v, resolver %s for %d s", c.service, ra, server, lifetime)
		}
	}
}

// Who asks for the gateway is known by what he says, on a port that may say
// anything.
func TestHeard(t *testing.T) {
	n := switchtest.NewNet(t)
	br := serviceBridge(n, resolvers)
	trusted, other := n.Trusted(br, "vm", "10.0.2.100"), n.Host(br, "c", "10.0.2.101")
	mac := vswitch.MAC{2, 9, 9, 9, 9, 9}
	arp := func(h *switchtest.Host, mac vswitch.MAC, sender string) {
		h.Send(switchtest.ARP{SrcMAC: mac, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: mac, SenderIP: netip.MustParseAddr(sender), TargetIP: br.Gateway}.Frame())
	}
	at := func(h *switchtest.Host, a string) vswitch.MAC { return h.MACOf(netip.MustParseAddr(a)) }
	if got := at(trusted, "10.0.2.15"); got != trusted.MAC {
		t.Errorf("before it spoke: %s", got)
	}
	arp(trusted, mac, "10.0.2.15")
	arp(trusted, mac, "0.0.0.0")
	arp(trusted, mac, "10.0.2.3")
	arp(trusted, mac, "192.0.2.1")
	arp(other, other.MAC, "10.0.2.101")
	for a, want := range map[string]vswitch.MAC{"10.0.2.15": mac, "0.0.0.0": trusted.MAC, "10.0.2.3": trusted.MAC, "192.0.2.1": trusted.MAC} {
		if got := at(trusted, a); got != want {
			t.Errorf("%s is at %s, want %s", a, got, want)
		}
	}
	v6 := netip.MustParseAddr("fd00::77")
	group, to := switchtest.SolicitedNode(br.Gateway6)
	trusted.Send(switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: mac, DstMAC: to, Src: v6, Dst: group}, Target: br.Gateway6, Option: mac}.Solicit())
	if got := trusted.MACOf(v6); got != mac {
		t.Errorf("%s is at %s", v6, got)
	}
	// The last word counts, and what is kept is bounded.
	second := vswitch.MAC{2, 9, 9, 9, 9, 8}
	arp(trusted, second, "10.0.2.15")
	if got := at(trusted, "10.0.2.15"); got != second {
		t.Errorf("after a change: %s", got)
	}
	for i := range byte(40) {
		arp(trusted, mac, netip.AddrFrom4([4]byte{10, 0, 2, 200 + i}).String())
	}
	if got := at(trusted, "10.0.2.15"); got != trusted.MAC {
		t.Errorf("the oldest was kept: %s", got)
	}
	if got := at(trusted, "10.0.2.239"); got != mac {
		t.Errorf("the newest is at %s", got)
	}
}

// A socket whose packets are frames is a device, until its other end is closed.
func TestPackets(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	d, err := vswitch.NewDevice(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan *vswitch.Port, 1)
	sw, err := vswitch.New(vswitch.Config{Gone: func(p *vswitch.Port) { gone <- p }})
	if err != nil {
		t.Fatal(err)
	}
	go sw.Run()
	defer sw.Close()
	guest := vswitch.MAC{2, 0, 0, 0, 0, 1}
	var br *vswitch.Bridge
	var p *vswitch.Port
	sw.Do(func() {
		br = sw.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1500, Subnet: netip.MustParsePrefix("10.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.2.2")})
		p, err = sw.AddPort(vswitch.PortConfig{Name: "vm", Bridge: br, Device: d, MAC: guest, Spoof: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.Caps() != 0 {
		t.Errorf("capabilities %x", d.Caps())
	}
	if _, err := unix.Write(fds[1], nil); err != nil { // an empty packet is no frame, and no end
		t.Fatal(err)
	}
	ask := switchtest.ARP{SrcMAC: guest, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: guest, SenderIP: netip.MustParseAddr("10.0.2.15"), TargetIP: br.Gateway}.Frame()
	if _, err := unix.Write(fds[1], ask[vswitch.VnetLen:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, err := unix.Read(fds[1], b)
	if err != nil {
		t.Fatal(err)
	}
	arp, ok := gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || arp.Operation != layers.ARPReply {
		t.Errorf("answered: %x", b[:n])
	}
	unix.Shutdown(fds[1], unix.SHUT_RDWR)
	if q := <-gone; q != p {
		t.Errorf("another port is gone")
	}
	if e := d.Write(make([]byte, 64)); e != unix.EBADFD {
		t.Errorf("write to nobody: %v", e)
	}
	sw.Do(func() { sw.RemovePort(p) })
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	stream, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vswitch.NewDevice(stream); err == nil {
		t.Error("a stream socket was taken")
	}
}
