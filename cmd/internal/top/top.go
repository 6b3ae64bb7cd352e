// Package top shows what containers and flows carry now: rates between two
// looks at the counters, with their recent past.
//
//	top.go      looks, and rates between them
//	key.go      what keys do
//	render.go   the screen as lines: a pure function of state and size
//	screen.go   the terminal
package top

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"tapswitch/cmd/internal/api"
)

// Look is what was counted at a moment.
type Look struct {
	At         time.Time
	Status     api.Status
	Interfaces []api.InterfaceStats
	Flows      []api.Flow // in the view of flows only: each costs the switch a system call
}

// Row is a container or a flow with its rates. Receive and transmit are the
// container's.
type Row struct {
	Name     string  `json:"name"`
	Networks string  `json:"networks,omitempty"`
	Flow     string  `json:"flow,omitempty"`
	State    string  `json:"state,omitempty"`
	AgeSec   float64 `json:"age_seconds,omitempty"`
	RxBits   float64 `json:"rx_bits_per_second"`
	TxBits   float64 `json:"tx_bits_per_second"`
	Packets  float64 `json:"packets_per_second"`
	Drops    float64 `json:"drops_per_second"`

	key  string
	past []float64 // bits per second each way together, the latest last
}

func (r *Row) rate() float64 { return r.RxBits + r.TxBits }

// View is what the rows are.
type View int

// Views.
const (
	Containers View = iota
	Flows
)

// Top is the state of the screen.
type Top struct {
	View View
	By   int // column to sort by, an index of sorts
	Desc bool
	Skip int // rows above the screen

	last Look
	rows [2][]Row // by view
	past map[string][]float64
	sums map[string]sum
}

// sum is what a row had counted at the last look.
type sum struct{ rx, tx, packets, drops uint64 }

// history is how many looks a row's past has at most.
const history = 120

// New begins with containers, those that carry most first.
func New() *Top { return &Top{Desc: true, past: map[string][]float64{}, sums: map[string]sum{}} }

// Take takes a further look. The first gives no rates.
func (t *Top) Take(l Look) {
	seconds := l.At.Sub(t.last.At).Seconds()
	known := !t.last.At.IsZero() && seconds > 0
	sums, past := map[string]sum{}, map[string][]float64{}
	add := func(r *Row, s sum) {
		before, was := t.sums[r.key]
		sums[r.key] = s
		if known && was {
			per := func(now, then uint64) float64 {
				if now < then { // somebody else has the name
					return 0
				}
				return float64(now-then) / seconds
			}
			r.RxBits, r.TxBits = 8*per(s.rx, before.rx), 8*per(s.tx, before.tx)
			r.Packets, r.Drops = per(s.packets, before.packets), per(s.drops, before.drops)
			p := append(t.past[r.key], r.rate())
			past[r.key] = p[max(0, len(p)-history):]
		}
		r.past = past[r.key]
	}
	t.rows[Containers] = nil
	for _, c := range byContainer(l.Interfaces) {
		add(&c.Row, c.sum)
		t.rows[Containers] = append(t.rows[Containers], c.Row)
	}
	t.rows[Flows] = nil
	for i := range l.Flows {
		f := &l.Flows[i]
		text := f.Protocol + " " + f.Local + " -> " + f.Remote
		if f.HostLocal != "" || f.HostPeer != "" {
			text += " => " + f.HostLocal + " -> " + f.HostPeer
		}
		name, _, _ := strings.Cut(f.Container, ":")
		r := Row{Name: name, Flow: text, State: f.State, AgeSec: f.AgeSec, key: "f" + f.Container + text}
		add(&r, sum{f.RxBytes, f.TxBytes, f.RxPackets + f.TxPackets, 0})
		t.rows[Flows] = append(t.rows[Flows], r)
	}
	t.last, t.sums, t.past = l, sums, past
	t.sort()
}

type counted struct {
	Row
	sum
}

// byContainer adds up the interfaces of each container.
func byContainer(list []api.InterfaceStats) (out []*counted) {
	at := map[string]*counted{}
	for i := range list {
		x := &list[i]
		c := at[x.Container]
		if c == nil {
			c = &counted{Row: Row{Name: x.Container, key: "c" + x.Container}}
			at[x.Container] = c
			out = append(out, c)
		}
		c.Networks = strings.TrimPrefix(c.Networks+","+x.Network, ",")
		c.rx, c.tx, c.packets = c.rx+x.RxBytes, c.tx+x.TxBytes, c.packets+x.RxFrames+x.TxFrames
		for _, n := range x.Drops {
			c.drops += n
		}
	}
	return out
}

// sorts are the columns to sort by, by the key that chooses them, from 1.
var sorts = []struct {
	name    string
	less    func(a, b *Row) int
	largest bool // first, unless reversed
}{
	{"rate", func(a, b *Row) int { return cmp.Compare(a.rate(), b.rate()) }, true},
	{"received", func(a, b *Row) int { return cmp.Compare(a.RxBits, b.RxBits) }, true},
	{"sent", func(a, b *Row) int { return cmp.Compare(a.TxBits, b.TxBits) }, true},
	{"drops", func(a, b *Row) int { return cmp.Or(cmp.Compare(a.Drops, b.Drops), cmp.Compare(a.AgeSec, b.AgeSec)) }, true},
	{"name", func(a, b *Row) int { return cmp.Compare(a.Name, b.Name) }, false},
}

// sortName is what a column is called in a view: flows have an age where
// containers have drops.
func sortName(by int, v View) string {
	if v == Flows && sorts[by].name == "drops" {
		return "age"
	}
	return sorts[by].name
}

func (t *Top) sort() {
	less := sorts[t.By].less
	slices.SortStableFunc(t.rows[t.View], func(a, b Row) int {
		n := less(&a, &b)
		if t.Desc {
			n = -n
		}
		return cmp.Or(n, cmp.Compare(a.key, b.key))
	})
}

// Rows are those of the view, sorted.
func (t *Top) Rows() []Row { return t.rows[t.View] }
