//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/slirp"
)

// asSlirp is a link to this program by the name slirp4netns.
func asSlirp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, slirp.Name)
	if err := os.Symlink(prog, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// slirps are the processes of a link, by their number, and workers of theirs.
func slirps(link string) (out []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, err := os.ReadFile(f)
		var pid int
		if _, serr := fmt.Sscanf(f, "/proc/%d/", &pid); err == nil && serr == nil && bytes.HasPrefix(b, []byte(link+"\x00")) {
			out = append(out, family(pid)...)
		}
	}
	return out
}

// gone waits until no process of the link is left.
func gone(t *testing.T, link string, fds []int) {
	t.Helper()
	for _, fd := range fds {
		eventually(t, "the end of slirp4netns and its worker", func() bool { return !alive(fd) })
	}
	eventually(t, "no process of "+link, func() bool { return len(slirps(link)) == 0 })
}

func ordinaryUser(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		skip(t, "rootless programs need an ordinary user")
	}
}

// hostAddress is an address of this machine's that is no loopback.
func hostAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	skip(t, "this machine has no address but its loopback's")
	return ""
}

// RootlessKit with tapswitch as its slirp4netns, by both port drivers; and, where
// there is one of version 2 or later, with the network detached.
func TestInteropRootlessKit(t *testing.T) {
	ordinaryUser(t)
	tools(t, "rootlesskit", "newuidmap", "ip", "nsenter")
	for _, driver := range []string{"slirp4netns", "builtin"} {
		t.Run(driver, func(t *testing.T) {
			rootlessKit(t, "rootlesskit", driver, "", "--copy-up=/etc", "--disable-host-loopback", "--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto")
		})
	}
	t.Run("detached", func(t *testing.T) {
		kit := newRootlessKit(t)
		for _, driver := range []string{"slirp4netns", "builtin"} {
			t.Run(driver, func(t *testing.T) {
				rootlessKit(t, kit, driver, "nsenter --net=$ROOTLESSKIT_STATE_DIR/netns ", "--detach-netns", "--ipv6", "--copy-up=/etc", "--disable-host-loopback", "--slirp4netns-seccomp=auto")
			})
		}
	})
}

// newRootlessKit is a RootlessKit that can detach a network: the one that
// ROOTLESSKIT names, else one that is built.
func newRootlessKit(t *testing.T) string {
	t.Helper()
	if kit := os.Getenv("ROOTLESSKIT"); kit != "" {
		return kit
	}
	tools(t, "go")
	dir := t.TempDir()
	c := exec.Command("go", "install", "github.com/rootless-containers/rootlesskit/v2/cmd/rootlesskit@v2.3.6")
	c.Dir = dir // not in our module
	c.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
	if out, err := c.CombinedOutput(); err != nil {
		skip(t, "RootlessKit is not to be built here: "+string(out))
	}
	return dir + "/rootlesskit"
}

func rootlessKit(t *testing.T, kit, driver, within string, args ...string) {
	link := asSlirp(t)
	state := filepath.Join(filepath.Dir(link), "rk")
	port := freePort(t)
	client := hostAddress(t)
	command := fmt.Sprintf("%[1]sip -4 -o addr show tap0; cat /etc/resolv.conf; %[1]s%[2]s ask tcp 10.0.2.2:1; echo code $?; exec %[1]s%[2]s serve 80", within, prog)
	c := exec.Command(kit, append(args, "--state-dir="+state, "--net=slirp4netns", "--slirp4netns-binary="+link, "--mtu=65520", "--port-driver="+driver,
		"-p", fmt.Sprintf("0.0.0.0:%d:80/tcp", port), "sh", "-c", command)...)
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+filepath.Dir(link))
	p := startProc(t, c)
	if l := p.expect("tap0"); !strings.Contains(l, "10.0.2.100/24") {
		t.Errorf("tap0: %s", l)
	}
	if within == "" { // the host's resolv.conf stays where the network alone is detached
		p.expect("nameserver 10.0.2.3")
	}
	p.expect(fmt.Sprintf("code %d", askRefused)) // the host's loopback is closed
	p.expect("listening")
	if driver == "slirp4netns" {
		answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port), "10.0.2.2")
		answers(t, "tcp", fmt.Sprintf("%s:%d", client, port), client) // it is who it is
	} else {
		answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port), "127.0.0.1")
	}
	running := slirps(link)
	if len(running) != 2 {
		t.Errorf("processes of slirp4netns: %v", running)
	}
	fds := pidfds(t, running)
	// RootlessKit's child is the one to tell: its parent only waits.
	b, err := os.ReadFile(state + "/child_pid")
	if err != nil {
		t.Fatal(err)
	}
	var child int
	fmt.Sscan(string(b), &child)
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.wait()
	gone(t, link, fds)
	if _, err := os.Lstat(state + "/.s4nn.sock"); err == nil {
		t.Error("the API socket is left")
	}
}

