package main

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// asksFrom is bench.asks with a client that is no container.
func asksFrom(t *testing.T, c *exec.Cmd, want string) {
	t.Helper()
	out, err := c.Output()
	if code, nerr := strconv.Atoi(want); nerr == nil {
		if c.ProcessState.ExitCode() != code {
			t.Errorf("%v: exit code %d, want %d", c.Args[1:], c.ProcessState.ExitCode(), code)
		}
		return
	}
	if err != nil || !strings.HasPrefix(string(out), want) || !strings.Contains(string(out), "hello") {
		t.Errorf("%v: %q (%v), want %q first", c.Args[1:], out, err, want)
	}
}

// A published port is reached from everywhere, and its server sees who asks;
// where that address means something else in the container, it sees the gateway.
func TestPublished(t *testing.T) { published(t, 1) }

// The same where clients and servers are on different threads of the switch.
func TestPublishedAcrossThreads(t *testing.T) { published(t, 3) }

func published(t *testing.T, threads int) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", fmt.Sprintf("threads: %d", threads)+twoBridges+`
  - {name: web, networks: [bridge], ip: 172.17.0.80, publish: ["8080:80", "8080:80/udp", "127.0.0.1:8081:80"]}
  - {name: also, networks: [bridge], ip: 172.17.0.81, publish: ["9000-9001:80", "80"]}
  - {name: v4, networks: [{name: only4, ip: 172.19.0.2}], publish: ["8082:80"]}
