package vswitch_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// TestGuard sends each frame from a container and from a trusted port with the
// same addresses. The container's is delivered or dropped under a reason; the
// trusted one's always passes the guard.
func TestGuard(t *testing.T) {
	var (
		ip, peer, ip6, peer6 = v4.Src, v4.Dst, v6.Src, v6.Dst
		link                 = vswitch.LinkLocal(macA)
		none4, none6         = netip.IPv4Unspecified(), netip.IPv6Unspecified()
		allNodes             = netip.MustParseAddr("ff02::1")
		bcast                = netip.MustParseAddr("255.255.255.255")
		group                = vswitch.MAC{0x33, 0x33, 0, 0, 0, 1}
		wrong                = vswitch.MAC{0x02, 0x42, 9, 9, 9, 9}
	)
	ip4 := func(src, dst netip.Addr) switchtest.Packet {
		return switchtest.Packet{SrcMAC: macA, DstMAC: macB, Src: src, Dst: dst}
	}
	arp := func(op uint16, change func(*switchtest.ARP)) []byte {
		a := switchtest.ARP{SrcMAC: macA, DstMAC: macB, Op: op, SenderMAC: macA, SenderIP: ip, TargetMAC: macB, TargetIP: peer}
		if change != nil {
			change(&a)
		}
		return a.Frame()
	}
	nd := func(src, dst, target netip.Addr) switchtest.Neighbour {
		return switchtest.Neighbour{Packet: switchtest.Packet{SrcMAC: macA, DstMAC: group, Src: src, Dst: dst}, Target: target}
	}
	ra := nd(link, allNodes, ip6).RouterAdvertise()
	ok := vswitch.Delivered
	for _, c := range []struct {
		name string
		b    []byte
		want vswitch.Reason
	}{
		{"own MAC and IPv4", ip4(ip, peer).UDP(1, 2, data), ok},
		{"own MAC and IPv6", ip4(ip6, peer6).UDP(1, 2, data), ok},
		{"own link-local address", ip4(link, peer6).UDP(1, 2, data), ok},
		{"second own address", ip4(netip.MustParseAddr("172.17.0.22"), peer).UDP(1, 2, data), ok},
		{"no IP at all", ip4(ip, peer).Ether(0x88b5, data), ok},
		{"foreign MAC", with(ip4(ip, peer), func(p *switchtest.Packet) { p.SrcMAC = wrong }).UDP(1, 2, data), vswitch.SpoofedMAC},
		{"a neighbour's MAC", with(ip4(ip, peer), func(p *switchtest.Packet) { p.SrcMAC, p.DstMAC = macB, macA }).UDP(1, 2, data), vswitch.SpoofedMAC},
		{"foreign MAC and no IP", with(ip4(ip, peer), func(p *switchtest.Packet) { p.SrcMAC = wrong }).Ether(0x88b5, data), vswitch.SpoofedMAC},
		{"foreign MAC of ARP's frame", arp(1, func(a *switchtest.ARP) { a.SrcMAC = wrong }), vswitch.SpoofedMAC},
		{"group MAC", with(ip4(ip, peer), func(p *switchtest.Packet) { p.SrcMAC = group }).UDP(1, 2, data), vswitch.SourceMulticast},
		{"broadcast MAC", with(ip4(ip, peer), func(p *switchtest.Packet) { p.SrcMAC = vswitch.Broadcast }).UDP(1, 2, data), vswitch.SourceMulticast},

		{"foreign IPv4", ip4(netip.MustParseAddr("172.17.0.9"), peer).UDP(1, 2, data), vswitch.SpoofedIP},
		{"gateway's IPv4", ip4(netip.MustParseAddr("172.17.0.1"), peer).UDP(1, 2, data), vswitch.SpoofedIP},
		{"a neighbour's IPv4", ip4(peer, ip).TCP(ack, data), vswitch.SpoofedIP},
		{"loopback", ip4(netip.MustParseAddr("127.0.0.1"), peer).UDP(1, 2, data), vswitch.SpoofedIP},
		{"broadcast IPv4", ip4(bcast, peer).UDP(1, 2, data), vswitch.SpoofedIP},
		{"foreign IPv4 in a later fragment", with(ip4(peer, ip), func(p *switchtest.Packet) { p.FragOffset = 8 }).IP(17, data), vswitch.SpoofedIP},
		{"foreign IPv6", ip4(netip.MustParseAddr("fd00:17::9"), peer6).UDP(1, 2, data), vswitch.SpoofedIP},
		{"link-local address of another MAC", ip4(vswitch.LinkLocal(macB), peer6).UDP(1, 2, data), vswitch.SpoofedIP},
		{"foreign IPv6 behind an extension", ip4(peer6, ip6).IP(60, switchtest.Extension(17, udpOf(v6))), vswitch.SpoofedIP},
		{"IPv4 address mapped into IPv6", ip4(netip.MustParseAddr("::ffff:172.17.0.2"), peer6).UDP(1, 2, data), vswitch.SpoofedIP},

		{"DHCP discover", with(ip4(none4, bcast), func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(68, 67, data), ok},
		{"unspecified IPv4 otherwise", ip4(none4, peer).UDP(1, 2, data), vswitch.SpoofedIP},
		{"unspecified IPv4 from 68 to a service", ip4(none4, peer).UDP(68, 53, data), vswitch.SpoofedIP},
		{"unspecified IPv4 from TCP 68", ip4(none4, peer).TCP(layers.TCP{SrcPort: 68, DstPort: 67, ACK: true}, data), vswitch.SpoofedIP},
		{"unspecified IPv4 to 67 from elsewhere", ip4(none4, peer).UDP(69, 67, data), vswitch.SpoofedIP},
		{"later fragment of DHCP from nobody", with(ip4(none4, bcast), func(p *switchtest.Packet) { p.FragOffset = 8 }).IP(17, udpOf(v4)), vswitch.SpoofedIP},
		{"DHCP offer", ip4(ip, peer).UDP(67, 68, data), vswitch.RogueRouter},
		{"DHCPv6 advertise", ip4(link, peer6).UDP(547, 546, data), vswitch.RogueRouter},
		{"DHCPv6 solicit", ip4(link, peer6).UDP(546, 547, data), ok},

		{"ARP request", arp(1, nil), ok},
		{"ARP reply", arp(2, nil), ok},
		{"ARP probe", arp(1, func(a *switchtest.ARP) { a.SenderIP = none4 }), ok},
		{"gratuitous ARP", arp(1, func(a *switchtest.ARP) { a.TargetIP, a.DstMAC = ip, vswitch.Broadcast }), ok},
		{"ARP for another's address", arp(2, func(a *switchtest.ARP) { a.SenderIP = peer }), vswitch.SpoofedNeighbour},
		{"ARP for the gateway's address", arp(2, func(a *switchtest.ARP) { a.SenderIP = netip.MustParseAddr("172.17.0.1") }), vswitch.SpoofedNeighbour},
		{"ARP request that claims the gateway", arp(1, func(a *switchtest.ARP) {
			a.SenderIP, a.DstMAC = netip.MustParseAddr("172.17.0.1"), vswitch.Broadcast
		}), vswitch.SpoofedNeighbour},
		{"ARP with another's hardware address", arp(2, func(a *switchtest.ARP) { a.SenderMAC = macB }), vswitch.SpoofedNeighbour},

		{"neighbour solicitation", nd(ip6, peer6, peer6).Solicit(), ok},
		{"duplicate address detection", nd(none6, allNodes, ip6).Solicit(), ok},
		{"solicitation from a foreign address", nd(peer6, ip6, ip6).Solicit(), vswitch.SpoofedIP},
		{"advertisement of its own", nd(ip6, peer6, ip6).Advertise(), ok},
		{"advertisement of its link-local address", nd(link, allNodes, link).Advertise(), ok},
		{"advertisement of another's", nd(ip6, allNodes, peer6).Advertise(), vswitch.SpoofedNeighbour},
		{"advertisement of the gateway's", nd(ip6, allNodes, netip.MustParseAddr("fd00:17::1")).Advertise(), vswitch.SpoofedNeighbour},
		{"advertisement from nobody", nd(none6, allNodes, peer6).Advertise(), vswitch.SpoofedNeighbour},
		{"advertisement without a target", ip4(ip6, peer6).ICMPv6(136, 0, make([]byte, 4)), vswitch.SpoofedNeighbour},
		{"advertisement behind an extension", ip4(ip6, peer6).IP(60, switchtest.Extension(58, switchtest.Transport(nd(ip6, peer6, peer6).Advertise()))), vswitch.SpoofedNeighbour},
		{"router solicitation", nd(link, netip.MustParseAddr("ff02::2"), ip6).RouterSolicit(), ok},
		{"router advertisement", ra, vswitch.RogueRouter},
		{"router advertisement behind an extension", ip4(link, allNodes).IP(0, switchtest.Extension(58, switchtest.Transport(ra))), vswitch.RogueRouter},
		{"router advertisement as a fragment", ip4(link, allNodes).IP(44, switchtest.Fragment(58, 0, true, 1, switchtest.Transport(ra))), vswitch.RogueRouter},
		{"ICMPv6 that begins in the second fragment", ip4(link, allNodes).IP(44, switchtest.Fragment(60, 0, true, 1, switchtest.Extension(58, nil))), vswitch.RogueRouter},
		{"ICMPv6 header cut by a fragment", ip4(link, allNodes).IP(44, switchtest.Fragment(58, 0, true, 1, switchtest.Transport(ra)[:4])), vswitch.RogueRouter},
		{"first fragment of a large ping", ip4(link, peer6).IP(44, switchtest.Fragment(58, 0, true, 1, make([]byte, 1448))), ok},
		{"redirect", nd(link, ip6, peer6).Redirect(), vswitch.RogueRouter},
		{"MLD from nobody", ip4(none6, netip.MustParseAddr("ff02::16")).ICMPv6(143, 0, make([]byte, 24)), ok},
		{"unspecified IPv6 otherwise", ip4(none6, peer6).UDP(1, 2, data), vswitch.SpoofedIP},
		{"echo from nobody", ip4(none6, peer6).Echo(1, 1, data), vswitch.SpoofedIP},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := switchtest.NewNet(t)
			n.Gateway.Decide = func(*vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActFlood} } // DHCP, which it leaves to others
			br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
			a := n.Host(br, "a", "172.17.0.2", "172.17.0.22", "fd00:17::2")
			b := n.Host(br, "b", "172.17.0.3", "fd00:17::3")
			for i := range uint64(2) { // the second may meet a cached decision
				a.Send(c.b)
				want := map[vswitch.Reason]uint64{}
				if c.want != ok {
					want[c.want] = i + 1
				}
				if got := a.Dropped(); len(got) != len(want) || got[c.want] != want[c.want] {
					t.Errorf("frame %d: dropped %v, want %v", i+1, got, want)
				}
				if got := len(b.Dev.Take()); c.want != ok && got != 0 {
					t.Errorf("frame %d: %d frames got through", i+1, got)
				} else if c.want == ok && got != 1 && c.name != "router solicitation" {
					t.Errorf("frame %d: %d frames arrived, not 1", i+1, got)
				}
			}

			free := switchtest.NewNet(t)
			br = free.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
			vm := free.Trusted(br, "vm", "172.17.0.2", "fd00:17::2")
			free.Trusted(br, "b", "172.17.0.3", "fd00:17::3")
			vm.Send(c.b)
			for _, r := range []vswitch.Reason{vswitch.SpoofedMAC, vswitch.SpoofedIP, vswitch.SpoofedNeighbour, vswitch.RogueRouter} {
				if vm.Stats.Drops[r] != 0 {
					t.Errorf("spoof: allow, and yet dropped under %s", r)
				}
			}
		})
	}
}

