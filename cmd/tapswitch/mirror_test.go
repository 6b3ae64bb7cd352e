package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// mirrored waits until a container's mirror has the ports.
func (b *bench) mirrored(name string, ports ...string) *api.Mirror {
	b.t.Helper()
	var m *api.Mirror
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if m = b.inspect(name).Networks[0].Mirror; m != nil && slices.Equal(m.Ports, ports) {
			return m
		}
	}
	b.t.Fatalf("the mirror of %s is %+v, not %v", name, m, ports)
	return nil
}

// What a container listens at is reached at its mirrored address, as it comes
// and goes, also on an internal network; the container sees its gateway.
func TestMirror(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	file := l.write("c.yaml", `networks:
  - {name: bridge, subnet: 172.17.0.0/16, mirror: 127.17.0.0/16}
  - {name: inner, subnet: 172.18.0.0/16, internal: true, mirror: 127.18.0.0/16}
  - {name: listed, subnet: 172.19.0.0/16, mirror: 127.19.0.0/16, mirror_ports: ["80", "90-91/udp"]}
containers:
  - {name: held, ip: 172.17.0.5}
`)
	l.up("-c", file)
	l.serve("web", "--net", "bridge:ip=172.17.0.3")
	if m := l.mirrored("web", "80/tcp", "80/udp"); m.Address != "127.17.0.3" || len(m.Closed) != 0 || m.Problem != "" {
		t.Errorf("the mirror of web is %+v", m)
	}
	for _, proto := range []string{"tcp", "udp"} {
		if got, err := ask(proto, "127.17.0.3:80", "hello", silence); err != nil || !strings.HasPrefix(got, "from 172.17.0.1:") {
			t.Errorf("%s: %q, %v", proto, got, err)
		}
	}
	if r := l.far("ask", "tcp", "127.17.0.3:80"); r.Run() == nil {
		t.Error("outside reaches the mirror")
	}
	l.fails(askRefused, nil, "run", "--rm", "--", prog, "ask", "tcp", "127.17.0.3:80")
	l.mirrored("held")
	p := l.start("exec", "held", prog, "serve", "8080")
	p.expect("listening")
	l.mirrored("held", "8080/tcp", "8080/udp")
	if _, err := ask("tcp", "127.17.0.5:8080", "hello", silence); err != nil {
		t.Error(err)
	}
	l.serve("deep", "--net", "inner")
	l.mirrored("deep", "80/tcp", "80/udp")
	if _, err := ask("tcp", "127.18.0.2:80", "hello", silence); err != nil {
		t.Error(err)
	}
	l.serve("named", "--net", "listed")
	l.mirrored("named", "80/tcp", "90/udp", "91/udp")
	if _, err := ask("tcp", "127.19.0.2:80", "hello", silence); err != nil {
		t.Error(err)
	}
	// A rule closes a mirror as it does a published port.
	l.ok("rule", "add", "--to", "named", "--dir", "in", "--action", "drop")
	if got, _ := ask("tcp", "127.19.0.2:80", "hello", silence); got != "" {
		t.Errorf("in spite of a rule: %q", got)
	}
	p.signal(unix.SIGINT)
	p.wait()
	l.mirrored("held")
	// What somebody on the host has at all addresses is said to be closed.
	taken, err := net.Listen("tcp4", "0.0.0.0:8081")
	if err != nil {
		t.Fatal(err)
	}
	p = l.start("exec", "held", prog, "serve", "8081")
	p.expect("listening")
	if m := l.mirrored("held", "8081/udp"); !strings.Contains(m.Closed["8081/tcp"], "in use") {
		t.Errorf("closed is %v", m.Closed)
	}
	taken.Close()
	l.mirrored("held", "8081/tcp", "8081/udp")
	l.ok("rm", "-f", "web")
	if _, err := ask("tcp", "127.17.0.3:80", "hello", silence); err == nil {
		t.Error("the mirror of a container that is gone answers")
	}
	if o := l.network("listed").Options; o["tapswitch.mirror"] != "127.19.0.0/16" || o["tapswitch.mirror_ports"] != "80,90-91/udp" {
		t.Errorf("inspect shows %v", o)
	}
	l.ok("down")
	l.up("-c", file)
	l.mirrored("held")
}
