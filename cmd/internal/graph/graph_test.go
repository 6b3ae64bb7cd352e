package graph

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
)

var update = flag.Bool("update", false, "write the pictures in testdata anew")

func network(name, subnet string, more ...string) *api.Network {
	n := &api.Network{Name: name, ICC: true, MTU: 1500}
	for _, s := range append([]string{subnet}, more...) {
		p := netip.MustParsePrefix(s)
		n.Subnets = append(n.Subnets, api.Subnet{Subnet: p, Gateway: p.Addr().Next()})
	}
	return n
}

func on(networks ...string) (out []api.Endpoint) {
	for i := 0; i < len(networks); i += 2 {
		out = append(out, api.Endpoint{Network: networks[i], IP: networks[i+1], MAC: "02:42:00:00:00:01", IfName: "eth" + string(rune('0'+i/2))})
	}
	return out
}

// sample has one of everything.
func sample() *Graph {
	lab := network("lab", "10.1.1.0/24")
	lab.Internal, lab.ICC = true, false
	back := network("backend", "172.18.0.0/16", "fd00:18::/64")
	back.Egress = "updates"
	return &Graph{
		Networks: []*api.Network{network("bridge", "172.17.0.0/16"), back, lab},
		Containers: []*api.Container{
			{ID: "0123456789abcdef", Name: "proxy", Mode: "bridge", Networks: on("bridge", "172.17.0.2", "backend", "172.18.0.2"),
				Ports: []api.Port{{Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 8080, ContainerPort: 80}, {Protocol: "tcp", HostIP: "::", HostPort: 8080, ContainerPort: 80},
					{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: 8443, ContainerPort: 443}, {Protocol: "udp", HostIP: "::1", HostPort: 53, ContainerPort: 53}}},
			{ID: "1123456789abcdef", Name: "web", Mode: "backend", Networks: on("backend", "172.18.0.3"), Links: []string{"db:database"}},
			{ID: "2123456789abcdef", Name: "db", Mode: "lab", Networks: on("lab", "10.1.1.2", "backend", "172.18.0.4")},
			{ID: "3123456789abcdef", Name: "bench", Mode: "lab", Networks: on("lab", "10.1.1.3")},
			{ID: "4123456789abcdef", Name: "shell", Mode: "container:web"},
			{ID: "5123456789abcdef", Name: "onhost", Mode: "host"},
			{ID: "6123456789abcdef", Name: "alone", Mode: "none"},
		},
		Routes: []api.Rule{{ID: 101, From: "network:bridge", To: "network:lab", Proto: "tcp", Ports: []string{"5432"}, Action: "route", Comment: "the databases"}},
		Rules: []api.Rule{{ID: 100, Position: 1, From: "!8.8.8.8", To: "any", Direction: "in", Action: "drop"},
			{ID: 102, Position: 2, From: "container:web", To: "outside", Proto: "tcp", Ports: []string{"80", "8000-9000"}, Action: "accept"}},
	}
}

// hostile has what the languages take for their own, wherever text can stand.
func hostile() *Graph {
	const bad = "\"]\\n<b>&amp;%;|{}`--> end\n subgraph\x01 é"
	n := network("net"+bad, "10.0.0.0/8")
	n.Egress = bad
	return &Graph{Networks: []*api.Network{n},
		Containers: []*api.Container{{ID: "x", Name: "c" + bad, Networks: on("net"+bad, bad), Links: []string{"c" + bad + ":" + bad}, Mode: bad}},
		Rules:      []api.Rule{{ID: 1, From: bad, To: "!" + bad, Action: "reject", Comment: bad}},
		Routes:     []api.Rule{{ID: 2, From: "network:net" + bad, To: "network:gone", Action: "route", Comment: bad}}}
}

func draw(t *testing.T, g *Graph, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := g.Write(&b, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPictures(t *testing.T) {
	for _, c := range []struct {
		name string
		g    *Graph
	}{{"sample", sample()}, {"hostile", hostile()}, {"empty", &Graph{}}} {
		for _, format := range Formats {
			file := "testdata/" + c.name + "." + format
			got := draw(t, c.g, format)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || string(want) != got {
				t.Errorf("%s differs (%v): go test ./cmd/internal/graph -update writes it anew; look at it then\n%s", file, err, got)
			}
		}
	}
	if err := (&Graph{}).Write(io.Discard, "png"); err == nil || !strings.Contains(err.Error(), "mermaid, dot, svg") {
		t.Errorf("png: %v", err)
	}
}

// Whatever is in a name, the picture is well-formed XML and says the name.
func TestSVGIsXML(t *testing.T) {
	for _, g := range []*Graph{sample(), hostile(), {}} {
		d := xml.NewDecoder(strings.NewReader(draw(t, g, "svg")))
		text := ""
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if c, ok := tok.(xml.CharData); ok {
				text += string(c) + "\n"
			}
		}
		for _, c := range g.Containers {
			if name := regexp.MustCompile(`^[\w"\]<>&;]+`).FindString(c.Name); !strings.Contains(text, name) {
				t.Errorf("%q is not in the picture", name)
			}
		}
	}
}

// Text stays within its quotes: each statement is a line of its own.
func TestQuotes(t *testing.T) {
	mermaid := regexp.MustCompile(`^(flowchart TB|  (style n\d+ [#\w:,]+|linkStyle \d+ [#\w:,]+|\w+(\(\["[^"]*"\]\)|\["[^"]*"\]|\[/"[^"]*"/\]|\("[^"]*"\)|\{\{"[^"]*"\}\})|\w+ (-->|---|-\.-|-\.->|==>)(\|"[^"|<>\[\]{}]*"\|)? \w+))$`)
	dot := regexp.MustCompile(`^(digraph tapswitch \{|\}|  (graph|node|edge) \[.*\]|  (\w+|"(\\.|[^"\\])*")( -> (\w+|"(\\.|[^"\\])*"))?( \[(\w+=(\w+|"(\\.|[^"\\])*")(, )?)*\])?)$`)
	for format, line := range map[string]*regexp.Regexp{"mermaid": mermaid, "dot": dot} {
		for _, g := range []*Graph{sample(), hostile()} {
			for s := range strings.Lines(draw(t, g, format)) {
				if s = strings.TrimSuffix(s, "\n"); !line.MatchString(strings.ReplaceAll(s, "<br/>", "")) {
					t.Errorf("%s: %s", format, s)
				}
			}
		}
	}
}
