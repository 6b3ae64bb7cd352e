package nat

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// asked is a service that notes who was asked.
type asked struct{ at []string }

func (a *asked) Datagram(q Query, _ []byte) bool {
	a.at = append(a.at, q.Gateway.String())
	return true
}
func (a *asked) Stream(_ Query, ready func(int)) { ready(-1) }

// slirpWorld is a bridge as slirp4netns has it, with a guest that may be anybody.
func slirpWorld(t testing.TB, s vswitch.Service) (n *switchtest.Net, guest *switchtest.Host, dns *asked) {
	t.Helper()
	n, dns = switchtest.NewNet(t), new(asked)
	if _, err := New(n.Switch, Config{Logf: t.Logf, Local: dns}); err != nil {
		t.Fatal(err)
	}
	br := n.AddBridge(vswitch.BridgeConfig{Name: "slirp", MTU: 1500, Subnet: netip.MustParsePrefix("10.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.2.2"), Service: s})
	return n, n.Trusted(br, "guest", "10.0.2.100"), dns
}

var slirpService = vswitch.Service{Resolver: netip.MustParseAddr("10.0.2.3"), First: netip.MustParseAddr("10.0.2.15"), Last: netip.MustParseAddr("10.0.2.17")}

// The resolver's address is for DNS and echo, the gateway's is not for DNS.
func TestResolverApart(t *testing.T) {
	_, guest, dns := slirpWorld(t, slirpService)
	guest.Send(guest.Out("10.0.2.3").UDP(4711, 53, []byte("question")))
	guest.Send(guest.Out("10.0.2.2").UDP(4711, 53, []byte("question")))
	if len(dns.at) != 1 || dns.at[0] != "10.0.2.3:53" {
		t.Errorf("asked at %v", dns.at)
	}
	guest.Dev.Take()
	guest.Send(guest.Out("10.0.2.3").UDP(4711, 54, []byte("no question")))
	got := guest.Dev.Take()
	if len(got) != 1 {
		t.Fatalf("port 54 of the resolver: %d answers", len(got))
	}
	if icmp := switchtest.Layer[*layers.ICMPv4](t, got[0]); icmp.TypeCode != layers.CreateICMPv4TypeCode(3, 3) {
		t.Errorf("port 54 of the resolver: %v", icmp.TypeCode)
	}
	_, guest, dns = slirpWorld(t, vswitch.Service{Resolver: slirpService.Resolver, NoDNS: true})
	guest.Send(guest.Out("10.0.2.3").UDP(4711, 53, []byte("question")))
	if got := guest.Dev.Take(); len(dns.at) != 0 || len(got) != 1 {
		t.Errorf("without DNS: asked at %v, %d answers", dns.at, len(got))
	}
}

