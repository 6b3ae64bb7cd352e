package vswitch

// The forwarding database of one bridge: which port holds a MAC address.
//
// Addresses of containers are programmed when the port is attached and never
// age (with anti-spoofing nothing else may come from that port). Ports that
// may spoof (nested bridges, virtual machines) are learned from: an entry is
// made or refreshed by each frame's source, moves with it, and ages after
// fdbAge. Learned entries are bounded per port and per bridge; a full table
// evicts the longest unseen address of the port that holds most of them, so a
// port that floods addresses only hurts itself.
//
// An address that jumps between ports many times a second means that two ports
// are joined outside of the switch, and so do as many frames to be flooded from a
// container's address that come from elsewhere. The port that they came from last
// is then blocked for a while, which ends the storm.
//
// The loop's thread owns it all. Entries have indices instead of pointers: a
// cached flow keeps the index to refresh the source's age.

const (
	fdbAge        = 300 // seconds, as kernel bridges
	fdbPerPort    = 1024
	fdbLoopMoves  = 16 // jumps of one address within a second
	fdbLoopBlock  = 10 // seconds
	fdbNone       = ^uint32(0)
	fdbMaxDefault = 4096
)

type fdbEntry struct {
	mac        MAC
	port       PortID
	static     bool
	moves      uint8
	seen       uint32 // seconds of the loop's clock
	movedAt    uint32
	next       uint32 // in the bucket, or in the free list
	older      uint32 // in the port's list of learned entries
	newer      uint32
	generation uint32
}

type fdb struct {
	buckets []uint32
	entries []fdbEntry
	free    uint32
	used    int
	max     int
	learned uint64
	moved   uint64
	evicted uint64
}

func newFDB(max int) *fdb {
	if max <= 0 {
		max = fdbMaxDefault
	}
	n := 16
	for n < max {
		n <<= 1
	}
	f := &fdb{buckets: make([]uint32, n), free: fdbNone, max: max}
	for i := range f.buckets {
		f.buckets[i] = fdbNone
	}
	return f
}

func (f *fdb) bucket(m MAC) *uint32 {
	h := (uint64(le32(m[:])) | uint64(le16(m[4:]))<<32) * 0x9e3779b97f4a7c15
	return &f.buckets[(h>>32)&uint64(len(f.buckets)-1)]
}

// find is the index of m's entry, or fdbNone. Learned entries past their age
// count as absent.
func (f *fdb) find(m MAC, now uint32) uint32 {
	for i := *f.bucket(m); i != fdbNone; i = f.entries[i].next {
		e := &f.entries[i]
		if e.mac == m {
			if !e.static && now-e.seen > fdbAge {
				return fdbNone
			}
			return i
		}
	}
	return fdbNone
}

// program pins m to port p until drop.
func (f *fdb) program(m MAC, p *Port, now uint32) {
	f.forget(m, p.sw)
	f.insert(fdbEntry{mac: m, port: p.ID, static: true, seen: now}, nil)
}

// learn notes that m was seen as a source on p. It returns the entry's index
// and whether where m is found has changed, so that cached flows to it must
// die; blocked says that a loop was noticed.
func (f *fdb) learn(m MAC, p *Port, now uint32) (i uint32, changed, blocked bool) {
	i = f.find(m, now)
	if i == fdbNone {
		f.forget(m, p.sw)
		if p.learnedCount >= fdbPerPort {
			f.evict(p)
		} else if f.used >= f.max {
			f.evict(f.fullest(p))
		}
		f.learned++
		return f.insert(fdbEntry{mac: m, port: p.ID, seen: now}, p), true, false
	}
	e := &f.entries[i]
	if e.port == p.ID {
		f.touch(i, p, now)
		return i, false, false
	}
	if e.static {
		return i, false, false // only trusted ports get this far; the owner stays
	}
	if e.jump(now) {
		return i, false, true
	}
	f.moved++
	e.seen = now
	f.unlist(i, p.sw.port(e.port))
	e.port = p.ID
	f.list(i, p)
	return i, true, false
}

