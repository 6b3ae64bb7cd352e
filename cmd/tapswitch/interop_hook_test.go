//go:build interop

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hooked is rootless podman whose containers come onto the bench's switch by
// hooks.
func hooked(t *testing.T, b *bench) *podman {
	t.Helper()
	if os.Geteuid() == 0 {
		skip(t, "rootless podman needs an ordinary user")
	}
	p := newPodman(t)
	// The hook is this test binary, by the name that makes it tapswitch.
	link := filepath.Join(b.dir, "tapswitch")
	if err := os.Symlink(prog, link); err != nil {
		t.Fatal(err)
	}
	hooks := filepath.Join(b.dir, "hooks.d")
	b.ok("hook", "config", "--dir", hooks)
	p.flags = append(p.flags, "--hooks-dir", hooks)
	return p
}

// network is what makes a container's network ours.
func network(name string, more ...string) []string {
	args := []string{"--network", "none", "--annotation", "tapswitch.network=" + name}
	for _, m := range more {
		args = append(args, "--annotation", "tapswitch."+m)
	}
	return args
}

// Containers of one user's podman on one switch: by name, isolated by network,
// published with the client's address kept; they restart and go, and nothing is
// left behind.
func TestInteropHook(t *testing.T) {
	b := newBench(t)
	up := b.up("-c", b.write("c.yaml", twoBridges))
	p := hooked(t, b)
	worker := b.status().WorkerPid
	fds, processes, files := descriptors(t, worker), len(family(up.cmd.Process.Pid)), tree(t, b.dir)

	p.run("web", append(network("bridge:ip=172.17.0.80", "publish=8089:80;8089:80/udp", "alias=www;site"), "--add-host", "elsewhere:192.0.2.77", "--hostname", "webhost")...)
	p.run("client", network("bridge")...)
	p.run("other", network("bridge2;only4;alias=second")...)
	if c := b.inspect("web"); c.Origin != "hook" || c.Networks[0].IP != "172.17.0.80" || c.Pid == nil || c.Hostname != "webhost" {
		t.Errorf("web: %+v", c)
	}
	p.serve("web")
	client := b.inspect("client").Networks[0]
	asks := func(name string) { // by either family
		t.Helper()
		if got := p.who("client", name); got != "from "+client.IP && got != "from "+client.IP6 {
			t.Errorf("client at %s is %q", name, got)
		}
	}
	for _, name := range []string{"172.17.0.80", "web", "www", "site", "webhost", "web.bridge"} {
		asks(name)
	}
	for _, name := range []string{"172.17.0.80", "web"} {
		if p.pings("other", name) {
			t.Errorf("other reaches %s", name)
		}
	}
	if !p.pings("client", "c2") || !strings.Contains(b.ok("exec", "c2", "ping", "-c", "1", "-W", "5", "client"), " 0% packet loss") {
		t.Error("containers of podman and of the switch do not meet")
	}
	hosts := p.in("web", "cat", "/etc/hosts")
	for _, line := range []string{"172.17.0.80\twebhost web", "192.0.2.77\telsewhere"} {
		if !strings.Contains(hosts, line) {
			t.Errorf("no %q in hosts:\n%s", line, hosts)
		}
	}
	if got := p.in("web", "cat", "/etc/resolv.conf"); !strings.HasPrefix(got, "nameserver 172.17.0.1\n") {
		t.Errorf("resolv.conf:\n%s", got)
	}
	if n := b.inspect("other").Networks; len(n) != 2 || n[1].Network != "only4" || n[1].IfName != "eth1" {
		t.Errorf("other is on %+v", n)
	}
	// The server sees who asks; only loopback would mean something else there.
	if got := whoAsks("127.0.0.1:8089"); got != "from 172.17.0.1" {
		t.Errorf("from the host's loopback: %q", got)
	}
	if a := hostAddr(); a != "" {
		if got := whoAsks(net.JoinHostPort(a, "8089")); got != "from "+a {
			t.Errorf("from the host's %s: %q", a, got)
		}
	}
	// Again and again it is what it was.
	for _, how := range []string{"restart", "stop", "kill"} {
		switch how {
		case "restart":
			p.ok("restart", "-t", "0", "web")
		case "stop":
			p.ok("stop", "-t", "0", "web")
			b.fails(3, nil, "inspect", "web")
			p.ok("start", "web")
		case "kill":
			waiting := b.start("wait", b.inspect("web").ID)
			p.ok("kill", "web")
			waiting.line()
			p.ok("wait", "web")
			p.ok("start", "web")
		}
		p.serve("web")
		asks("www")
		if got := whoAsks("127.0.0.1:8089"); got != "from 172.17.0.1" {
			t.Errorf("after %s from the host: %q", how, got)
		}
	}
	for _, c := range []string{"web", "client", "other"} {
		p.ok("rm", "-f", "-t", "0", c)
		b.fails(3, nil, "inspect", c)
	}
	released(t, worker, fds)
	if n := len(family(up.cmd.Process.Pid)); n != processes {
		t.Errorf("%d processes, before %d", n, processes)
	}
	if now := tree(t, b.dir); !slices.Equal(now, files) {
		t.Errorf("files were\n%v\nand are\n%v", files, now)
	}
	if got := b.ok("fdb"); strings.Contains(got, "web") || strings.Contains(got, "client") || strings.Contains(got, "other") {
		t.Errorf("fdb:\n%s", got)
	}
}

