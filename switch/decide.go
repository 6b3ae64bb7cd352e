package vswitch

// ActionKind is what becomes of a frame.
type ActionKind uint8

// The kinds of action. Consumed, Flood and Group are never cached.
const (
	ActDrop     ActionKind = iota // counted under Action.Reason
	ActOutput                     // to Action.Port
	ActFlood                      // to the other ports of the bridge
	ActGroup                      // to the members of the bridge's group Action.Flow
	ActGateway                    // to the gateway's flow Action.Flow
	ActConsumed                   // the gateway took it; nothing more to do
	ActHandOver                   // to the shard Action.Flow, which has the flow's record
)

// Action is the decision for a frame.
type Action struct {
	Kind    ActionKind
	Reason  Reason
	Port    PortID
	Flow    uint32 // of ActGateway; of ActDrop the rule that ended it, or 0
	FlowGen uint32 // of ActGateway; of ActDrop the step, or 0 for the reason's own
}

// Drop is the action that ends a frame under reason r.
func Drop(r Reason) Action { return Action{Kind: ActDrop, Reason: r} }

// DropBy is Drop by a rule of the gateway's policy, or 0.
func DropBy(r Reason, rule uint32) Action { return Action{Kind: ActDrop, Reason: r, Flow: rule} }

// DropAt is Drop at a step that is not the reason's own.
func DropAt(r Reason, at Step) Action {
	return Action{Kind: ActDrop, Reason: r, FlowGen: uint32(at)}
}

// Gateway routes what is sent to a bridge's gateway MAC. All calls come from
// the loop's thread.
type Gateway interface {
	// Resolve decides about a frame that no cached flow covers. It may answer or
	// start a flow and return ActConsumed; ActGateway names a flow whose later
	// frames come to Deliver while the generations stand.
	Resolve(f *Frame) Action
	// Between decides about an IP packet from one port of a bridge to another, where
	// the bridge asks. It answers as Resolve.
	Between(f *Frame, out *Port) Action
	// Group says whether a packet for a group, or for an unknown neighbour, may go
	// to one of a bridge's ports, where the bridge asks: Delivered, or why not.
	Group(f *Frame, out *Port) Reason
	// Deliver takes a frame of a flow that Resolve named. It returns false if the
	// flow is no more: the frame is then decided anew.
	Deliver(f *Frame, flow, gen uint32) bool
	// Event reports epoll events of a descriptor registered with Switch.Watch.
	Event(t Token, events uint32)
	// Run does a bounded piece of the work queued under t and says whether more is
	// left.
	Run(t Token) bool
	// Flush sends what was held back while a batch was handled.
	Flush()
	// Idle does a piece of what could wait until nothing else was to be done
	// (Switch.Later), and says whether more is left.
	Idle() bool
	// Expire does what is due at now and returns when it wants to be called next
	// (nanoseconds of the switch's clock), or 0 for never.
	Expire(now int64) int64
	// PortGone ends what belongs to the port.
	PortGone(p *Port)
}

// input is the way of each frame: cache, else upcall, then the action. b is
// borrowed from the read buffer.
func (s *Switch) input(p *Port, b []byte) {
	s.frame.Parse(p, b)
	p.Stats.TxFrames++
	p.Stats.TxBytes += uint64(max(len(b), VnetLen) - VnetLen)
	s.handle(&s.frame)
}

// handle decides about f and carries that out.
func (s *Switch) handle(f *Frame) {
	p := f.In
	if f.Class != 0 || p.cache == nil {
		s.upcall(f)
		return
	}
	e := p.cache.lookup(&f.Key)
	if e == nil || e.gen != s.generations(p, e.act) || e.seen != s.now32 && !s.refresh(f, e) {
		s.upcall(f)
		return
	}
	p.Stats.Hits++
	if !s.apply(f, e.act) {
		s.upcall(f)
	}
}

// generations is the sum under which a decision with action a made for a frame
// from p holds. It is never 0.
func (s *Switch) generations(p *Port, a Action) uint64 {
	g := 1 + s.policyGen + p.gen + p.bridge.gen
	if a.Kind == ActOutput {
		if q := s.port(a.Port); q != nil {
			g += q.gen
		}
	}
	return g
}

