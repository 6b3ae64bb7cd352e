//go:build interop

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// hostNet is a network namespace that stands for the host's.
type hostNet struct {
	*bench
	name string
}

func newHostNet(t *testing.T) *hostNet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	tools(t, "ip", "ping")
	h := &hostNet{bench: newBench(t)}
	h.name = "ts-" + filepath.Base(h.dir)
	byName(h.bench)
	output(t, "ip", "netns", "add", h.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", h.name).Run() })
	output(t, "ip", "-n", h.name, "link", "set", "lo", "up")
	return h
}

// byName puts our program beside a bench under its name: others start it by its
// path, and that is how it knows whom to play.
func byName(b *bench) string {
	b.t.Helper()
	path := filepath.Join(b.dir, "tapswitch")
	if err := os.Symlink(prog, path); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// in is a command on that host.
func (h *hostNet) in(c *exec.Cmd) *exec.Cmd {
	path := c.Path
	if c.Args[0] == "tapswitch" {
		path = filepath.Join(h.dir, "tapswitch")
	}
	x := exec.Command("ip", append([]string{"netns", "exec", h.name, path}, c.Args[1:]...)...)
	x.Env, x.Dir = c.Env, c.Dir
	return x
}

// up starts a switch there.
func (h *hostNet) up(args ...string) *proc {
	h.t.Helper()
	p := startProc(h.t, h.in(h.cmd(append([]string{"up"}, args...)...)))
	h.t.Cleanup(func() { p.cmd.Process.Signal(unix.SIGTERM); p.wait() })
	p.expect("ready")
	return p
}

// asks runs `ask` there; "" says that it got no answer.
func (h *hostNet) asks(network, addr string) string {
	h.t.Helper()
	out, err := h.in(exec.Command(prog, "ask", network, addr, "hello")).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

func (h *hostNet) has(name string) bool {
	return exec.Command("ip", "-n", h.name, "link", "show", name).Run() == nil
}

// gone waits for the kernel to take an interface away.
func (h *hostNet) gone(name string) {
	h.t.Helper()
	eventually(h.t, "interface "+name+" is gone", func() bool { return !h.has(name) })
}

// Root's host reaches containers by its own interface, as by docker0, and they
// open nothing to it by that. It comes and goes with its network.
func TestRootHostInterface(t *testing.T) {
	for _, threads := range []string{"1", "2"} {
		t.Run("threads="+threads, func(t *testing.T) { hostInterface(t, threads) })
	}
}

func hostInterface(t *testing.T, threads string) {
	h := newHostNet(t)
	file := h.write("c.yaml", "threads: "+threads+`
networks:
  - {name: bridge, subnet: 172.17.0.0/16, subnet6: "fd00:17::/64", host_interface: lab0}
containers:
  - {name: c1, networks: [bridge], ip: 172.17.0.2, ip6: "fd00:17::2"}
  - {name: c2, networks: [bridge], ip: 172.17.0.3, ip6: "fd00:17::3"}
`)
	before := output(t, "ip", "-n", h.name, "-o", "link")
	up := h.up("-c", file)
	addrs := output(t, "ip", "-n", h.name, "-o", "addr", "show", "lab0")
	for _, want := range []string{"172.17.0.1/16", "fd00:17::1/64"} {
		if !strings.Contains(addrs, want) {
			t.Errorf("no %s among\n%s", want, addrs)
		}
	}
	if routes := output(t, "ip", "-n", h.name, "route"); strings.Contains(routes, "default") {
		t.Errorf("routes:\n%s", routes)
	}
	reach := func(when string) {
		t.Helper()
		for _, c := range []string{"2", "3"} {
			h.start("exec", "c"+map[string]string{"2": "1", "3": "2"}[c], "--", prog, "serve", "80").expect("listening")
			for network, addr := range map[string]string{"tcp4": "172.17.0." + c + ":80", "udp4": "172.17.0." + c + ":80", "tcp6": "[fd00:17::" + c + "]:80", "udp6": "[fd00:17::" + c + "]:80"} {
				from := "from 172.17.0.1:"
				if strings.HasSuffix(network, "6") {
					from = "from [fd00:17::1]:"
				}
				if got := h.asks(network, addr); !strings.HasPrefix(got, from) {
					t.Errorf("%s: %s %s answers %q, want %s first", when, network, addr, got, from)
				}
			}
			for _, a := range []string{"172.17.0." + c, "fd00:17::" + c} {
				for _, size := range []string{"56", "4000"} {
					if got := output(t, "ip", "netns", "exec", h.name, "ping", "-c", "2", "-i", "0.1", "-W", "5", "-s", size, a); !strings.Contains(got, " 0% packet loss") {
						t.Errorf("%s: ping %s:\n%s", when, a, got)
					}
				}
			}
		}
	}
	reach("at first")
	// The host's own service at all its addresses: not by the gateway's.
	own := startProc(t, h.in(exec.Command(prog, "serve", "99")))
	own.expect("listening")
	if got := h.asks("tcp4", "172.17.0.1:99"); got == "" {
		t.Error("the host does not reach its own service")
	}
	for _, c := range []string{"c1", "c2"} {
		for network, addr := range map[string]string{"tcp4": "172.17.0.1:99", "udp4": "172.17.0.1:99", "tcp6": "[fd00:17::1]:99"} {
			h.bench.asks(c, network, addr, refused)
		}
		if got := h.ok("exec", c, "ping", "-c", "1", "-W", "5", "172.17.0.1"); !strings.Contains(got, " 0% packet loss") {
			t.Errorf("the gateway:\n%s", got)
		}
	}
	var net api.Network
	if err := json.Unmarshal([]byte(h.ok("network", "inspect", "bridge")), &net); err != nil {
		var list []api.Network
		h.json(&list, "network", "inspect", "bridge")
		net = list[0]
	}
	if net.Host == nil || net.Host.Interface != "host:lab0" || net.Host.Stats.TxFrames == 0 || net.Options["tapswitch.host_interface"] != "lab0" {
		t.Errorf("inspect shows %+v", net)
	}
	if got := h.ok("trace", "--from", "host", "--to", "c1:81"); !strings.Contains(got, "accept") {
		t.Errorf("trace:\n%s", got)
	}
	// Rules hold for the host, too.
	id := strings.TrimSpace(h.ok("rule", "add", "--from", "host", "--to", "c1", "--proto", "tcp", "--action", "reject"))
	if got := h.asks("tcp4", "172.17.0.2:80"); got != "" {
		t.Errorf("against a rule the host gets %q", got)
	}
	if got := h.asks("tcp4", "172.17.0.3:80"); got == "" {
		t.Error("the rule is for c1 alone")
	}
	h.ok("rule", "rm", id)

	// By command, over a restart, and away.
	h.ok("network", "create", "--subnet", "172.18.0.0/16", "-o", "tapswitch.host_interface=lab1", "two")
	h.fails(1, []string{"lab1", "already"}, "network", "create", "-o", "tapswitch.host_interface=lab1", "three")
	h.fails(3, []string{"three"}, "network", "inspect", "three")
	up.signal(unix.SIGKILL)
	up.wait()
	up = h.up("-c", file)
	if !h.has("lab0") || !h.has("lab1") {
		t.Error("the interfaces have not come back")
	}
	reach("after a restart")
	h.ok("network", "rm", "two")
	h.gone("lab1")
	h.ok("down")
	up.wait()
	if after := output(t, "ip", "-n", h.name, "-o", "link"); after != before {
		t.Errorf("the host had\n%s\nand has\n%s", before, after)
	}
}

// Root of a user namespace has no say in the host's network namespace.
func TestInteropHostInterfaceRefused(t *testing.T) {
	tools(t, "unshare")
	b := newBench(t)
	file := b.write("c.yaml", "networks: [{name: bridge, subnet: 172.17.0.0/16, host_interface: ts-refused}]\n")
	c := b.cmd("up", "-c", file, "--ephemeral")
	u := exec.Command("unshare", append([]string{"-r", byName(b)}, c.Args[1:]...)...)
	u.Env, u.Dir = c.Env, c.Dir
	out, err := u.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "host_interface ts-refused: only root") {
		t.Errorf("%v: %s", err, out)
	}
}