// Guests that nobody knows are leased addresses, each the same one again.
func TestLeases(t *testing.T) {
	n, guest, _ := slirpWorld(t, slirpService)
	ask := func(mac byte, mods ...dhcpv4.Modifier) string {
		t.Helper()
		hw := net.HardwareAddr{2, 7, 0, 0, 0, mac}
		q, err := dhcpv4.NewDiscovery(hw, mods...)
		if err != nil {
			t.Fatal(err)
		}
		p := switchtest.Packet{SrcMAC: vswitch.MAC(hw), DstMAC: vswitch.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.MustParseAddr("255.255.255.255")}
		guest.Send(p.UDP(68, 67, q.ToBytes()))
		got := guest.Dev.Take()
		if len(got) == 0 {
			return "silence"
		}
		eth := gopacket.NewPacket(got[0][vswitch.VnetLen:], layers.LayerTypeEthernet, gopacket.Default).LinkLayer().(*layers.Ethernet)
		b, src, _ := payloadOf(t, got[0])
		r, err := dhcpv4.FromBytes(b)
		if err != nil || src != "10.0.2.2" {
			t.Fatalf("from %s: %v", src, err)
		}
		if r.MessageType() == dhcpv4.MessageTypeNak {
			return "no"
		}
		if !bytes.Equal(eth.DstMAC, hw) || r.HostName() != "" || r.DNS()[0].String() != "10.0.2.3" || r.Router()[0].String() != "10.0.2.2" {
			t.Errorf("to %s: %v", eth.DstMAC, r)
		}
		return r.YourIPAddr.String()
	}
	wants := func(a string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
	}
	request := dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)
	for i, c := range []struct {
		mac  byte
		mods []dhcpv4.Modifier
		want string
	}{
		{1, nil, "10.0.2.15"},
		{1, []dhcpv4.Modifier{request, wants("10.0.2.15")}, "10.0.2.15"},
		{1, []dhcpv4.Modifier{request, wants("10.0.2.16")}, "no"},
		{2, []dhcpv4.Modifier{wants("10.0.2.17")}, "10.0.2.17"},
		{3, []dhcpv4.Modifier{wants("10.0.2.15")}, "10.0.2.16"},
		{4, nil, "silence"}, // all are given
		{2, nil, "10.0.2.17"},
	} {
		if got := ask(c.mac, c.mods...); got != c.want {
			t.Errorf("%d: %d is told %s, want %s", i, c.mac, got, c.want)
		}
	}
	n.Clock.Advance(dhcpLease / 2)
	ask(2) // and keeps it
	n.Clock.Advance(dhcpLease/2 + time.Second)
	if got := ask(4); got != "10.0.2.15" {
		t.Errorf("when leases are over: %s", got)
	}
	if got := ask(1); got != "10.0.2.16" {
		t.Errorf("who had it before: %s", got)
	}
	if got := ask(2); got != "10.0.2.17" {
		t.Errorf("who has kept it: %s", got)
	}
}

// What leaves has the address that it is told to have.
func TestSourceAddress(t *testing.T) {
	l := newLab(t, Config{Source4: netip.MustParseAddr(outside4b), Source6: netip.MustParseAddr(outside6b)})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	for _, c := range []struct{ to, want string }{{outside4, outside4b}, {outside6, outside6b}} {
		ln := l.listenOutside("tcp", net.JoinHostPort(c.to, "0"), nil)
		defer ln.Close()
		conn, err := b.dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr().String(); got != c.want {
			t.Errorf("tcp to %s comes from %s", c.to, got)
		}
		conn.Close()
		peer.Close()
		pc := l.packetsOutside(net.JoinHostPort(c.to, "0"))
		defer pc.Close()
		u, err := b.dial("udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		fmt.Fprint(u, "hello")
		buf := make([]byte, 64)
		_, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil || from.Addr().Unmap().String() != c.want {
			t.Errorf("udp to %s comes from %s (%v)", c.to, from, err)
		}
		// An echo: the socket has the address.
		var bound, seen string // of the loop's thread, and of ours
		l.do(func() {
			l.out.onSocket = func(fd, typ int) {
				if typ == unix.SOCK_DGRAM {
					go func() {
						// It is bound before its packet leaves, and stays open while its flow lives.
						l.do(func() {
							sa, err := unix.Getsockname(fd)
							if err != nil {
								return
							}
							switch a := sa.(type) {
							case *unix.SockaddrInet4:
								bound = netip.AddrFrom4(a.Addr).String()
							case *unix.SockaddrInet6:
								bound = netip.AddrFrom16(a.Addr).String()
							}
						})
					}()
				}
			}
		})
		p := b.pinger(netip.MustParseAddr(c.to).Is6())
		if _, err := p.ping(c.to, 1, []byte("x")); err != nil {
			t.Fatal(err)
		}
		l.eventually("the ping socket is seen", func() bool { seen = bound; return seen != "" })
		if seen != c.want {
			t.Errorf("ping to %s leaves from %s", c.to, seen)
		}
	}
}
