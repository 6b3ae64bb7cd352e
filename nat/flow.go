package nat

import (
	"fmt"
	"net/netip"
	"unsafe"

	"tapswitch/switch"
)

// none is no index.
const none = ^uint32(0)

// kind is what a flow record is used for.
type kind uint8

const (
	kindFree kind = iota
	kindTCP
	kindUDP
	kindUDPSocket // a container's address and port with its host socket
	kindPing
	kindPair
)

// side is one end of a flow as a container sees it: its own address and that
// of its peer. In a flow to the outside, sides[1] is the host's view.
type side struct {
	local, remote addr
	lport, rport  uint16
	port          vswitch.PortID
	mac           vswitch.MAC
}

// addr is an IPv4 or IPv6 address in network order; IPv4 uses four bytes, the
// rest is zero. The flow says which it is.
type addr [16]byte

func toAddr(a netip.Addr) addr {
	var x addr
	if a.Is4() {
		b := a.As4()
		copy(x[:], b[:])
	} else if a.IsValid() {
		x = a.As16()
	}
	return x
}

func (a addr) netip(v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

// flow is one record: fixed size, no pointers, so that the garbage collector
// never looks at it and it can live in any memory. Links are indices; times
// are nanoseconds of the switch's clock.
type flow struct {
	kind     kind
	proto    uint8
	v6       bool
	state    state
	gen      uint32
	flags    uint32
	policy   uint32 // the generation of the policy that let it pass
	rule     uint32 // and the rule
	way      way
	counted  [2]uint64 // packets and bytes that went to rules before
	fd       int32
	sides    [2]side
	chain    [2]uint32 // next in the hash bucket, by side
	nextPort uint32    // list of the port's flows
	prevPort uint32
	created  int64
	used     int64

	due      int64 // when the timer fires; 0 for never
	slot     int32 // wheel slot the record is linked in, -1 for none
	nextTime uint32
	prevTime uint32

	packets, bytes [2]uint64 // by side: sent by the container, sent to it

	tcp tcpState
	udp udpState
}

// udpState is what a UDP, ping or pair flow needs beyond its sides.
type udpState struct {
	socket   uint32 // kindUDP: the kindUDPSocket that carries it, or none
	listener uint32 // kindUDP: the published port that carries it, or none
	refs     uint32 // kindUDPSocket: flows that use it
	scope    uint32 // the interface of a client with a link-local address
	ttl      uint8
	tos      uint8
	df       uint8 // 0 not set yet, 1 clear, 2 set
	replied  bool
	fins     uint8 // kindPair: FIN seen, by side
	rtoPass  bool
}

// Flags of a flow.
const (
	fQueued uint32 = 1 << iota
	fReady         // the socket had an event since it was looked at
	fWritable
	fError
	fFinIn       // the container's FIN was taken
	fFinOut      // ours was sent
	fFinAcked    // and acknowledged
	fDrained     // the socket had nothing more when it was looked at last
	fTail        // an end or an urgent byte is in it, where a peek stops
	fEOF         // the socket's peer has finished
	fShut        // shutdown(SHUT_WR) was called
	fWantOut     // waiting for the socket to take more
	fNoPeek      // no SO_PEEK_OFF: peek behind a discarded prefix
	fScale       // window scaling was agreed
	fInbound     // opened from outside
	fHostLoop    // may reach the host's loopback
	fLocal       // ends at a service of the gateway
	fRecover     // repeating after a loss until tcp.recover is acknowledged
	fSack        // selective acknowledgements were agreed
	fMissed      // a segment in order was dropped, since the socket was full
	fSmall       // TCP: no frames beyond 64 KiB; UDP: no trains
	fListed      // in the list of acknowledgements
	fLazy        // in the list of those that may wait for an answer to carry them
	fReverse     // a pair that side 1 has opened
	fNamed       // opened by a name that the egress policy holds
	fOtherFamily // the client's address is not of the family that the container sees
	fExpects     // a pair whose answers another shard reads
	fInspect     // its beginning is looked at for the name that it means
	fKilled      // a pair that somebody has ended; what comes of it is answered with a reset
	fGone        // the outside has reset the connection; what it sent before is still delivered
)

func (f *flow) has(bit uint32) bool { return f.flags&bit != 0 }
func (f *flow) set(bit uint32)      { f.flags |= bit }
func (f *flow) unset(bit uint32)    { f.flags &^= bit }

// table is the flow table: records in one block of off-heap memory, found by
// hash of what a container sees.
type table struct {
	flows   []flow
	buckets []uint32 // reference to the first: index<<1 | side
	free    uint32
	top     uint32 // records used at least once
	used    int
	perPort [vswitch.MaxPorts]portFlows
	seed    uint64
}

type portFlows struct {
	first     uint32
	count     int
	halfOpen  int
	lingering int // of count: records of connections that are over
}

func newTable(max int, seed uint64) (*table, error) {
	n := 1024
	for n < max {
		n <<= 1
	}
	size := int(unsafe.Sizeof(flow{}))
	mem, err := vswitch.OffHeap(max * size)
	if err != nil {
		return nil, fmt.Errorf("flow table of %d records: %w", max, err)
	}
	hash, err := vswitch.OffHeap(n * 4)
	if err != nil {
		return nil, fmt.Errorf("flow table index: %w", err)
	}
	t := &table{
		flows:   unsafe.Slice((*flow)(unsafe.Pointer(&mem[0])), max),
		buckets: unsafe.Slice((*uint32)(unsafe.Pointer(&hash[0])), n),
		free:    none, seed: seed,
	}
	for i := range t.perPort {
		t.perPort[i].first = none
	}
	return t, nil
}

// The buckets hold reference+1, so that fresh memory means empty.

func (t *table) bucket(port vswitch.PortID, proto uint8, local, remote *addr, lport, rport uint16) *uint32 {
	h := t.seed ^ (uint64(port)<<40 | uint64(proto)<<32 | uint64(lport)<<16 | uint64(rport))
	l, r := (*[2]uint64)(unsafe.Pointer(local)), (*[2]uint64)(unsafe.Pointer(remote))
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ l[0] ^ h>>29) * 0xe7037ed1a0b428db
	h = (h ^ l[1] ^ h>>32) * 0x8ebc6af09c88c6e3
	h = (h ^ r[0] ^ h>>31) * 0x589965cc75374cc3
	h = (h ^ r[1] ^ h>>30) * 0x1d8e4e27c47d124f
	return &t.buckets[(h^h>>33)&uint64(len(t.buckets)-1)]
}

