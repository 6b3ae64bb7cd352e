package vswitch_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// one is the single frame that h received, finished and decoded by gopacket.
func one(t *testing.T, h *switchtest.Host) []byte {
	t.Helper()
	got := h.Dev.Take()
	if len(got) != 1 {
		t.Fatalf("%s received %d frames, not 1", h.Name, len(got))
	}
	switchtest.CheckFinished(t, got[0])
	return got[0]
}

func TestGatewayAnswersARP(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	for name, to := range map[string]vswitch.MAC{"broadcast": vswitch.Broadcast, "unicast, as kernels confirm": br.MAC} {
		for _, sender := range []string{"172.17.0.2", "0.0.0.0"} {
			a.Send(switchtest.ARP{SrcMAC: a.MAC, DstMAC: to, Op: layers.ARPRequest, SenderMAC: a.MAC, SenderIP: netip.MustParseAddr(sender), TargetIP: br.Gateway}.Frame())
			f := one(t, a)
			eth, arp := switchtest.Layer[*layers.Ethernet](t, f), switchtest.Layer[*layers.ARP](t, f)
			if eth.SrcMAC.String() != br.MAC.String() || eth.DstMAC.String() != a.MAC.String() {
				t.Errorf("%s: from %s to %s", name, eth.SrcMAC, eth.DstMAC)
			}
			if arp.Operation != layers.ARPReply || arp.AddrType != layers.LinkTypeEthernet || arp.Protocol != layers.EthernetTypeIPv4 || arp.HwAddressSize != 6 || arp.ProtAddressSize != 4 ||
				net.IP(arp.SourceProtAddress).String() != "172.17.0.1" || net.HardwareAddr(arp.SourceHwAddress).String() != br.MAC.String() ||
				net.IP(arp.DstProtAddress).String() != sender || net.HardwareAddr(arp.DstHwAddress).String() != a.MAC.String() {
				t.Errorf("%s: %+v", name, arp)
			}
		}
	}
	if b.Stats.RxFrames != 0 {
		t.Error("a question for the gateway was flooded as well")
	}
	if len(a.Dropped()) != 0 || n.Gateway.Resolved != 0 {
		t.Errorf("dropped %v, %d resolved", a.Dropped(), n.Gateway.Resolved)
	}
}

// TestARPForOthersIsTheirs: requests, announcements and odd ones flood.
func TestARPForOthersIsTheirs(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	request := switchtest.ARP{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: a.MAC, SenderIP: a.Addrs[0], TargetIP: b.Addrs[0]}
	announce, reply := request, request
	announce.TargetIP = a.Addrs[0]
	reply.Op, reply.TargetIP = layers.ARPReply, br.Gateway
	odd := edit(request.Frame(), func(b []byte) { b[l3+1] = 6 })
	for i, f := range [][]byte{request.Frame(), announce.Frame(), reply.Frame(), odd} {
		a.Send(f)
		if got := b.Dev.Take(); len(got) != 1 || string(got[0]) != string(f) {
			t.Errorf("frame %d: b heard %d frames, or another one", i, len(got))
		}
	}
	answer := switchtest.ARP{SrcMAC: b.MAC, DstMAC: a.MAC, Op: layers.ARPReply, SenderMAC: b.MAC, SenderIP: b.Addrs[0], TargetMAC: a.MAC, TargetIP: a.Addrs[0]}.Frame()
	b.Send(answer)
	if got := a.Dev.Take(); len(got) != 1 || string(got[0]) != string(answer) {
		t.Errorf("a heard %d answers", len(got))
	}
	if len(a.Dropped())+len(b.Dropped()) != 0 {
		t.Errorf("dropped %v %v", a.Dropped(), b.Dropped())
	}
}

func TestNoARPWithoutIPv4(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "fd00:17::3")
	a.Send(switchtest.ARP{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: a.MAC, SenderIP: a.Addrs[0], TargetIP: netip.IPv4Unspecified()}.Frame())
	if len(a.Dev.Take()) != 0 || len(b.Dev.Take()) != 1 {
		t.Error("a bridge without IPv4 answered ARP, or swallowed it")
	}
}

