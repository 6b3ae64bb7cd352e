package nat

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// denials is a bridge with two hosts under a policy, and another with one.
type denials struct {
	*switchtest.Net
	nat     *NAT
	a, b, c *switchtest.Host
}

func newDenials(t *testing.T, icc bool, p Policy) *denials {
	t.Helper()
	d := &denials{Net: switchtest.NewNet(t)}
	var err error
	if d.nat, err = New(d.Switch, Config{Logf: t.Logf}); err != nil {
		t.Fatal(err)
	}
	br := d.AddBridge(vswitch.BridgeConfig{Name: "one", MTU: 1500, Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"), NoICC: !icc})
	attach := func(b *vswitch.Bridge, name, addr string) *switchtest.Host {
		return d.Attach(vswitch.PortConfig{Name: name + ":eth0", Label: name, Bridge: b}, switchtest.NewDevice(t, switchtest.All), addr)
	}
	d.a, d.b, d.c = attach(br, "a", "172.17.0.2"), attach(br, "b", "172.17.0.3"), attach(d.Bridge("two", "172.18.0.0/16"), "c", "172.18.0.2")
	d.nat.SetPolicy(p)
	return d
}

// gets sends a frame and says how many reach h.
func gets(from, h *switchtest.Host, frame []byte) int {
	h.Dev.Take()
	from.Send(frame)
	return len(h.Dev.Take())
}

var (
	fromA  = Match{Kind: MatchContainer, Name: "a"}
	toB    = Match{Kind: MatchContainer, Name: "b"}
	open80 = Policy{HostAddress: true, Rules: []Rule{{ID: 100, From: fromA, To: toB, Proto: vswitch.ProtoTCP, Ports: []PortRange{{80, 80}}, Action: RuleAccept}, {ID: 101, Action: RuleDrop}}}
	linkAB = Policy{HostAddress: true, Links: []Link{{"a", "b"}}, Open: map[string][]OpenPort{"b": {{vswitch.ProtoTCP, 80}, {vswitch.ProtoUDP, 2049}}}}
)

func part(p switchtest.Packet, id uint16, off uint16, more bool, proto uint8, b []byte) []byte {
	p.ID, p.FragOffset, p.MoreFragments = id, off, more
	return p.IP(layers.IPProtocol(proto), b)
}

// Fragments that hide what they are do no harm, and get nowhere.
func TestFragmentsThatHide(t *testing.T) {
	reject := Policy{HostAddress: true, Rules: []Rule{{ID: 100, From: fromA, Action: RuleReject}}}
	for _, p := range []Policy{reject, open80, linkAB} {
		for _, proto := range []uint8{vswitch.ProtoICMP, vswitch.ProtoTCP, vswitch.ProtoUDP} {
			for _, size := range []int{0, 8, 16} {
				d := newDenials(t, false, p)
				if n := gets(d.a, d.b, part(d.a.To(d.b), 1, 0, true, proto, make([]byte, size))); n != 0 {
					t.Errorf("protocol %d, %d bytes: %d reach b", proto, size, n)
				}
			}
		}
	}
	// What a whole segment may not, two halves of its header may not.
	d := newDenials(t, true, Policy{HostAddress: true, Rules: []Rule{{ID: 100, From: fromA, Proto: vswitch.ProtoTCP, Ports: []PortRange{{22, 22}}, Action: RuleDrop}}})
	whole := switchtest.Transport(d.a.To(d.b).TCP(layers.TCP{SrcPort: 1000, DstPort: 22, SYN: true}, nil))
	if n := gets(d.a, d.b, part(d.a.To(d.b), 7, 0, true, vswitch.ProtoTCP, whole[:8])); n != 0 {
		t.Error("half a header passes")
	}
}

// Who may only answer opens nothing by an answer that nobody waits for.
func TestAnswersOpenNothing(t *testing.T) {
	for name, p := range map[string]Policy{"rules": open80, "a link": linkAB} {
		d := newDenials(t, false, p)
		back := d.b.To(d.a)
		if n := gets(d.b, d.a, back.TCP(layers.TCP{SrcPort: 80, DstPort: 22, SYN: true}, nil)); n != 0 {
			t.Fatalf("%s: a SYN passes", name)
		}
		gets(d.b, d.a, back.TCP(layers.TCP{SrcPort: 80, DstPort: 22, ACK: true}, nil))
		if n := gets(d.b, d.a, back.TCP(layers.TCP{SrcPort: 80, DstPort: 22, SYN: true}, nil)); n != 0 {
			t.Errorf("%s: a SYN passes behind a stray acknowledgement", name)
		}
	}
	d := newDenials(t, true, Policy{HostAddress: true, Routes: []Route{{ID: 100, From: "one", To: "two", Proto: vswitch.ProtoTCP, Ports: []PortRange{{80, 80}}}}})
	back := d.c.Out("172.17.0.2")
	gets(d.c, d.a, back.TCP(layers.TCP{SrcPort: 80, DstPort: 22, ACK: true}, nil))
	if n := gets(d.c, d.a, back.TCP(layers.TCP{SrcPort: 80, DstPort: 22, SYN: true}, nil)); n != 0 {
		t.Error("between networks a SYN passes behind a stray acknowledgement")
	}
}

// Ports whose first byte is an ICMP type are ports.
func TestPortsAreNoEcho(t *testing.T) {
	d := newDenials(t, false, linkAB)
	for _, port := range []uint16{8, 123, 2049, 2181} {
		if n := gets(d.a, d.b, d.a.To(d.b).UDP(port, 2049, nil)); n != 1 {
			t.Errorf("from port %d: %d reach b", port, n)
		}
		if n := gets(d.b, d.a, d.b.To(d.a).UDP(2049, port, nil)); n != 1 {
			t.Errorf("the answer to port %d: %d reach a", port, n)
		}
	}
}

// A packet for one address in a frame for all is no way around a rule; what is
// for a group is judged for each who would get it.
func TestGroupsAreJudged(t *testing.T) {
	d := newDenials(t, true, Policy{HostAddress: true, Rules: []Rule{{ID: 100, From: fromA, To: toB, Action: RuleDrop}}})
	third := d.Attach(vswitch.PortConfig{Name: "third:eth0", Label: "third", Bridge: d.a.Bridge()}, switchtest.NewDevice(t, switchtest.All), "172.17.0.4")
	one := d.a.To(d.b)
	one.DstMAC = vswitch.Broadcast
	if n := gets(d.a, d.b, one.UDP(1, 2, nil)); n != 0 || d.a.Dropped()[vswitch.UnicastInGroup] != 1 {
		t.Errorf("%d reach b, dropped %v", n, d.a.Dropped())
	}
	for _, to := range []string{"224.0.0.251", "255.255.255.255", "172.17.255.255"} {
		all := switchtest.Packet{SrcMAC: d.a.MAC, DstMAC: vswitch.Broadcast, Src: d.a.Addrs[0], Dst: netip.MustParseAddr(to)}
		third.Dev.Take()
		if n := gets(d.a, d.b, all.UDP(5353, 5353, nil)); n != 0 {
			t.Errorf("%s: %d reach b", to, n)
		}
		if n := len(third.Dev.Take()); n != 1 {
			t.Errorf("%s: %d reach the third", to, n)
		}
	}
}

// An error passes to whom it is about, and to nobody else.
func TestErrorsToOthers(t *testing.T) {
	d := newDenials(t, false, linkAB)
	third := d.Attach(vswitch.PortConfig{Name: "third:eth0", Label: "third", Bridge: d.a.Bridge()}, switchtest.NewDevice(t, switchtest.All), "172.17.0.4")
	asked := d.a.To(d.b).UDP(1000, 2049, []byte("hello"))
	if n := gets(d.a, d.b, asked); n != 1 {
		t.Fatalf("%d reach b", n)
	}
	e := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, asked[vswitch.VnetLen+vswitch.EthLen:]...)
	s := vswitch.Checksum(e, 0)
	e[2], e[3] = byte(s>>8), byte(s)
	if n := gets(d.b, third, d.b.To(third).IP(layers.IPProtocolICMPv4, e)); n != 0 {
		t.Error("an error reaches a third")
	}
	if n := gets(d.b, d.a, d.b.To(d.a).IP(layers.IPProtocolICMPv4, e)); n != 1 {
		t.Error("an error does not reach whom it is about")
	}
	d.nat.SetPolicy(Policy{Links: []Link{{"x", "y"}}})
	if n := gets(d.b, d.a, d.b.To(d.a).IP(layers.IPProtocolICMPv4, e)); n != 0 {
		t.Error("an error passes about a flow that may not be any more")
	}
}

// A rule on link-local addresses holds, and what it means is explained.
func TestLinkLocalRules(t *testing.T) {
	d := newDenials(t, true, Policy{HostAddress: true, Rules: []Rule{{ID: 100, To: Match{Kind: MatchPrefix, Prefix: netip.MustParsePrefix("fe80::/10")}, Action: RuleDrop}}})
	p := switchtest.Packet{SrcMAC: d.a.MAC, DstMAC: d.b.MAC, Src: vswitch.LinkLocal(d.a.MAC), Dst: vswitch.LinkLocal(d.b.MAC)}
	if n := gets(d.a, d.b, p.UDP(1, 2, nil)); n != 0 {
		t.Error("it passes")
	}
	if x := d.nat.Explain(d.a.Port, vswitch.ProtoUDP, netip.AddrPortFrom(p.Dst, 2)); x.Outcome != Dropped || x.Rule != 100 {
		t.Errorf("explained as %+v", x)
	}
}

// Packets stay with the rule under which they went.
func TestCountersStay(t *testing.T) {
	all := func(ids ...uint32) (p Policy) {
		for _, id := range ids {
			p.Rules = append(p.Rules, Rule{ID: id, Action: RuleAccept})
		}
		return p
	}
	d := newDenials(t, true, all(100))
	for range 10 {
		gets(d.a, d.b, d.a.To(d.b).UDP(1, 2, nil))
	}
	d.nat.SetPolicy(all(101, 100))
	gets(d.a, d.b, d.a.To(d.b).UDP(1, 2, nil))
	if h := d.nat.Hits(); h[100].Packets != 10 || h[101].Packets != 1 {
		t.Errorf("%+v", h)
	}
}

// Addresses that stand for a private one are private.
func TestPrivate(t *testing.T) {
	for a, want := range map[string]bool{
		"8.8.8.8": false, "10.0.0.1": true, "172.31.255.255": true, "172.32.0.0": false, "100.64.0.1": true, "169.254.169.254": true, "127.0.0.1": true, "224.0.0.1": true,
		"2606:4700::1111": false, "fd00::1": true, "fe80::1": true, "::1": true, "::10.0.0.1": true, "64:ff9b::10.0.0.1": true, "64:ff9b::8.8.8.8": false,
		"2002:a00:1::1": true, "2002:808:808::1": false, "2001::1": true, "::ffff:8.8.8.8": true,
	} {
		if got := private(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %t", a, got)
		}
	}
}
