package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

// What is drawn is what there is.
func TestGraph(t *testing.T) {
	b := newBench(t)
	b.fails(4, nil, "graph")
	b.up("-c", b.write("c.yaml", twoBridges+`
  - {name: web, networks: [bridge, bridge2], publish: ["80"], links: ["c2:db"]}
routes:
  - {from: bridge, to: bridge2, proto: tcp, ports: [5432]}
rules:
  - {from: "container:c1", to: 10.0.0.0/8, action: reject, comment: "not \"there\""}
`), "--ephemeral")
	for format, want := range map[string][]string{
		"dot":     {`n0 -> c0 [dir=none, label="172.17.0.2"]`, `-> 80/tcp`, `[style=dashed, constraint=false, label="link as db"]`, `n0 -> n1 [`, `(not \"there\")`},
		"mermaid": {"flowchart TB\n", `n0 ---|"172.17.0.2"| c0`, "route tcp 5432", "reject (not #34;there#34;)"},
		"svg":     {"<svg ", ">web</text>", "link as db", "reject (not &#34;there&#34;)"},
	} {
		got := strings.ReplaceAll(b.ok("graph", "--format", format), "→", "->")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in %s:\n%s", w, format, got)
			}
		}
		if d := xml.NewDecoder(strings.NewReader(got)); format == "svg" {
			var err error
			for ; err == nil; _, err = d.Token() {
			}
			if err != io.EOF {
				t.Errorf("svg: %v", err)
			}
		}
	}
	if got := b.ok("graph"); !strings.HasPrefix(got, "flowchart TB") {
		t.Errorf("graph without a format: %s", got)
	}
	var all map[string][]any
	b.json(&all, "graph", "--json")
	if len(all["networks"]) != 3 || len(all["containers"]) != 5 || len(all["rules"]) != 1 || len(all["routes"]) != 1 {
		t.Errorf("graph --json: %v", all)
	}
	b.fails(2, []string{"png", "mermaid, dot, svg"}, "graph", "--format", "png")
}