// TestGuardFollowsAddresses: a change of a port's addresses also ends what was
// decided under the old ones.
func TestGuardFollowsAddresses(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	frame := a.To(b).UDP(1, 2, data)
	a.Send(frame, frame)
	n.SetAddrs(a.Port, vswitch.PortConfig{Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.4")}})
	a.Send(frame, frame)
	if got := a.Dropped(); got[vswitch.SpoofedIP] != 2 || len(got) != 1 {
		t.Errorf("under the new address: %v", got)
	}
	n.SetAddrs(a.Port, vswitch.PortConfig{Addrs: []netip.Addr{netip.MustParseAddr("172.17.0.2")}})
	a.Send(frame, frame)
	if got := len(b.Dev.Take()); got != 4 {
		t.Errorf("%d frames arrived, not 4", got)
	}
}

// TestGatewayMACAsSource is refused to trusted ports, too.
func TestGatewayMACAsSource(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	vm, b := n.Trusted(br, "vm", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	frame := with(vm.To(b), func(p *switchtest.Packet) { p.SrcMAC = br.MAC }).UDP(1, 2, data)
	vm.Send(frame, frame)
	if got := vm.Dropped(); got[vswitch.SourceGateway] != 2 || len(got) != 1 || len(b.Dev.Take()) != 0 {
		t.Errorf("dropped %v", got)
	}
}