// In whatever user namespace a container is, its interface and files are there.
func TestInteropHookUsers(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	p := hooked(t, b)
	for i, flags := range [][]string{{"--user", "33"}, {"--userns", "keep-id"}, {"--uidmap", "0:100:500"}, {"--read-only"}, {"--no-hosts"}, {"-v", "/etc/hosts:/etc/hosts:ro"}} {
		args := append(append([]string{"run", "--rm", "--name", fmt.Sprint("u", i)}, network("bridge")...), flags...)
		out := p.ok(append(args, "box:latest", "/bin/busybox", "sh", "-c", "/bin/busybox cat /etc/resolv.conf; /bin/busybox nslookup c2 172.17.0.1; /bin/busybox ip addr show eth0")...)
		for _, want := range []string{"nameserver 172.17.0.1", "172.17.0.3", "state UP", "inet 172.17.0."} {
			if !strings.Contains(strings.ReplaceAll(out, "UP,LOWER_UP", "state UP"), want) {
				t.Errorf("%v: no %q in\n%s", flags, want, out)
			}
		}
	}
}

// What cannot be had keeps the container from starting, with a sentence that
// podman shows.
func TestInteropHookRefuses(t *testing.T) {
	b := newBench(t)
	up := b.up("-c", b.write("c.yaml", twoBridges))
	p := hooked(t, b)
	files := tree(t, b.dir)
	p.run("web", network("bridge", "publish=8090:80")...)
	begin := func(args ...string) []string {
		return append(append([]string{"run", "--rm", "--name", "late"}, args...), "box:latest", "/bin/busybox", "true")
	}
	p.fails("port is already allocated", begin(network("bridge", "publish=8090:80")...)...)
	p.fails("network nosuch not found", begin(network("nosuch")...)...)
	p.fails("unknown annotation tapswitch.publsh", begin(network("bridge", "publsh=80")...)...)
	p.fails("the name web is used", begin(network("bridge", "name=web")...)...)
	p.fails("already in use", begin(network("bridge:ip=172.17.0.3")...)...)
	p.fails("start it with --network none", begin("--network", "host", "--annotation", "tapswitch.network=bridge")...)
	b.fails(3, nil, "inspect", "late")
	p.ok("rm", "-f", "-t", "0", "web")
	if now := tree(t, b.dir); !slices.Equal(now, files) {
		t.Errorf("files were\n%v\nand are\n%v", files, now)
	}
	b.ok("down")
	up.wait()
	p.fails("no switch is running", begin(network("bridge")...)...)
}

// A container outlives the switch, and is on it again when that is back.
func TestInteropHookOutlives(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges)
	up := b.up("-c", file)
	p := hooked(t, b)
	p.run("web", network("bridge:ip=172.17.0.80", "publish=8091:80", "alias=www")...)
	p.serve("web")
	b.ok("down")
	up.wait()
	up = b.up("-c", file)
	if got := whoAsks("127.0.0.1:8091"); got != "from 172.17.0.1" {
		t.Errorf("from the host: %q", got)
	}
	if got := b.ok("exec", "c1", "ping", "-c", "1", "-W", "5", "www"); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("by name:\n%s", got)
	}
	b.ok("down")
	up.wait()
	p.ok("rm", "-f", "-t", "0", "web") // without a switch
	if left, _ := filepath.Glob(b.socket + ".hooks/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