// refresh carries out a cached flow's side effects, at most once a second. It
// returns false if an address has aged, which no generation tells.
func (s *Switch) refresh(f *Frame, e *cacheEntry) bool {
	p, fdb, dst := f.In, f.In.bridge.fdb, f.DstMAC()
	if (e.act.Kind == ActOutput || e.act.Kind == ActGateway || e.act.Reason == Reflected) && dst != p.bridge.MAC && fdb.find(dst, s.now32) == fdbNone {
		return false
	}
	if e.src != fdbNone && fdb.find(f.SrcMAC(), s.now32) == fdbNone {
		return false // forgotten meanwhile: to be learned anew, which others' decisions must hear of
	}
	e.seen = s.now32
	if e.src != fdbNone && fdb.entries[e.src].generation == e.srcGen && fdb.entries[e.src].port == p.ID {
		fdb.touch(e.src, p, s.now32)
	}
	return true
}

// upcall decides anew, caches the answer if it depends on nothing but the key,
// and carries it out.
func (s *Switch) upcall(f *Frame) {
	p := f.In
	p.Stats.Upcalls++
	if s.live != nil {
		s.liveBegin(f)
	}
	act, src := s.decide(f)
	if (act.Kind == ActFlood || act.Kind == ActGroup) && s.goesAround(p, src) {
		act = Drop(Loop)
	}
	if s.cacheable(f, act) {
		if p.cache == nil {
			p.cache = new(flowCache) // first traffic: idle ports cost nothing
		}
		e := p.cache.insert(&f.Key)
		e.act, e.gen, e.seen, e.src = act, s.generations(p, act), s.now32, src
		if src != fdbNone {
			e.srcGen = p.bridge.fdb.entries[src].generation
		}
	}
	if act.Kind == ActDrop {
		s.failFrame(f, act.Reason, Step(act.FlowGen), act.Flow)
	}
	if !s.apply(f, act) {
		s.DropFrame(f, NoFlow, 0)
	}
	if s.trace != nil {
		s.liveEnd(f, act)
	}
}

// cacheable says whether act holds for every frame with f's key while the
// generations stand. The end of a block moves none. The gateway drops for what
// the key does not hold, such as a checksum or a limit, and answers each drop.
func (s *Switch) cacheable(f *Frame, act Action) bool {
	switch act.Kind {
	case ActConsumed, ActFlood, ActGroup:
		return false
	case ActDrop:
		return f.Class == 0 && act.Reason != Loop && f.DstMAC() != f.In.bridge.MAC
	}
	return f.Class == 0
}

// decide says what becomes of a frame, and the source's FDB entry. It changes
// nothing but what the switch learns; the gateway's part is Resolve.
func (s *Switch) decide(f *Frame) (Action, uint32) {
	p, br := f.In, f.In.bridge
	if f.Class&ClassBad != 0 {
		return Drop(f.Reason), fdbNone
	}
	if p.Host {
		return s.fromHost(f), fdbNone
	}
	dst, src := f.DstMAC(), f.SrcMAC()
	if src.Multicast() {
		return Drop(SourceMulticast), fdbNone
	}
	if src == br.MAC {
		return Drop(SourceGateway), fdbNone
	}
	if p.blockedUntil > s.now32 {
		return Drop(Loop), fdbNone
	}
	r := Delivered
	if !p.Spoof {
		r = p.guard(f)
	}
	if s.trace != nil {
		s.traceGuard(f, r)
	}
	if r != Delivered {
		return Drop(r), fdbNone
	}
	i := s.learn(p, src)
	if p.blockedUntil > s.now32 {
		return Drop(Loop), fdbNone
	}
	if dst == br.MAC {
		if s.trace != nil {
			s.trace.Add("fdb", "%s is the gateway of network %s", dst, br.Name)
		}
		if br.host != nil && f.tellsGateway() {
			return Action{Kind: ActOutput, Port: br.host.ID}, i
		}
		if f.EtherType == EtherARP {
			return s.arp(f), i
		}
		if f.Class&ClassNeighbour != 0 {
			return s.ndp(f), i
		}
		if !f.IP() || s.gateway == nil {
			return Drop(NoProtocol), i
		}
		return s.gateway.Resolve(f), i
	}
	if f.Class&ClassControl != 0 && f.Proto == ProtoUDP && dst.Multicast() && (f.DstPort() == 67 || f.DstPort() == 547) && s.gateway != nil {
		return s.gateway.Resolve(f), i // DHCP
	}
	// Neighbours are asked for: what follows is silence, as behind a firewall.
	alone := br.NoICC && f.Class&ClassNeighbour == 0
	asks := br.Ask && f.IP() && f.Class&ClassNeighbour == 0 && s.gateway != nil
	if alone && (!asks || dst.Multicast()) {
		if s.trace != nil {
			s.trace.Add("icc", "network %s keeps its containers apart", br.Name)
		}
		return Drop(ICC), i
	}
	if dst.Multicast() {
		if s.trace != nil {
			s.trace.Add("flood", "%s: a group, or all of network %s", dst, br.Name)
		}
		if asks && !forGroup(f, br) {
			return Drop(UnicastInGroup), i
		}
		return s.group(f, dst), i
	}
	at := br.fdb.find(dst, s.now32)
	if at == fdbNone {
		if s.trace != nil {
			s.trace.Add("fdb", "no interface of network %s holds %s", br.Name, dst)
		}
		if br.trusted > 0 && !alone {
			return Action{Kind: ActFlood}, i
		}
		return Drop(UnknownMAC), i
	}
	out := br.fdb.entries[at].port
	if s.trace != nil {
		s.trace.Add("fdb", "%s is on %s", dst, s.port(out).Name)
	}
	if out == p.ID {
		return Drop(Reflected), i
	}
	if asks {
		return s.gateway.Between(f, s.port(out)), i
	}
	return Action{Kind: ActOutput, Port: out}, i
}

