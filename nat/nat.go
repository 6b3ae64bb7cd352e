package nat

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Outside is the world beyond the gateway. Tests pass one that leads to
// sockets of their own.
type Outside interface {
	// Socket opens a non-blocking, close-on-exec socket.
	Socket(domain, typ, proto int) (int, unix.Errno)
	// Address is where traffic to a is really sent.
	Address(a netip.AddrPort) netip.AddrPort
	// Origin is whose traffic it is that comes from a.
	Origin(a netip.AddrPort) netip.AddrPort
}

// Kernel is the Outside of the network namespace we run in.
type Kernel struct{}

// Socket opens a socket of the kernel.
func (Kernel) Socket(domain, typ, proto int) (int, unix.Errno) { return sysSocket(domain, typ, proto) }

// Address is a itself.
func (Kernel) Address(a netip.AddrPort) netip.AddrPort { return a }

// Origin is a itself.
func (Kernel) Origin(a netip.AddrPort) netip.AddrPort { return a }

// Local is the gateway's own service: DNS. Calls come from the switch's thread
// and must not block; answers come back through Query.Reply.
type Local interface {
	// Datagram takes a query, which it must copy if it keeps it. It returns false
	// if there are too many questions already.
	Datagram(q Query, b []byte) bool
	// Stream opens a connection to the service for the client and calls ready, on
	// any goroutine, with a non-blocking TCP socket or -1. The NAT owns the socket
	// then.
	Stream(q Query, ready func(fd int))
}

// Query says who asks.
type Query struct {
	Bridge  string
	Client  netip.AddrPort
	Gateway netip.AddrPort
	port    vswitch.PortID
	in      *vswitch.Port
	mac     vswitch.MAC
	nat     *NAT
}

// Config makes a NAT.
type Config struct {
	Outside      Outside       // nil for Kernel
	Local        Local         // nil for no DNS
	MaxFlows     int           // of all ports together
	PerPort      int           // flows of one port
	HalfOpen     int           // unfinished TCP connections of one port
	Reassemblies int           // fragmented datagrams put together at a time
	Expect       *Expectations // shared by the NATs of a switch's shards; nil for one shard
	Logf         func(format string, args ...any)

	Source4, Source6 netip.Addr // the host's address that sockets to the outside have; zero: the kernel chooses
}

// NAT is the gateway of all bridges of one switch. It belongs to the switch's
// thread.
type NAT struct {
	*table
	cfg       Config
	sw        *vswitch.Switch
	out       Outside
	policy    Policy
	wheel     wheel
	policyGen uint32
	hits      map[uint32]*Hits // by rule, of flows that are over
	log       *FlowLog         // nil: nobody follows flows
	frags     reassembly
	pub       publications
	spills    spillPool

	train   udpTrain
	rx      batch
	secret  [16]byte
	over    lingering
	acks    []uint32  // flows that owe an acknowledgement
	lazy    []lazyAck // and those that wait for an answer to carry it
	closing closing   // sockets of connections that are over
	msg     message
	icmpBuf []byte
	ctlBuf  []byte // frames without payload
	synOpt  [12]byte
	sackOpt [maxSackSize]byte
	errBuf  []byte // what came with a queued error
	quote   []byte // the packet that an error is about

	wholeFrame vswitch.Frame // a reassembled datagram
	refragment bool          // it is being sent: the host may fragment it again
	paused     []uint32      // listeners without descriptors to accept with
	resumeAt   int64
	buf        []byte                 // frames towards containers
	discard    []byte                 // target of bytes peeked again and not wanted
	leases     map[uint16][]lease     // by bridge
	pairs      int                    // flows of kindPair
	dials      map[uint32]func(error) // flows of Dial that are not established yet

	noPeekOffset bool // behave as on a kernel without SO_PEEK_OFF for TCP

	Stats Stats
}

// Stats counts what flows did.
type Stats struct {
	TCPOpened, TCPAccepted, TCPReset, TCPRetransmits, TCPTimeouts uint64
	UDPFlows, PingFlows, PairFlows                                uint64
	SpillBytes, Fragments, Reassembled                            uint64
	Errors                                                        uint64
}

// Kinds of tokens (vswitch.KindGateway onward).
const (
	kindFlowToken = vswitch.KindGateway + iota
	kindListenToken
)

const (
	bufSize = 1 << 20
	// bufData is where payload starts in buf: headers are written in front of it.
	bufData    = 256
	maxPayload = 65535 - vswitch.IPv4Len - vswitch.TCPLen
)

