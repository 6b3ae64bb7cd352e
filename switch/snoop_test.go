package vswitch_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// record is a group record of a report.
func record(kind byte, group string, sources ...string) switchtest.Record {
	return switchtest.Record{Kind: kind, Group: group, Sources: sources}
}

// crowd is a bridge with three containers and a port that may spoof.
type crowd struct {
	*switchtest.Net
	br          *vswitch.Bridge
	a, b, c, vm *switchtest.Host
}

func newCrowd(t testing.TB) *crowd {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	return &crowd{n, br, n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Host(br, "b", "172.17.0.3", "fd00:17::3"),
		n.Host(br, "c", "172.17.0.4", "fd00:17::4"), n.Trusted(br, "vm", "172.17.0.5", "fd00:17::5")}
}

func v2(h *switchtest.Host, kind byte, group string) []byte {
	return h.ToGroup(group).IGMP(kind, 0, netip.MustParseAddr(group).AsSlice())
}

func v3(h *switchtest.Host, r ...switchtest.Record) []byte {
	return h.ToGroup("224.0.0.22").IGMP(0x22, 0, switchtest.Records(r...))
}

func mld1(h *switchtest.Host, kind byte, group string) []byte {
	return h.ToGroup("ff02::16").MLD(kind, append(make([]byte, 4), netip.MustParseAddr(group).AsSlice()...))
}

func mld2(h *switchtest.Host, r ...switchtest.Record) []byte {
	return h.ToGroup("ff02::16").MLD(143, switchtest.Records(r...))
}

// heard forgets what was heard, sends a datagram from a to the group, and says
// who got it.
func (n *crowd) heard(group string) string {
	for _, h := range n.Hosts {
		h.Dev.Take()
	}
	n.a.Send(n.a.ToGroup(group).UDP(1, 5000, data))
	var who []string
	for _, h := range n.Hosts {
		if len(h.Dev.Take()) > 0 {
			who = append(who, h.Name)
		}
	}
	return strings.Join(who, " ")
}

