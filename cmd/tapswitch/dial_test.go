package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/proxy"
)

// The host reaches what is not published: by dial, by the proxy, and by no way
// that a rule closes.
func TestDial(t *testing.T) {
	b := newBench(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	file := b.write("c.yaml", twoBridges+`
  - {name: both, networks: [bridge, bridge2]}
`)
	b.up("--socks", at, "--ephemeral", "-c", file)
	for _, c := range []string{"c2", "c3", "both"} {
		b.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	for name, want := range map[string]string{"c2": "from 172.17.0.1:", "172.18.0.2": "from 172.18.0.1:", "fd00:17::3": "from [fd00:17::1]:",
		"c3.bridge2": "from 172.18.0.1:", "both.bridge2": "from 172.18.0.1:", "both": "from 172.17.0.1:"} {
		if r := b.feed("hello\n", "dial", name, "80"); r.code != 0 || !strings.HasPrefix(r.out, want) || !strings.HasSuffix(r.out, "\nhello\n") {
			t.Errorf("dial %s: exit code %d, %q, want %q first: %s", name, r.code, r.out, want, r.err)
		}
	}
	b.fails(1, []string{"c2 port 81", "refuses"}, "dial", "c2", "81")
	b.fails(3, []string{"nosuch"}, "dial", "nosuch", "80")
	b.fails(3, []string{"172.17.0.99"}, "dial", "172.17.0.99", "80")
	b.fails(2, []string{"no port"}, "dial", "c2", "0")
	b.ok("rule", "add", "--from", "host", "--to", "c3", "--action", "drop")
	b.fails(1, []string{"rule"}, "dial", "c3", "80")

	socks, err := proxy.SOCKS5("tcp", at, nil, &net.Dialer{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"c2:80": "from 172.17.0.1:", "172.17.0.3:80": "from 172.17.0.1:", "[fd00:17::3]:80": "from [fd00:17::1]:"} {
		c, err := socks.Dial("tcp", addr)
		if err != nil {
			t.Errorf("%s by the proxy: %v", addr, err)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintln(c, "hello")
		s := bufio.NewScanner(c)
		if !s.Scan() || !strings.HasPrefix(s.Text(), want) || !s.Scan() || s.Text() != "hello" {
			t.Errorf("%s by the proxy: %q (%v)", addr, s.Text(), s.Err())
		}
		c.Close()
	}
	for _, addr := range []string{"c2:81", "c3:80", "nosuch:80", "192.0.2.1:80"} {
		if c, err := socks.Dial("tcp", addr); err == nil {
			t.Errorf("%s is reached by the proxy", addr)
			c.Close()
		}
	}
	// The file moves and closes it; what flows goes on.
	c, err := socks.Dial("tcp", "c2:80")
	if err != nil {
		t.Fatal(err)
	}
	b.write("c.yaml", "limits: {flows: 100}\n"+twoBridges)
	b.ok("reload")
	fmt.Fprintln(c, "still")
	_ = c.SetDeadline(time.Now().Add(patience))
	s := bufio.NewScanner(c)
	for s.Scan() && s.Text() != "still" {
	}
	if s.Text() != "still" {
		t.Errorf("after a reload: %q (%v)", s.Text(), s.Err())
	}
	c.Close()
}
