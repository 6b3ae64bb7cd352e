package engine

import (
	"errors"
	"net/netip"
	"runtime"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// mostThreads bounds the threads that nobody asked for.
const mostThreads = 8

// datapath is the switch with its gateways: one NAT for each shard.
type datapath struct {
	*vswitch.Group
	nats []*nat.NAT
}

// newDatapath makes one of so many threads; 0 for two a processor. More than
// there are processors is for fairness: a thread with little to do is chosen at
// once when it wakes, so a container that sends all it can holds up only those
// on its own thread.
func newDatapath(threads int, sc vswitch.Config, nc nat.Config) (*datapath, error) {
	if threads == 0 {
		threads = min(2*runtime.NumCPU(), mostThreads)
	}
	if spare := threads + 2; runtime.GOMAXPROCS(0) < spare {
		runtime.GOMAXPROCS(spare) // a thread that switches keeps its P
	}
	g, err := vswitch.NewGroup(threads, sc)
	if err != nil {
		return nil, err
	}
	d := &datapath{Group: g}
	if len(g.Shards) > 1 {
		nc.Expect = nat.NewExpectations()
	}
	for _, s := range g.Shards {
		n, err := nat.New(s, nc)
		if err != nil {
			g.Close()
			return nil, err
		}
		d.nats = append(d.nats, n)
	}
	return d, nil
}

// AddBridge makes an empty bridge, on which the policy holds from the start.
func (d *datapath) AddBridge(c vswitch.BridgeConfig) *vswitch.Segment {
	seg := d.Group.AddBridge(c)
	d.Each(func(i int, _ *vswitch.Switch) { d.nats[i].BridgeAdded(seg.Bridges[i]) })
	return seg
}

// hits are what rules have met, over all shards.
func (d *datapath) hits() map[uint32]nat.Hits {
	out := make(map[uint32]nat.Hits)
	d.Each(func(i int, _ *vswitch.Switch) {
		for id, h := range d.nats[i].Hits() {
			x := out[id]
			out[id] = nat.Hits{Flows: x.Flows + h.Flows, Packets: x.Packets + h.Packets, Bytes: x.Bytes + h.Bytes}
		}
	})
	return out
}

// explain says what would become of a packet of the container at seat.
func (d *datapath) explain(seat *vswitch.Seat, proto uint8, dst netip.AddrPort) (x nat.Explanation) {
	d.Shards[seat.Shard].Do(func() { x = d.nats[seat.Shard].Explain(seat.Port, proto, dst) })
	return x
}

// setPolicy tells every gateway who may talk to whom.
func (d *datapath) setPolicy(p nat.Policy) {
	d.Each(func(i int, _ *vswitch.Switch) { d.nats[i].SetPolicy(p) })
}

// publish starts to serve a listener for the container at seat, which all
// shards then know of. On error the listener is still the caller's.
func (d *datapath) publish(seat *vswitch.Seat, p nat.Publish) (id uint32, err error) {
	err = errors.New("the switch has stopped")
	p.Port = seat.Port
	d.Shards[seat.Shard].Do(func() { id, err = d.nats[seat.Shard].Publish(p) })
	if err != nil {
		return 0, err
	}
	d.others(seat.Shard, func(n *nat.NAT) { n.PublishElsewhere(p, seat.Shard) })
	return id, nil
}

// unpublish closes a listener.
func (d *datapath) unpublish(home int, id uint32) {
	d.Shards[home].Do(func() { d.nats[home].Unpublish(id) })
}

// unpublished tells the other shards that a listener has gone with its port.
func (d *datapath) unpublished(home int, proto uint8, host netip.AddrPort) {
	d.others(home, func(n *nat.NAT) { n.UnpublishElsewhere(nat.Publish{Proto: proto, Host: host}) })
}

func (d *datapath) others(home int, f func(*nat.NAT)) {
	for i, s := range d.Shards {
		if i != home {
			s.Do(func() { f(d.nats[i]) })
		}
	}
}

// stats are a port's counters over all shards.
func (d *datapath) stats(seat *vswitch.Seat) api.Stats { return statsOf(d.Stats(seat)) }

func statsOf(s vswitch.PortStats) api.Stats {
	return api.Stats{RxFrames: s.RxFrames, RxBytes: s.RxBytes, TxFrames: s.TxFrames, TxBytes: s.TxBytes, Upcalls: s.Upcalls, Hits: s.Hits, Drops: drops(&s.Drops)}
}

// counts are the flows by kind and what the gateways did, over all shards.
func (d *datapath) counts() (flows map[string]int, did map[string]uint64) {
	flows, did = make(map[string]int), make(map[string]uint64)
	d.Each(func(i int, _ *vswitch.Switch) {
		for k, n := range d.nats[i].Counts() {
			flows[k] += n
		}
		n := d.nats[i].Stats
		for k, v := range map[string]uint64{"tcp_opened": n.TCPOpened, "tcp_accepted": n.TCPAccepted, "tcp_reset": n.TCPReset, "tcp_retransmits": n.TCPRetransmits,
			"tcp_timeouts": n.TCPTimeouts, "udp_flows": n.UDPFlows, "ping_flows": n.PingFlows, "pair_flows": n.PairFlows, "spilled_bytes": n.SpillBytes,
			"fragments": n.Fragments, "reassembled": n.Reassembled, "socket_errors": n.Errors} {
			did[k] += v
		}
	})
	return flows, did
}
