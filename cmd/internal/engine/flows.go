package engine

import (
	"net/netip"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// flowAt is a flow with the names of its container's port.
type flowAt struct {
	nat.Flow
	container, iface, network string
}

// listFlows lists a shard's flows a page at a time, so that the loop carries
// traffic between.
func (e *Engine) listFlows(shard int, want func(*nat.Flow) bool) (out []flowAt) {
	sw, n := e.path.Shards[shard], e.path.nats[shard]
	for at, first := uint32(0), true; first || at != 0; first = false {
		if !sw.Do(func() {
			var list []nat.Flow
			list, at = n.List(at, want)
			for _, f := range list {
				x := flowAt{Flow: f}
				if p := sw.Port(f.Port); p != nil {
					x.container, x.iface, x.network = p.Label, p.Name, p.Bridge().Name
				}
				out = append(out, x)
			}
		}) {
			return out
		}
	}
	return out
}

// Flows lists all flows.
func (e *Engine) Flows() []api.Flow {
	out, _ := e.FlowsOf(api.FlowFilter{})
	return out
}

// FlowsOf lists the flows that a filter takes.
func (e *Engine) FlowsOf(r api.FlowFilter) ([]api.Flow, error) {
	w, err := parseFlowFilter(r)
	if err != nil {
		return nil, err
	}
	out := []api.Flow{}
	for shard := range e.path.Shards {
		for _, f := range e.listFlows(shard, w.takes) {
			if w.owner == "" || f.container == w.owner || f.iface == w.owner {
				out = append(out, viewFlow(&f))
			}
		}
	}
	return out, nil
}

// KillFlows ends the flows that a filter takes, both their sides with a reset.
func (e *Engine) KillFlows(r api.FlowFilter) (*api.Killed, error) {
	w, err := parseFlowFilter(r)
	if err != nil {
		return nil, err
	}
	if r == (api.FlowFilter{}) {
		return nil, api.Errorf(api.BadRequest, "which flows are to end?").WithHint("name a container, a protocol, a state or an address, or write --all")
	}
	out := &api.Killed{}
	for shard, sw := range e.path.Shards {
		n := e.path.nats[shard]
		for at, first := uint32(0), true; first || at != 0; first = false {
			if !sw.Do(func() {
				var killed int
				killed, at = n.Kill(at, func(f *nat.Flow) bool {
					p := sw.Port(f.Port)
					return w.takes(f) && (w.owner == "" || p != nil && (p.Label == w.owner || p.Name == w.owner))
				})
				out.Flows += killed
			}) {
				return out, nil
			}
		}
	}
	return out, nil
}

// flowFilter is a FlowFilter that was understood.
type flowFilter struct {
	owner  string
	proto  uint8
	state  string
	remote netip.Prefix // invalid: any
	port   uint16       // 0: any
}

func parseFlowFilter(r api.FlowFilter) (w flowFilter, err error) {
	w.owner = r.Container
	if r.Proto != "" {
		if w.proto = protocols[r.Proto]; w.proto == 0 {
			return w, api.Errorf(api.BadRequest, "protocol %q: write tcp, udp or icmp", r.Proto)
		}
	}
	if r.State != "" {
		known := nat.FlowStates()
		for _, s := range known {
			if s == r.State {
				w.state = s
			}
		}
		if w.state == "" {
			return w, api.Errorf(api.BadRequest, "state %q: write one of %s", r.State, strings.Join(known, ", "))
		}
	}
	if r.Remote == "" {
		return w, nil
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(r.Remote, ":"), 10, 16); err == nil && n > 0 {
		w.port = uint16(n)
		return w, nil
	}
	if a, err := netip.ParseAddrPort(r.Remote); err == nil {
		w.port = a.Port()
		w.remote, _ = a.Addr().Unmap().Prefix(a.Addr().Unmap().BitLen())
		return w, nil
	}
	if a, err := netip.ParseAddr(strings.Trim(r.Remote, "[]")); err == nil {
		w.remote, _ = a.Unmap().Prefix(a.Unmap().BitLen())
		return w, nil
	}
	if w.remote, err = netip.ParsePrefix(r.Remote); err != nil {
		return w, api.Errorf(api.BadRequest, "remote %q: write an address, ADDRESS:PORT, a CIDR or a port", r.Remote)
	}
	return w, nil
}

// takes says whether all but the owner fits. The remote is what either side
// calls so.
func (w *flowFilter) takes(f *nat.Flow) bool {
	proto := f.Proto
	if proto == vswitch.ProtoICMPv6 {
		proto = vswitch.ProtoICMP
	}
	if w.proto != 0 && w.proto != proto || w.state != "" && w.state != f.State {
		return false
	}
	if !w.remote.IsValid() && w.port == 0 {
		return true
	}
	is := func(a netip.AddrPort) bool {
		return a.IsValid() && (!w.remote.IsValid() || w.remote.Contains(a.Addr().Unmap())) && (w.port == 0 || w.port == a.Port())
	}
	return is(f.Remote) || is(f.Peer)
}

func viewFlow(f *flowAt) api.Flow {
	return api.Flow{Protocol: protocol(f.Proto), Kind: f.Kind, State: f.State, Container: f.iface, Network: f.network, Inbound: f.Inbound, Rule: f.Rule,
		Local: f.Local.String(), Remote: f.Remote.String(), HostLocal: text(f.Host), HostPeer: text(f.Peer), AgeSec: float64(f.Age) / 1e9,
		TxBytes: f.Bytes[0], RxBytes: f.Bytes[1], TxPackets: f.Packets[0], RxPackets: f.Packets[1],
		RTTMs: float64(f.RTT) / 1e6, RTTHostMs: float64(f.HostRTT) / 1e6, Retrans: f.Retrans, RetransHost: f.HostRetrans}
}
