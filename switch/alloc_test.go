package vswitch_test

import (
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// TestNoAllocation: whatever becomes of a frame, nothing is allocated for it,
// once the port's cache is there.
func TestNoAllocation(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, b := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3")
	plain, vm := n.Plain(br, "plain", "172.17.0.4"), n.Trusted(br, "vm", "172.17.0.9")
	for _, h := range n.Hosts {
		h.Dev.Discard()
	}
	n.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action { return vswitch.Action{Kind: vswitch.ActConsumed} }
	all := with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast })
	group, groupMAC := switchtest.SolicitedNode(br.Gateway6)
	b.Send(v2(b, 0x16, "239.1.2.3"))
	for _, c := range []struct {
		name   string
		from   *switchtest.Host
		frame  []byte
		before func() // each time
	}{
		{"hit", a, v4.TCP(ack, data), nil},
		{"hit of IPv6", a, v6.TCP(ack, data), nil},
		{"hit with a super-frame", a, switchtest.Super(v4.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448), nil},
		{"hit of a drop", a, with(v4, func(p *switchtest.Packet) { p.Src = p.Dst }).UDP(1, 2, data), nil},
		{"upcall", a, v4.UDP(1, 2, data), n.PolicyChanged},
		{"upcall of a SYN", a, v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil), nil},
		{"broadcast", a, all.UDP(1, 2, data), nil},
		{"broadcast with an open checksum", a, switchtest.Partial(all.UDP(1, 2, data)), nil},
		{"unknown unicast", a, with(v4, func(p *switchtest.Packet) { p.DstMAC[5] = 99 }).UDP(1, 2, data), nil},
		{"segments in software", a, switchtest.Super(a.To(plain).TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448), nil},
		{"gateway", a, a.Out("10.0.0.1").UDP(1, 2, data), nil},
		{"ARP request for the gateway", a, switchtest.ARP{SrcMAC: macA, DstMAC: vswitch.Broadcast, Op: 1, SenderMAC: macA, SenderIP: v4.Src, TargetIP: br.Gateway}.Frame(), nil},
		{"solicitation of the gateway", a, switchtest.Neighbour{Packet: with(v6, func(p *switchtest.Packet) { p.Dst, p.DstMAC = group, groupMAC }), Target: br.Gateway6}.Solicit(), nil},
		{"learned source", vm, with(vm.To(b), func(p *switchtest.Packet) { p.SrcMAC = vmMAC(1) }).UDP(1, 2, data), n.PolicyChanged},
		{"datagram for a group", a, a.ToGroup("239.1.2.3").UDP(1, 2, data), nil},
		{"repeated report", b, v2(b, 0x16, "239.1.2.3"), nil},
		{"joining and leaving", b, v3(b, record(4, "239.1.2.4"), record(3, "239.1.2.4")), nil},
		{"bad", a, v4.UDP(1, 2, data)[:40], nil},
	} {
		turn := func() {
			if c.before != nil {
				c.before()
			}
			c.from.Dev.Push(c.frame)
			n.Poll()
		}
		turn()
		turn()
		before := c.from.Stats.TxFrames
		if got := testing.AllocsPerRun(100, turn); got != 0 {
			t.Errorf("%s: %v allocations a frame", c.name, got)
		}
		if c.from.Stats.TxFrames != before+101 {
			t.Errorf("%s: %d frames were read, not 101", c.name, c.from.Stats.TxFrames-before)
		}
	}
}