// pod is rootless podman with a store of its own, and tapswitch as its
// slirp4netns.
type pod struct {
	t     *testing.T
	store string
	link  string
}

func newPod(t *testing.T) *pod {
	t.Helper()
	ordinaryUser(t)
	tools(t, "podman", "runc", "newuidmap", "busybox", "tar")
	p := &pod{t: t, link: asSlirp(t)}
	p.store = filepath.Join(filepath.Dir(p.link), "p") // short: there are sockets below
	if err := os.MkdirAll(p.store+"/image/bin", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.store+"/containers.conf", []byte(fmt.Sprintf("[engine]\nnetwork_cmd_path = %q\n", p.link)), 0o600); err != nil {
		t.Fatal(err)
	}
	// What podman stores is owned by subordinate users: only it can remove it.
	t.Cleanup(func() {
		_ = p.cmd("rm", "-fa", "-t", "0").Run()
		_ = p.cmd("unshare", "rm", "-rf", p.store+"/root", p.store+"/run").Run()
		// The process that holds its namespaces stays otherwise.
		var pause int
		if b, err := os.ReadFile(p.store + "/libpod/tmp/pause.pid"); err == nil {
			if _, err := fmt.Sscan(string(b), &pause); err == nil && pause > 1 {
				_ = unix.Kill(pause, unix.SIGKILL)
			}
		}
	})
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	output(t, "cp", box, p.store+"/image/bin/busybox")
	output(t, "tar", "-C", p.store+"/image", "-cf", p.store+"/image.tar", "bin")
	p.run("import", p.store+"/image.tar", "box:latest")
	return p
}

