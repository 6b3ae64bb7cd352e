package vswitch

import "net/netip"

// Multicast snooping (RFC 4541): the switch reads what containers tell routers
// about groups (IGMP: RFC 1112, 2236, 3376; MLD: RFC 2710, 3810) and sends a
// reported group to those who reported it. Ports that may spoof get everything,
// for there may be a router or another switch behind them; they alone are
// passed on what the others report, since a report that another container hears
// keeps that one from reporting (RFC 4541, 2.1.1, 1a).
//
// A container is one host, so what it leaves it has left: no query asks for
// further members. Behind a port that may spoof there may be several, and only
// age ends a membership there. Sources are not kept: who wants a group from some
// senders gets it from all, and its kernel chooses.
//
// Of several threads the one that reads a report tells the others; each asks
// the ports that it reads.

// IGMP and MLD message types (IANA).
const (
	igmpQuery    = 0x11
	igmpReportV1 = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22

	mldQuery    = 130
	mldReport   = 131
	mldDone     = 132
	mldReportV2 = 143
)

// snoop decides about IGMP and MLD. It is false for anything else.
func (s *Switch) snoop(f *Frame) (Action, bool) {
	if f.L4 == 0 || f.Proto != ProtoIGMP && f.Proto != ProtoICMPv6 || (f.Proto == ProtoICMPv6) != f.V6 {
		return Action{}, false
	}
	p, t := f.In, f.In.bridge.groups
	b := f.B[f.L4:f.End]
	if r := groupMessage(f, b); r != Delivered {
		return Drop(r), true
	}
	if b[0] == igmpQuery || b[0] == mldQuery {
		if !p.Spoof {
			return Drop(RogueRouter), true // a container is no router
		}
		s.heardQuery(f)
		return Action{Kind: ActFlood}, true
	}
	t.reports++
	r := s.report(p, b)
	s.tellShards(f)
	if r != Delivered {
		return Drop(r), true
	}
	s.toRouters(f)
	return Action{Kind: ActConsumed}, true
}

// report notes what the message b says of p's groups.
func (s *Switch) report(p *Port, b []byte) Reason {
	t, now := p.bridge.groups, s.now32
	before := t.used
	r := readReport(b, func(k groupKey, in bool) {
		switch {
		case !k.kept():
		case in:
			t.join(&k, p, now)
		case !p.Spoof:
			t.leave(&k, p)
		}
	})
	s.ask(p.bridge, before)
	return r
}

// groupMessage says what is wrong with an IGMP or MLD message.
func groupMessage(f *Frame, b []byte) Reason {
	least, sum := 8, uint64(0)
	if f.V6 {
		least, sum = 24, PseudoSum(f.SrcIP(), f.DstIP(), ProtoICMPv6, len(b))
		if len(b) > 0 && b[0] == mldReportV2 {
			least = 8
		}
	}
	switch {
	case f.Class&ClassFragment != 0 || len(b) < least: // nobody sends them in fragments
		return BadTransport
	case Checksum(b, sum) != 0:
		return BadChecksum
	case f.V6 && (f.TTL != 1 || !f.Src().IsUnspecified() && !f.Src().IsLinkLocalUnicast()): // RFC 3810, 5.2.13
		return BadIP
	}
	return Delivered
}

// readReport calls note for each group that a report names, and says whether the
// sender is in it from now on. A report that is cut short counts
// as far as it goes.
func readReport(b []byte, note func(k groupKey, in bool)) Reason {
	size := 4
	switch b[0] {
	case igmpReportV1, igmpReportV2, igmpLeave:
		k := keyOf(b[4:8])
		note(k, b[0] != igmpLeave)
		return Delivered
	case mldReport, mldDone:
		k := keyOf(b[8:24])
		note(k, b[0] == mldReport)
		return Delivered
	case igmpReportV3:
	case mldReportV2:
		size = 16
	default:
		return Delivered // DVMRP, PIM: of routers, for routers
	}
	n, b := min(int(be16(b[6:])), groupPerPort), b[8:]
	for range n {
		if len(b) < 4+size {
			return BadTransport
		}
		sources := int(be16(b[2:]))
		length := 4 + size + sources*size + int(b[1])*4
		if length > len(b) {
			return BadTransport
		}
		k := keyOf(b[4 : 4+size])
		switch b[0] { // RFC 3376, 4.2.12
		case 1, 3: // only from these sources
			note(k, sources > 0)
		case 2, 4: // from all but these
			note(k, true)
		case 5: // from these, too
			if sources > 0 {
				note(k, true)
			}
		}
		b = b[length:]
	}
	return Delivered
}

// toRouters passes a report on to the ports behind which a router may be.
func (s *Switch) toRouters(f *Frame) {
	if f.In.bridge.trusted == 0 {
		return
	}
	for _, p := range f.In.bridge.ports {
		if p.Spoof && p != f.In && p.blockedUntil <= s.now32 {
			if r := s.Output(p, f.B); r != Delivered {
				s.DropFrame(f, r, 0)
				return
			}
		}
	}
}

// members sends f to the members of group g, and to the ports that get all.
func (s *Switch) members(f *Frame, g uint32) {
	br, t := f.In.bridge, f.In.bridge.groups
	out := fanout{asks: br.asksForGroups(f) && s.gateway != nil}
	for i := t.groups[g].first; i != groupNone; i = t.members[i].next {
		if m := &t.members[i]; s.now32-m.seen <= groupAge {
			if p := s.port(m.port); !p.Spoof {
				s.fan(f, p, &out)
			}
		}
	}
	if br.trusted > 0 {
		for _, p := range br.ports {
			if p.Spoof {
				s.fan(f, p, &out)
			}
		}
	}
	if !out.sent && out.worst != Delivered {
		s.DropFrame(f, out.worst, 0)
	}
}

// GroupMember is one row of a bridge's group table, for people.
type GroupMember struct {
	Group netip.Addr
	Port  PortID
	Age   uint32 // seconds since its last report
}

// GroupStats counts what a bridge's group table has seen.
type GroupStats struct {
	Members, Groups             int
	Joined, Left, Aged, Evicted uint64
	Reports                     uint64 // messages read
	Queries                     uint64 // sent
}

// Groups lists who of those that this thread reads is in which group; nothing
// where the bridge does not snoop.
func (b *Bridge) Groups() []GroupMember {
	if b.groups == nil {
		return nil
	}
	t := b.groups
	rows := make([]GroupMember, 0, t.used[0]+t.used[1])
	for _, p := range b.ports {
		if p.Mirror() {
			continue
		}
		for i := p.oldestGroup; i != groupNone; i = t.members[i].newer {
			if age := b.sw.seconds() - t.members[i].seen; age <= groupAge {
				rows = append(rows, GroupMember{netip.AddrFrom16(t.groups[t.members[i].group].key).Unmap(), p.ID, age})
			}
		}
	}
	return rows
}

// GroupStats is what the bridge's group table has counted; what has joined, left,
// aged or been evicted, and the groups, of other threads' ports, too.
func (b *Bridge) GroupStats() (c GroupStats) {
	if t := b.groups; t != nil {
		c = GroupStats{Members: len(b.Groups()), Joined: t.joined, Left: t.left, Aged: t.aged, Evicted: t.evicted, Reports: t.reports, Queries: t.queries}
		c.Groups = len(t.groups)
		for i := t.freeGroup; i != groupNone; i = t.groups[i].next {
			c.Groups--
		}
	}
	return c
}
