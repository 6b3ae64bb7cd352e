package nat

import "tapswitch/switch"

// Connections that are over. Their records stay for a while to answer a
// repeated FIN, but are the first to go when records are wanted: a container
// that opens thousands of connections per second is not held up by them.
// lingering is a ring of such records in the order in which they ended.
type lingering struct {
	ring  []uint64 // generation<<32 | index
	head  int
	count int
}

// add notes that the flow i of t is over, and returns the record that has to go
// for it, or none.
func (l *lingering) add(t *table, i uint32) (gone uint32) {
	gone = none
	if l.count == len(l.ring) {
		gone = l.oldest(t)
	}
	l.ring[(l.head+l.count)%len(l.ring)] = uint64(t.flows[i].gen)<<32 | uint64(i)
	l.count++
	return gone
}

// oldest takes out the record that is over for the longest time, or reports
// none. Those that went by themselves are passed over.
func (l *lingering) oldest(t *table) uint32 {
	for l.count > 0 {
		e := l.ring[l.head]
		l.head = (l.head + 1) % len(l.ring)
		l.count--
		f := &t.flows[uint32(e)]
		if f.gen == uint32(e>>32) && f.kind == kindTCP && f.state == lingers {
			return uint32(e)
		}
	}
	return none
}

// full says whether port has as many flows as it may. Connections that are
// over hold nothing but a record, and do not count.
func (n *NAT) full(port vswitch.PortID) bool {
	pp, most := &n.perPort[port], n.cfg.PerPort
	if p := n.sw.Port(port); p != nil && p.Flows > 0 {
		most = p.Flows
	}
	return pp.count-pp.lingering >= most
}

// alloc takes a record for a flow of port, one of a connection that is over if
// need be, or reports none when all are in use.
func (n *NAT) alloc(k kind, port vswitch.PortID) uint32 {
	i := n.table.alloc(k, port)
	if i == none {
		if old := n.over.oldest(n.table); old != none {
			n.drop(old)
			i = n.table.alloc(k, port)
		}
	}
	return i
}
