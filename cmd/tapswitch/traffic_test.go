package main

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

const twoBridges = `
networks:
  - {name: bridge, subnet: 172.17.0.0/16, subnet6: "fd00:17::/64"}
  - {name: bridge2, subnet: 172.18.0.0/16, subnet6: "fd00:18::/64"}
  - {name: only4, subnet: 172.19.0.0/16}
containers:
  - {name: c1, networks: [bridge], ip: 172.17.0.2}
  - {name: c2, networks: [{name: bridge, ip: 172.17.0.3, aliases: [web.example]}]}
  - {name: c3, networks: [bridge2], ip: 172.18.0.2}
  - {name: plain, networks: [bridge], ip: 172.17.0.4, offload: off}
`

// What asks may want instead of an answer: ask's exit codes.
var refused, silent, unreachable = itoa(askRefused), itoa(askSilence), itoa(askUnreachable)

// asks runs `ask` in a container and wants an answer that begins with want, or
// the exit code that stands there.
func (b *bench) asks(from, network, addr, want string) {
	b.t.Helper()
	args := []string{"exec", from, "--", prog, "ask", network, addr, "hello"}
	if want == silent {
		args = append(args, "400ms")
	}
	r := b.try(args...)
	if code, err := strconv.Atoi(want); err == nil {
		if r.code != code {
			b.t.Errorf("%s asks %s %s: exit code %d, want %d\n%s%s", from, network, addr, r.code, code, r.out, r.err)
		}
		return
	}
	if r.code != 0 || !strings.HasPrefix(r.out, want) || !strings.Contains(r.out, "hello") {
		b.t.Errorf("%s asks %s %s: exit code %d, %q, want %q first\n%s", from, network, addr, r.code, r.out, want, r.err)
	}
}