// learn refreshes the source's entry; only trusted ports make new ones, where they
// are read.
func (s *Switch) learn(p *Port, src MAC) uint32 {
	if !p.Spoof || s.visiting {
		i := p.bridge.fdb.find(src, s.now32)
		if i != fdbNone {
			p.bridge.fdb.touch(i, p, s.now32)
		}
		return i
	}
	i, changed, loop := p.bridge.fdb.learn(src, p, s.now32)
	if changed {
		p.bridge.gen++
	}
	if loop {
		s.block(p, src)
	}
	return i
}

// goesAround says whether a frame from p that is to be flooded has been flooded
// before: its source, entry src, is programmed on another port, and that is not
// the first time. The port is then blocked.
func (s *Switch) goesAround(p *Port, src uint32) bool {
	if src == fdbNone {
		return false
	}
	e := &p.bridge.fdb.entries[src]
	if e.port == p.ID || !e.jump(s.now32) {
		return false
	}
	s.block(p, e.mac)
	return true
}

// block closes p for a while because src came from it that belongs elsewhere.
func (s *Switch) block(p *Port, src MAC) {
	p.blockedUntil = s.now32 + fdbLoopBlock
	p.gen++
	s.logf("port %s: %s jumps between ports: blocked for %d s, a loop outside of the switch", p.Name, src, fdbLoopBlock)
}

// forGroup says whether an IP packet is for a group or for all of the bridge.
func forGroup(f *Frame, br *Bridge) bool {
	a := f.Dst()
	if a.IsMulticast() {
		return true
	}
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b == [4]byte{255, 255, 255, 255} || br.Subnet.IsValid() && br.Subnet.Contains(a) && !br.Subnet.Contains(a.Next())
}

// group decides about multicast and broadcast: what asks for the gateway is
// answered, a reported group goes to its members, the rest floods the bridge.
func (s *Switch) group(f *Frame, dst MAC) Action {
	if dst[0] == 0x01 && dst[1] == 0x80 && dst[2] == 0xc2 && dst[3]|dst[4] == 0 && dst[5] < 0x10 {
		return Drop(ReservedMulticast) // IEEE 802.1Q, 8.6.3
	}
	if f.Class&ClassNeighbour != 0 {
		var a Action
		if f.EtherType == EtherARP {
			a = s.arp(f)
		} else {
			a = s.ndp(f)
		}
		if a.Kind != ActDrop {
			return a
		}
	}
	if t := f.In.bridge.groups; t != nil && f.IP() {
		if f.Class&ClassControl != 0 {
			if a, is := s.snoop(f); is {
				return a
			}
		}
		if k := keyOf(f.DstIP()); k.kept() {
			if g := t.find(&k); g != groupNone {
				return Action{Kind: ActGroup, Flow: g}
			}
		}
	}
	return Action{Kind: ActFlood}
}

// apply carries an action out. It returns false if the gateway no longer knows
// the flow.
func (s *Switch) apply(f *Frame, a Action) bool {
	switch a.Kind {
	case ActOutput:
		if r := s.forward(f, s.port(a.Port)); r != Delivered {
			s.DropFrame(f, r, 0)
		}
	case ActGateway:
		if s.capture != nil {
			s.captureFate(Delivered, a.Flow, a.FlowGen)
		}
		return s.gateway.Deliver(f, a.Flow, a.FlowGen)
	case ActFlood:
		s.flood(f)
	case ActGroup:
		s.members(f, a.Flow)
	case ActHandOver:
		s.handOver(f, int(a.Flow))
	case ActDrop:
		s.count(f.In, a.Reason)
	}
	return true
}
