package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Why things failed, in retrospect. The shards remember what came to nothing
// (switch/failure.go), DNS what it could not answer; names are kept here for
// longer than what bears them, since the question comes afterwards.

const (
	mostFailures = 1000
	keptNames    = 8192
	pendingAfter = int64(time.Second) // without an answer, a connection is one to ask about
)

// memory is what is remembered of names.
type memory struct {
	mu    sync.Mutex
	ports map[seatAt]seatName
	told  map[netip.Addr]string // by DNS
}

type seatAt struct {
	shard int
	id    vswitch.PortID
	gen   uint32
}

type seatName struct{ container, iface, network string }

// remember keeps the names of a port.
func (m *memory) remember(shard int, p *vswitch.Port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ports == nil || len(m.ports) >= keptNames {
		// Those that are there are found by their ports; what is lost are names of
		// interfaces that went long ago.
		m.ports = make(map[seatAt]seatName)
	}
	m.ports[seatAt{shard, p.ID, p.Gen()}] = seatName{p.Label, p.Name, p.Bridge().Name}
}

// hear keeps a name that DNS has told for addresses.
func (m *memory) hear(name string, addrs []netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told == nil || len(m.told) >= keptNames {
		m.told = make(map[netip.Addr]string)
	}
	for _, a := range addrs[:min(len(addrs), 64)] {
		m.told[a.Unmap()] = name
	}
}

// nameOf is a container's name, or what DNS has told.
func (e *Engine) nameOf(a netip.Addr) string {
	for network, list := range e.table.Load().reverse {
		if n, is := list[a]; is {
			return strings.TrimSuffix(n, "."+network)
		}
	}
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	return e.memory.told[a]
}

// Why lists what came to nothing, the latest last: of one container, or of all;
// at most the last so many if that is not 0.
func (e *Engine) Why(name string, last int) ([]api.Failure, error) {
	all := []api.Failure{}
	var asked string
	if name != "" {
		asked = e.fullName(name)
		if !e.remembers(asked) {
			return nil, api.Errorf(api.NotFound, "no such container: %s", name).WithHint("tapswitch ps lists them")
		}
	}
	base := time.Now().UnixNano() - vswitch.Monotonic()
	for shard, sw := range e.path.Shards {
		var raw []vswitch.Failure
		names := make(map[seatAt]seatName)
		var now int64
		sw.Do(func() {
			raw, now = sw.Failures(), sw.Now()
			for _, b := range sw.Bridges() {
				for _, p := range b.Ports() {
					names[seatAt{shard, p.ID, p.Gen()}] = seatName{p.Label, p.Name, b.Name}
				}
			}
		})
		for i := range raw {
			f := &raw[i]
			all = append(all, e.failure(f, e.nameSeat(names, seatAt{shard, f.Port, f.Gen}), base))
		}
		for _, f := range e.listFlows(shard, func(f *nat.Flow) bool { return f.State == "connecting" && f.Age > pendingAfter }) {
			all = append(all, e.pending(f, base+now))
		}
	}
	all = append(all, e.questions.failures()...)
	if asked != "" {
		all = slices.DeleteFunc(all, func(f api.Failure) bool { return f.Container != asked && f.Interface != asked })
	}
	slices.SortStableFunc(all, func(a, b api.Failure) int { return a.Last.Compare(b.Last) })
	if last <= 0 || last > mostFailures {
		last = mostFailures
	}
	return all[max(0, len(all)-last):], nil
}

// fullName is the name of the container that is meant, if it is there.
func (e *Engine) fullName(s string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err := e.find(s); err == nil {
		return c.name
	}
	return s
}

// remembers says whether a container or an interface is there, or was.
func (e *Engine) remembers(name string) bool {
	e.mu.Lock()
	bare, _, _ := strings.Cut(name, ":")
	known := e.names[bare] != nil
	e.mu.Unlock()
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	for _, s := range e.memory.ports {
		known = known || s.container == name || s.iface == name
	}
	return known
}

