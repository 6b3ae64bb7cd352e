package main

import (
	"testing"

	"tapswitch/cmd/internal/api"
)

// What interfaces are held to changes at once, is shown, and lasts.
func TestShape(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges+`
  - {name: held, networks: [bridge], shape: {delay: 1ms, flows: 7}}
`)
	b.up("-c", file)
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	if s := b.inspect("held").Shape; s == nil || *s != (api.Shape{Delay: "1ms", Flows: 7}) {
		t.Errorf("held has %+v", s)
	}
	b.asks("held", "tcp", "172.17.0.3:80", "from ")
	b.ok("run", "-d", "--name", "slow", "--rate-out", "1mbit", "--rate-in", "2mbit", "--loss", "100%", "--", prog, "hold")
	b.asks("slow", "tcp", "172.17.0.3:80", silent)
	if d := b.inspect("slow").Networks[0].Stats.Drops; d["impaired"] == 0 {
		t.Errorf("drops of slow: %v", d)
	}
	b.ok("update", "slow", "--loss", "none", "--delay", "2ms")
	b.asks("slow", "tcp", "172.17.0.3:80", "from ")
	want := api.Shape{RateOut: "1mbit", RateIn: "2mbit", Delay: "2ms"}
	if s := b.inspect("slow").Shape; s == nil || *s != want {
		t.Errorf("slow has %+v, want %+v", s, want)
	}
	b.fails(1, []string{"rate_in", "50mbit"}, "update", "slow", "--rate-in", "fast")
	b.fails(2, []string{"nothing to change"}, "update", "slow")
	b.fails(3, []string{"nosuch"}, "update", "nosuch", "--loss", "1%")
	b.fails(125, []string{"loss"}, "run", "-d", "--loss", "1", "--", prog, "hold")
	b.ok("down")
	b.up("-c", file)
	if s := b.inspect("slow").Shape; s == nil || *s != want {
		t.Errorf("after a restart slow has %+v, want %+v", s, want)
	}
}
