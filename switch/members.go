package vswitch

// The members of multicast groups on one bridge: which ports asked for which
// group, as their reports say (RFC 4541, 2.1).
//
// Only groups beyond the link are kept: 224.0.0.0/24 and IPv6 scopes up to
// link-local go to everybody, since not all that listen there report it
// (RFC 4541, 2.1.2 and 3). A group that nobody has reported goes to everybody,
// too. A member is forgotten when it leaves, or groupAge after its last report.
//
// Members are bounded per port and per bridge; a full table evicts the longest
// unreported member of the port that has most, so a port that reports groups
// without end only hurts itself. It is heard again with its next report.
//
// The loop's thread owns it all. Groups and members have indices instead of
// pointers: each group lists its members, each port the groups it is in.

const (
	groupAge     = 260 // seconds: two queries and the time to answer (RFC 3376, 8.4)
	groupPerPort = 256
	groupMax     = 4096 // members of one bridge
	groupNone    = ^uint32(0)
)

// groupKey is a group's address; IPv4 as v4-mapped. What is no group has none.
type groupKey [16]byte

// keyOf is the key of an address as a packet has it. An IPv6 one that is no group
// must not pass for an IPv4 group.
func keyOf(a []byte) (k groupKey) {
	switch {
	case len(a) == 4:
		k[10], k[11] = 0xff, 0xff
		copy(k[12:], a)
	case a[0] == 0xff:
		copy(k[:], a)
	}
	return k
}

func (k *groupKey) v6() bool { return k[0] != 0 }

// kept says whether members of the group are kept: it is a group, and not one
// of the link.
func (k *groupKey) kept() bool {
	if k.v6() {
		return k[0] == 0xff && k[1]&15 > 2
	}
	return k[11] == 0xff && k[12]>>4 == 14 && (k[12] != 224 || k[13]|k[14] != 0)
}

type groupEntry struct {
	key   groupKey
	first uint32 // member
	next  uint32 // in the bucket, or in the free list
}

type member struct {
	group uint32
	port  PortID
	seen  uint32 // seconds of the loop's clock

	next, prev   uint32 // in the group; next also in the free list
	older, newer uint32 // in the port's list
}

type groupTable struct {
	buckets    []uint32 // made with the first member: most bridges have none
	groups     []groupEntry
	members    []member
	freeGroup  uint32
	freeMember uint32
	seed       uint64
	used       [2]int // members of IPv4 and IPv6 groups
	joined     uint64
	left       uint64
	aged       uint64
	evicted    uint64
	reports    uint64
	queries    uint64
	querier    [2]querier
}

func newGroupTable(seed int64) *groupTable {
	return &groupTable{freeGroup: groupNone, freeMember: groupNone, seed: uint64(seed)*0x9e3779b97f4a7c15 | 1}
}

func (t *groupTable) bucket(k *groupKey) *uint32 {
	h := (le64(k[:]) ^ le64(k[8:])*0xa0761d6478bd642f ^ t.seed) * 0xe7037ed1a0b428db
	return &t.buckets[(h^h>>29)>>32&uint64(len(t.buckets)-1)]
}

// find is the group's index, or groupNone.
func (t *groupTable) find(k *groupKey) uint32 {
	if t.buckets == nil {
		return groupNone
	}
	for i := *t.bucket(k); i != groupNone; i = t.groups[i].next {
		if t.groups[i].key == *k {
			return i
		}
	}
	return groupNone
}

// member is the index of p's membership in group g, or groupNone. It walks p's
// list, which is shorter than a crowd's.
func (t *groupTable) member(g uint32, p *Port) uint32 {
	for i := p.newestGroup; i != groupNone; i = t.members[i].older {
		if t.members[i].group == g {
			return i
		}
	}
	return groupNone
}