func TestWhoHearsAGroup(t *testing.T) {
	const g, g6 = "239.1.2.3", "ff15::123"
	for _, x := range []struct {
		name   string
		frames func(n *crowd) []any // hosts and what they send
		group  string
		want   string
	}{
		{"nobody has reported it", func(n *crowd) []any { return nil }, g, "b c vm"},
		{"IGMPv1", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x12, g)} }, g, "b vm"},
		{"IGMPv2", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, g)} }, g, "b vm"},
		{"another group", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, "239.1.2.4")} }, g, "b c vm"},
		{"two members", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, g), n.c, v2(n.c, 0x16, g)} }, g, "b c vm"},
		{"the sender is the only member", func(n *crowd) []any { return []any{n.a, v2(n.a, 0x16, g)} }, g, "vm"},
		{"one leaves", func(n *crowd) []any {
			return []any{n.b, v2(n.b, 0x16, g), n.c, v2(n.c, 0x16, g), n.b, n.b.ToGroup("224.0.0.2").IGMP(0x17, 0, netip.MustParseAddr(g).AsSlice())}
		}, g, "c vm"},
		{"the last leaves", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, g), n.b, v2(n.b, 0x17, g)} }, g, "b c vm"},
		{"behind a port that may spoof others may remain", func(n *crowd) []any { return []any{n.vm, v2(n.vm, 0x16, g), n.vm, v2(n.vm, 0x17, g)} }, g, "vm"},
		{"IGMPv3, all sources", func(n *crowd) []any { return []any{n.b, v3(n.b, record(4, g))} }, g, "b vm"},
		{"IGMPv3, some sources", func(n *crowd) []any { return []any{n.b, v3(n.b, record(5, g, "172.17.0.2"))} }, g, "b vm"},
		{"IGMPv3, several records", func(n *crowd) []any {
			return []any{n.b, v3(n.b, record(2, "239.0.0.9", "10.0.0.1", "10.0.0.2"), record(1, g, "10.0.0.1"))}
		}, g, "b vm"},
		{"IGMPv3, no source any more", func(n *crowd) []any { return []any{n.b, v3(n.b, record(4, g)), n.b, v3(n.b, record(3, g))} }, g, "b c vm"},
		{"IGMPv3, blocked sources", func(n *crowd) []any { return []any{n.b, v3(n.b, record(6, g, "10.0.0.1"))} }, g, "b c vm"},
		{"a host without an address", func(n *crowd) []any {
			return []any{n.b, with(n.b.ToGroup("224.0.0.22"), func(p *switchtest.Packet) { p.Src = netip.IPv4Unspecified() }).IGMP(0x22, 0, switchtest.Records(record(4, g)))}
		}, g, "b vm"},
		{"mDNS goes to all", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, "224.0.0.251")} }, "224.0.0.251", "b c vm"},
		{"SSDP is a group as any", func(n *crowd) []any { return []any{n.b, v2(n.b, 0x16, "239.255.255.250")} }, "239.255.255.250", "b vm"},
		{"MLDv1", func(n *crowd) []any { return []any{n.b, mld1(n.b, 131, g6)} }, g6, "b vm"},
		{"MLDv1 done", func(n *crowd) []any {
			return []any{n.b, mld1(n.b, 131, g6), n.c, mld1(n.c, 131, g6), n.b, mld1(n.b, 132, g6)}
		}, g6, "c vm"},
		{"MLDv2", func(n *crowd) []any { return []any{n.b, mld2(n.b, record(4, g6))} }, g6, "b vm"},
		{"MLDv2, no source any more", func(n *crowd) []any { return []any{n.b, mld2(n.b, record(4, g6)), n.b, mld2(n.b, record(3, g6))} }, g6, "b c vm"},
		{"MLDv2 from nobody", func(n *crowd) []any {
			return []any{n.b, with(n.b.ToGroup("ff02::16"), func(p *switchtest.Packet) { p.Src = netip.IPv6Unspecified() }).MLD(143, switchtest.Records(record(4, g6)))}
		}, g6, "b vm"},
		{"mDNS of IPv6 goes to all", func(n *crowd) []any { return []any{n.b, mld2(n.b, record(4, "ff02::fb"))} }, "ff02::fb", "b c vm"},
		{"groups of one family are not the other's", func(n *crowd) []any { return []any{n.b, mld2(n.b, record(4, "::ffff:239.1.2.3"))} }, g6, "b c vm"},
	} {
		n := newCrowd(t)
		for f := range slices.Chunk(x.frames(n), 2) {
			f[0].(*switchtest.Host).Send(f[1].([]byte))
		}
		if got := n.heard(x.group); got != x.want {
			t.Errorf("%s: heard by %q, not %q; members %v", x.name, got, x.want, n.br.Groups())
		}
		for _, h := range n.Hosts {
			if len(h.Dropped()) != 0 {
				t.Errorf("%s: %s dropped %v", x.name, h.Name, h.Dropped())
			}
		}
	}
}

// TestReportsAreForRouters: another container that heard a report would keep
// its own back.
func TestReportsAreForRouters(t *testing.T) {
	n := newCrowd(t)
	n.a.Send(v2(n.a, 0x16, "239.1.2.3"), mld2(n.a, record(4, "ff15::1")))
	n.b.Dev.Take() // queries
	n.a.Send(v2(n.a, 0x16, "239.1.2.3"))
	if got := n.vm.Dev.Take(); len(got) != 5 { // 3 reports, 2 queries
		t.Errorf("the port that may spoof got %d frames, not 3 reports and 2 queries", len(got))
	}
	if got := n.b.Dev.Take(); len(got) != 0 {
		t.Errorf("another container got %d frames", len(got))
	}
}

