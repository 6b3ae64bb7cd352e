package engine

import (
	"net/netip"
	"strconv"
	"time"

	"tapswitch/cmd/internal/capture"
	"tapswitch/nat"
	"tapswitch/switch"
)

// fates says what became of captured frames. What it must ask the switch for, it
// asks for all of a batch at once, and remembers.
type fates struct {
	e     *Engine
	shard int
	ports map[uint64]*portInfo
	flows map[flowKey]flowNote
	keys  []flowKey // of the batch, by the place of the frame in it; the zero one for none
	same  []bool    // and whether a frame before it had that key
	memos [4]memo   // of the batch: packets of one flow mostly come together
	ask   []flowKey
	owners
	text []byte
}

// memo is what was said of a frame, for the next of its kind.
type memo struct {
	key  flowKey
	f    vswitch.Captured // what a fate depends on
	size uint16
	text string
}

// flowKey is a flow as the container at a port sees it.
type flowKey struct {
	port          vswitch.PortID
	gen           uint32
	proto         uint8
	local, remote netip.AddrPort
}

// flowNote is a flow of the gateway with both its sides; none where the switch
// alone has it.
type flowNote struct {
	text string
	pair bool // rewritten from port to port
	half bool // its socket is not there yet
	at   time.Time
}

const (
	maxNotes  = 16 << 10
	noteStale = 5 * time.Second // a flow of that key may be another by then
)

func newFates(e *Engine, shard int) fates {
	return fates{e: e, shard: shard, ports: make(map[uint64]*portInfo), flows: make(map[flowKey]flowNote), owners: newOwners(e)}
}

func portKey(id vswitch.PortID, gen uint32) uint64 { return uint64(id)<<32 | uint64(gen) }

func (s *fates) portOf(id vswitch.PortID, gen uint32) *portInfo { return s.ports[portKey(id, gen)] }

// learn asks for what is not known of the frames' ports and flows, and, if
// somebody watches, of the processes behind them.
func (s *fates) learn(frames []vswitch.Captured, c *vswitch.Capture, watched bool) {
	unknown := false
	now := time.Now()
	s.keys, s.same, s.ask, s.memos = s.keys[:0], s.same[:0], s.ask[:0], [4]memo{}
	var recent [4]flowKey
	for i := range frames {
		f := &frames[i]
		unknown = unknown || s.portOf(f.Port, f.PortGen) == nil || f.Out != 0 && s.portOf(f.Out, f.OutGen) == nil
		t, ok := capture.TupleOf(c.Bytes(f)[vswitch.VnetLen:])
		if !ok {
			s.keys, s.same = append(s.keys, flowKey{}), append(s.same, false)
			continue
		}
		k := flowKey{port: f.Port, gen: f.PortGen, proto: t.Proto, local: t.Src, remote: t.Dst}
		if !f.Received {
			k.local, k.remote = t.Dst, t.Src
		}
		last := &recent[f.Port&3]
		same := *last == k && !t.Opens
		s.keys, s.same = append(s.keys, k), append(s.same, same)
		if same {
			continue
		}
		*last = k
		if f.Exit || f.Reason != vswitch.Delivered {
			continue
		}
		if n, known := s.flows[k]; !known || (t.Opens || n.half) && n.at != now || now.Sub(n.at) > noteStale {
			n.at = now
			s.flows[k] = n
			s.ask = append(s.ask, k)
		}
	}
	if unknown || len(s.ask) > 0 {
		sw := s.e.path.Shards[s.shard]
		sw.Do(func() {
			if unknown {
				s.learnPorts(sw)
			}
			for _, k := range s.ask {
				if d, open := s.e.path.nats[s.shard].FlowAt(k.port, k.proto, k.local, k.remote); open {
					s.flows[k] = flowNote{describe(d), d.Kind == "pair", !d.Host.IsValid(), now}
				}
			}
		})
	}
	if watched {
		s.learnOwners(s, frames, now)
	}
	if len(s.flows) > maxNotes {
		clear(s.flows)
	}
}

// learnPorts notes all ports of the shard. It runs on the switch's thread.
func (s *fates) learnPorts(sw *vswitch.Switch) {
	if len(s.ports) > 4*vswitch.MaxPorts {
		clear(s.ports)
	}
	for _, b := range sw.Bridges() {
		for _, p := range b.Ports() {
			if k := portKey(p.ID, p.Gen()); s.ports[k] == nil {
				s.ports[k] = infoOf(b, p)
			}
		}
	}
}

// keyOf is the flow of a frame of the batch.
func (s *fates) keyOf(i int) *flowKey { return &s.keys[i] }

// fate says what became of the i-th frame of the batch, which was captured on p
// with the virtio header at the beginning of b.
func (s *fates) fate(i int, f *vswitch.Captured, p, out *portInfo, b []byte) string {
	k := s.keyOf(i)
	v := vswitch.ReadVnet(b)
	kind := vswitch.Captured{Port: f.Port, PortGen: f.PortGen, Out: f.Out, OutGen: f.OutGen, Outs: f.Outs, Reason: f.Reason, Received: f.Received, Exit: f.Exit}
	m := &s.memos[f.Port&3]
	if m.text == "" || m.key != *k || m.f != kind || m.size != v.GSOSize {
		*m = memo{*k, kind, v.GSOSize, s.say(k, f, p, out, v)}
	}
	return m.text
}

// say is fate without a memory.
func (s *fates) say(k *flowKey, f *vswitch.Captured, p, out *portInfo, v vswitch.Vnet) string {
	t := s.text[:0]
	note := s.flows[*k]
	name := "an interface that is gone"
	if out != nil {
		name = out.name
	}
	switch {
	case f.Exit:
		t = append(append(t, "from "...), name...)
	case !f.Received:
		if t = append(t, "from the gateway"...); note.text != "" {
			t = append(append(t, ": "...), note.text...)
		}
	case f.Reason != vswitch.Delivered:
		t = append(append(append(append(t, "dropped: "...), f.Reason.String()...), ": "...), f.Reason.Info().Why...)
	case note.text != "" && !note.pair:
		t = append(append(t, "to the host: "...), note.text...)
	case f.Out == f.Port && !note.pair:
		t = append(t, "answered by the gateway"...)
	case f.Outs > 1 && !note.pair:
		t = append(strconv.AppendUint(append(t, "forwarded to "...), uint64(f.Outs), 10), " interfaces"...)
	case f.Out != 0:
		if t = append(append(t, "forwarded to "...), name...); note.text != "" {
			t = append(append(t, ": "...), note.text...)
		}
	default:
		t = append(t, "taken by the gateway"...)
	}
	if v.GSOType != vswitch.GSONone {
		t = append(strconv.AppendUint(append(t, " (segments of "...), uint64(v.GSOSize), 10), " bytes)"...)
	}
	if who := s.owner(p, k); who != "" {
		way := "; for "
		if f.Received {
			way = "; by "
		}
		t = append(append(t, way...), who...)
	}
	s.text = t
	return string(t)
}

// describe is a flow with both its sides.
func describe(f nat.Flow) string {
	t := protocol(f.Proto) + " " + f.Local.String() + " -> " + f.Remote.String() + " => "
	if f.Host.IsValid() {
		t += f.Host.String() + " -> "
	}
	return t + f.Peer.String()
}
