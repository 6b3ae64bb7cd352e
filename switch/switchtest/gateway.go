package switchtest

import "tapswitch/switch"

// Gateway is a vswitch.Gateway that does as it is told and keeps a record. It
// belongs to the loop's thread. The zero value drops all under NoRoute.
type Gateway struct {
	// Decide answers Resolve; nil for Drop(NoRoute).
	Decide func(f *vswitch.Frame) vswitch.Action
	// Judge answers Between; nil for passing it on.
	Judge func(f *vswitch.Frame, out *vswitch.Port) vswitch.Action
	// GroupDecide answers Group; nil for letting all pass.
	GroupDecide func(f *vswitch.Frame, out *vswitch.Port) vswitch.Reason
	// Alive answers Deliver; nil for always.
	Alive func(flow, gen uint32) bool
	// Work answers Run; nil for done.
	Work func(t vswitch.Token) bool
	// Rest answers Idle; nil for nothing left.
	Rest func() bool
	// Next answers Expire.
	Next int64

	Resolved  int
	Judged    int
	Delivered []Delivery
	Events    []Event
	Ran       []vswitch.Token
	Flushed   int
	Expired   []int64 // the times of the calls
	Gone      []*vswitch.Port
}

// Delivery is one frame that a cached flow brought.
type Delivery struct {
	In        *vswitch.Port
	Flow, Gen uint32
	Frame     []byte
}

// Event is what epoll said of a watched descriptor.
type Event struct {
	Token  vswitch.Token
	Events uint32
}

// Resolve counts and asks Decide.
func (g *Gateway) Resolve(f *vswitch.Frame) vswitch.Action {
	g.Resolved++
	if g.Decide == nil {
		return vswitch.Drop(vswitch.NoRoute)
	}
	return g.Decide(f)
}

// Between counts and asks Judge.
func (g *Gateway) Between(f *vswitch.Frame, out *vswitch.Port) vswitch.Action {
	g.Judged++
	if g.Judge == nil {
		return vswitch.Action{Kind: vswitch.ActOutput, Port: out.ID}
	}
	return g.Judge(f, out)
}

// Group asks GroupDecide.
func (g *Gateway) Group(f *vswitch.Frame, out *vswitch.Port) vswitch.Reason {
	if g.GroupDecide == nil {
		return vswitch.Delivered
	}
	return g.GroupDecide(f, out)
}

// Deliver keeps a copy of the frame, if its flow is alive.
func (g *Gateway) Deliver(f *vswitch.Frame, flow, gen uint32) bool {
	if g.Alive != nil && !g.Alive(flow, gen) {
		return false
	}
	g.Delivered = append(g.Delivered, Delivery{f.In, flow, gen, append([]byte(nil), f.B...)})
	return true
}

// Event keeps the event.
func (g *Gateway) Event(t vswitch.Token, events uint32) {
	g.Events = append(g.Events, Event{t, events})
}

// Run notes the token and asks Work.
func (g *Gateway) Run(t vswitch.Token) bool {
	g.Ran = append(g.Ran, t)
	return g.Work != nil && g.Work(t)
}

// Flush counts.
func (g *Gateway) Flush() { g.Flushed++ }

// Idle asks Rest.
func (g *Gateway) Idle() bool { return g.Rest != nil && g.Rest() }

// Expire notes the time and answers Next.
func (g *Gateway) Expire(now int64) int64 {
	g.Expired = append(g.Expired, now)
	return g.Next
}

// PortGone notes the port.
func (g *Gateway) PortGone(p *vswitch.Port) { g.Gone = append(g.Gone, p) }