func (p *pod) cmd(args ...string) *exec.Cmd {
	c := exec.Command("podman", append([]string{"--root", p.store + "/root", "--runroot", p.store + "/run", "--storage-driver", "vfs",
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"}, args...)...)
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+p.store, "HOME="+p.store, "CONTAINERS_CONF="+p.store+"/containers.conf")
	return c
}

func (p *pod) run(args ...string) string {
	p.t.Helper()
	out, err := p.cmd(args...).Output()
	if err != nil {
		var text []byte
		var xe *exec.ExitError
		if errors.As(err, &xe) {
			text = xe.Stderr
		}
		p.t.Fatalf("podman %s: %v\n%s%s", strings.Join(args, " "), err, out, text)
	}
	return strings.TrimSpace(string(out))
}

// httpd starts a container with a web server.
func (p *pod) httpd(name string, args ...string) {
	p.t.Helper()
	p.run(append(append([]string{"run", "-d", "--name", name, "--cap-add", "NET_RAW"}, args...), "box:latest", "/bin/busybox", "httpd", "-vv", "-f", "-p", "80", "-h", "/bin")...)
}

// fetch gets the server's file by the host's address.
func (p *pod) fetch(host string, port int) {
	p.t.Helper()
	eventually(p.t, "a web server in a container", func() bool {
		return exec.Command("busybox", "wget", "-q", "-O", "/dev/null", fmt.Sprintf("http://%s:%d/busybox", host, port)).Run() == nil
	})
}

// In podman's network mode slirp4netns each container has one of its own.
func TestInteropPodmanSlirp(t *testing.T) {
	p := newPod(t)
	client := hostAddress(t)
	a, b := freePort(t), freePort(t)
	p.httpd("a", "--network", "slirp4netns:port_handler=slirp4netns", "-p", itoa(a)+":80")
	p.httpd("b", "--network", "slirp4netns:port_handler=rootlesskit", "-p", itoa(b)+":80")
	p.fetch("127.0.0.1", a)
	p.fetch(client, a)
	p.fetch("127.0.0.1", b)
	if logs, err := p.cmd("logs", "a").CombinedOutput(); err != nil || !strings.Contains(string(logs), "[::ffff:"+client+"]") {
		t.Errorf("its server does not see %s:\n%s (%v)", client, logs, err)
	}
	inside := func(name string, args ...string) string {
		return p.run(append([]string{"exec", name, "/bin/busybox"}, args...)...)
	}
	for _, name := range []string{"a", "b"} {
		if got := inside(name, "ping", "-c", "1", "-W", "10", "10.0.2.2"); !strings.Contains(got, " 0% packet loss") {
			t.Errorf("%s pings its gateway:\n%s", name, got)
		}
		if got := inside(name, "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 10.0.2.3") {
			t.Errorf("%s asks %s", name, got)
		}
		if got := inside(name, "ip", "addr", "show", "tap0"); !strings.Contains(got, "10.0.2.100/24") || !strings.Contains(got, "inet6 fd00::") || !strings.Contains(got, "mtu 65520") {
			t.Errorf("%s has\n%s", name, got)
		}
		if got, _ := p.cmd("exec", name, "/bin/busybox", "nslookup", "guest", "10.0.2.3").CombinedOutput(); !strings.Contains(string(got), "10.0.2.100") {
			t.Errorf("%s asks for a name:\n%s", name, got)
		}
	}
	p.run("restart", "-t", "0", "a")
	p.fetch("127.0.0.1", a)
	if n := len(slirps(p.link)); n != 4 {
		t.Errorf("%d processes for two containers", n)
	}
	fds := pidfds(t, slirps(p.link))
	p.run("rm", "-f", "-t", "0", "a", "b")
	gone(t, p.link, fds)
}

// On a network of the user's own, containers share one: podman's bridge stands
// behind its TAP.
func TestInteropPodmanBridge(t *testing.T) {
	p := newPod(t)
	port := freePort(t)
	p.run("network", "create", "net1")
	p.httpd("c", "--network", "net1", "-p", itoa(port)+":80")
	p.httpd("d", "--network", "net1")
	p.fetch("127.0.0.1", port)
	c := p.run("inspect", "-f", "{{.NetworkSettings.Networks.net1.IPAddress}}", "c")
	for _, to := range []string{c, "10.0.2.2"} {
		if got := p.run("exec", "d", "/bin/busybox", "ping", "-c", "1", "-W", "10", to); !strings.Contains(got, " 0% packet loss") {
			t.Errorf("d pings %s:\n%s", to, got)
		}
	}
	if got, _ := p.cmd("exec", "d", "/bin/busybox", "nslookup", "guest", "10.0.2.3").CombinedOutput(); !strings.Contains(string(got), "10.0.2.100") {
		t.Errorf("d asks for a name:\n%s", got)
	}
	p.run("restart", "-t", "0", "c")
	p.fetch("127.0.0.1", port)
	if n := len(slirps(p.link)); n != 2 {
		t.Errorf("%d processes for one network", n)
	}
	fds := pidfds(t, slirps(p.link))
	p.run("rm", "-f", "-t", "0", "c", "d")
	gone(t, p.link, fds)
}

// What slirp4netns itself says and answers, and what we do.
func TestInteropSlirp(t *testing.T) {
	tools(t, "slirp4netns")
	link := asSlirp(t)
	both := func(args ...string) (theirs, ours result) {
		say := func(path string) result {
			c := exec.Command(path, args...)
			c.Args[0] = slirp.Name
			c.Env = []string{}
			var out, errs bytes.Buffer
			c.Stdout, c.Stderr = &out, &errs
			_ = c.Run()
			return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
		}
		real, err := exec.LookPath(slirp.Name)
		if err != nil {
			t.Fatal(err)
		}
		return say(real), say(link)
	}
	for _, args := range []string{"", "1", "--bogus 1 tap0", "-z 1 tap0", "1 tap0 -r", "1 tap0 --mtu", "-e x 1 tap0", "-r -1 1 tap0", "--mtu=0 1 tap0", "-m 65522 1 tap0", "x tap0",
		"--userns-path=/nowhere 1 tap0", "--netns-type=path /nowhere tap0", "--target-type=x 1 tap0", "--target-type=bess", "--target-type=bess a b", "--target-type=bess -c a",
		"--macaddress=02:00:00:00:00:01 1 tap0", "-c --macaddress=x 1 tap0", "--cidr=x 1 tap0", "--cidr=10.0.2.0/26 1 tap0", "--cidr=10.0.2.100/24 1 tap0", "--cidr=999.0.0.0/8 1 tap0",
		"--outbound-addr=nosuch0 1 tap0", "--help", "--version"} {
		theirs, ours := both(strings.Fields(args)...)
		usage := func(r result) bool { return strings.Contains(r.out, "Usage: slirp4netns [OPTION]... PID|PATH") }
		if ours.code != theirs.code || usage(ours) != usage(theirs) || strings.TrimSpace(ours.err) != strings.TrimSpace(theirs.err) {
			t.Errorf("%q:\ntheirs %d, usage %v: %s\nours %d, usage %v: %s", args, theirs.code, usage(theirs), theirs.err, ours.code, usage(ours), ours.err)
		}
	}
	// The API, asked the same.
	guests := [2]*proc{server(t), server(t)}
	var apis [2]*slirpProc
	for i, path := range []string{"slirp4netns", link} {
		dir := filepath.Dir(asSlirp(t))
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command(path, "-c", "-r", "3", "-a", dir+"/api", itoa(guests[i].cmd.Process.Pid), "tap0")
		c.ExtraFiles = []*os.File{w}
		apis[i] = &slirpProc{proc: startProc(t, c), api: dir + "/api"}
		w.Close()
		if n, err := r.Read(make([]byte, 1)); n != 1 {
			t.Fatalf("%s is not ready: %v\n%s", path, err, apis[i].errs)
		}
		r.Close()
	}
	ports := [2]int{freePort(t), freePort(t)}
	for _, request := range []string{`{`, `[]`, `{}`, `{"execute":"dance"}`, `{"execute":"remove_hostfwd","arguments":{"id":1}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"sctp"}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"x"}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp"}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":80,"guest_addr":"x"}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":80}}`,
		`{"execute":"list_hostfwd"}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.2","host_port":PORT,"guest_port":80}}`,
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.2","host_port":PORT,"guest_port":81}}`, // it is taken
		`{"execute":"list_hostfwd"}`,
		`{"execute":"remove_hostfwd","arguments":{"id":1}}`,
		`{"execute":"list_hostfwd"}`,
		strings.Repeat(" ", 4096),
	} {
		var said [2]string
		for i, s := range apis {
			a := s.call(strings.ReplaceAll(request, "PORT", itoa(ports[i])))
			if a["entries"] != nil {
				delete(a, "return") // the shape that is documented, and that they do not send
			}
			b, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			said[i] = strings.ReplaceAll(string(b), itoa(ports[i]), "PORT")
			if strings.Contains(said[i], `"return":{"id"`) {
				answers(t, "tcp", fmt.Sprintf("127.0.0.2:%d", ports[i]), "10.0.2.2")
			}
		}
		if said[0] != said[1] {
			t.Errorf("%.80s: they answer %s, we %s", request, said[0], said[1])
		}
	}
}
