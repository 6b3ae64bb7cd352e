package nat

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// hostWorld is a bridge with two containers and the host's own interface.
func hostWorld(t *testing.T, p Policy) (d *denials, host *switchtest.Host) {
	t.Helper()
	d = newDenials(t, true, p)
	br := d.a.Bridge()
	host = d.Attach(vswitch.PortConfig{Name: "host:lab0", Label: "host:lab0", Bridge: br, MAC: br.MAC, Host: true}, switchtest.NewDevice(t, switchtest.All), "172.17.0.1")
	return d, host
}

func flags(t *testing.T, frame []byte) string {
	t.Helper()
	tcp := switchtest.Layer[*layers.TCP](t, frame)
	s := ""
	for _, f := range []struct {
		is   bool
		name string
	}{{tcp.SYN, "S"}, {tcp.ACK, "A"}, {tcp.RST, "R"}, {tcp.FIN, "F"}} {
		if f.is {
			s += f.name
		}
	}
	return s
}

// What the host opens is answered, byte for byte and under the container's own
// addresses; a container opens nothing by it.
func TestHostInterface(t *testing.T) {
	d, host := hostWorld(t, Policy{HostAddress: true})
	a, back := host.To(d.a), d.a.To(host)
	same := func(what string, from, to *switchtest.Host, frame []byte) {
		t.Helper()
		to.Dev.Take()
		from.Send(frame)
		got := to.Dev.Take()
		if len(got) != 1 {
			t.Fatalf("%s: %d frames arrive, dropped %v %v", what, len(got), from.Dropped(), to.Dropped())
		}
		if string(got[0][vswitch.VnetLen:]) != string(frame[vswitch.VnetLen:]) {
			t.Errorf("%s: sent %x, got %x", what, frame, got[0])
		}
	}
	refused := func(what string, frame []byte) [][]byte {
		t.Helper()
		host.Dev.Take()
		d.a.Dev.Take()
		d.a.Send(frame)
		if got := host.Dev.Take(); len(got) != 0 {
			t.Errorf("%s: %d frames reach the host", what, len(got))
		}
		return d.a.Dev.Take()
	}
	// Before the host has opened anything.
	if got := refused("SYN", back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, SYN: true}, nil)); len(got) != 1 || flags(t, got[0]) != "AR" {
		t.Errorf("a container's SYN is answered %v", got)
	}
	refused("stray ACK", back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, ACK: true}, nil))
	refused("datagram", back.UDP(53, 40000, []byte("x")))
	refused("echo reply", back.EchoReply(7, 1, nil))
	if got := refused("echo", back.Echo(7, 1, []byte("gateway"))); len(got) != 1 {
		t.Errorf("the gateway answers echo %d times", len(got))
	}

	same("SYN", host, d.a, a.TCP(layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Seq: 7}, nil))
	same("SYN, ACK", d.a, host, back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, SYN: true, ACK: true, Ack: 8}, nil))
	same("data", host, d.a, a.TCP(layers.TCP{SrcPort: 40000, DstPort: 80, ACK: true, Seq: 8, Ack: 1}, []byte("question")))
	same("answer", d.a, host, back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, ACK: true, Seq: 1, Ack: 16}, []byte("answer")))
	same("more", d.a, host, back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, ACK: true, Seq: 7, Ack: 16}, []byte("answer")))
	if got := refused("SYN in an open flow", back.TCP(layers.TCP{SrcPort: 80, DstPort: 40000, SYN: true}, nil)); len(got) != 1 || flags(t, got[0]) != "AR" {
		t.Errorf("a container's SYN in the host's flow is answered %v", got)
	}
	refused("another port", back.TCP(layers.TCP{SrcPort: 81, DstPort: 40000, ACK: true}, nil))
	same("datagram", host, d.a, a.UDP(40001, 53, []byte("question")))
	same("its answer", d.a, host, back.UDP(53, 40001, []byte("answer")))
	refused("a datagram to another port", back.UDP(53, 40002, []byte("x")))
	same("echo", host, d.a, a.Echo(9, 1, []byte("host")))
	same("its reply", d.a, host, back.EchoReply(9, 1, []byte("host")))
	if got := refused("a container's echo with that identifier", back.Echo(9, 1, []byte("gateway"))); len(got) != 1 {
		t.Errorf("the gateway answers echo %d times", len(got))
	}
	// An error of the container's about the host's datagram.
	sent := a.UDP(40003, 99, []byte("nobody"))
	same("datagram to a closed port", host, d.a, sent)
	quote := append(make([]byte, 4), sent[vswitch.VnetLen+vswitch.EthLen:]...)
	same("port unreachable", d.a, host, back.IP(layers.IPProtocolICMPv4, icmpMessage(3, 3, quote)))
	// The host's numbers are the host's alone: another container has no part in its flows.
	host.Dev.Take()
	d.b.Send(d.b.To(host).UDP(53, 40001, []byte("from b")))
	if got := host.Dev.Take(); len(got) != 0 {
		t.Error("another container answers the host's datagram")
	}
	if dev := d.RemovePort(host.Port); dev == nil {
		t.Fatal("the interface was gone")
	}
	refused("when it is gone", back.UDP(53, 40001, []byte("answer")))
}

func icmpMessage(typ, code byte, rest []byte) []byte {
	b := append([]byte{typ, code, 0, 0}, rest...)
	put16(b[2:], vswitch.Checksum(b, 0))
	return b
}

