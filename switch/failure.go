package vswitch

import "slices"

// Failures in retrospect: what came to nothing, for whoever asks later. The loop
// writes a record where a decision that was made anew ends a frame, or a flow;
// what a cached decision drops is counted, and has its record from the first
// time. Equal ones are one record with a count. The table is the loop's own:
// who reads it does so in Switch.Do.
//
// Records are plain and bounded. A kind, which is a port and a reason, has room
// for failuresOfKind different ones, so that a flood of one kind (a port scan)
// pushes out its own and no other's; when all are in use, the one that was seen
// least recently goes.
const (
	maxFailures    = 1024
	failuresOfKind = 64
	failureKinds   = 256 // heads of lists; kinds that share one share its room
	failureBuckets = 1024
)

// Failure is something that came to nothing, as often as Count says.
type Failure struct {
	First, Last int64 // nanoseconds of the switch's clock
	Count       uint64
	FailureKey
	SrcPort uint16 // of the latest
}

// FailureKey is what makes two failures equal. It is plain and compares by
// value.
type FailureKey struct {
	Port           PortID
	Gen            uint32 // of the port
	Reason         Reason
	Step           Step
	Proto          uint8
	IP, V6         bool
	Inbound        bool     // towards the container, else from it
	Src, Dst       [16]byte // network order; IPv4 in the first four bytes
	SrcMAC, DstMAC MAC
	EtherType      uint16
	DstPort        uint16
	Rule           uint32 // of the gateway's policy, or 0
}

// Step is where a packet's way ended, in the order in which it meets them.
type Step uint8

// The steps.
const (
	StepNone Step = iota
	StepInterface
	StepParse
	StepGuard
	StepFDB
	StepFlood
	StepRoute
	StepRules
	StepICC
	StepEgress
	StepGateway
	StepNAT
	StepHost      // the host's kernel: sockets
	StepOutside   // whoever is beyond
	StepContainer // the container that it was for
	StepOutput
	numSteps
)

var stepNames = [numSteps]string{"", "interface", "parse", "guard", "fdb", "flood", "route", "rules", "icc", "egress", "gateway", "nat", "host", "outside", "container", "output"}

// String is the step's stable name.
func (s Step) String() string {
	if s < numSteps {
		return stepNames[s]
	}
	return "?"
}

// stepOf is where a reason ends a frame, unless somebody knows better. A new
// reason needs its step; a test refuses a missing one.
var stepOf = [NumReasons]Step{
	Truncated: StepParse, BadIP: StepParse, BadTransport: StepParse, BadChecksum: StepParse, BadVnet: StepParse, VLAN: StepParse,
	SourceMulticast: StepGuard, SourceGateway: StepGuard, SpoofedMAC: StepGuard, SpoofedIP: StepGuard, SpoofedNeighbour: StepGuard, RogueRouter: StepGuard,
	UnknownMAC: StepFDB, Reflected: StepFDB, Loop: StepFDB, ReservedMulticast: StepFlood, UnicastInGroup: StepFlood,
	Isolated: StepRoute, Internal: StepRoute, NoForwarding: StepRoute, NotForGateway: StepRoute, TTLExceeded: StepRoute, HostLoopback: StepRoute,
	HostAddress: StepRoute, LinkLocalOnly: StepRoute, MulticastRouted: StepRoute, Refused: StepRoute, NoProtocol: StepRoute,
	Rule: StepRules, ICC: StepICC, Egress: StepEgress,
	LocalBusy: StepGateway, FragmentLimit: StepGateway, FragmentTimeout: StepGateway,
	NoMasquerade: StepNAT, NoFlow: StepNAT, FlowLimit: StepNAT, HalfOpenLimit: StepNAT, OutOfWindow: StepNAT, Unsolicited: StepNAT, NoContainer: StepNAT,
	SocketFailed: StepHost, SocketFull: StepHost, PingDenied: StepHost, NoRoute: StepHost, NoAnswer: StepOutside,
	RateLimit: StepInterface, Impaired: StepInterface,
	PortDown: StepOutput, NoBuffer: StepOutput, NotOffloadable: StepOutput, TooBig: StepOutput,
}

// Step is where the reason ends a frame.
func (r Reason) Step() Step {
	if r < NumReasons {
		return stepOf[r]
	}
	return StepNone
}

// noFailure is no index of a record.
const noFailure = ^uint16(0)

// failures is the table: records by hash of their key, in two lists, of their
// kind and of all, each with the one that was seen last in front.
type failures struct {
	records [maxFailures]failure
	buckets [failureBuckets]uint16 // index+1 of the first
	kinds   [failureKinds]failureList
	all     failureList
	used    uint16 // records that hold something
}

type failure struct {
	Failure
	next      uint16 // in the bucket, as there
	kind, all failureLink
}

type failureLink struct{ newer, older uint16 }

type failureList struct {
	newest, oldest, count uint16 // newest and oldest mean something if there are any
}

