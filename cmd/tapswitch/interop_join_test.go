//go:build interop

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A container of rootless podman, without a network of podman's, joins.
func TestInteropPodman(t *testing.T) {
	if os.Geteuid() == 0 {
		skip(t, "rootless podman needs an ordinary user")
	}
	b := newBench(t)
	p := newPodman(t)
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	p.run("box1", "--network", "none")
	pid := p.ok("inspect", "-f", "{{.State.Pid}}", "box1")

	b.up("-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", "busybox", "httpd", "-f", "-p", "80", "-h", filepath.Dir(box))
	// What the session of the command above holds open counts as before.
	eventually(t, "a web server in c2", func() bool {
		return b.try("exec", "c1", "busybox", "wget", "-q", "-O", "/dev/null", "http://c2/busybox").code == 0
	})
	worker := b.status().WorkerPid
	before := descriptors(t, worker)
	b.ok("join", "box1", "--pid", pid, "--network", "bridge:ip=172.17.0.70", "-p", "80")
	inside := func(args ...string) string { t.Helper(); return p.in("box1", args...) }
	if got := inside("ping", "-c", "2", "-W", "5", "172.17.0.3"); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("ping from podman's container:\n%s", got)
	}
	if got := inside("wget", "-q", "-O", "-", "http://172.17.0.3/busybox"); len(got) == 0 {
		t.Error("wget from podman's container brings nothing")
	}
	if got := inside("nslookup", "c2.bridge", "172.17.0.1"); !strings.Contains(got, "172.17.0.3") {
		t.Errorf("a name from podman's container:\n%s", got)
	}
	if got := b.ok("exec", "c1", "ping", "-c", "1", "-W", "5", "box1"); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("ping to podman's container:\n%s", got)
	}
	waiting := b.start("wait", b.inspect("box1").ID)
	p.ok("rm", "-f", "-t", "0", "box1")
	waiting.line()
	b.fails(3, nil, "inspect", "box1")
	released(t, worker, before)
}

// A namespace of unshare(1)'s, as people make them.
func TestInteropUnshare(t *testing.T) {
	tools(t, "unshare", "ping")
	b := newBench(t)
	b.up("--ephemeral")
	c := exec.Command("unshare", "-r", "-n", "sh", "-c", "echo made; exec cat")
	s := startProc(t, c)
	s.expect("made")
	b.ok("join", "shell", "--pid", itoa(c.Process.Pid))
	if got := b.ok("exec", "shell", "ping", "-c", "1", "-W", "5", "172.17.0.1"); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("ping:\n%s", got)
	}
}

const ordinary = 12345 // a user without a name will do

// asUser makes root's bench one of an ordinary user's switch: its directory and
// a copy of the program are that user's.
func asUser(t *testing.T) (b *bench, start func(args ...string) *proc) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b = newBench(t)
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(prog)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(b.dir, "prog"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	to.Close()
	if err := os.Chown(b.dir, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	return b, func(args ...string) *proc {
		t.Helper()
		c := b.cmd(args...)
		c.Path, c.Err = filepath.Join(b.dir, "prog"), nil
		c.Env = append(slices.Clone(b.env), "HOME="+b.dir)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
		return startProc(t, c)
	}
}

// Root puts a namespace that `ip netns` made on an ordinary user's switch; it
// leaves when the namespace does. Meanwhile the host is left alone.
func TestRootNetns(t *testing.T) {
	tools(t, "ip", "ping", "nft")
	b, start := asUser(t)
	b.env = append(b.env, "TAPSWITCH_SOCKET=") // root names the socket of another's switch, as people do
	before := rules(t)
	file := b.write("c.yaml", twoBridges)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	up := start("--socket", b.socket, "up", "-c", file)
	t.Cleanup(func() { up.cmd.Process.Signal(unix.SIGTERM); up.wait() })
	up.expect("ready")
	b.env = b.env[:len(b.env)-1]
	if got := rules(t); got != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, got)
	}
	worker := b.status().WorkerPid
	fds := descriptors(t, worker)
	name := "ts-" + filepath.Base(b.dir)
	output(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	path := "/run/netns/" + name
	// The owner of the switch may not do what only root may.
	theirs := start("--socket", b.socket, "join", "lab", "--netns", path)
	if code := theirs.wait(); code != 1 || !strings.Contains(theirs.errs.String(), "sudo") {
		t.Errorf("without root it ends with %d: %s", code, theirs.errs)
	}
	b.ok("--socket", b.socket, "join", "lab", "--netns", path, "--network", "bridge:ip=172.17.0.90")
	if got := output(t, "ip", "netns", "exec", name, "ping", "-c", "2", "-i", "0.1", "-W", "5", "172.17.0.2"); !strings.Contains(got, " 0% packet loss") {
		t.Errorf("ping from the namespace:\n%s", got)
	}
	if got := output(t, "ip", "-n", name, "route"); !strings.Contains(got, "default via 172.17.0.1 dev eth0") {
		t.Errorf("its routes:\n%s", got)
	}
	waiting := b.start("wait", b.inspect("lab").ID)
	output(t, "ip", "netns", "del", name)
	waiting.line()
	b.fails(3, nil, "inspect", "lab")
	released(t, worker, fds)
	if got := rules(t); got != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, got)
	}
	b.ok("down")
	if got := rules(t); got != before {
		t.Errorf("the host was\n%s\nand is\n%s", before, got)
	}
}

// rules are all that root sees of the host's network: rules, addresses, routes.
func rules(t *testing.T) string {
	t.Helper()
	return output(t, "sh", "-ec", "nft list ruleset; ip -o addr | sed 's/valid_lft.*//'; ip -o link | cut -d' ' -f2-; ip route show table all; ip -6 route show table all; ip rule; ip netns | wc -l")
}

// Root's own switch is the same program with fewer steps.
func TestRootRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges), "--ephemeral")
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	b.asks("c1", "tcp4", "c2:80", "from 172.17.0.2:")
	b.asks("c1", "tcp", "172.18.0.2:80", silent)
	if s := b.show("run", "--rm", "--", prog, "show"); s.UID != 0 {
		t.Errorf("uid %d", s.UID)
	}
}