func TestGatewayAnswersSolicitations(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3")
	for _, target := range []netip.Addr{br.Gateway6, br.LinkLocal()} {
		group, groupMAC := switchtest.SolicitedNode(target)
		for _, c := range []struct {
			name    string
			src     netip.Addr
			dst     netip.Addr
			dstMAC  vswitch.MAC
			option  vswitch.MAC
			wantDst netip.Addr
			wantMAC vswitch.MAC
			flags   uint8
		}{
			{"multicast", a.Addrs[1], group, groupMAC, a.MAC, a.Addrs[1], a.MAC, 0xe0},
			{"multicast from link-local", vswitch.LinkLocal(a.MAC), group, groupMAC, a.MAC, vswitch.LinkLocal(a.MAC), a.MAC, 0xe0},
			{"unicast, as kernels confirm", a.Addrs[1], target, br.MAC, a.MAC, a.Addrs[1], a.MAC, 0xe0},
			{"unicast without an option", a.Addrs[1], target, br.MAC, vswitch.MAC{}, a.Addrs[1], a.MAC, 0xe0},
			{"duplicate address detection", netip.IPv6Unspecified(), group, groupMAC, vswitch.MAC{}, netip.MustParseAddr("ff02::1"), vswitch.MAC{0x33, 0x33, 0, 0, 0, 1}, 0xa0},
		} {
			a.Send(switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: c.dstMAC, Src: c.src, Dst: c.dst}, Target: target, Option: c.option}.Solicit())
			f := one(t, a)
			eth, ip, na := switchtest.Layer[*layers.Ethernet](t, f), switchtest.Layer[*layers.IPv6](t, f), switchtest.Layer[*layers.ICMPv6NeighborAdvertisement](t, f)
			if eth.SrcMAC.String() != br.MAC.String() || eth.DstMAC.String() != c.wantMAC.String() {
				t.Errorf("%s %s: frame from %s to %s", target, c.name, eth.SrcMAC, eth.DstMAC)
			}
			if ip.SrcIP.String() != target.String() || ip.DstIP.String() != c.wantDst.String() || ip.HopLimit != 255 {
				t.Errorf("%s %s: packet from %s to %s, hop limit %d", target, c.name, ip.SrcIP, ip.DstIP, ip.HopLimit)
			}
			if na.TargetAddress.String() != target.String() || na.Flags != c.flags || len(na.Options) != 1 ||
				na.Options[0].Type != layers.ICMPv6OptTargetAddress || net.HardwareAddr(na.Options[0].Data).String() != br.MAC.String() {
				t.Errorf("%s %s: %+v", target, c.name, na)
			}
		}
	}
	if b.Stats.RxFrames != 0 || len(a.Dropped()) != 0 || n.Gateway.Resolved != 0 {
		t.Errorf("b heard %d frames, dropped %v, %d resolved", b.Stats.RxFrames, a.Dropped(), n.Gateway.Resolved)
	}
}

// TestSolicitationsForOthersAreTheirs: also those that the gateway must not
// answer because they come from beyond the link, or name too little.
func TestSolicitationsForOthersAreTheirs(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3")
	ask := func(target netip.Addr, ttl uint8) []byte {
		group, mac := switchtest.SolicitedNode(target)
		return switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: mac, Src: a.Addrs[1], Dst: group, TTL: ttl}, Target: target, Option: a.MAC}.Solicit()
	}
	group := with(v6, func(p *switchtest.Packet) { p.DstMAC = vswitch.MAC{0x33, 0x33, 0, 0, 0, 1} })
	for name, f := range map[string][]byte{
		"for b":                           ask(b.Addrs[1], 255),
		"for nobody":                      ask(netip.MustParseAddr("fd00:17::99"), 255),
		"for the gateway from beyond":     ask(br.Gateway6, 254),
		"without a target":                group.ICMPv6(135, 0, make([]byte, 4)),
		"advertisement":                   switchtest.Neighbour{Packet: group, Target: a.Addrs[1], Option: a.MAC}.Advertise(),
		"for the address of all gateways": ask(netip.MustParseAddr("fe80::1"), 255),
	} {
		before := a.Stats.TxFrames
		a.Send(f)
		if got := b.Dev.Take(); len(got) != 1 || string(got[0]) != string(f) {
			t.Errorf("%s: b heard %d frames; dropped %v", name, len(got), a.Dropped())
		}
		if a.Stats.TxFrames != before+1 || len(a.Dev.Take()) != 0 {
			t.Errorf("%s: answered", name)
		}
	}
}