// New makes the gateway of sw and connects them.
func New(sw *vswitch.Switch, cfg Config) (*NAT, error) {
	if cfg.Outside == nil {
		cfg.Outside = Kernel{}
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	setDefault(&cfg.MaxFlows, 65536)
	setDefault(&cfg.PerPort, 8192)
	setDefault(&cfg.HalfOpen, 1024)
	setDefault(&cfg.Reassemblies, 256)
	n := &NAT{cfg: cfg, sw: sw, out: cfg.Outside}
	rand.Read(n.secret[:])
	var err error
	if n.table, err = newTable(cfg.MaxFlows, binary.LittleEndian.Uint64(n.secret[:])); err != nil {
		return nil, err
	}
	if n.buf, err = vswitch.OffHeap(bufSize); err != nil {
		return nil, err
	}
	if n.discard, err = vswitch.OffHeap(bufSize); err != nil {
		return nil, err
	}
	if err = n.rx.init(); err != nil {
		return nil, err
	}
	if n.train.buf, err = vswitch.OffHeap(64 << 10); err != nil {
		return nil, err
	}
	n.icmpBuf, n.ctlBuf = make([]byte, 2048), make([]byte, 256)
	n.errBuf, n.quote = make([]byte, 2048), make([]byte, 512)
	n.over.ring = make([]uint64, cfg.MaxFlows/2)
	n.lazy = make([]lazyAck, 0, 1024)
	n.frags.init(cfg.Reassemblies)
	n.pub.init()
	n.dials, n.leases = make(map[uint32]func(error)), make(map[uint16][]lease)
	n.policy, n.hits = Policy{HostAddress: true}, make(map[uint32]*Hits)
	sw.SetGateway(n)
	return n, nil
}

func setDefault(v *int, d int) {
	if *v <= 0 {
		*v = d
	}
}

// SetPolicy replaces the policy. What was cached under the old one is decided
// anew, and each flow that is open is judged again before it carries more.
func (n *NAT) SetPolicy(p Policy) {
	n.policy = p
	n.policyGen++
	for _, b := range n.sw.Bridges() {
		b.Ask = n.policy.concernsBridge(b)
	}
	n.sw.PolicyChanged()
}

// BridgeAdded lets the policy hold for a new bridge, too.
func (n *NAT) BridgeAdded(b *vswitch.Bridge) { b.Ask = n.policy.concernsBridge(b) }

// Resolve decides about a frame to the gateway's MAC that no cached flow covers.
// A drop is only returned, and then cached, if it depends on nothing but
// addresses and policy: what had no flow or no socket may have one the next
// time, and what is answered is answered each time.
func (n *NAT) Resolve(f *vswitch.Frame) vswitch.Action {
	a := n.resolve(f)
	if a.Kind == vswitch.ActDrop && (a.Reason != vswitch.Isolated || n.policy.routes()) && a.Reason != vswitch.NotForGateway && a.Reason != vswitch.MulticastRouted {
		n.sw.DropFrameAt(f, a.Reason, vswitch.Step(a.FlowGen), a.Flow)
		return consumed
	}
	return a
}

func (n *NAT) resolve(f *vswitch.Frame) vswitch.Action {
	if !f.V6 && vswitch.Checksum(f.B[f.L3:f.L3+int(f.B[f.L3]&15)*4], 0) != 0 {
		return vswitch.Drop(vswitch.BadIP)
	}
	if f.Class&vswitch.ClassFragment != 0 {
		return n.fragment(f)
	}
	if f.L4 == 0 {
		return vswitch.Drop(vswitch.NoProtocol)
	}
	if !checksumGood(f) {
		return vswitch.Drop(vswitch.BadChecksum)
	}
	if isDHCP(f) && (f.DstMAC().Multicast() || f.In.Bridge().IsGateway(f.Dst())) {
		return n.dhcp(f)
	}
	i, s := n.lookup(f)
	if i != none {
		if a, was := n.wasKilled(i, f); was {
			return a
		} else if n.flows[i].kind == kindFree {
			return n.open(f)
		}
	}
	if i != none && !n.reopens(f, i) && n.stands(i) && (n.flows[i].way != wayRouted && n.flows[i].way != wayHostPort || n.rightWay(i, s, f)) {
		if f.Class&vswitch.ClassTTL != 0 && !f.In.Bridge().IsGateway(f.Dst()) {
			n.timeExceeded(f)
			return vswitch.Drop(vswitch.TTLExceeded)
		}
		n.traceFlow(i)
		a := vswitch.Action{Kind: vswitch.ActGateway, Flow: i<<1 | uint32(s), FlowGen: n.flows[i].gen}
		if f.Class != 0 {
			n.Deliver(f, a.Flow, a.FlowGen)
			return vswitch.Action{Kind: vswitch.ActConsumed}
		}
		return a
	}
	if i != none && n.flows[i].way == wayHostPort && f.Proto == vswitch.ProtoTCP && !stray(f) {
		if !n.flows[i].over() {
			return n.strayTCP(f) // the numbers are those of what the host has opened
		}
		n.drop(i)
	} else if i == none {
		if a, is := n.answersHost(f); is {
			return a
		}
	}
	return n.open(f)
}

// lookup finds the flow that the frame belongs to, and its side.
func (n *NAT) lookup(f *vswitch.Frame) (uint32, int) {
	var local, remote addr
	copy(local[:], f.SrcIP())
	copy(remote[:], f.DstIP())
	i, s := n.find(f.In.ID, f.Proto, &local, &remote, f.SrcPort(), f.DstPort())
	if i != none && n.flows[i].kind == kindUDPSocket {
		return none, 0 // a datagram to nowhere looks like the record of its socket
	}
	return i, s
}

// Deliver takes a frame of a known flow. Flow is index<<1 | side.
func (n *NAT) Deliver(f *vswitch.Frame, ref, gen uint32) bool {
	i, s := ref>>1, int(ref&1)
	if int(i) >= len(n.flows) {
		return false
	}
	fl := &n.flows[i]
	if fl.gen != gen || fl.kind == kindFree {
		return false
	}
	if f.Class == 0 && f.B[0] == 0 && !checksumGood(f) {
		n.sw.DropFrame(f, vswitch.BadChecksum, 0)
		return true
	}
	fl.packets[s]++
	fl.bytes[s] += uint64(f.End - f.L3)
	switch fl.kind {
	case kindTCP:
		n.tcpFromTap(i, f)
	case kindUDP:
		n.udpFromTap(i, f)
	case kindPing:
		n.pingFromTap(i, f)
	case kindPair:
		n.pairForward(i, s, f)
	}
	return true
}

// checksumGood verifies the transport checksum unless the sender's kernel left
// it open or vouches for it.
func checksumGood(f *vswitch.Frame) bool {
	if f.B[0]&(vswitch.VnetNeedsCsum|vswitch.VnetDataValid) != 0 {
		return true
	}
	b := f.B[f.L4:f.End]
	switch f.Proto {
	case vswitch.ProtoTCP, vswitch.ProtoICMPv6:
	case vswitch.ProtoUDP:
		if !f.V6 && b[6]|b[7] == 0 {
			return true
		}
		b = b[:min(len(b), int(binary.BigEndian.Uint16(b[4:])))]
	case vswitch.ProtoICMP:
		return vswitch.Checksum(b, 0) == 0
	default:
		return true
	}
	return vswitch.Checksum(b, vswitch.PseudoSum(f.SrcIP(), f.DstIP(), f.Proto, len(b))) == 0
}

// Event notes what epoll says of a descriptor and queues its flow.
func (n *NAT) Event(t vswitch.Token, events uint32) {
	if t.Kind() == kindListenToken {
		n.listenerReady(t, events)
		return
	}
	i := t.Index()
	if int(i) >= len(n.flows) || n.flows[i].gen != t.Gen() || n.flows[i].kind == kindFree {
		return
	}
	f := &n.flows[i]
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		f.set(fReady)
		f.unset(fDrained)
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLPRI) != 0 {
		f.set(fTail)
	}
	if events&unix.EPOLLOUT != 0 {
		f.set(fWritable)
	}
	if events&unix.EPOLLERR != 0 {
		f.set(fError)
	}
	n.queue(i)
}

