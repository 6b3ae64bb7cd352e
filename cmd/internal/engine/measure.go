package engine

import (
	"sort"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Measured is what was counted up to a moment, for metrics: it is read from the
// counters that are there, when somebody asks.
type Measured struct {
	Status     *api.Status
	Interfaces []api.InterfaceStats
	Flows      map[nat.KindState]int
	Rules      []api.Rule // with what is built in
	Turns      []uint64   // of the loop, by shard
}

// Version is the program's.
func (e *Engine) Version() string { return e.start.Version }

// LogFormat is how is logged, since the start.
func (e *Engine) LogFormat() string { return e.start.Config.Config.LogFormat }

// Measure reads all counters.
func (e *Engine) Measure() *Measured {
	m := &Measured{Status: e.Status(), Interfaces: e.Stats(), Flows: make(map[nat.KindState]int), Rules: e.Rules(true)}
	e.path.Each(func(i int, sw *vswitch.Switch) {
		for k, n := range e.path.nats[i].States() {
			m.Flows[k] += n
		}
		m.Turns = append(m.Turns, sw.Turns())
	})
	return m
}

// Stats lists what the interfaces have counted, by name: each shard is asked
// once, however many there are.
func (e *Engine) Stats() []api.InterfaceStats {
	type key struct{ network, name string }
	sums := make(map[key]*vswitch.PortStats)
	owners := make(map[key]string)
	e.path.Each(func(_ int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			for _, p := range b.Ports() {
				k := key{b.Name, p.Name}
				if sums[k] == nil {
					sums[k], owners[k] = new(vswitch.PortStats), p.Label
				}
				sums[k].Add(&p.Stats)
			}
		}
	})
	out := make([]api.InterfaceStats, 0, len(sums))
	for k, s := range sums {
		out = append(out, api.InterfaceStats{Interface: k.name, Container: owners[k], Network: k.network,
			IfName: k.name[strings.LastIndexByte(k.name, ':')+1:], Stats: statsOf(*s)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Interface < out[j].Interface })
	return out
}