// Rules hold for what the host opens, from host and as what comes in; icc does not.
func TestHostInterfaceRules(t *testing.T) {
	fromHost := Match{Kind: MatchHost}
	for what, c := range map[string]struct {
		rules  []Rule
		passes bool
	}{
		"none":        {nil, true},
		"in":          {[]Rule{{ID: 100, Direction: Inward, To: fromA, Action: RuleDrop}}, false},
		"from host":   {[]Rule{{ID: 100, From: fromHost, Action: RuleReject}}, false},
		"another's":   {[]Rule{{ID: 100, From: fromHost, To: toB, Action: RuleReject}}, true},
		"local":       {[]Rule{{ID: 100, Direction: Between, Action: RuleDrop}}, true},
		"from inside": {[]Rule{{ID: 100, From: Match{Kind: MatchNetwork, Name: "one"}, Action: RuleDrop}}, true},
	} {
		for _, icc := range []bool{true, false} {
			d := newDenials(t, icc, Policy{Rules: c.rules, NoForward: true})
			br := d.a.Bridge()
			host := d.Attach(vswitch.PortConfig{Name: "host:lab0", Label: "host:lab0", Bridge: br, MAC: br.MAC, Host: true}, switchtest.NewDevice(t, switchtest.All), "172.17.0.1")
			if got := gets(host, d.a, host.To(d.a).TCP(layers.TCP{SrcPort: 1, DstPort: 80, SYN: true}, nil)); (got == 1) != c.passes {
				t.Errorf("%s, icc %v: %d frames arrive", what, icc, got)
			}
			answer := gets(d.a, host, d.a.To(host).TCP(layers.TCP{SrcPort: 80, DstPort: 1, SYN: true, ACK: true}, nil))
			if (answer == 1) != c.passes {
				t.Errorf("%s, icc %v: %d answers arrive", what, icc, answer)
			}
			if !c.passes {
				continue
			}
			d.nat.SetPolicy(Policy{Rules: []Rule{{ID: 100, From: fromHost, Action: RuleDrop}}})
			if got := gets(d.a, host, d.a.To(host).TCP(layers.TCP{SrcPort: 80, DstPort: 1, ACK: true}, []byte("late"))); got != 0 {
				t.Errorf("%s, icc %v: an answer passes a rule that ended its flow", what, icc)
			}
		}
	}
}

// Neighbours find each other; what is for several never reaches the host.
func TestHostInterfaceNeighbours(t *testing.T) {
	d, host := hostWorld(t, Policy{})
	gw, a := netip.MustParseAddr("172.17.0.1"), d.a.Addrs[0]
	ask := switchtest.ARP{SrcMAC: host.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: host.MAC, SenderIP: gw, TargetIP: a}
	if got := gets(host, d.a, ask.Frame()); got != 1 {
		t.Errorf("the host's request reaches the container %d times", got)
	}
	answer := switchtest.ARP{SrcMAC: d.a.MAC, DstMAC: host.MAC, Op: layers.ARPReply, SenderMAC: d.a.MAC, SenderIP: a, TargetMAC: host.MAC, TargetIP: gw}
	if got := gets(d.a, host, answer.Frame()); got != 1 {
		t.Errorf("the answer reaches the host %d times", got)
	}
	answer.SenderIP = d.b.Addrs[0]
	if got := gets(d.a, host, answer.Frame()); got != 0 {
		t.Error("an answer for another's address reaches the host")
	}
	theirs := switchtest.ARP{SrcMAC: d.a.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: d.a.MAC, SenderIP: a, TargetIP: gw}
	host.Dev.Take()
	if got := gets(d.a, d.a, theirs.Frame()); got != 1 {
		t.Errorf("the container's request is answered %d times", got)
	}
	d.a.Send(d.a.ToGroup("224.0.0.251").UDP(5353, 5353, []byte("mdns")))
	d.a.Send(switchtest.Packet{SrcMAC: d.a.MAC, DstMAC: vswitch.Broadcast, Src: a, Dst: netip.MustParseAddr("172.17.255.255")}.UDP(1, 2, nil))
	if got := host.Dev.Take(); len(got) != 0 {
		t.Errorf("%d frames for several reach the host", len(got))
	}
	// Its sources are the gateway's, and groups stay.
	for what, frame := range map[string][]byte{
		"forwarded": switchtest.Packet{SrcMAC: host.MAC, DstMAC: d.a.MAC, Src: netip.MustParseAddr("192.0.2.1"), Dst: a}.UDP(1, 2, nil),
		"neighbour": switchtest.Packet{SrcMAC: d.b.MAC, DstMAC: d.a.MAC, Src: gw, Dst: a}.UDP(1, 2, nil),
		"group":     host.ToGroup("224.0.0.251").UDP(5353, 5353, nil),
	} {
		if got := gets(host, d.a, frame); got != 0 {
			t.Errorf("%s: reaches the container", what)
		}
	}
	if got := host.Dropped(); got[vswitch.SpoofedIP] != 1 || got[vswitch.SpoofedMAC] != 1 || got[vswitch.MulticastRouted] != 1 {
		t.Errorf("dropped %v", got)
	}
	br := d.a.Bridge()
	if _, err := d.AddPort(vswitch.PortConfig{Name: "second", Bridge: br, MAC: br.MAC, Host: true, Device: switchtest.NewDevice(t, 0)}); err == nil {
		t.Error("a bridge takes two interfaces of the host")
	}
}
