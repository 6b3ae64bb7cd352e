package graph

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"tapswitch/cmd/internal/api"
)

// quoteDOT makes a string of the DOT language; \n in it begins a new line.
func quoteDOT(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "").Replace(s) + `"`
}

func (g *Graph) dot(w io.Writer) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line(`digraph tapswitch {
  graph [rankdir=TB, fontname="sans-serif", nodesep=0.4, ranksep=0.7]
  node [fontname="sans-serif", fontsize=11, style="filled,rounded", shape=box, color="#64748b", fillcolor=white]
  edge [fontname="sans-serif", fontsize=9, color="#64748b"]
  outside [label="outside", shape=ellipse, style=filled, fillcolor="#e2e8f0"]
  host [label="host", shape=box, style=filled, fillcolor="#e2e8f0"]`)
	for i, n := range g.Networks {
		line(`  n%d [label=%s, fillcolor=%q, style="filled"]`, i, quoteDOT(n.Name+"\n"+about(n)), colour(i).fill)
		if !n.Internal {
			line(`  outside -> n%d [dir=back]`, i)
		}
	}
	for i, c := range g.Containers {
		line(`  c%d [label=%s]`, i, quoteDOT(c.Name))
		for _, e := range c.Networks {
			if at := g.network(e.Network); at >= 0 {
				line(`  n%d -> c%d [dir=none, label=%s]`, at, i, quoteDOT(address(&e)))
			}
		}
		for _, p := range published(c) {
			line(`  host -> c%d [color="#2563eb", label=%s]`, i, quoteDOT(p))
		}
		if c.Mode == "host" {
			line(`  host -> c%d [dir=none, style=dashed, label="its network"]`, i)
		}
	}
	for _, r := range g.relations() {
		line(`  c%d -> c%d [style=dashed, constraint=false, label=%s]`, r.from, r.to, quoteDOT(r.text))
	}
	for i := range g.Routes {
		g.dotRule(line, &g.Routes[i], "#059669", "bold")
	}
	for i := range g.Rules {
		g.dotRule(line, &g.Rules[i], ruleColour(g.Rules[i].Action), "solid")
	}
	line("}")
	_, err := w.Write(b.Bytes())
	return err
}

func (g *Graph) dotRule(line func(string, ...any), r *api.Rule, colour, style string) {
	side := func(s string) string {
		return g.side(s, func(i int) string { return fmt.Sprintf("n%d", i) }, func(i int) string { return fmt.Sprintf("c%d", i) }, func(text string) string {
			if text == "outside" || text == "host" {
				return text
			}
			id := quoteDOT("party " + text)
			line(`  %s [label=%s, shape=plaintext, style=""]`, id, quoteDOT(text))
			return id
		})
	}
	from, to := side(r.From), side(r.To)
	line(`  %s -> %s [color=%q, fontcolor=%q, style=%s, constraint=false, label=%s]`, from, to, colour, colour, style, quoteDOT(what(r)))
}

// address is what an endpoint has, the first of IPv4 and IPv6.
func address(e *api.Endpoint) string {
	if e.IP != "" {
		return e.IP
	}
	return e.IP6
}

func ruleColour(action string) string {
	if action == "accept" {
		return "#059669"
	}
	return "#dc2626"
}

// paint is what a network is drawn in.
type paint struct{ fill, line string }

var paints = []paint{{"#dbeafe", "#2563eb"}, {"#dcfce7", "#16a34a"}, {"#fef3c7", "#d97706"}, {"#fce7f3", "#db2777"}, {"#ede9fe", "#7c3aed"}, {"#cffafe", "#0891b2"}, {"#ffedd5", "#ea580c"}, {"#f1f5f9", "#475569"}}

func colour(i int) paint { return paints[i%len(paints)] }
