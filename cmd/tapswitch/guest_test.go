package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A container on the network of another has its interfaces, names and ports,
// and its own processes; it ends by itself.
func TestGuest(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges+`
  - {name: side, networks: ["container:c2"], command: ["`+prog+`", serve, "81"]}
`)
	b.up("-c", file)
	b.start("logs", "-f", "side").expect("listening")
	b.asks("c1", "tcp", "172.17.0.3:81", "from 172.17.0.2:")
	if c := b.inspect("side"); c.Mode != "container:c2" || len(c.Networks) != 0 {
		t.Errorf("side is %+v", c)
	}
	host, guest := b.show("exec", "c2", prog, "show"), b.show("run", "--rm", "--net", "container:c2", "--", prog, "show")
	if strings.Join(host.Ifaces["eth0"], " ") != strings.Join(guest.Ifaces["eth0"], " ") || host.Host != guest.Host || host.Resolv != guest.Resolv || host.Hosts != guest.Hosts {
		t.Errorf("c2 has %+v, its guest %+v", host, guest)
	}
	// By the loopback that both have; and a command in it is at the same place.
	b.asks("c2", "tcp", "127.0.0.1:81", "from 127.0.0.1:")
	b.ok("run", "-d", "--name", "late", "--network", "container:c2", "--", prog, "serve", "82")
	b.start("logs", "-f", "late").expect("listening")
	b.asks("late", "tcp", "127.0.0.1:81", "from 127.0.0.1:")
	b.asks("side", "tcp", "172.17.0.2:9", refused)
	b.asks("c1", "udp", "172.17.0.3:82", "from 172.17.0.2:")
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{125, "port publishing", []string{"run", "--net", "container:c2", "-p", "80", "--", prog, "hold"}},
		{125, "port publishing", []string{"run", "--net", "container:c2", "-P", "--", prog, "hold"}},
		{125, "port exposing", []string{"run", "--net", "container:c2", "--expose", "80", "--", prog, "hold"}},
		{125, "hostname", []string{"run", "--net", "container:c2", "--hostname", "x", "--", prog, "hold"}},
		{125, "links", []string{"run", "--net", "container:c2", "--link", "c1", "--", prog, "hold"}},
		{125, "other network", []string{"run", "--net", "container:c2", "--net", "bridge", "--", prog, "hold"}},
		{125, "no such container", []string{"run", "--net", "container:nosuch", "--", prog, "hold"}},
		{125, "no network of its own", []string{"run", "--net", "container:side", "--", prog, "hold"}},
		{2, "container:NAME", []string{"run", "--net", "container:", "--", prog, "hold"}},
		{1, "cannot be connected to any other network", []string{"network", "connect", "bridge2", "late"}},
		{1, "cannot be disconnected", []string{"network", "disconnect", "bridge", "late"}},
	} {
		if r := b.try(c.args...); r.code != c.code || !strings.Contains(r.err, c.want) {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, r.code, c.code, r.err)
		}
	}
	if r := b.try("run", "--rm", "--net", "container:c2", "--", prog, "exit", "7"); r.code != 7 {
		t.Errorf("exit code %d, want 7", r.code)
	}
	// A restart makes them again.
	b.ok("down")
	b.up("-c", file)
	b.start("logs", "-f", "late").expect("listening")
	b.asks("c1", "tcp", "172.17.0.3:82", "from 172.17.0.2:")
	pid := *b.inspect("late").Pid
	b.ok("rm", "-f", "late")
	eventually(t, "the guest's end", func() bool { return unix.Kill(pid, 0) != nil })
	b.asks("c1", "tcp", "172.17.0.3:82", refused)
}