// nameSeat finds a port's names among those that are there, else among those that
// were.
func (e *Engine) nameSeat(there map[seatAt]seatName, at seatAt) seatName {
	if s, is := there[at]; is {
		return s
	}
	e.memory.mu.Lock()
	defer e.memory.mu.Unlock()
	if s, is := e.memory.ports[at]; is {
		return s
	}
	return seatName{iface: "an interface that is gone"}
}

// failure makes a record readable.
func (e *Engine) failure(f *vswitch.Failure, s seatName, base int64) api.Failure {
	info := f.Reason.Info()
	out := api.Failure{First: wallTime(base + f.First), Last: wallTime(base + f.Last), Count: f.Count, Container: s.container, Interface: s.iface, Network: s.network,
		Direction: direction(f.Inbound), Step: f.Step.String(), Reason: info.Name, Why: info.Why, Remedy: info.Remedy, Rule: f.Rule}
	if !f.IP {
		out.Protocol = fmt.Sprintf("ethertype 0x%04x", f.EtherType)
		if f.EtherType == vswitch.EtherARP {
			out.Protocol = "arp"
		}
		out.From, out.To = f.SrcMAC.String(), f.DstMAC.String()
		return out
	}
	out.Protocol = protocol(f.Proto)
	if out.Protocol == "?" {
		out.Protocol = "ip-proto-" + strconv.Itoa(int(f.Proto))
	}
	src, dst := addressOf(f.Src, f.V6), addressOf(f.Dst, f.V6)
	if out.From, out.To = src.String(), dst.String(); f.Proto == vswitch.ProtoTCP || f.Proto == vswitch.ProtoUDP {
		out.From, out.To = netip.AddrPortFrom(src, f.SrcPort).String(), netip.AddrPortFrom(dst, f.DstPort).String()
	}
	out.ToName = e.nameOf(dst)
	switch f.Step { // where the reason's own words do not fit
	case vswitch.StepHost:
		if f.Reason == vswitch.Refused {
			out.Why, out.Remedy = "The host's own kernel would not send it: its firewall forbids this.", "Try it from the host, and look at the host's own rules: `nft list ruleset`."
		}
	case vswitch.StepOutside:
		if f.Reason == vswitch.Refused {
			out.Why, out.Remedy = "The other side refuses: nothing listens there, or its firewall says so.", "Start the service there, or ask for its right address and port."
		} else if f.Reason == vswitch.NoRoute {
			out.Why = "The host, or a router on the way, cannot reach it."
		}
	case vswitch.StepContainer:
		if f.Reason == vswitch.Refused {
			out.Why, out.Remedy = "Nothing listens in the container at this port.", "Start the service in the container, on all of its addresses, or publish the port that it has."
		} else if f.Reason == vswitch.NoAnswer {
			out.Why, out.Remedy = "The container does not answer.", "Look at it with `tapswitch exec NAME ss -tlnp`, and at its own firewall."
		}
	}
	return out
}

// pending is a connection that nobody has answered so far.
func (e *Engine) pending(f flowAt, now int64) api.Failure {
	info := vswitch.NoAnswer.Info()
	begun := wallTime(now - f.Age)
	return api.Failure{First: begun, Last: begun, Count: 1, Container: f.container, Interface: f.iface, Network: f.network, Direction: direction(f.Inbound), Protocol: protocol(f.Proto),
		From: f.Local.String(), To: f.Remote.String(), ToName: e.nameOf(f.Remote.Addr()), Step: vswitch.StepOutside.String(), Reason: info.Name,
		Why: "Nobody has answered the connection so far.", Remedy: info.Remedy, Rule: f.Rule, Pending: true}
}

func direction(inbound bool) string {
	if inbound {
		return "in"
	}
	return "out"
}

func addressOf(a [16]byte, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[:4]))
}

func wallTime(ns int64) time.Time { return time.Unix(0, ns).UTC().Truncate(time.Millisecond) }
