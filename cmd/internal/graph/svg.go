package graph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"

	"tapswitch/cmd/internal/api"
)

// canvas collects the picture.
type canvas struct{ bytes.Buffer }

// escape makes text of XML; what XML cannot hold becomes U+FFFD.
func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func num(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (c *canvas) box(r rect, radius int, fill, line, title string) {
	fmt.Fprintf(c, `<rect x="%s" y="%s" width="%s" height="%s" rx="%d" fill="%s" stroke="%s">`, num(r.x), num(r.y), num(r.w), num(r.h), radius, fill, line)
	if title != "" {
		fmt.Fprintf(c, "<title>%s</title>", escape(title))
	}
	fmt.Fprintln(c, "</rect>")
}

func (c *canvas) text(x, y float64, more, s string) {
	fmt.Fprintf(c, "<text x=\"%s\" y=\"%s\"%s>%s</text>\n", num(x), num(y), more, escape(s))
}

// path draws lines through points, x and y in turn.
func (c *canvas) path(more string, points ...float64) {
	fmt.Fprint(c, `<polyline fill="none" points="`)
	for i := 0; i < len(points); i += 2 {
		if i > 0 {
			c.WriteByte(' ')
		}
		c.WriteString(num(points[i]) + "," + num(points[i+1]))
	}
	fmt.Fprintf(c, "\"%s/>\n", more)
}

const (
	grey   = "#64748b"
	blue   = "#2563eb"
	green  = "#059669"
	pale   = "#e2e8f0"
	bold   = ` font-weight="bold"`
	small  = ` font-size="11" fill="#475569"`
	center = ` text-anchor="middle"`
)

func (g *Graph) svg(w io.Writer) error {
	legend := g.legend()
	l := g.layout(texts(legend))
	c := &canvas{}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %s %s" font-family="Helvetica, Arial, sans-serif" font-size="12">`+"\n", num(l.w), num(l.h), num(l.w), num(l.h))
	fmt.Fprintln(c, `<defs>`)
	for _, a := range []struct{ id, colour string }{{"to", grey}, {"in", blue}, {"way", green}} {
		fmt.Fprintf(c, `<marker id="%s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="%s"/></marker>`+"\n", a.id, a.colour)
	}
	fmt.Fprintln(c, "</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")
	g.drawLines(c, l)
	c.box(l.outside, 15, pale, grey, "")
	c.text(l.outside.middle(), l.outside.y+20, center+bold, "outside")
	g.drawNetworks(c, l)
	g.drawRelations(c, l)
	g.drawContainers(c, l)
	c.box(l.host, 4, pale, grey, "")
	c.text(l.host.x+12, l.host.y+20, bold, "host")
	for i, e := range legend {
		c.text(l.host.x, l.legend+textHigh*float64(i)+4, fmt.Sprintf(` font-size="11" fill="%s"`, e.colour), e.text)
	}
	fmt.Fprintln(c, "</svg>")
	_, err := w.Write(c.Bytes())
	return err
}

// drawLines draws the containers' lines to their networks, below the bars.
func (g *Graph) drawLines(c *canvas, l *layout) {
	for i, ct := range g.Containers {
		for j, e := range ct.Networks {
			if n := g.network(e.Network); n >= 0 {
				x := lineX(l.containers[i], ct, j)
				c.path(fmt.Sprintf(` stroke="%s" stroke-width="2"`, colour(n).line), x, l.containers[i].y, x, l.networks[n].bottom())
			}
		}
	}
}

// lineX is where the line to a container's network j begins: there is room for
// its address to the right.
func lineX(r rect, c *api.Container, j int) float64 {
	x := r.x + 16
	for _, e := range c.Networks[:j] {
		x += wide(cut(address(&e))) + 16
	}
	return x
}

func (g *Graph) drawNetworks(c *canvas, l *layout) {
	lane := l.host.right() + laneGap
	for i, n := range g.Networks {
		r, p := l.networks[i], colour(i)
		if !n.Internal {
			y := r.y + barHigh/2
			c.path(fmt.Sprintf(` stroke="%s" marker-end="url(#to)"`, grey), r.right(), y, lane, y, lane, l.outside.bottom())
			lane += laneGap
		}
		c.box(r, 6, p.fill, p.line, "gateway "+gateways(n)+", MTU "+strconv.Itoa(n.MTU))
		c.text(r.x+12, r.y+20, bold, cut(n.Name))
		c.text(r.x+24+wideBold(cut(n.Name)), r.y+20, small, cut(about(n)))
	}
	for i, r := range g.Routes {
		from, to := g.network(trimPrefix(r.From)), g.network(trimPrefix(r.To))
		if from < 0 || to < 0 {
			continue
		}
		a, b := l.networks[from], l.networks[to]
		x := l.host.x - laneGap*float64(i+1)
		c.path(fmt.Sprintf(` stroke="%s" stroke-width="1.5" marker-end="url(#way)"`, green), a.x, a.y+barHigh/2-5, x, a.y+barHigh/2-5, x, b.y+barHigh/2+5, b.x, b.y+barHigh/2+5)
	}
}

func gateways(n *api.Network) (s string) {
	for i, x := range n.Subnets {
		if i > 0 {
			s += ", "
		}
		s += x.Gateway.String()
	}
	return s
}

func (g *Graph) drawContainers(c *canvas, l *layout) {
	for i, ct := range g.Containers {
		r := l.containers[i]
		for j, e := range ct.Networks {
			if n := g.network(e.Network); n >= 0 {
				x := lineX(r, ct, j)
				fmt.Fprintf(c, `<circle cx="%s" cy="%s" r="4" fill="%s"/>`+"\n", num(x), num(l.networks[n].bottom()), colour(n).line)
				c.text(x+6, r.y-7, small, cut(address(&e)))
			}
		}
		c.box(r, 6, "white", "#334155", title(ct))
		c.text(r.middle(), r.y+25, center+bold, cut(ct.Name))
		if ct.Mode == "host" {
			c.path(fmt.Sprintf(` stroke="%s" stroke-dasharray="4 3"`, grey), r.middle(), r.bottom(), r.middle(), l.host.y)
			c.text(r.middle()+8, l.host.y-8, small, "the host's network")
		}
		ports := published(ct)
		if len(ports) == 0 {
			continue
		}
		x := r.x + 16
		c.path(fmt.Sprintf(` stroke="%s" stroke-width="1.5" marker-end="url(#in)"`, blue), x, l.host.y, x, r.bottom()+1)
		for k, p := range ports {
			c.text(x+8, l.host.y-8-textHigh*float64(len(ports)-1-k), small, p)
		}
	}
}

// title is what a pointer on a container shows.
func title(c *api.Container) string {
	s := c.Name + " " + c.ID[:min(12, len(c.ID))]
	for _, e := range c.Networks {
		s += "\n" + e.IfName + " on " + e.Network + ": " + e.IP + " " + e.IP6 + " " + e.MAC
	}
	return s
}

func (g *Graph) drawRelations(c *canvas, l *layout) {
	for i, r := range g.relations() {
		a, b := l.containers[r.from], l.containers[r.to]
		y := l.lanes + laneGap*float64(i)
		x1, x2 := a.middle()+6, b.middle()-6
		c.path(fmt.Sprintf(` stroke="%s" stroke-dasharray="4 3" marker-end="url(#to)"`, grey), x1, a.bottom(), x1, y, x2, y, x2, b.bottom()+1)
		c.text((x1+x2)/2, y-4, center+small, cut(r.text))
	}
}

// entry is a line of text below the picture.
type entry struct{ text, colour string }

func (g *Graph) legend() (out []entry) {
	for i := range g.Routes {
		r := &g.Routes[i]
		out = append(out, entry{fmt.Sprintf("%s: %s → %s", what(r), trimPrefix(r.From), trimPrefix(r.To)), green})
	}
	for i := range g.Rules {
		r := &g.Rules[i]
		out = append(out, entry{fmt.Sprintf("%d. %s: %s → %s", r.Position, what(r), r.From, r.To), ruleColour(r.Action)})
	}
	return out
}

func texts(list []entry) (out []string) {
	for _, e := range list {
		out = append(out, e.text)
	}
	return out
}