// TestRefusedReports: what is wrong is counted and changes nothing.
func TestRefusedReports(t *testing.T) {
	const g = "239.1.2.3"
	broken := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	n := newCrowd(t)
	for _, x := range []struct {
		name string
		b    []byte
		want vswitch.Reason
	}{
		{"IGMP checksum", broken(v2(n.a, 0x16, g)), vswitch.BadChecksum},
		{"MLD checksum", broken(mld1(n.a, 131, "ff15::1")), vswitch.BadChecksum},
		{"IGMP of 4 bytes", n.a.ToGroup(g).IGMP(0x16, 0, nil), vswitch.BadTransport},
		{"more records than there are", n.a.ToGroup("224.0.0.22").IGMP(0x22, 0, []byte{0, 0, 0, 1}), vswitch.BadTransport},
		{"more sources than there are", n.a.ToGroup("224.0.0.22").IGMP(0x22, 0, []byte{0, 0, 0, 1, 4, 0, 1, 0, 239, 1, 2, 3}), vswitch.BadTransport},
		{"MLD from further away", with(n.a.ToGroup("ff02::16"), func(p *switchtest.Packet) { p.TTL = 64 }).ICMPv6(143, 0, switchtest.Records(record(4, "ff15::1"))), vswitch.BadIP},
		{"MLD from a global address", with(n.a.ToGroup("ff02::16"), func(p *switchtest.Packet) { p.Src = n.a.Addrs[1] }).MLD(143, switchtest.Records(record(4, "ff15::1"))), vswitch.BadIP},
		{"a query of a container", n.a.ToGroup("224.0.0.1").IGMP(0x11, 100, make([]byte, 8)), vswitch.RogueRouter},
		{"an MLD query of a container", n.a.ToGroup("ff02::1").MLD(130, make([]byte, 24)), vswitch.RogueRouter},
	} {
		before := n.a.Stats.Drops[x.want]
		n.a.Send(x.b)
		if got := n.a.Stats.Drops[x.want] - before; got != 1 {
			t.Errorf("%s: counted %d times under %s: %v", x.name, got, x.want, n.a.Dropped())
		}
		if rows := n.br.Groups(); len(rows) != 0 {
			t.Errorf("%s: members %v", x.name, rows)
		}
	}
}

// queries counts the queries that a host has been sent.
func queries(t *testing.T, h *switchtest.Host) (v4, v6 int) {
	t.Helper()
	for _, b := range h.Dev.Take() {
		var f vswitch.Frame
		f.Parse(nil, b)
		switch {
		case f.Proto == vswitch.ProtoIGMP && b[f.L4] == 0x11:
			if f.TTL != 1 || vswitch.Checksum(b[f.L3:f.L4], 0) != 0 || vswitch.Checksum(b[f.L4:f.End], 0) != 0 || f.Src() != h.Bridge().Gateway {
				t.Errorf("an IGMP query that hosts would not take: % x", b)
			}
			v4++
		case f.Proto == vswitch.ProtoICMPv6 && b[f.L4] == 130:
			if f.TTL != 1 || vswitch.Checksum(b[f.L4:f.End], vswitch.PseudoSum(f.SrcIP(), f.DstIP(), 58, f.End-f.L4)) != 0 || f.Src() != h.Bridge().LinkLocal() {
				t.Errorf("an MLD query that hosts would not take: % x", b)
			}
			v6++
		}
	}
	return v4, v6
}

// TestQuerier: the gateway asks while somebody is in a group, at the times of
// RFC 3376, and who does not answer is forgotten.
func TestQuerier(t *testing.T) {
	n := newCrowd(t)
	pass := func(d time.Duration) { n.Clock.Advance(d); n.Poll() }
	pass(time.Hour)
	if a, b := queries(t, n.a); a+b != 0 {
		t.Fatalf("%d queries where nobody is in a group", a+b)
	}
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	for _, x := range []struct {
		wait time.Duration
		v4   int
	}{{0, 1}, {30 * time.Second, 0}, {2 * time.Second, 1}, {120 * time.Second, 0}, {6 * time.Second, 1}} {
		pass(x.wait)
		if a, b := queries(t, n.a); a != x.v4 || b != 0 {
			t.Errorf("%v later: %d IGMP and %d MLD queries, not %d and 0", x.wait, a, b, x.v4)
		}
	}
	n.c.Send(mld2(n.c, record(4, "ff15::1")))
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	if _, b := queries(t, n.a); b != 1 {
		t.Errorf("%d MLD queries, not 1", b)
	}
	for range 3 { // b answers, c does not
		pass(126 * time.Second)
		n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	}
	if rows := n.br.Groups(); len(rows) != 1 || rows[0].Port != n.b.ID || rows[0].Group.String() != "239.1.2.3" {
		t.Errorf("members %v, not b alone", rows)
	}
	n.b.Send(v2(n.b, 0x17, "239.1.2.3"))
	queries(t, n.a)
	pass(time.Hour)
	pass(time.Hour)
	if a, b := queries(t, n.a); a+b != 0 {
		t.Errorf("%d queries after the last has left", a+b)
	}
	if s := n.br.GroupStats(); s.Members != 0 || s.Groups != 0 || s.Joined != 2 || s.Left != 1 || s.Aged != 1 {
		t.Errorf("counted %+v", s)
	}
}

