//go:build interop

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// byCNI is podman whose networks `tapnet` (the switch's network bridge) and
// `more` (one that is made) are set up by our plugin.
func byCNI(t *testing.T, b *bench) *podman {
	t.Helper()
	dir := b.dir + "/cni"
	if err := os.MkdirAll(dir+"/net.d", 0o755); err != nil {
		t.Fatal(err)
	}
	// The plugin is this test binary, by the name of its type.
	if err := os.Symlink(prog, dir+"/tapswitch"); err != nil {
		t.Fatal(err)
	}
	conf := func(version, name, more string) {
		text := fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[{"type":"tapswitch","socket":%q,%s,"capabilities":{"portMappings":true,"ips":true,"mac":true,"aliases":true}}]}`, version, name, b.socket, more)
		b.write("cni/net.d/"+name+".conflist", text)
	}
	conf("1.0.0", "tapnet", `"network":"bridge"`)
	conf("0.4.0", "more", `"subnets":["10.99.0.0/24"]`)
	// podman as root would hold the host's ports itself, to keep others from them.
	file := b.write("cni/containers.conf", fmt.Sprintf("[network]\nnetwork_backend=\"cni\"\ncni_plugin_dirs=[%q]\nnetwork_config_dir=%q\n[engine]\nenable_port_reservation=false\n", dir, dir+"/net.d"))
	p := newPodman(t)
	p.env = []string{"CONTAINERS_CONF=" + file}
	return p
}

func onCNI(t *testing.T, b *bench, p *podman) {
	t.Helper()
	worker := b.status().WorkerPid
	before := descriptors(t, worker)
	p.run("web", "--network", "tapnet:ip=172.17.0.80,alias=www", "-p", "8093:80")
	p.run("client", "--network", "tapnet,more")
	p.run("other", "--network", "more")
	p.serve("web")
	c := b.inspect("client")
	if len(c.Networks) != 2 || c.Origin != "cni" {
		t.Errorf("client: %+v", c)
	}
	var is []string
	for _, n := range c.Networks {
		is = append(is, "from "+n.IP, "from "+n.IP6)
	}
	for _, name := range []string{"172.17.0.80", "web", "www"} {
		if got := p.who("client", name); !slices.Contains(is, got) {
			t.Errorf("client at %s is %q", name, got)
		}
	}
	if p.pings("other", "172.17.0.80") || !p.pings("other", "client") {
		t.Error("other reaches web, or not client")
	}
	if got := p.ok("inspect", "-f", "{{(index .NetworkSettings.Networks \"tapnet\").IPAddress}}", "web"); got != "172.17.0.80" {
		t.Errorf("podman has the address %s", got)
	}
	if got := p.in("web", "cat", "/etc/resolv.conf"); !strings.HasPrefix(got, "nameserver 172.17.0.1\n") {
		t.Errorf("resolv.conf:\n%s", got)
	}
	p.ok("network", "connect", "more", "web")
	if n := b.inspect("web").Networks; len(n) != 2 || n[1].Network != "more" {
		t.Errorf("web is on %+v", n)
	}
	p.ok("network", "disconnect", "more", "web")
	if n := b.inspect("web").Networks; len(n) != 1 || n[0].Network != "bridge" {
		t.Errorf("web is on %+v", n)
	}
	p.ok("stop", "-t", "0", "web")
	b.fails(3, nil, "inspect", "web")
	p.ok("start", "web")
	p.serve("web")
	if got := p.who("client", "www"); !slices.Contains(is, got) {
		t.Errorf("after a restart client is %q", got)
	}
	// Who asks from the host: root's server sees it; rootlessport asks as the
	// container.
	for _, a := range []string{"127.0.0.1", hostAddr()} {
		want := map[bool]string{true: a, false: "172.17.0.80"}[os.Geteuid() == 0]
		if want == "127.0.0.1" {
			want = "172.17.0.1"
		}
		if a != "" {
			if got := whoAsks(net.JoinHostPort(a, "8093")); got != "from "+want {
				t.Errorf("from the host's %s: %q, want %s", a, got, want)
			}
		}
	}
	for _, c := range []string{"web", "client", "other"} {
		p.ok("rm", "-f", "-t", "0", c)
		b.fails(3, nil, "inspect", c)
	}
	b.ok("network", "rm", "more")
	released(t, worker, before)
}

// Rootless podman by its CNI backend: rootlessport has the host's ports.
func TestInteropCNI(t *testing.T) {
	if os.Geteuid() == 0 {
		skip(t, "rootless podman needs an ordinary user")
	}
	tools(t, "slirp4netns")
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	onCNI(t, b, byCNI(t, b))
}

// Root's podman, with root's switch.
func TestRootCNI(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	onCNI(t, b, byCNI(t, b))
}

const cnitool = "github.com/containernetworking/cni/cnitool@v1.3.0" // as go.mod

// The CNI project's own caller; it keeps results where only root may.
func TestRootCnitool(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	tools(t, "go")
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	install := exec.Command("go", "install", cnitool)
	install.Env = append(os.Environ(), "GOBIN="+b.dir, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("go install %s: %v\n%s", cnitool, err, out)
	}
	if err := os.Symlink(prog, b.dir+"/tapswitch"); err != nil {
		t.Fatal(err)
	}
	name := "ts-" + filepath.Base(b.dir) // its results stand beside those of others
	b.write("net.conflist", fmt.Sprintf(`{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"tapswitch","network":"bridge","socket":%q,"capabilities":{"ips":true}}]}`, name, b.socket))
	s := stranger(t)
	call := func(verb string) string {
		t.Helper()
		c := exec.Command(b.dir+"/cnitool", verb, name, s.netns())
		c.Env = append(os.Environ(), "CNI_PATH="+b.dir, "NETCONFPATH="+b.dir, `CAP_ARGS={"ips":["172.17.0.80"]}`)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("cnitool %s: %v\n%s", verb, err, out)
		}
		return string(out)
	}
	call("status")
	if got := call("add"); !strings.Contains(got, "172.17.0.80/16") {
		t.Errorf("add prints %s", got)
	}
	call("check")
	b.ok("exec", "c1", prog, "ping", "172.17.0.80")
	for _, verb := range []string{"del", "gc"} { // to cnitool's gc no attachment is valid
		call(verb)
		eventually(t, "the namespace without eth0", func() bool { return !slices.Contains(links(t, s), "eth0") })
		call("del") // again
		if got := b.ok("ps"); strings.Contains(got, "172.17.0.80") {
			t.Errorf("after %s there is\n%s", verb, got)
		}
		call("add")
	}
	call("del")
}