`), "--ephemeral")
	for _, c := range []string{"web", "also", "v4"} {
		l.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	here := func(network, addr string) *exec.Cmd { return exec.Command(prog, "ask", network, addr, "hello") }
	there := func(network, addr string) *exec.Cmd { return l.far("ask", network, addr, "hello") }
	for _, c := range []struct {
		from          func(network, addr string) *exec.Cmd
		network, addr string
		want          string
	}{
		{there, "tcp", "192.0.2.1:8080", "from 192.0.2.2:"},
		{there, "udp", "192.0.2.1:8080", "from 192.0.2.2:"},
		{there, "tcp", "[2001:db8::1]:8080", "from [2001:db8::2]:"},
		{there, "udp", "[2001:db8::1]:8080", "from [2001:db8::2]:"},
		{there, "tcp", "192.0.2.1:9000", "from 192.0.2.2:"},
		{there, "tcp", "192.0.2.1:8082", "from 192.0.2.2:"},
		{there, "tcp", "[2001:db8::1]:8082", "from 172.19.0.1:"}, // of a family that the container lacks
		{there, "tcp", "192.0.2.1:8081", refused},
		{there, "tcp", "192.0.2.1:9002", refused},
		{here, "tcp", "192.0.2.1:8080", "from 192.0.2.1:"},
		{here, "udp", "192.0.2.1:8080", "from 192.0.2.1:"},
		{here, "tcp", "127.0.0.1:8080", "from 172.17.0.1:"},
		{here, "udp", "127.0.0.1:8080", "from 172.17.0.1:"},
		{here, "tcp", "127.0.0.1:8081", "from 172.17.0.1:"},
		{here, "tcp", "localhost:8080", "from "},
		{here, "tcp", "[::1]:8080", "from [fd00:17::1]:"},
		{here, "udp", "[::1]:8080", "from [fd00:17::1]:"},
	} {
		asksFrom(t, c.from(c.network, c.addr), c.want)
	}
	for _, c := range []struct{ from, network, addr, want string }{
		{"c1", "tcp", "192.0.2.1:8080", "from "},
		{"c1", "udp", "192.0.2.1:8080", "from "},
		{"c3", "tcp", "192.0.2.1:8080", "from "},
		{"c3", "udp", "192.0.2.1:8080", "from "},
		{"c3", "tcp", "[2001:db8::1]:8080", "from "},
		{"c3", "tcp", "172.18.0.1:8080", "from "},
		{"c3", "tcp", "172.17.0.1:8080", "from "},
		{"c3", "udp", "172.17.0.1:8080", "from "},
		{"c1", "udp", "172.17.0.1:8080", "from "},
		{"c3", "udp", "[fd00:17::1]:8080", "from "},
		{"c3", "tcp", "172.17.0.1:80", silent},
		{"web", "tcp", "192.0.2.1:8080", "from 172.17.0.1:"}, // itself, by way of the gateway
		{"c1", "tcp", "192.0.2.1:8085", refused},
	} {
		l.asks(c.from, c.network, c.addr, c.want)
	}
	if a, b := l.port("also", "tcp", 80), l.port("web", "tcp", 80); a == b {
		t.Errorf("two containers have host port %d", a)
	}
}

// Containers reach the outside as the host, and errors come back as they are.
func TestOutside(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges), "--ephemeral")
	startProc(t, l.far("serve", "80")).expect("listening")
	for _, c := range []struct{ from, network, addr, want string }{
		{"c1", "tcp", "198.51.100.1:80", "from 192.0.2.1:"},
		{"c1", "udp", "192.0.2.2:80", "from 192.0.2.1:"},
		{"c3", "tcp", "192.0.2.2:80", "from 192.0.2.1:"},
		{"c1", "tcp", "[2001:db8::2]:80", "from [2001:db8::1]:"},
		{"c1", "udp", "[2001:db8::2]:80", "from [2001:db8::1]:"},
		{"plain", "tcp", "198.51.100.1:80", "from 192.0.2.1:"},
		{"plain", "udp", "192.0.2.2:80", "from 192.0.2.1:"},
		{"c1", "tcp", "198.51.100.1:81", refused},
		{"c1", "udp", "198.51.100.1:81", refused},
		{"c1", "tcp", "[2001:db8::2]:81", refused},
		{"c1", "tcp", "203.0.113.1:80", unreachable},
		{"c1", "udp", "203.0.113.1:80", unreachable},
	} {
		l.asks(c.from, c.network, c.addr, c.want)
	}
	for _, to := range []string{"198.51.100.1", "2001:db8::2", "192.0.2.1"} {
		l.ok("exec", "c1", prog, "ping", to)
	}
	l.fails(askUnreachable, nil, "exec", "c1", prog, "ping", "203.0.113.1", "1s")
	l.write("c.yaml", twoBridges+"host: {address: deny}\n")
	asksFrom(t, exec.Command(prog, "ask", "tcp", "192.0.2.2:80", "hello"), "from 192.0.2.1:")
	host := startProc(t, exec.Command(prog, "serve", "8000"))
	host.expect("listening")
	l.asks("c1", "tcp", "192.0.2.1:8000", "from 192.0.2.1:")
	l.ok("reload")
	if r := l.try("exec", "c1", "--", prog, "ask", "tcp", "192.0.2.1:8000", "hello", "1s"); r.code == 0 {
		t.Error("host.address: deny lets a container through")
	}
	l.asks("c1", "tcp", "198.51.100.1:80", "from 192.0.2.1:")
}

// A host port that somebody has is an error that names it, and leaves nothing.
func TestOccupiedPort(t *testing.T) {
	b := newBench(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	file := b.write("c.yaml", fmt.Sprintf("containers: [{name: a, publish: [\"%s:80\"]}, {name: b}]\n", port))
	b.fails(1, []string{"container a", port, "in use"}, "up", "-c", file)
	b.fails(1, []string{"container a", port, "in use"}, "up", "-d", "-c", file)
	b.fails(4, nil, "status")

	b.up("--ephemeral")
	b.fails(125, []string{port, "in use"}, "run", "-p", "0:81", "-p", port+":80", "--", prog, "exit", "0")
	if got := b.ok("ps", "-a", "--json"); got != "[]" {
		t.Errorf("left behind: %s", got)
	}
	if s := b.show("run", "--rm", "--", prog, "show"); s.Ifaces["eth0"][0] != "172.17.0.2/16" {
		t.Errorf("the failure kept an address: %v", s.Ifaces)
	}
	b.ok("run", "-d", "--name", "first", "-p", "80", "--", prog, "hold")
	taken := strconv.Itoa(b.port("first", "tcp", 80))
	b.fails(125, []string{"already allocated", "first"}, "run", "-p", taken+":80", "--", prog, "exit", "0")
	// With its container the port goes, and is free for the next.
	b.ok("rm", "-f", "first")
	b.ok("run", "--rm", "-p", taken+":80", "--", prog, "exit", "0")
}

// Ports are published and closed while their container runs, and what is
// published is again after a restart; connections outlive their port.
func TestPublishLive(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	file := l.write("c.yaml", "threads: 2"+twoBridges)
	l.up("-c", file)
	l.ok("run", "-d", "--name", "web", "--", prog, "serve", "80")
	far := func(network, addr, want string) { t.Helper(); asksFrom(t, l.far("ask", network, addr, "hello"), want) }
	listens := func() { // what was detached
		t.Helper()
		eventually(t, "web listens", func() bool { return l.try("exec", "web", "--", prog, "ask", "tcp", "127.0.0.1:80", "hello").code == 0 })
	}
	listens()
	far("tcp", "192.0.2.1:8080", refused)
	if got := l.ok("publish", "web", "8080:80", "192.0.2.1:8081:80/udp"); !strings.Contains(got, "80/tcp -> 0.0.0.0:8080") || !strings.Contains(got, "80/udp -> 192.0.2.1:8081") {
		t.Errorf("published: %s", got)
	}
	far("tcp", "192.0.2.1:8080", "from 192.0.2.2:")
	far("tcp", "[2001:db8::1]:8080", "from [2001:db8::2]:")
	far("udp", "192.0.2.1:8081", "from 192.0.2.2:")
	for _, c := range []string{"c1", "c3", "plain"} { // on either thread
		l.asks(c, "tcp", "192.0.2.1:8080", "from ")
	}
	l.fails(1, []string{"8080", "web"}, "publish", "c1", "9090:80", "8080:80")
	if got := l.ok("port", "c1"); got != "" {
		t.Errorf("half of what failed is published: %s", got)
	}
	l.fails(1, []string{"nonsense"}, "publish", "web", "nonsense")
	l.fails(3, []string{"nosuch"}, "publish", "nosuch", "80")
	l.fails(3, []string{"81", "port web"}, "unpublish", "web", "80/udp", "81")
	far("udp", "192.0.2.1:8081", "from 192.0.2.2:") // still there
	l.ok("down")
	l.up("-c", file)
	listens()
	far("tcp", "192.0.2.1:8080", "from 192.0.2.2:")
	l.ok("unpublish", "web", "80/udp")
	l.ok("unpublish", "web", "8080:80")
	far("tcp", "192.0.2.1:8080", refused)
	l.asks("c1", "tcp", "192.0.2.1:8080", refused)
	l.asks("c3", "tcp", "192.0.2.1:8080", refused)
	if got := l.ok("port", "web"); got != "" {
		t.Errorf("still published: %s", got)
	}
	l.ok("publish", "c1", "8080:80")
	l.ok("publish", "c2", "7000-7199:7000-7199") // many at once
	if n := len(l.inspect("c2").Ports); n != 400 {
		t.Errorf("%d listeners of 200 ports and two families", n)
	}
	l.ok("unpublish", "c2", "7000-7199")
}

// Datagrams that flowed when their container went reach the one that comes in
// its place: the client notices nothing but what was lost between.
func TestDatagramsAfterRestart(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := itoa(l.LocalAddr().(*net.UDPAddr).Port)
	l.Close()
	run := func(ip string) {
		t.Helper()
		b.ok("run", "-d", "--rm", "--name", "web", "--network", "bridge:ip="+ip, "-p", "127.0.0.1:"+port+":80/udp", "--", prog, "serve", "80")
		b.start("logs", "-f", "web").expect("listening")
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(text string) {
		t.Helper()
		if _, err := c.WriteTo([]byte(text), to); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, 100)
		for {
			n, _, err := c.ReadFrom(got)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if strings.HasSuffix(string(got[:n]), text) {
				return
			}
		}
	}
	run("172.17.0.50")
	asks("before")
	b.ok("rm", "-f", "web")
	run("172.17.0.51")
	asks("after")
}