// TestOtherQuerier: a router behind a port that may spoof asks instead.
func TestOtherQuerier(t *testing.T) {
	n := newCrowd(t)
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	queries(t, n.a)
	n.vm.Send(with(n.vm.ToGroup("224.0.0.1"), func(p *switchtest.Packet) { p.Src = netip.MustParseAddr("172.17.0.0") }).IGMP(0x11, 100, make([]byte, 8)))
	if got := n.b.Dev.Take(); len(got) != 2 { // ours before it, and its
		t.Errorf("b got %d queries, not 2", len(got))
	}
	n.a.Dev.Take()
	for range 2 {
		n.Clock.Advance(126 * time.Second)
		n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	}
	if a, _ := queries(t, n.a); a != 0 {
		t.Errorf("%d queries beside another's", a)
	}
	n.Clock.Advance(126 * time.Second)
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	if a, _ := queries(t, n.a); a != 1 {
		t.Errorf("%d queries after the other fell silent", a)
	}
}

// TestMembersAreBounded: who reports groups without end evicts his own.
func TestMembersAreBounded(t *testing.T) {
	n := newCrowd(t)
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	for i := range 1000 {
		n.c.Send(v2(n.c, 0x16, fmt.Sprintf("238.0.%d.%d", i/256, i%256)))
	}
	s := n.br.GroupStats()
	if s.Members != 257 || s.Evicted != 1000-256 || s.Groups != 257 {
		t.Errorf("after 1000 reports: %+v", s)
	}
	if got := n.heard("239.1.2.3"); got != "b vm" {
		t.Errorf("heard by %q", got)
	}
	many := make([]*switchtest.Host, 16)
	for i := range many {
		many[i] = n.Host(n.br, fmt.Sprint("h", i), fmt.Sprintf("172.17.1.%d", i+1))
		for j := range 256 {
			many[i].Send(v2(many[i], 0x16, fmt.Sprintf("237.%d.0.%d", i, j)))
		}
	}
	if s := n.br.GroupStats(); s.Members != 4096 {
		t.Errorf("%d members, not 4096", s.Members)
	}
	if got := n.heard("239.1.2.3"); got != "b vm" {
		t.Errorf("b was evicted: heard by %q", got)
	}
	for _, h := range n.Hosts {
		n.RemovePort(h.Port)
	}
	if s := n.br.GroupStats(); s.Members != 0 || s.Groups != 0 {
		t.Errorf("without ports: %+v", s)
	}
}

