package main

import (
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// host is what this program can see of the machine's network settings: links,
// addresses, routes and sysctls.
func host(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		addrs, _ := l.Addrs()
		for _, a := range addrs {
			out["address of "+l.Name] += a.String() + " "
		}
		out["link "+l.Name] = l.Flags.String() + " " + l.HardwareAddr.String() + " " + itoa(l.MTU)
	}
	for _, f := range []string{"route", "if_inet6"} {
		b, _ := os.ReadFile("/proc/net/" + f)
		out[f] = string(b)
	}
	b, _ := os.ReadFile("/proc/net/ipv6_route")
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) == 10 {
			out["ipv6_route "+strings.Join(f[:6], " ")+f[9]] = "" // without its counters
		}
	}
	_ = filepath.WalkDir("/proc/sys", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if !strings.HasPrefix(path, "/proc/sys/net/") && !strings.HasPrefix(path, "/proc/sys/user/") {
			return nil
		}
		if strings.HasSuffix(path, "nf_conntrack_count") { // a measurement
			return nil
		}
		if b, err := os.ReadFile(path); err == nil {
			out[path] = string(b)
		}
		return nil
	})
	return out
}

// The host is left alone: before, during and after are equal.
func TestHostIsLeftAlone(t *testing.T) {
	b := newBench(t)
	before := host(t)
	same := func(when string) {
		t.Helper()
		now := host(t)
		keys := slices.Collect(maps.Keys(before))
		for k := range now {
			if _, ok := before[k]; !ok {
				keys = append(keys, k)
			}
		}
		for _, k := range keys {
			if before[k] != now[k] {
				t.Errorf("%s: %s was %q, is %q", when, k, before[k], now[k])
			}
		}
	}
	if len(before) < 50 {
		t.Fatalf("only %d settings are to be seen", len(before))
	}
	b.up("-c", b.write("c.yaml", twoBridges))
	b.ok("run", "-d", "--name", "web", "-p", "80", "--", prog, "serve", "80")
	b.start("logs", "-f", "web").expect("listening")
	b.asks("c1", "tcp4", "web:80", "from 172.17.0.2:")
	if _, err := ask("tcp", net.JoinHostPort("127.0.0.1", itoa(b.port("web", "tcp", 80))), "hello", silence); err != nil {
		t.Error(err)
	}
	same("while it runs")
	b.ok("down")
	same("after it")
}
