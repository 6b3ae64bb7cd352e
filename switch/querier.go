package vswitch

import "net/netip"

// querier asks a bridge's containers which groups they are in, so that
// memberships do not age while they last (RFC 3376, 8; RFC 3810, 9). It speaks
// only while somebody is in a group: a bridge without one has no timer. It is
// silent while a router behind a port that may spoof asks, whose address is lower
// (RFC 3376, 6.6.2).
type querier struct {
	due   int64  // nanoseconds of the switch's clock; 0: nobody is in a group
	sent  int    // since somebody is
	other uint32 // seconds until which somebody else asks
}

const (
	queryInterval = 125_000_000_000
	queryStartup  = queryInterval / 4 // between the first two
	queryOther    = 255               // seconds (RFC 3376, 8.5)
	queryAnswer   = 10                // seconds within which hosts answer
)

// ask begins to ask where somebody has become a member of the first group of a
// family, and ends where nobody is left. before is what there was of each.
func (s *Switch) ask(br *Bridge, before [2]int) {
	for i := range br.groups.querier {
		q := &br.groups.querier[i]
		switch n := br.groups.used[i]; {
		case n == 0:
			q.due, q.sent = 0, 0
		case before[i] == 0:
			q.due, q.sent = s.nowNs, 0
			s.scheduleShape(q.due)
		}
	}
}

// heardQuery notes that a router asks which has the right to.
func (s *Switch) heardQuery(f *Frame) {
	br, own, i := f.In.bridge, f.In.bridge.Gateway, 0
	if f.V6 {
		own, i = br.LinkLocal(), 1
	}
	if src := f.Src(); !src.IsUnspecified() && (!own.IsValid() || src.Less(own)) {
		br.groups.querier[i].other = s.now32 + queryOther
	}
}

// runQueriers asks on the bridges where that is due, and takes members away that
// have not answered.
func (s *Switch) runQueriers() {
	for _, br := range s.bridges {
		t := br.groups
		if t == nil {
			continue
		}
		for i := range t.querier {
			q := &t.querier[i]
			if q.due == 0 {
				continue
			}
			if q.due <= s.nowNs {
				before := t.used
				t.sweep(br, s.now32)
				s.ask(br, before)
				if q.due == 0 {
					continue
				}
				if q.other <= s.now32 {
					s.query(br, i == 1)
				}
				if q.due = s.nowNs + queryInterval; q.sent == 0 {
					q.due = s.nowNs + queryStartup
				}
				q.sent++
			}
			s.scheduleShape(q.due)
		}
	}
}

// query asks all that this thread reads for all of their groups.
func (s *Switch) query(br *Bridge, v6 bool) {
	b := s.query4(br)
	if v6 {
		b = s.query6(br)
	}
	br.groups.queries++
	for _, p := range br.ports {
		if !p.Mirror() && !p.Host && p.blockedUntil <= s.now32 {
			if r := s.Output(p, b); r != Delivered && r != PortDown {
				s.count(p, r)
			}
		}
	}
}

// query4 is an IGMPv3 general query, which older hosts understand, too (RFC
// 3376, 4.1). A bridge without a gateway asks from nowhere (RFC 4541, 2.1.1, 1b).
func (s *Switch) query4(br *Bridge) []byte {
	const ipLen, queryLen = IPv4Len + 4, 12
	b := s.scratch[:VnetLen+EthLen+ipLen+queryLen]
	clear(b)
	e := b[VnetLen:]
	ip, q := e[EthLen:], e[EthLen+ipLen:]
	copy(e, []byte{0x01, 0x00, 0x5e, 0, 0, 1})
	copy(e[6:], br.MAC[:])
	put16(e[12:], EtherIPv4)
	ip[0], ip[1], ip[8], ip[9] = 0x46, 0xc0, 1, ProtoIGMP // internetwork control, TTL 1
	put16(ip[2:], ipLen+queryLen)
	if br.Gateway.Is4() {
		own := br.Gateway.As4()
		copy(ip[12:], own[:])
	}
	copy(ip[16:], []byte{224, 0, 0, 1})
	copy(ip[20:], []byte{0x94, 4, 0, 0}) // router alert (RFC 2113)
	PutIPv4Checksum(ip[:ipLen])
	q[0], q[1], q[8], q[9] = igmpQuery, queryAnswer*10, 2, queryInterval/1e9
	put16(q[2:], Checksum(q, 0))
	return b
}

// query6 is an MLDv2 general query (RFC 3810, 5.1).
func (s *Switch) query6(br *Bridge) []byte {
	const alertLen, queryLen = 8, 28
	b := s.scratch[:VnetLen+EthLen+IPv6Len+alertLen+queryLen]
	clear(b)
	e := b[VnetLen:]
	ip, alert, q := e[EthLen:], e[EthLen+IPv6Len:], e[EthLen+IPv6Len+alertLen:]
	own, all := br.LinkLocal().As16(), netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1}).As16()
	copy(e, []byte{0x33, 0x33, 0, 0, 0, 1})
	copy(e[6:], br.MAC[:])
	put16(e[12:], EtherIPv6)
	ip[0], ip[6], ip[7] = 0x60, ProtoHopByHop, 1
	put16(ip[4:], alertLen+queryLen)
	copy(ip[8:], own[:])
	copy(ip[24:], all[:])
	copy(alert, []byte{ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}) // router alert for MLD (RFC 2711), padding
	q[0], q[24], q[25] = mldQuery, 2, queryInterval/1e9
	put16(q[4:], queryAnswer*1000)
	put16(q[2:], Checksum(q, PseudoSum(ip[8:24], ip[24:40], ProtoICMPv6, queryLen)))
	return b
}
