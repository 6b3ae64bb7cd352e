package graph

import (
	"slices"
	"unicode/utf8"

	"tapswitch/cmd/internal/api"
)

// The picture has layers, from the top:
//
//	outside                                          a bar
//	networks, one below the other                    bars, over the columns of their containers
//	containers, each a column                        boxes, with a line up to each of their networks
//	links, and containers that share a network       lanes
//	the host with the published ports                a bar
//	routes and rules                                 text
//
// Ways to the outside are lanes at the right, the inner one for the upper
// network; routes are lanes at the left. So nothing but links crosses another,
// and lines of a container pass below the bars of networks that it is not on.

// Measures, in pixels.
const (
	margin    = 24
	barHigh   = 30
	barGap    = 26
	boxHigh   = 40
	columnGap = 28
	laneGap   = 18
	textHigh  = 16
	charWide  = 6.6 // of a character, more or less
	boldWide  = 8
	mostText  = 60 // characters of one label
)

type rect struct{ x, y, w, h float64 }

func (r rect) right() float64  { return r.x + r.w }
func (r rect) bottom() float64 { return r.y + r.h }
func (r rect) middle() float64 { return r.x + r.w/2 }

// layout says where things stand.
type layout struct {
	order      []int // of the containers, from the left
	outside    rect
	networks   []rect
	containers []rect
	lanes      float64 // where those of the links begin
	host       rect
	legend     float64
	w, h       float64
}

func wide(s string) float64 { return charWide * float64(utf8.RuneCountInString(s)) }

func wideBold(s string) float64 { return boldWide * float64(utf8.RuneCountInString(s)) }

// cut shortens a label that is too long for the picture.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= mostText {
		return s
	}
	return string([]rune(s)[:mostText-1]) + "…"
}

func (g *Graph) layout(legend []string) *layout {
	l := &layout{networks: make([]rect, len(g.Networks)), containers: make([]rect, len(g.Containers))}
	left := margin + laneGap*float64(len(g.Routes))
	if len(g.Routes) > 0 {
		left += laneGap
	}
	l.sort(g)
	y := float64(margin)
	l.outside = rect{left, y, 0, barHigh}
	y += barHigh + barGap
	for i := range g.Networks {
		l.networks[i] = rect{left, y, 0, barHigh}
		y += barHigh + barGap
	}
	y += barGap / 2
	x := left
	for _, i := range l.order {
		w := columnWide(g.Containers[i])
		l.containers[i] = rect{x, y, w, boxHigh}
		x += w + columnGap
	}
	right := max(x-columnGap, left+320)
	for i, n := range g.Networks {
		r := &l.networks[i]
		first, last := right, 0.0
		for j, c := range g.Containers {
			if slices.ContainsFunc(c.Networks, func(e api.Endpoint) bool { return e.Network == n.Name }) {
				first, last = min(first, l.containers[j].x), max(last, l.containers[j].right())
			}
		}
		if last == 0 {
			first, last = left, left
		}
		r.w = max(last-first, wideBold(cut(n.Name))+wide(cut(about(n)))+36)
		r.x = max(left, min(first, right-r.w))
		right = max(right, r.right())
	}
	if len(g.Containers) > 0 {
		y += boxHigh
	}
	l.lanes = y + laneGap
	y += laneGap * float64(len(g.relations())+1)
	ports := 0
	for _, c := range g.Containers {
		ports = max(ports, len(published(c)))
	}
	y += textHigh*float64(ports) + barGap
	l.host = rect{left, y, right - left, barHigh}
	l.outside.w = right - left + laneGap*float64(len(g.Networks)+1)
	y += barHigh + margin
	l.legend = y + textHigh/2
	l.w = l.outside.right() + margin
	for _, s := range legend {
		l.w = max(l.w, left+wide(s)+2*margin)
	}
	l.h = y
	if len(legend) > 0 {
		l.h = l.legend + textHigh*float64(len(legend)) + margin/2
	}
	return l
}

// sort puts containers beside those of the same networks: by their uppermost one,
// those of several last, next to the one below.
func (l *layout) sort(g *Graph) {
	type place struct{ first, last int }
	places := make([]place, len(g.Containers))
	for i, c := range g.Containers {
		p := place{len(g.Networks), -1}
		for _, e := range c.Networks {
			if n := g.network(e.Network); n >= 0 {
				p.first, p.last = min(p.first, n), max(p.last, n)
			}
		}
		places[i] = p
		l.order = append(l.order, i)
	}
	slices.SortStableFunc(l.order, func(a, b int) int {
		if d := places[a].first - places[b].first; d != 0 {
			return d
		}
		return places[a].last - places[b].last
	})
}

// columnWide is what a container takes: its name, an address beside each line up,
// and its ports beside the one down.
func columnWide(c *api.Container) float64 {
	w := max(110, wideBold(cut(c.Name))+24)
	lines := 0.0
	for _, e := range c.Networks {
		lines += wide(cut(address(&e))) + 16
	}
	for _, p := range published(c) {
		w = max(w, wide(p)+40)
	}
	return max(w, lines+16)
}