// join notes that p has reported the group.
func (t *groupTable) join(k *groupKey, p *Port, now uint32) {
	g := t.find(k)
	if g != groupNone {
		if i := t.member(g, p); i != groupNone {
			t.members[i].seen = now
			t.unlist(i, p)
			t.list(i, p)
			return
		}
	}
	switch {
	case p.groupCount >= groupPerPort:
		t.evict(p)
	case t.used[0]+t.used[1] >= groupMax:
		t.evict(fullestOfGroups(p))
	}
	if g = t.find(k); g == groupNone { // the evicted one may have been the last
		g = t.addGroup(k)
	}
	i := t.freeMember
	if i != groupNone {
		t.freeMember = t.members[i].next
	} else {
		i = uint32(len(t.members))
		t.members = append(t.members, member{})
	}
	e := &t.groups[g]
	t.members[i] = member{group: g, port: p.ID, seen: now, next: e.first, prev: groupNone}
	if e.first != groupNone {
		t.members[e.first].prev = i
	}
	e.first = i
	t.list(i, p)
	t.used[family(k)]++
	t.joined++
}

func family(k *groupKey) int {
	if k.v6() {
		return 1
	}
	return 0
}

// fullestOfGroups is the port of p's bridge that has most memberships.
func fullestOfGroups(p *Port) *Port {
	most := p
	for _, q := range p.bridge.ports {
		if q.groupCount > most.groupCount {
			most = q
		}
	}
	return most
}

func (t *groupTable) evict(p *Port) {
	if p.oldestGroup != groupNone {
		t.evicted++
		t.remove(p.oldestGroup, p)
	}
}

// leave notes that p is no longer in the group.
func (t *groupTable) leave(k *groupKey, p *Port) {
	g := t.find(k)
	if g == groupNone {
		return
	}
	if i := t.member(g, p); i != groupNone {
		t.left++
		t.remove(i, p)
	}
}

// drop takes all memberships of p away.
func (t *groupTable) drop(p *Port) {
	for p.oldestGroup != groupNone {
		t.remove(p.oldestGroup, p)
	}
}

// sweep takes the members away that have reported nothing for too long.
func (t *groupTable) sweep(b *Bridge, now uint32) {
	for _, p := range b.ports {
		for p.oldestGroup != groupNone && now-t.members[p.oldestGroup].seen > groupAge {
			t.aged++
			t.remove(p.oldestGroup, p)
		}
	}
}

func (t *groupTable) addGroup(k *groupKey) uint32 {
	if t.buckets == nil {
		t.buckets = make([]uint32, 256)
		for i := range t.buckets {
			t.buckets[i] = groupNone
		}
	}
	g := t.freeGroup
	if g != groupNone {
		t.freeGroup = t.groups[g].next
	} else {
		g = uint32(len(t.groups))
		t.groups = append(t.groups, groupEntry{})
	}
	b := t.bucket(k)
	t.groups[g] = groupEntry{key: *k, first: groupNone, next: *b}
	*b = g
	return g
}

func (t *groupTable) remove(i uint32, p *Port) {
	m := &t.members[i]
	t.unlist(i, p)
	g := &t.groups[m.group]
	if m.prev != groupNone {
		t.members[m.prev].next = m.next
	} else {
		g.first = m.next
	}
	if m.next != groupNone {
		t.members[m.next].prev = m.prev
	}
	t.used[family(&g.key)]--
	if g.first == groupNone {
		for at := t.bucket(&g.key); *at != groupNone; at = &t.groups[*at].next {
			if *at == m.group {
				*at = g.next
				break
			}
		}
		g.next, t.freeGroup = t.freeGroup, m.group
	}
	*m = member{next: t.freeMember}
	t.freeMember = i
}

// list and unlist keep a port's memberships from the longest unreported to the
// latest.
func (t *groupTable) list(i uint32, p *Port) {
	m := &t.members[i]
	m.older, m.newer = p.newestGroup, groupNone
	if p.newestGroup != groupNone {
		t.members[p.newestGroup].newer = i
	} else {
		p.oldestGroup = i
	}
	p.newestGroup = i
	p.groupCount++
}

func (t *groupTable) unlist(i uint32, p *Port) {
	m := &t.members[i]
	if m.older != groupNone {
		t.members[m.older].newer = m.newer
	} else {
		p.oldestGroup = m.newer
	}
	if m.newer != groupNone {
		t.members[m.newer].older = m.older
	} else {
		p.newestGroup = m.older
	}
	p.groupCount--
}