func TestNoAdvertisementWithoutIPv6(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a := n.Host(br, "a", "172.17.0.2", "fd00:17::2")
	n.Host(br, "b", "172.17.0.3")
	group, mac := switchtest.SolicitedNode(br.LinkLocal())
	a.Send(switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: mac, Src: a.Addrs[1], Dst: group}, Target: br.LinkLocal()}.Solicit())
	if len(a.Dev.Take()) != 0 {
		t.Error("a bridge without IPv6 answered")
	}
}

// TestRouterSolicitationsEnd: routes are static, nobody answers and nobody
// hears them.
func TestRouterSolicitationsEnd(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3")
	a.Send(switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: vswitch.MAC{0x33, 0x33, 0, 0, 0, 2}, Src: vswitch.LinkLocal(a.MAC), Dst: netip.MustParseAddr("ff02::2")}}.RouterSolicit())
	if len(a.Dev.Take()) != 0 || b.Stats.RxFrames != 0 || len(a.Dropped()) != 0 {
		t.Errorf("b heard %d frames; dropped %v", b.Stats.RxFrames, a.Dropped())
	}
}

// A router solicitation is answered where the bridge advertises: by a router,
// but on an internal bridge, and with what RFC 4861 and RFC 8106 name.
func TestAdvertise(t *testing.T) {
	for _, internal := range []bool{false, true} {
		n := switchtest.NewNet(t)
		br := n.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1400, Subnet6: netip.MustParsePrefix("fd00:17::/64"), Gateway6: netip.MustParseAddr("fd00:17::1"), Advertise: true, Internal: internal})
		a := n.Host(br, "a", "fd00:17::2")
		p := switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: a.MAC, DstMAC: vswitch.MAC{0x33, 0x33, 0, 0, 0, 2}, Src: vswitch.LinkLocal(a.MAC), Dst: netip.MustParseAddr("ff02::2")}}
		a.Send(p.RouterSolicit())
		got := a.Dev.Take()
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		g := gopacket.NewPacket(got[0][vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default)
		ra, ok := g.Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
		if !ok {
			t.Fatalf("answered: %v", g)
		}
		if (ra.RouterLifetime == 0) != internal || !ra.ManagedAddressConfig() || ra.HopLimit != 64 {
			t.Errorf("internal %t: %+v", internal, ra)
		}
		options := map[layers.ICMPv6Opt][]byte{}
		for _, o := range ra.Options {
			options[o.Type] = o.Data
		}
		if len(options) != 4 || options[layers.ICMPv6OptMTU][5] != 1400&255 || options[layers.ICMPv6OptPrefixInfo][0] != 64 || options[layers.ICMPv6OptPrefixInfo][1] != 0x80 {
			t.Errorf("options: %v", options)
		}
		if g.Layer(layers.LayerTypeIPv6).(*layers.IPv6).SrcIP.String() != br.LinkLocal().String() {
			t.Errorf("from another address: %v", g)
		}
	}
}

// A port's addresses are told to the others of its bridge.
func TestAnnounce(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b, other := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3"), n.Host(n.Bridge("two", "172.18.0.0/16"), "c", "172.18.0.2")
	n.Announce(a.Port)
	got := b.Dev.Take()
	if len(got) != 2 || len(a.Dev.Take())+len(other.Dev.Take()) != 0 {
		t.Fatalf("%d frames", len(got))
	}
	arp, ok := gopacket.NewPacket(got[0][vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || net.HardwareAddr(arp.SourceHwAddress).String() != a.MAC.String() || net.IP(arp.SourceProtAddress).String() != "172.17.0.2" || net.IP(arp.DstProtAddress).String() != "172.17.0.2" {
		t.Errorf("ARP: %+v", arp)
	}
	na, ok := gopacket.NewPacket(got[1][vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !ok || na.TargetAddress.String() != "fd00:17::2" || !na.Override() || na.Solicited() {
		t.Errorf("neighbour advertisement: %+v", na)
	}
}