func TestNeighbours(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	for _, c := range []string{"c2", "c3", "plain"} {
		b.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	for _, c := range []struct{ from, network, addr, want string }{
		{"c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:"},
		{"c1", "udp", "172.17.0.3:80", "from 172.17.0.2:"},
		{"c1", "tcp", "[fd00:17::3]:80", "from [fd00:17::2]:"},
		{"c1", "udp", "[fd00:17::3]:80", "from [fd00:17::2]:"},
		{"c1", "tcp", "c2:80", "from "},
		{"c1", "tcp4", "c2:80", "from 172.17.0.2:"},
		{"c1", "udp4", "web.example:80", "from 172.17.0.2:"},
		{"c1", "tcp4", "plain:80", "from 172.17.0.2:"},
		{"plain", "tcp4", "c2:80", "from 172.17.0.4:"},
		{"plain", "udp4", "c2:80", "from 172.17.0.4:"},
		{"c1", "tcp", "172.17.0.3:81", refused},
		{"c1", "udp", "172.17.0.3:81", refused},
		{"c1", "tcp", "172.17.0.1:81", refused},
		{"c1", "udp", "172.17.0.1:81", refused},
		{"c1", "tcp", "[fd00:17::1]:81", refused},
	} {
		b.asks(c.from, c.network, c.addr, c.want)
	}
	for _, c := range []struct{ from, name, want string }{
		{"c1", "c2", "172.17.0.3 fd00:17::3"},
		{"c1", "C2.Bridge", "172.17.0.3 fd00:17::3"},
		{"c1", "web.example", "172.17.0.3 fd00:17::3"},
		{"c1", "172.17.0.3", "c2.bridge."},
		{"c3", "c3", "172.18.0.2 fd00:18::2"},
	} {
		if got := b.ok("exec", c.from, prog, "lookup", c.name); got != c.want {
			t.Errorf("%s looks %s up: %s, want %s", c.from, c.name, got, c.want)
		}
	}
	b.fails(1, []string{"no such host"}, "exec", "c1", prog, "lookup", "c3.bridge2")
	for _, to := range []string{"172.17.0.3", "fd00:17::3", "172.17.0.1", "fd00:17::1"} {
		b.ok("exec", "c1", prog, "ping", to)
	}
	if s := b.status(); len(s.Drops) != 1 || s.Drops["refused"] != 3 { // by the gateway, which counts what it has no service for
		t.Errorf("drops: %v, want the gateway's three refusals", s.Drops)
	}
}

// What goes to another bridge meets silence, is seen by nobody there, and is
// counted once, at its sender.
func TestIsolation(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	server := b.start("exec", "c3", "--", prog, "serve", "80")
	server.expect("listening")
	for i, c := range []struct{ to, gateway string }{
		{"172.18.0.2:80", "172.17.0.1"},
		{"[fd00:18::2]:80", "fd00:17::1"},
		{"172.18.0.1:80", "172.17.0.1"},
		{"172.18.0.99:80", "172.17.0.1"},
		{"172.18.255.255:80", "172.17.0.1"},
	} {
		b.ok("exec", "c1", prog, "send", c.to, "lost", c.gateway)
		if got := b.inspect("c1").Networks[0].Stats.Drops["isolated"]; got != uint64(i+1) {
			t.Errorf("after a datagram to %s: %d isolated, want %d", c.to, got, i+1)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		b.asks("c1", network, "172.18.0.2:80", silent)
		b.asks("c3", network, "172.17.0.3:80", silent)
	}
	b.fails(askSilence, nil, "exec", "c1", prog, "ping", "172.18.0.2", "300ms")
	b.fails(askSilence, nil, "exec", "c1", prog, "ping", "172.18.0.1", "300ms")
	b.ok("exec", "c3", prog, "ask", "udp", "172.18.0.2:80", "own")
	if l := server.line(); !strings.HasPrefix(l, "udp 172.18.0.2:") || !strings.HasSuffix(l, "own") {
		t.Errorf("c3 saw %q before its own datagram", l)
	}
	total := b.status().Drops["isolated"]
	if from := b.inspect("c1").Networks[0].Stats.Drops["isolated"] + b.inspect("c3").Networks[0].Stats.Drops["isolated"]; from != total {
		t.Errorf("%d isolated in all, %d at the senders", total, from)
	}
}

// A container on two networks reaches both, and is no bridge between them.
func TestTwoNetworks(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	b.ok("run", "-d", "--name", "both", "--network", "bridge:ip=172.17.0.20", "--net", "bridge2:ip=172.18.0.20,alias=second", "--", prog, "serve", "80")
	b.start("logs", "-f", "both").expect("listening")
	b.asks("c1", "tcp", "172.17.0.20:80", "from 172.17.0.2:")
	b.asks("c3", "tcp", "172.18.0.20:80", "from 172.18.0.2:")
	b.asks("c3", "tcp4", "second:80", "from 172.18.0.2:")
	b.asks("c1", "tcp", "172.18.0.20:80", silent)
	s := b.show("exec", "both", prog, "show")
	if len(s.Ifaces) != 3 || s.Ifaces["eth0"][0] != "172.17.0.20/16" || s.Ifaces["eth1"][0] != "172.18.0.20/16" {
		t.Errorf("interfaces: %v", s.Ifaces)
	}
}

// Whatever the kernel treats as its own loopback is closed unless the
// configuration opens it; so are addresses of the link that serve metadata.
func TestHostLoopbackIsClosed(t *testing.T) {
	b := newBench(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan string, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached <- plain(c.RemoteAddr()).Addr().String()
			// Closing with a question unread would be a reset.
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Read(make([]byte, 256))
			_, _ = c.Write([]byte("from host, hello\n"))
			c.Close()
		}
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	file := b.write("c.yaml", twoBridges)
	b.up("-c", file)
	b.asks("c1", "tcp", "172.17.0.1:"+port, refused)
	// These are the container's own loopback, and never leave it.
	for _, a := range []string{"127.0.0.1", "127.1.2.3", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]"} {
		b.asks("c1", "tcp", a+":"+port, refused)
	}
	b.asks("c1", "tcp", "169.254.169.254:80", unreachable)
	select {
	case who := <-reached:
		t.Errorf("a container got through to the host's loopback, as %s", who)
	default:
	}
	b.write("c.yaml", twoBridges+"host: {loopback: ["+port+"]}\n")
	b.ok("reload")
	b.asks("c1", "tcp", "172.17.0.1:"+port, "from host")
	if who := <-reached; who != "127.0.0.1" {
		t.Errorf("the host's loopback is reached as %s", who)
	}
	b.asks("c1", "tcp", "172.17.0.1:1", refused)
}
