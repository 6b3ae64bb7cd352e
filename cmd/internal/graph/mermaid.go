package graph

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"tapswitch/cmd/internal/api"
)

// quoteMermaid makes a quoted text of a flowchart, in which nothing means
// anything: entities in Mermaid's own spelling stand for what would.
func quoteMermaid(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("<br/>")
		case strings.ContainsRune("\"#;<>&`\\|[]{}", r) || r < ' ':
			fmt.Fprintf(&b, "#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

func (g *Graph) mermaid(w io.Writer) error {
	var b bytes.Buffer
	edges := 0
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	edge := func(style, format string, args ...any) {
		line(format, args...)
		if style != "" {
			line("linkStyle %d %s", edges, style)
		}
		edges++
	}
	fmt.Fprintln(&b, "flowchart TB")
	line(`outside(["outside"])`)
	line(`host["host"]`)
	for i, n := range g.Networks {
		line(`n%d[/%s/]`, i, quoteMermaid(n.Name+"\n"+about(n)))
		line(`style n%d fill:%s,stroke:%s`, i, colour(i).fill, colour(i).line)
		if !n.Internal {
			edge("", `n%d --> outside`, i)
		}
	}
	for i, c := range g.Containers {
		line(`c%d(%s)`, i, quoteMermaid(c.Name))
		for _, e := range c.Networks {
			if at := g.network(e.Network); at >= 0 {
				edge("", `n%d ---|%s| c%d`, at, quoteMermaid(address(&e)), i)
			}
		}
		for _, p := range published(c) {
			edge("stroke:#2563eb", `host -->|%s| c%d`, quoteMermaid(p), i)
		}
		if c.Mode == "host" {
			edge("", `host -.-|"its network"| c%d`, i)
		}
	}
	for _, r := range g.relations() {
		edge("", `c%d -.->|%s| c%d`, r.from, quoteMermaid(r.text), r.to)
	}
	parties := make(map[string]string)
	rule := func(r *api.Rule, colour string) {
		side := func(s string) string {
			return g.side(s, func(i int) string { return fmt.Sprintf("n%d", i) }, func(i int) string { return fmt.Sprintf("c%d", i) }, func(text string) string {
				if text == "outside" || text == "host" {
					return text
				}
				if parties[text] == "" {
					parties[text] = fmt.Sprintf("p%d", len(parties))
					line(`%s{{%s}}`, parties[text], quoteMermaid(text))
				}
				return parties[text]
			})
		}
		from, to := side(r.From), side(r.To)
		edge("stroke:"+colour+",color:"+colour, `%s ==>|%s| %s`, from, quoteMermaid(what(r)), to)
	}
	for i := range g.Routes {
		rule(&g.Routes[i], "#059669")
	}
	for i := range g.Rules {
		rule(&g.Rules[i], ruleColour(g.Rules[i].Action))
	}
	_, err := w.Write(b.Bytes())
	return err
}
