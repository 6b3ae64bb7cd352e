package nat

import "sync"

// FlowLog collects flows as they open and as they end, for whoever follows them.
// The loop fills it and never waits: what its reader is too slow for is counted.
type FlowLog struct {
	wake chan struct{} // one token while there is something to take

	mu     sync.Mutex
	events []FlowEvent
	missed uint64
}

// FlowEvent is a flow that has opened, or one that is over, with its totals.
type FlowEvent struct {
	Time      int64 // nanoseconds of the switch's clock
	Closed    bool
	End       string // of one that is over: finished, reset, failed or expired
	Interface string
	Container string
	Network   string
	Flow
}

const flowLogSize = 4096

// NewFlowLog makes an empty one.
func NewFlowLog() *FlowLog { return &FlowLog{wake: make(chan struct{}, 1)} }

// Wake is sent to when there is something to Take.
func (l *FlowLog) Wake() <-chan struct{} { return l.wake }

// Take hands over what was collected and how much was missed since.
func (l *FlowLog) Take() (events []FlowEvent, missed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, missed = l.events, l.missed
	l.events, l.missed = nil, 0
	return events, missed
}

func (l *FlowLog) add(e FlowEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == flowLogSize {
		l.missed++
		return
	}
	l.events = append(l.events, e)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// SetFlowLog begins or, with nil, ends the log. It runs on the switch's thread.
func (n *NAT) SetFlowLog(l *FlowLog) { n.log = l }

// opened notes that flow i has begun, if somebody wants to know.
func (n *NAT) opened(i uint32) {
	if n.log != nil {
		n.logFlow(i, false, "")
	}
}

// closed notes that flow i is over. A connection that both sides have finished
// was noted when it began to linger, one that was killed then.
func (n *NAT) closed(i uint32) {
	fl := &n.flows[i]
	if n.log == nil || fl.kind == kindUDPSocket || fl.kind == kindTCP && fl.state == lingers || fl.has(fKilled) {
		return
	}
	end := "expired"
	switch {
	case fl.kind == kindTCP && fl.state < established:
		end = "failed"
	case fl.kind == kindTCP && fl.has(fFinIn) && fl.has(fFinOut), fl.kind == kindPair && fl.udp.fins == 3:
		end = "finished"
	case fl.kind == kindTCP, fl.kind == kindPair && fl.udp.rtoPass:
		end = "reset"
	}
	n.logFlow(i, true, end)
}

func (n *NAT) logFlow(i uint32, closed bool, end string) {
	fl := &n.flows[i]
	e := FlowEvent{Time: n.sw.Now(), Closed: closed, End: end, Flow: n.describe(fl)}
	if closed {
		n.measure(fl, &e.Flow)
	}
	if p := n.sw.Port(fl.sides[0].port); p != nil {
		e.Interface, e.Container, e.Network = p.Name, p.Label, p.Bridge().Name
	}
	n.log.add(e)
}
