package nat

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// dhcpWorld is a bridge with two hosts in memory, the second trusted.
func dhcpWorld(t testing.TB, c vswitch.BridgeConfig) (n *switchtest.Net, guest, server *switchtest.Host) {
	t.Helper()
	n = switchtest.NewNet(t)
	if _, err := New(n.Switch, Config{Logf: t.Logf}); err != nil {
		t.Fatal(err)
	}
	c.Name, c.MTU = "bridge", 1400
	c.Subnet, c.Gateway = netip.MustParsePrefix("172.17.0.0/16"), netip.MustParseAddr("172.17.0.1")
	c.Subnet6, c.Gateway6 = netip.MustParsePrefix("fd00:17::/64"), netip.MustParseAddr("fd00:17::1")
	br := n.AddBridge(c)
	guest = n.Host(br, "guest", "172.17.0.9", "fd00:17::9")
	guest.Label = "guest"
	return n, guest, n.Trusted(br, "server", "172.17.0.2")
}

// payloadOf is the UDP payload of a frame, with the addresses it goes between.
func payloadOf(t *testing.T, frame []byte) (payload []byte, src, dst string) {
	t.Helper()
	p := gopacket.NewPacket(frame[vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default)
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok {
		t.Fatalf("no datagram: %v", p)
	}
	return udp.Payload, p.NetworkLayer().NetworkFlow().Src().String(), p.NetworkLayer().NetworkFlow().Dst().String()
}

func ask4(t *testing.T, h *switchtest.Host, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	q, err := dhcpv4.NewDiscovery(net.HardwareAddr(h.MAC[:]), mods...)
	if err != nil {
		t.Fatal(err)
	}
	p := switchtest.Packet{SrcMAC: h.MAC, DstMAC: vswitch.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.MustParseAddr("255.255.255.255")}
	h.Send(p.UDP(68, 67, q.ToBytes()))
	got := h.Dev.Take()
	if len(got) == 0 {
		return nil
	}
	b, src, _ := payloadOf(t, got[0])
	r, err := dhcpv4.FromBytes(b)
	if err != nil || src != "172.17.0.1" || r.TransactionID != q.TransactionID {
		t.Fatalf("from %s: %v, %v", src, r, err)
	}
	return r
}

// A guest is offered the address of its port, and what belongs to it; another
// that it asks for is denied.
func TestDHCPv4(t *testing.T) {
	_, guest, server := dhcpWorld(t, vswitch.BridgeConfig{})
	r := ask4(t, guest)
	if r == nil || r.MessageType() != dhcpv4.MessageTypeOffer || r.YourIPAddr.String() != "172.17.0.9" || r.Router()[0].String() != "172.17.0.1" ||
		r.DNS()[0].String() != "172.17.0.1" || r.HostName() != "guest" || r.SubnetMask().String() != "ffff0000" ||
		!bytes.Equal(r.Options.Get(dhcpv4.OptionInterfaceMTU), []byte{1400 >> 8, 1400 & 255}) {
		t.Fatalf("offered: %v", r)
	}
	own, other := net.IPv4(172, 17, 0, 9), net.IPv4(172, 17, 0, 3)
	for _, c := range []struct {
		name string
		mods []dhcpv4.Modifier
		want dhcpv4.MessageType
	}{
		{"its own", []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(own))}, dhcpv4.MessageTypeAck},
		{"another", []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(other))}, dhcpv4.MessageTypeNak},
		{"of another server", []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(other))}, dhcpv4.MessageTypeNone},
		{"released", []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)}, dhcpv4.MessageTypeNone},
		{"with a short address", []dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{2})}, dhcpv4.MessageTypeNone},
		{"for somebody else", []dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1})}, dhcpv4.MessageTypeNone},
	} {
		got := dhcpv4.MessageTypeNone
		if r := ask4(t, guest, c.mods...); r != nil {
			got = r.MessageType()
		}
		if got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := server.Dev.Take(); len(got) != 0 {
		t.Errorf("neighbours were asked %d times", len(got))
	}
}

// Where the gateway leaves DHCP to others, they are asked; on an internal
// network there is no router.
func TestDHCPOfOthers(t *testing.T) {
	_, guest, server := dhcpWorld(t, vswitch.BridgeConfig{NoDHCP: true})
	if r := ask4(t, guest); r != nil {
		t.Errorf("answered: %v", r)
	}
	if got := server.Dev.Take(); len(got) != 1 {
		t.Errorf("the server was asked %d times", len(got))
	}
	_, guest, _ = dhcpWorld(t, vswitch.BridgeConfig{Internal: true})
	if r := ask4(t, guest); r == nil || r.Router() != nil {
		t.Errorf("on an internal network: %v", r)
	}
}

func TestDHCPv6(t *testing.T) {
	_, guest, _ := dhcpWorld(t, vswitch.BridgeConfig{})
	q, err := dhcpv6.NewSolicit(net.HardwareAddr(guest.MAC[:]))
	if err != nil {
		t.Fatal(err)
	}
	p := switchtest.Packet{SrcMAC: guest.MAC, DstMAC: vswitch.MAC{0x33, 0x33, 0, 1, 0, 2}, Src: vswitch.LinkLocal(guest.MAC), Dst: netip.MustParseAddr("ff02::1:2")}
	ask := func(q *dhcpv6.Message) *dhcpv6.Message {
		t.Helper()
		guest.Send(p.UDP(546, 547, q.ToBytes()))
		got := guest.Dev.Take()
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		b, _, dst := payloadOf(t, got[0])
		r, err := dhcpv6.MessageFromBytes(b)
		if err != nil || dst != p.Src.String() {
			t.Fatalf("to %s: %v", dst, err)
		}
		if a := r.Options.OneIANA().Options.OneAddress(); a == nil || a.IPv6Addr.String() != "fd00:17::9" || r.Options.DNS()[0].String() != "fd00:17::1" {
			t.Errorf("%v", r)
		}
		return r
	}
	offer := ask(q)
	if offer.MessageType != dhcpv6.MessageTypeAdvertise {
		t.Errorf("%v", offer.MessageType)
	}
	request, err := dhcpv6.NewRequestFromAdvertise(offer)
	if err != nil {
		t.Fatal(err)
	}
	if r := ask(request); r.MessageType != dhcpv6.MessageTypeReply {
		t.Errorf("%v", r.MessageType)
	}
}

// FuzzDHCP: whatever a client sends is answered or not, and that is all.
func FuzzDHCP(f *testing.F) {
	q, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0x42, 172, 17, 0, 9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q.ToBytes(), false)
	s, err := dhcpv6.NewSolicit(net.HardwareAddr{2, 0x42, 172, 17, 0, 9})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.ToBytes(), true)
	_, guest, _ := dhcpWorld(f, vswitch.BridgeConfig{})
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if len(b) > 1400 {
			return
		}
		p := switchtest.Packet{SrcMAC: guest.MAC, DstMAC: vswitch.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.MustParseAddr("255.255.255.255")}
		src, dst := layers.UDPPort(68), layers.UDPPort(67)
		if v6 {
			p = switchtest.Packet{SrcMAC: guest.MAC, DstMAC: vswitch.MAC{0x33, 0x33, 0, 1, 0, 2}, Src: vswitch.LinkLocal(guest.MAC), Dst: netip.MustParseAddr("ff02::1:2")}
			src, dst = 546, 547
		}
		guest.Send(p.UDP(uint16(src), uint16(dst), b))
		if got := guest.Dev.Take(); len(got) > 1 {
			t.Errorf("%d answers", len(got))
		}
	})
}
