// Package graph draws a switch: networks, containers, published ports, links,
// routes and rules, as DOT, Mermaid or SVG.
//
//	graph.go    what is drawn
//	dot.go      for graphviz
//	mermaid.go  for Markdown
//	svg.go      as it is: layout.go says where things stand
package graph

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
)

// Formats are the names of what can be drawn.
var Formats = []string{"mermaid", "dot", "svg"}

// Graph is what is drawn.
type Graph struct {
	Networks   []*api.Network
	Containers []*api.Container
	Rules      []api.Rule
	Routes     []api.Rule
}

// Write draws g.
func (g *Graph) Write(w io.Writer, format string) error {
	switch format {
	case "mermaid":
		return g.mermaid(w)
	case "dot":
		return g.dot(w)
	case "svg":
		return g.svg(w)
	}
	return fmt.Errorf("%q is no format: write %s", format, strings.Join(Formats, ", "))
}

// about is what is said of a network beside its name.
func about(n *api.Network) string {
	var parts []string
	for _, s := range n.Subnets {
		parts = append(parts, s.Subnet.String())
	}
	if n.Internal {
		parts = append(parts, "internal")
	}
	if !n.ICC {
		parts = append(parts, "icc off")
	}
	if n.Egress != "" {
		parts = append(parts, "egress "+n.Egress)
	}
	return strings.Join(parts, ", ")
}

// published are a container's ports, each once for all families.
func published(c *api.Container) (out []string) {
	for _, p := range c.Ports {
		s := fmt.Sprintf("%d → %d/%s", p.HostPort, p.ContainerPort, p.Protocol)
		if p.HostIP != "0.0.0.0" && p.HostIP != "::" {
			s = p.HostIP + ":" + s
			if strings.Contains(p.HostIP, ":") {
				s = "[" + p.HostIP + "]" + strings.TrimPrefix(s, p.HostIP)
			}
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// relation is a way from one container to another.
type relation struct {
	from, to int // in Containers
	text     string
}

// relations are links, and containers on the network of another.
func (g *Graph) relations() (out []relation) {
	index := func(name string) int {
		return slices.IndexFunc(g.Containers, func(c *api.Container) bool { return c.Name == name || c.ID == name })
	}
	for i, c := range g.Containers {
		for _, l := range c.Links {
			name, alias, ok := strings.Cut(l, ":")
			text := "link"
			if ok && alias != name {
				text += " as " + alias
			}
			if to := index(name); to >= 0 {
				out = append(out, relation{i, to, text})
			}
		}
		if host, ok := strings.CutPrefix(c.Mode, "container:"); ok {
			if to := index(host); to >= 0 {
				out = append(out, relation{i, to, "shares its network"})
			}
		}
	}
	return out
}

// network is the number of the network that is so called, or -1.
func (g *Graph) network(name string) int {
	return slices.IndexFunc(g.Networks, func(n *api.Network) bool { return n.Name == name })
}

// what says what a rule or route is about, without its sides.
func what(r *api.Rule) string {
	parts := []string{r.Action, r.Proto}
	if len(r.Ports) > 0 {
		parts = append(parts, strings.Join(r.Ports, ","))
	}
	parts = append(parts, r.Direction)
	if r.Comment != "" {
		parts = append(parts, "("+r.Comment+")")
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, " ")
}

// side is where a rule begins or ends: a node of the picture, or one of its own.
func (g *Graph) side(s string, network, container func(int) string, other func(text string) string) string {
	name := trimPrefix(s)
	if i := g.network(name); i >= 0 && !strings.HasPrefix(s, "container:") {
		return network(i)
	}
	if i := slices.IndexFunc(g.Containers, func(c *api.Container) bool { return c.Name == name }); i >= 0 && !strings.HasPrefix(s, "network:") {
		return container(i)
	}
	if rest, not := strings.CutPrefix(s, "!"); not {
		return other("all but " + rest)
	}
	return other(s)
}

// trimPrefix is a party's bare name.
func trimPrefix(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "network:"), "container:")
}