// TestNoSnooping: all hear all, reports too.
func TestNoSnooping(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.AddBridge(vswitch.BridgeConfig{Name: "b", Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"), NoSnooping: true})
	a, b, c := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Host(br, "c", "172.17.0.4")
	b.Send(v2(b, 0x16, "239.1.2.3"))
	a.Send(a.ToGroup("239.1.2.3").UDP(1, 2, data))
	if x, y := len(b.Dev.Take()), len(c.Dev.Take()); x != 1 || y != 2 {
		t.Errorf("b heard %d and c %d frames, not 1 and 2", x, y)
	}
	if br.Groups() != nil || br.GroupStats() != (vswitch.GroupStats{}) {
		t.Error("members are kept")
	}
}

// TestGroupMayBeRefused: where policies are asked about packets of the bridge,
// they are asked about each member.
func TestGroupMayBeRefused(t *testing.T) {
	n := newCrowd(t)
	n.br.Ask = true
	n.b.Send(v2(n.b, 0x16, "239.1.2.3"))
	n.c.Send(v2(n.c, 0x16, "239.1.2.3"))
	n.Gateway.GroupDecide = func(_ *vswitch.Frame, out *vswitch.Port) vswitch.Reason {
		if out == n.b.Port {
			return vswitch.Rule
		}
		return vswitch.Delivered
	}
	if got := n.heard("239.1.2.3"); got != "c vm" {
		t.Errorf("heard by %q", got)
	}
}

// FuzzReport: no panic, and no more members than a port may have; what is
// written to others is what was sent.
func FuzzReport(f *testing.F) {
	n := newCrowd(f)
	for _, b := range [][]byte{v2(n.a, 0x16, "239.1.2.3"), v2(n.a, 0x17, "239.1.2.3"), v3(n.a, record(4, "239.1.2.3"), record(5, "239.1.2.4", "10.0.0.1")),
		mld1(n.a, 131, "ff15::1"), mld1(n.a, 131, "::ffff:239.1.2.3"), mld1(n.a, 131, "::92:91ff:ffff:ffff:e300:f000"), mld2(n.a, record(3, "ff15::1"), record(1, "ff15::2", "fd00::1"))} {
		var x vswitch.Frame
		x.Parse(nil, b)
		f.Add(b[x.L4:x.End], x.V6)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if len(b) < 4 || len(b) > 60000 {
			return
		}
		var frame []byte
		if v6 {
			frame = n.a.ToGroup("ff02::16").MLD(b[0], b[4:])
		} else {
			frame = n.a.ToGroup("224.0.0.22").IGMP(b[0], b[1], b[4:])
		}
		n.a.Send(frame)
		if s := n.br.GroupStats(); s.Members > 256 || s.Groups > s.Members || len(n.br.Groups()) != s.Members {
			t.Errorf("%d rows, %+v", len(n.br.Groups()), s)
		}
		for _, row := range n.br.Groups() {
			if !row.Group.IsMulticast() || row.Group.IsLinkLocalMulticast() {
				t.Errorf("%s is a member's group", row.Group)
			}
		}
		for _, h := range n.Hosts {
			h.Dev.Take()
		}
	})
}

// TestGroupsOnSeveralThreads: a member hears its group whichever thread reads it
// and the sender, and nobody else does.
func TestGroupsOnSeveralThreads(t *testing.T) {
	g := newThreads(t, 2)
	seg := g.AddBridge(twoSubnets[0])
	for i := range 6 {
		g.host(i/3, seg, false, fmt.Sprintf("172.17.0.%d", i+2))
	}
	frame := func(from int, kind byte) []byte {
		p := switchtest.Packet{SrcMAC: g.seats[from].Port.MAC, Src: g.seats[from].Port.Addrs[0], Dst: netip.MustParseAddr("239.1.2.3")}
		p.DstMAC = switchtest.GroupMAC(p.Dst)
		if kind == 0 {
			return p.UDP(1, 5000, data)
		}
		return p.IGMP(kind, 0, p.Dst.AsSlice())
	}
	joined := func() (n int) {
		g.Each(func(i int, _ *vswitch.Switch) { n += len(seg.Bridges[i].Groups()) })
		return n
	}
	for n, member := range []int{1, 4} {
		if e := g.ends[member].Write(frame(member, 0x16)); e != 0 {
			t.Fatal(e)
		}
		for joined() <= n {
			g.idle()
		}
		g.idle() // the other thread has heard of it
	}
	for from := range 6 {
		want := len(frame(from, 0)) // queries are shorter
		if e := g.ends[from].Write(frame(from, 0)); e != 0 {
			t.Fatal(e)
		}
		for to := range 6 {
			for heard := to == from || to != 1 && to != 4; !heard; {
				heard = len(g.ends[to].Wait(t)) == want
			}
		}
		g.idle()
		for to := range 6 {
			b := make([]byte, 2000)
			for n, e := g.ends[to].Read(b); e == 0; n, e = g.ends[to].Read(b) {
				if n == want {
					t.Errorf("%d heard %d, and is not in the group, or heard it twice", to, from)
				}
			}
		}
	}
}
