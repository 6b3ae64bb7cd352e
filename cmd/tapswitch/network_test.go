package main

import (
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
)

// network shows one network.
func (b *bench) network(name string) *api.Network {
	b.t.Helper()
	var list []*api.Network
	b.json(&list, "network", "inspect", name)
	return list[0]
}

// Networks come and go on a running switch, and are there again at its next
// start; what was chosen for them stays.
func TestNetworksByCommand(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges)
	b.up("-c", file)
	id := strings.TrimSpace(b.ok("network", "create", "--driver=bridge", "--subnet=10.1.1.0/24", "--gateway=10.1.1.254", "red1"))
	b.ok("network", "create", "--ipv6", "--label", "a=b", "-o", "com.docker.network.driver.mtu=9000", "red2")
	b.ok("run", "-d", "--network", "red1", "--name", "web", "--", prog, "serve", "80")
	b.ok("run", "-d", "--network", "red2", "--name", "other", "--", prog, "hold")
	if n := b.network("red1"); n.ID != id || n.Subnets[0].Gateway.String() != "10.1.1.254" || len(n.Containers) != 1 || n.Containers[0].IP != "10.1.1.1" {
		t.Errorf("red1 is %+v", n)
	}
	before := b.network("red2")
	if len(before.Subnets) != 2 || before.MTU != 9000 || before.Labels["a"] != "b" {
		t.Errorf("red2 is %+v", before)
	}
	b.asks("other", "tcp", "10.1.1.1:80", silent)
	if got := b.ok("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}} {{(index .subnets 0).gateway}}", "red1"); got != "10.1.1.0/24 10.1.1.254" {
		t.Errorf("by a template: %q", got)
	}
	for _, c := range []struct {
		code int
		want []string
		args []string
	}{
		{1, []string{"red1", "web"}, []string{"rm", "red1"}},
		{1, []string{"bridge", "configuration"}, []string{"rm", "bridge"}},
		{3, []string{"nosuch", "network ls"}, []string{"rm", "nosuch"}},
		{1, nil, []string{"exists", "nosuch"}},
		{0, nil, []string{"exists", "red1"}},
		{1, []string{"already exists"}, []string{"create", "red1"}},
		{1, []string{"10.1.1.0/25", "overlaps", "red1"}, []string{"create", "--subnet", "10.1.1.0/25", "x"}},
		{1, []string{"10.1.1.1/25", "10.1.1.0/25"}, []string{"create", "--subnet", "10.1.1.1/25", "x"}},
		{1, []string{"10.9.9.9", "no matching subnet"}, []string{"create", "--subnet", "10.2.0.0/24", "--gateway", "10.9.9.9", "x"}},
		{1, []string{"multiple subnets"}, []string{"create", "--subnet", "10.2.0.0/24", "--subnet", "10.3.0.0/24", "x"}},
		{1, []string{"99", "1280"}, []string{"create", "-o", "com.docker.network.driver.mtu=99", "x"}},
		{1, []string{"enable_icc", "maybe"}, []string{"create", "-o", "com.docker.network.bridge.enable_icc=maybe", "x"}},
		{1, []string{"macvlan", "not yet"}, []string{"create", "-d", "macvlan", "x"}},
		{1, []string{"isolated", "--internal"}, []string{"create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "x"}},
		{1, []string{"gateway_mode", "nat-unprotected"}, []string{"create", "-o", "com.docker.network.bridge.gateway_mode_ipv6=bridged", "x"}},
		{1, []string{"inhibit_ipv4", "maybe"}, []string{"create", "-o", "com.docker.network.bridge.inhibit_ipv4=maybe", "x"}},
		{1, []string{"trusted_host_interfaces", "no route", "mirror"}, []string{"create", "-o", "com.docker.network.bridge.trusted_host_interfaces=eth0", "x"}},
		{1, []string{"host_ipv4", "203.0.113.77", "no address of this host"}, []string{"create", "-o", "com.docker.network.host_ipv4=203.0.113.77", "x"}},
		{1, []string{"host_ipv6", "family"}, []string{"create", "-o", "com.docker.network.host_ipv6=203.0.113.77", "x"}},
		{1, []string{"advertise_addr_nmsgs", "4"}, []string{"create", "-o", "com.docker.network.advertise_addr_nmsgs=4", "x"}},
		{1, []string{"172.0.0.0/16", "127.0.0.0/8"}, []string{"create", "-o", "tapswitch.mirror=172.0.0.0/16", "x"}},
		{1, []string{"mirror_ports", "70000"}, []string{"create", "-o", "tapswitch.mirror=127.18.0.0/16", "-o", "tapswitch.mirror_ports=70000", "x"}},
		{1, []string{"10.9.0.0/24", "no matching subnet"}, []string{"create", "--subnet", "10.2.0.0/24", "--ip-range", "10.9.0.0/24", "x"}},
		{1, []string{"10.9.0.9", "no matching subnet"}, []string{"create", "--subnet", "10.2.0.0/24", "--aux-address", "a=10.9.0.9", "x"}},
		{3, []string{"nosuch", "egress add"}, []string{"create", "--egress", "nosuch", "x"}},
		{1, []string{"host", "reserved"}, []string{"create", "host"}},
		{2, []string{"--label"}, []string{"create", "--label", "=x", "x"}},
	} {
		r := b.try(append([]string{"network"}, c.args...)...)
		if r.code != c.code {
			t.Errorf("network %v: exit code %d, want %d: %s", c.args, r.code, c.code, r.err)
		}
		for _, w := range c.want {
			if !strings.Contains(r.err, w) {
				t.Errorf("network %v says nothing of %s: %s", c.args, w, r.err)
			}
		}
	}
	if got := b.ok("network", "ls", "-q"); len(strings.Fields(got)) != 5 {
		t.Errorf("what was refused is there: %s", got)
	}
	// A file that meets them changes nothing.
	b.write("c.yaml", strings.Replace(twoBridges, "172.19.0.0/16", "10.1.0.0/16", 1))
	b.fails(1, []string{"red1", "network rm"}, "reload")
	b.write("c.yaml", twoBridges)
	b.ok("down")

	b.up("-c", file)
	if after := b.network("red2"); len(after.Subnets) != 2 || after.Subnets[1] != before.Subnets[1] || after.Subnets[0] != before.Subnets[0] || after.MTU != 9000 || after.Labels["a"] != "b" {
		t.Errorf("red2 was %+v and is %+v", before, after)
	}
	if n := b.network("red1"); n.ID != id || len(n.Containers) != 1 || n.Containers[0].Name != "web" {
		t.Errorf("red1 is %+v", n)
	}
	b.ok("rm", "-f", "web")
	if got := b.ok("network", "prune"); got != "red1" {
		t.Errorf("pruned: %q", got)
	}
	// What commands do to a container of the file lasts, too.
	b.ok("network", "connect", "--alias", "extra", "red2", "c3")
	b.ok("publish", "c2", "127.0.0.1::80")
	b.ok("update", "c1", "--delay", "1ms")
	c3, c2 := b.inspect("c3"), b.inspect("c2")
	b.ok("down")
	b.up("-c", file)
	if got := b.inspect("c3"); len(got.Networks) != 2 || got.Networks[1].IP != c3.Networks[1].IP || got.Networks[1].Aliases[0] != "extra" {
		t.Errorf("c3 was on %+v and is on %+v", c3.Networks, got.Networks)
	}
	if got := b.inspect("c2"); len(got.Ports) != 1 || got.Ports[0] != c2.Ports[0] {
		t.Errorf("c2 published %+v and publishes %+v", c2.Ports, got.Ports)
	}
	if got := b.inspect("c1").Shape; got == nil || got.Delay != "1ms" {
		t.Errorf("c1 is held to %+v", got)
	}
	b.ok("network", "disconnect", "red2", "c3")
	b.ok("unpublish", "c2", "80")
	b.ok("down")
	b.up("-c", file)
	if got := b.inspect("c3"); len(got.Networks) != 1 {
		t.Errorf("c3 is on %+v", got.Networks)
	}
	b.ok("rm", "-f", "other")
	b.ok("network", "rm", "red2")
	b.fails(3, []string{"red2"}, "network", "inspect", "red2")
}

// Nothing is routed off an internal network; with icc off its containers reach
// the gateway, and each other not.
func TestClosedNetworks(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", `
networks:
  - {name: inside, subnet: 172.20.0.0/16, subnet6: "fd00:20::/64", internal: true}
  - {name: front, subnet: 172.21.0.0/16}
  - {name: quiet, subnet: 172.22.0.0/16, subnet6: "fd00:22::/64", icc: false}
  - {name: lone, subnet: 172.23.0.0/31, internal: true, gateway_mode: isolated}
containers:
  - {name: l1, networks: [lone]}
  - {name: l2, networks: [lone]}
  - {name: db, networks: [inside]}
  - {name: app, networks: [inside]}
  - {name: proxy, networks: [inside, front], publish: ["8080:80"]}
  - {name: q1, networks: [quiet]}
  - {name: q2, networks: [quiet], publish: ["8081:80"]}
`), "--ephemeral")
	startProc(t, l.far("serve", "80")).expect("listening")
	for _, c := range []string{"db", "proxy", "q2", "l2"} {
		l.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	for _, c := range []struct{ from, network, addr, want string }{
		{"app", "tcp4", "db:80", "from 172.20.0."},
		{"app", "tcp6", "db:80", "from [fd00:20::"},
		{"app", "tcp", "192.0.2.2:80", unreachable}, // no default route
		{"app", "tcp", "[2001:db8::2]:80", unreachable},
		{"app", "tcp", "172.20.0.1:8080", refused},
		{"proxy", "tcp4", "db:80", "from 172.20.0."},
		{"proxy", "tcp", "192.0.2.2:80", "from 192.0.2.1:"},
		{"l1", "tcp", "172.23.0.1:80", "from 172.23.0.0:"}, // without a gateway, two addresses are for two
		{"q1", "tcp", "172.22.0.3:80", silent},
		{"q1", "tcp", "[fd00:22::3]:80", silent},
		{"q1", "udp", "172.22.0.3:80", silent},
		{"q1", "tcp", "172.22.0.1:8081", "from 172.22.0.1:"}, // what is published is for all
		{"q1", "tcp", "192.0.2.2:80", "from 192.0.2.1:"},
	} {
		l.asks(c.from, c.network, c.addr, c.want)
	}
	asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
	if n := l.inspect("q1").Networks[0]; n.Stats.Drops["icc"] == 0 {
		t.Errorf("q1 counts %v", n.Stats.Drops)
	}
	// One that has a route by itself is told.
	l.ok("exec", "app", "--", prog, "route", "172.20.0.1")
	l.asks("app", "tcp", "192.0.2.2:80", unreachable)
	if n := l.inspect("app").Networks[0]; n.Stats.Drops["internal"] == 0 {
		t.Errorf("app counts %v", n.Stats.Drops)
	}
	l.fails(125, []string{"internal"}, "run", "--network", "inside", "-p", "80", "--", "true")
}

// A container that runs comes and goes on networks: interfaces, names, default
// route, published ports and its files follow.
func TestConnect(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges))
	startProc(t, l.far("serve", "80")).expect("listening")
	for _, n := range []string{"red1", "red2"} {
		l.ok("network", "create", "--ipv6", n)
	}
	l.ok("network", "create", "--internal", "inside")
	for _, who := range []struct {
		name string
		args []string
	}{
		{"web", []string{"run", "-d", "--network", "red1", "-p", "8080:80", "-p", "8080:80/udp", "--name", "web", "--", prog, "serve", "80"}},
		{"c1", nil}, // of the file, held
	} {
		if who.args != nil {
			l.ok(who.args...)
		} else {
			l.ok("network", "connect", "red1", who.name)
			l.start("exec", who.name, "--", prog, "serve", "80").expect("listening")
		}
		l.ok("network", "connect", "--ip", l.network("red2").Subnets[0].Gateway.Next().Next().String(), "--alias", "also-"+who.name, "red2", who.name)
		l.ok("network", "connect", "inside", who.name)
		l.ok("run", "--rm", "--network", "red2", "--", prog, "ask", "tcp", "also-"+who.name+":80", "hello")
		l.fails(1, []string{"already"}, "network", "connect", "red2", who.name)
		l.ok("network", "disconnect", "red1", who.name)
		l.fails(3, []string{"red1"}, "network", "disconnect", "red1", who.name)
		c := l.inspect(who.name)
		s := l.show("exec", who.name, prog, "show")
		if len(s.Ifaces) != len(c.Networks)+1 {
			t.Errorf("%s is on %v and has %v", who.name, c.Networks, s.Ifaces)
		}
		l.asks(who.name, "tcp", "192.0.2.2:80", "from 192.0.2.1:")
		l.ok("exec", who.name, "--", prog, "lookup", "also-"+who.name)
		l.ok("network", "disconnect", "red2", who.name)
		l.ok("network", "disconnect", "inside", who.name)
		l.fails(askSilence, []string{"lookup"}, "run", "--rm", "--network", "red2", "--", prog, "ask", "tcp", "also-"+who.name+":80", "hello", "300ms")
		if who.name == "web" {
			l.asks("web", "tcp", "192.0.2.2:80", unreachable)
			if got := l.ok("port", "web"); got != "" {
				t.Errorf("without a network it publishes %s", got)
			}
			l.ok("network", "connect", "red2", "web")
			l.ok("run", "-d", "--network", "red1", "-p", "8080:80", "--name", "moved", "--", prog, "serve", "80")
			l.ok("network", "connect", "red2", "moved")
			l.ok("network", "disconnect", "red1", "moved")
			asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
			l.ok("rm", "-f", "moved", "web")
		}
	}
	l.ok("network", "rm", "red1", "red2", "inside")
	l.ok("run", "-d", "--name", "ends", "--", prog, "exit", "0")
	l.ok("wait", "ends")
	l.fails(1, []string{"ends", "not running"}, "network", "connect", "bridge2", "ends")
	l.fails(3, []string{"nosuch"}, "network", "connect", "nosuch", "c1")
	l.fails(3, []string{"nosuch"}, "network", "connect", "bridge2", "nosuch")
}

// A container on the host's network is no other than the host; one on none has
// lo alone, until it is connected.
func TestHostAndNone(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges))
	startProc(t, l.far("serve", "80")).expect("listening")
	r := l.try("run", "-d", "--network", "host", "-p", "80", "--name", "free", "--", prog, "serve", "7000")
	if r.code != 0 || !strings.Contains(r.err, "discarded") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if got := l.ok("run", "--rm", "--network", "host", "--", prog, "ask", "tcp", "192.0.2.2:80", "hello"); !strings.HasPrefix(got, "from 192.0.2.1:") {
		t.Errorf("from the host's network: %s", got)
	}
	l.ok("run", "-d", "--network", "none", "--name", "alone", "--", prog, "hold")
	l.asks("alone", "tcp", "192.0.2.2:80", unreachable)
	for name, mode := range map[string]string{"free": "host", "alone": "none", "c1": "bridge"} {
		if got := l.inspect(name).Mode; got != mode {
			t.Errorf("%s is on %s, not %s", name, got, mode)
		}
	}
	l.fails(1, []string{"network namespace"}, "network", "connect", "bridge", "free")
	l.fails(1, []string{"host"}, "network", "disconnect", "host", "free")
	l.fails(1, []string{"host network mode"}, "network", "connect", "host", "alone")
	l.ok("network", "connect", "bridge", "alone")
	l.asks("alone", "tcp", "192.0.2.2:80", "from 192.0.2.1:")
	l.fails(125, []string{"conflicting"}, "run", "--network", "host", "--network", "bridge", "--", "true")
	l.fails(125, []string{"addresses"}, "run", "--network", "host:ip=192.0.2.9", "--", "true")
	l.ok("down")
	l.up("-c", l.dir+"/c.yaml")
	if got := l.inspect("free").Mode; got != "host" {
		t.Errorf("after a restart it is on %s", got)
	}
	l.asks("c1", "tcp", "192.0.2.1:7000", "from 192.0.2.1:")
}