// note counts a failure of key k at now.
func (t *failures) note(k *FailureKey, srcPort uint16, now int64) {
	b := &t.buckets[k.hash()%failureBuckets]
	kind := &t.kinds[k.kind()]
	for i := *b; i != 0; i = t.records[i-1].next {
		if r := &t.records[i-1]; r.FailureKey == *k {
			r.Count++
			r.Last, r.SrcPort = now, srcPort
			t.unlink(i-1, kind)
			t.link(i-1, kind)
			return
		}
	}
	i := t.used
	switch {
	case kind.count >= failuresOfKind:
		i = kind.oldest
		t.forget(i)
	case t.used == maxFailures:
		i = t.all.oldest
		t.forget(i)
	default:
		t.used++
	}
	t.records[i] = failure{Failure: Failure{First: now, Last: now, Count: 1, FailureKey: *k, SrcPort: srcPort}, next: *b}
	*b = i + 1
	t.link(i, kind)
}

// forget takes record i out of everything.
func (t *failures) forget(i uint16) {
	r := &t.records[i]
	for at := &t.buckets[r.hash()%failureBuckets]; *at != 0; at = &t.records[*at-1].next {
		if *at == i+1 {
			*at = r.next
			break
		}
	}
	t.unlink(i, &t.kinds[r.FailureKey.kind()])
}

// link puts record i in front of both of its lists.
func (t *failures) link(i uint16, kind *failureList) {
	push := func(l *failureList, at func(uint16) *failureLink) {
		*at(i) = failureLink{newer: noFailure, older: noFailure}
		if l.count++; l.count == 1 {
			l.newest, l.oldest = i, i
			return
		}
		at(i).older, at(l.newest).newer = l.newest, i
		l.newest = i
	}
	push(kind, t.ofKind)
	push(&t.all, t.ofAll)
}

// unlink takes record i out of both of its lists.
func (t *failures) unlink(i uint16, kind *failureList) {
	pull := func(l *failureList, at func(uint16) *failureLink) {
		k := *at(i)
		if k.newer != noFailure {
			at(k.newer).older = k.older
		} else {
			l.newest = k.older
		}
		if k.older != noFailure {
			at(k.older).newer = k.newer
		} else {
			l.oldest = k.newer
		}
		l.count--
	}
	pull(kind, t.ofKind)
	pull(&t.all, t.ofAll)
}

func (t *failures) ofKind(i uint16) *failureLink { return &t.records[i].kind }
func (t *failures) ofAll(i uint16) *failureLink  { return &t.records[i].all }

func (k *FailureKey) hash() uint64 {
	h := uint64(k.Port)<<48 ^ uint64(k.Gen)<<24 ^ uint64(k.Reason)<<16 ^ uint64(k.Step)<<8 ^ uint64(k.Proto)
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ le64(k.Src[:]) ^ le64(k.Src[8:])*0xa0761d6478bd642f ^ h>>29) * 0xe7037ed1a0b428db
	h = (h ^ le64(k.Dst[:]) ^ le64(k.Dst[8:])*0x8ebc6af09c88c6e3 ^ h>>32) * 0x589965cc75374cc3
	h = (h ^ uint64(k.DstPort)<<32 ^ uint64(k.Rule) ^ h>>31) * 0x1d8e4e27c47d124f
	return h ^ h>>32
}

func (k *FailureKey) kind() uint64 {
	h := (uint64(k.Port)<<32 ^ uint64(k.Gen)<<8 ^ uint64(k.Reason)) * 0xd6e8feb86659fd93
	return h >> 56 % failureKinds
}

// Fail notes for the gateway that something of the container on p came to
// nothing, and counts it nowhere. x is copied; its port, and its step if it has
// none, are filled in.
func (s *Switch) Fail(p *Port, x *FailureKey, srcPort uint16) {
	if p == nil {
		return
	}
	if s.failed == nil {
		s.failed = new(failures) // the first: a switch where all is well has no table
	}
	k := *x
	k.Port, k.Gen = p.ID, p.wake
	if k.Step == StepNone {
		k.Step = k.Reason.Step()
	}
	s.failed.note(&k, srcPort, s.nowNs)
}

// DropFrame counts f as ended under r, and notes it. rule is the policy's that
// said so, or 0.
func (s *Switch) DropFrame(f *Frame, r Reason, rule uint32) { s.DropFrameAt(f, r, StepNone, rule) }

// DropFrameAt is DropFrame at a step that is not the reason's own.
func (s *Switch) DropFrameAt(f *Frame, r Reason, at Step, rule uint32) {
	s.count(f.In, r)
	s.failFrame(f, r, at, rule)
}

// failFrame notes what is known of a frame that ended under r.
func (s *Switch) failFrame(f *Frame, r Reason, at Step, rule uint32) {
	k := FailureKey{Reason: r, Step: at, Rule: rule, EtherType: f.EtherType}
	if len(f.B) >= VnetLen+EthLen {
		k.SrcMAC, k.DstMAC = f.SrcMAC(), f.DstMAC()
	}
	if f.IP() {
		k.IP, k.V6, k.Proto, k.DstPort = true, f.V6, f.Proto, f.DstPort()
		copy(k.Src[:], f.SrcIP())
		copy(k.Dst[:], f.DstIP())
	}
	s.Fail(f.In, &k, f.SrcPort())
}

// Failures is a copy of what is remembered, in no order.
func (s *Switch) Failures() []Failure {
	if s.failed == nil {
		return nil
	}
	out := make([]Failure, 0, s.failed.used)
	for i := range s.failed.records[:s.failed.used] {
		out = append(out, s.failed.records[i].Failure)
	}
	return slices.Clip(out)
}
