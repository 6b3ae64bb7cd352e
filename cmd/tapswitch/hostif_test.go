package main

import (
	"os"
	"testing"
)

// Without root the host has no interface on a network: neither by file, nor by
// command or reload, which change nothing then.
func TestHostInterfaceRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	b := newBench(t)
	with := "networks: [{name: bridge, subnet: 172.17.0.0/16, host_interface: lab0}]\n"
	words := []string{"host_interface lab0", "only root", "publish"}
	file := b.write("c.yaml", with)
	b.fails(1, words, "up", "-c", file, "--ephemeral")
	file = b.write("c.yaml", "networks: [{name: bridge, subnet: 172.17.0.0/16}]\ncontainers: [{name: c1}]\n")
	b.up("-c", file, "--ephemeral")
	b.fails(1, words, "network", "create", "-o", "tapswitch.host_interface=lab0", "two")
	b.fails(3, []string{"two"}, "network", "inspect", "two")
	id := b.inspect("c1").ID
	b.write("c.yaml", with)
	b.fails(1, words, "reload")
	if got := b.inspect("c1").ID; got != id {
		t.Error("a reload that is refused has changed something")
	}
}