// find is the flow and side for what the container on port sees, or none.
func (t *table) find(port vswitch.PortID, proto uint8, local, remote *addr, lport, rport uint16) (uint32, int) {
	for ref := *t.bucket(port, proto, local, remote, lport, rport); ref != 0; {
		i, s := (ref-1)>>1, int((ref-1)&1)
		f := &t.flows[i]
		sd := &f.sides[s]
		if sd.lport == lport && sd.rport == rport && sd.port == port && f.proto == proto && sd.local == *local && sd.remote == *remote {
			return i, s
		}
		ref = f.chain[s]
	}
	return none, 0
}

// alloc takes a free record for a flow of port, or none when all are in use.
func (t *table) alloc(k kind, port vswitch.PortID) uint32 {
	i := t.free
	if i != none {
		t.free = t.flows[i].chain[0]
	} else if int(t.top) < len(t.flows) {
		i = t.top
		t.top++
	} else {
		return none
	}
	f := &t.flows[i]
	gen := f.gen
	*f = flow{kind: k, gen: (gen + 1) & 0xffffff, fd: -1, slot: -1}
	f.udp.socket, f.udp.listener = none, none
	t.used++
	pp := &t.perPort[port]
	f.nextPort, f.prevPort = pp.first, none
	if pp.first != none {
		t.flows[pp.first].prevPort = i
	}
	pp.first = i
	pp.count++
	f.sides[0].port = port
	return i
}

// index makes side s of flow i findable.
func (t *table) index(i uint32, s int) {
	f := &t.flows[i]
	sd := &f.sides[s]
	b := t.bucket(sd.port, f.proto, &sd.local, &sd.remote, sd.lport, sd.rport)
	f.chain[s] = *b
	*b = i<<1 | uint32(s) + 1
}

func (t *table) unindex(i uint32, s int) {
	f := &t.flows[i]
	sd := &f.sides[s]
	want := i<<1 | uint32(s) + 1
	for at := t.bucket(sd.port, f.proto, &sd.local, &sd.remote, sd.lport, sd.rport); *at != 0; {
		if *at == want {
			*at = f.chain[s]
			return
		}
		ref := *at - 1
		at = &t.flows[ref>>1].chain[ref&1]
	}
}

// release gives a record back. Its sides are no longer findable.
func (t *table) release(i uint32) {
	f := &t.flows[i]
	t.unindex(i, 0)
	if f.kind == kindPair {
		t.unindex(i, 1)
	}
	pp := &t.perPort[f.sides[0].port]
	if f.prevPort != none {
		t.flows[f.prevPort].nextPort = f.nextPort
	} else {
		pp.first = f.nextPort
	}
	if f.nextPort != none {
		t.flows[f.nextPort].prevPort = f.prevPort
	}
	pp.count--
	t.used--
	f.kind = kindFree
	f.gen = (f.gen + 1) & 0xffffff
	f.chain[0] = t.free
	t.free = i
}