// jump counts that the address was seen where it was not known, and says
// whether that happened too often within a second.
func (e *fdbEntry) jump(now uint32) bool {
	if e.movedAt != now {
		e.movedAt, e.moves = now, 0
	}
	if e.moves++; e.moves <= fdbLoopMoves {
		return false
	}
	e.moves = 0 // the next jump is the owner's, who goes on
	return true
}

// touch notes that the address of entry i was seen on p, its port.
func (f *fdb) touch(i uint32, p *Port, now uint32) {
	e := &f.entries[i]
	if e.seen == now {
		return
	}
	e.seen = now
	if !e.static {
		f.unlist(i, p)
		f.list(i, p)
	}
}

// fullest is the port of p's bridge that holds the most learned entries.
func (f *fdb) fullest(p *Port) *Port {
	most := p
	for _, q := range p.bridge.ports {
		if q.learnedCount > most.learnedCount {
			most = q
		}
	}
	return most
}

func (f *fdb) evict(p *Port) {
	if p.oldest != fdbNone {
		f.evicted++
		f.remove(p.oldest, p.sw)
	}
}

// forget takes m's entry away, also an aged one that find no longer sees.
func (f *fdb) forget(m MAC, s *Switch) {
	for i := *f.bucket(m); i != fdbNone; i = f.entries[i].next {
		if f.entries[i].mac == m {
			f.remove(i, s)
			return
		}
	}
}

// drop takes all entries of p away.
func (f *fdb) drop(p *Port) {
	for b := range f.buckets {
		for i := f.buckets[b]; i != fdbNone; {
			next := f.entries[i].next
			if f.entries[i].port == p.ID {
				f.remove(i, p.sw)
			}
			i = next
		}
	}
}

func (f *fdb) insert(e fdbEntry, p *Port) uint32 {
	i := f.free
	if i != fdbNone {
		f.free = f.entries[i].next
		e.generation = f.entries[i].generation + 1
	} else {
		i = uint32(len(f.entries))
		f.entries = append(f.entries, fdbEntry{})
	}
	b := f.bucket(e.mac)
	e.next, e.older, e.newer = *b, fdbNone, fdbNone
	*b = i
	f.entries[i] = e
	f.used++
	if p != nil {
		f.list(i, p)
	}
	return i
}

func (f *fdb) remove(i uint32, s *Switch) {
	e := &f.entries[i]
	for at := f.bucket(e.mac); *at != fdbNone; at = &f.entries[*at].next {
		if *at == i {
			*at = e.next
			break
		}
	}
	if !e.static {
		f.unlist(i, s.port(e.port))
	}
	e.next = f.free
	e.generation++
	f.free = i
	f.used--
}

// list and unlist keep a port's learned entries from the longest unseen to the
// latest, by the second.
func (f *fdb) list(i uint32, p *Port) {
	e := &f.entries[i]
	e.older, e.newer = p.newest, fdbNone
	if p.newest != fdbNone {
		f.entries[p.newest].newer = i
	} else {
		p.oldest = i
	}
	p.newest = i
	p.learnedCount++
}

func (f *fdb) unlist(i uint32, p *Port) {
	if p == nil {
		return
	}
	e := &f.entries[i]
	if e.older != fdbNone {
		f.entries[e.older].newer = e.newer
	} else {
		p.oldest = e.newer
	}
	if e.newer != fdbNone {
		f.entries[e.newer].older = e.older
	} else {
		p.newest = e.older
	}
	p.learnedCount--
}

// FDBEntry is one row of a bridge's forwarding database, for people.
type FDBEntry struct {
	MAC    MAC
	Port   PortID
	Static bool
	Age    uint32 // seconds since it was last seen as a source
}

func (f *fdb) dump(now uint32) []FDBEntry {
	rows := make([]FDBEntry, 0, f.used)
	for _, b := range f.buckets {
		for i := b; i != fdbNone; i = f.entries[i].next {
			e := &f.entries[i]
			if e.static || now-e.seen <= fdbAge {
				rows = append(rows, FDBEntry{e.mac, e.port, e.static, now - e.seen})
			}
		}
	}
	return rows
}
