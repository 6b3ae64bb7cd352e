package nat

// The timers of all flows: a wheel of slots of wheelTick each. A timer that is
// put off, which happens with every acknowledgement, only changes the flow's
// due time; its slot finds out when it comes round and links it anew.

const (
	wheelTick  = 4e6 // ns
	wheelSlots = 1024
)

type wheel struct {
	slots [wheelSlots]uint32 // first flow + 1
	busy  [wheelSlots / 64]uint64
	at    int64 // tick that was handled last
	count int

	turning bool // Expire is at work, and at is its own
}

func (n *NAT) arm(i uint32, due int64) {
	f := &n.flows[i]
	f.due = due
	if f.slot >= 0 && due >= f.slotTime(n) {
		return // comes round before it is due: linked anew then
	}
	n.unlinkTimer(i)
	n.linkTimer(i)
}

// slotTime is the earliest time at which the flow's slot comes round.
func (f *flow) slotTime(n *NAT) int64 {
	d := (int64(f.slot) - n.wheel.at) & (wheelSlots - 1)
	if d == 0 {
		d = wheelSlots
	}
	return (n.wheel.at + d) * wheelTick
}

func (n *NAT) disarm(i uint32) { n.flows[i].due = 0 }

func (n *NAT) linkTimer(i uint32) {
	f, w := &n.flows[i], &n.wheel
	if w.count == 0 && !w.turning {
		w.at = max(w.at, n.sw.Now()/wheelTick-1) // nobody turned it while it was empty
	}
	tick := (f.due + wheelTick - 1) / wheelTick
	tick = max(tick, w.at+1)
	tick = min(tick, w.at+wheelSlots-1)
	s := tick & (wheelSlots - 1)
	f.slot = int32(s)
	f.nextTime, f.prevTime = none, none
	if first := w.slots[s]; first != 0 {
		f.nextTime = first - 1
		n.flows[first-1].prevTime = i
	}
	w.slots[s] = i + 1
	w.busy[s>>6] |= 1 << (s & 63)
	w.count++
	n.sw.Schedule(tick * wheelTick)
}

func (n *NAT) unlinkTimer(i uint32) {
	f, w := &n.flows[i], &n.wheel
	if f.slot < 0 {
		return
	}
	if f.prevTime != none {
		n.flows[f.prevTime].nextTime = f.nextTime
	} else if f.nextTime != none {
		w.slots[f.slot] = f.nextTime + 1
	} else {
		w.slots[f.slot] = 0
		w.busy[f.slot>>6] &^= 1 << (f.slot & 63)
	}
	if f.nextTime != none {
		n.flows[f.nextTime].prevTime = f.prevTime
	}
	f.slot = -1
	w.count--
}

// Expire fires the timers that are due and returns when the next slot with a
// timer comes round, or 0.
func (n *NAT) Expire(now int64) int64 {
	w := &n.wheel
	to := now / wheelTick
	if to-w.at > wheelSlots {
		w.at = to - wheelSlots
	}
	w.turning = true
	for w.at < to {
		w.at++
		s := w.at & (wheelSlots - 1)
		for w.slots[s] != 0 {
			i := w.slots[s] - 1
			n.unlinkTimer(i)
			f := &n.flows[i]
			switch {
			case f.due == 0:
			case f.due > now:
				n.linkTimer(i)
			default:
				f.due = 0
				n.expired(i)
			}
		}
	}
	w.turning = false
	n.expireFragments(now)
	return sooner(sooner(sooner(n.nextSlot(), n.nextFragment()), n.resume(now)), sooner(n.sendLazy(now), n.closeDue(now)))
}

// sooner is the earlier of two times of which 0 means never.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// nextSlot is when the next slot with a timer comes round, or 0.
func (n *NAT) nextSlot() int64 {
	w := &n.wheel
	if w.count == 0 {
		return 0
	}
	for d := int64(1); d < wheelSlots; d++ {
		s := (w.at + d) & (wheelSlots - 1)
		if w.busy[s>>6] == 0 { // skip 64 empty slots at a time
			d += 63 - s&63
			continue
		}
		if w.slots[s] != 0 {
			return (w.at + d) * wheelTick
		}
	}
	return (w.at + wheelSlots - 1) * wheelTick
}