func (n *NAT) token(i uint32) vswitch.Token {
	return vswitch.MakeToken(kindFlowToken, n.flows[i].gen, i)
}

func (n *NAT) queue(i uint32) {
	f := &n.flows[i]
	if !f.has(fQueued) {
		f.set(fQueued)
		n.sw.Enqueue(n.token(i))
	}
}

// Run works on one flow or listener for its share of a turn.
func (n *NAT) Run(t vswitch.Token) bool {
	if t.Kind() == kindListenToken {
		return n.listenerRun(t)
	}
	i := t.Index()
	f := &n.flows[i]
	if f.gen != t.Gen() || f.kind == kindFree {
		return false
	}
	f.unset(fQueued)
	if f.policy != n.policyGen && !n.stands(i) {
		return false
	}
	again := false
	switch f.kind {
	case kindTCP:
		again = n.tcpRun(i)
	case kindUDPSocket:
		again = n.udpRun(i)
	case kindPing:
		again = n.pingRun(i)
	}
	if again && f.gen == t.Gen() && !f.has(fQueued) {
		f.set(fQueued)
		return true
	}
	return false
}

// Flush sends what a batch left waiting: datagrams, and the acknowledgements it
// owes.
func (n *NAT) Flush() {
	n.udpDepart()
	for k := 0; k < len(n.acks); k++ {
		i := n.acks[k]
		f := &n.flows[i]
		if f.kind == kindTCP && f.has(fListed) {
			f.unset(fListed)
			if !n.mayWait(i) {
				n.tcpAcknowledge(i)
			}
		}
	}
	n.acks = n.acks[:0]
}
