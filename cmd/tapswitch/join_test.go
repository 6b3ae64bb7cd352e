package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stranger is a namespace that somebody else made: a process of ours in a user
// and network namespace of its own. It lives until its input is closed.
func stranger(t *testing.T) *proc {
	t.Helper()
	c := exec.Command(prog, "hold")
	c.SysProcAttr = ownNamespaces()
	p := startProc(t, c)
	p.expect("holding")
	return p
}

func (p *proc) netns() string { return "/proc/" + itoa(p.cmd.Process.Pid) + "/ns/net" }

func TestJoin(t *testing.T) {
	for _, how := range []string{"--pid", "--netns"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t)
			b.up("-c", b.write("c.yaml", twoBridges))
			b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
			worker := b.status().WorkerPid
			before := descriptors(t, worker)
			s := stranger(t)
			target := itoa(s.cmd.Process.Pid)
			if how == "--netns" {
				target = s.netns()
			}
			said := b.ok("join", "guest", how, target, "--network", "bridge:ip=172.17.0.77", "--ifname", "tap0", "-p", "80")
			if !strings.Contains(said, "tap0 172.17.0.77") {
				t.Errorf("join says %q", said)
			}
			inode, err := os.Readlink(s.netns())
			if err != nil {
				t.Fatal(err)
			}
			c := b.inspect("guest")
			if c.Kind != "join" || c.Networks[0].IP != "172.17.0.77" || c.Networks[0].IfName != "tap0" || c.Networks[0].MAC != "02:42:ac:11:00:4d" {
				t.Errorf("inspect: %+v", c)
			}
			if pid := how == "--pid"; (c.Pid != nil) != pid {
				t.Errorf("process %v", c.Pid)
			}
			for _, f := range []struct{ file, want string }{{"dev", "tap0:"}, {"route", "tap0\t00000000\t010011AC"}} {
				text, _ := os.ReadFile(filepath.Dir(filepath.Dir(s.netns())) + "/net/" + f.file)
				if !strings.Contains(string(text), f.want) {
					t.Errorf("no %q in the namespace:\n%s", f.want, text)
				}
			}
			if how == "--pid" {
				if got := b.ok("exec", "guest", "--", prog, "ask", "tcp", "172.17.0.3:80", "hello"); !strings.HasPrefix(got, "from 172.17.0.77:") {
					t.Errorf("c2 answers the guest %q", got)
				}
				guest := b.start("exec", "guest", "--", prog, "serve", "80")
				guest.expect("listening")
				b.asks("c1", "tcp4", "guest:80", "from 172.17.0.2:")
				addr := net.JoinHostPort("127.0.0.1", itoa(b.port("guest", "tcp", 80)))
				if got, err := ask("tcp", addr, "hello", silence); err != nil || !strings.HasPrefix(got, "from 172.17.0.1:") {
					t.Errorf("the guest answers the host %q (%v)", got, err)
				}
				guest.signal(unix.SIGHUP) // handed on, and deadly
				if code := guest.wait(); code != 128+int(unix.SIGHUP) {
					t.Errorf("the guest's server ends with %d", code)
				}
			} else {
				b.fails(125, []string{"joined by path"}, "exec", "guest", "true")
				b.asks("c1", "tcp4", "guest:80", refused)
			}
			waiting := b.start("wait", b.inspect("guest").ID)
			s.signal(unix.SIGKILL)
			waiting.line()
			b.fails(3, nil, "inspect", "guest")
			b.fails(1, []string{"no such host"}, "exec", "c1", prog, "lookup", "guest")
			eventually(t, "the end of the guest's namespace", func() bool { return len(holders(inode)) == 0 })
			released(t, worker, before)
			// Its address is free.
			b.ok("run", "--rm", "--network", "bridge:ip=172.17.0.77", "--", prog, "exit", "0")
		})
	}
}

func TestLeave(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	worker := b.status().WorkerPid
	before := descriptors(t, worker)
	s := stranger(t)
	pid := itoa(s.cmd.Process.Pid)
	b.ok("join", "guest", "--pid", pid, "--network", "bridge", "--network", "bridge2:ip=172.18.0.77")
	b.fails(3, []string{"guest", "only4"}, "leave", "guest", "only4")
	b.asks("guest", "tcp", "172.18.0.1:81", refused)
	b.ok("leave", "guest", "bridge2")
	if n := b.inspect("guest").Networks; len(n) != 1 || n[0].Network != "bridge" {
		t.Errorf("after leaving bridge2 it is on %+v", n)
	}
	b.asks("guest", "tcp", "172.17.0.1:81", refused)
	b.ok("run", "--rm", "--network", "bridge2:ip=172.18.0.77", "--", prog, "exit", "0")
	b.ok("leave", "guest")
	b.fails(3, nil, "inspect", "guest")
	released(t, worker, before)
	eventually(t, "the namespace without eth0", func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/net/dev")
		return err == nil && !strings.Contains(string(text), "eth0")
	})
	// It may come back, under any name.
	b.ok("join", "again", "--pid", pid, "--no-default-route")
	b.fails(1, []string{"eth0", "--ifname"}, "join", "twice", "--pid", pid)
	b.fails(3, nil, "inspect", "twice")
	b.ok("join", "twice", "--pid", pid, "--ifname", "eth7", "--network", "bridge2", "--no-default-route")
	if s := b.show("exec", "twice", prog, "show"); len(s.Ifaces["eth0"]) == 0 || len(s.Ifaces["eth7"]) == 0 {
		t.Errorf("interfaces: %v", s.Ifaces)
	}
	b.ok("rm", "again")
	b.fails(3, nil, "inspect", "again")
}

// A default route that is there already is an error that names the flag, and
// leaves nothing half made.
func TestJoinWithRoute(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	s := stranger(t)
	pid := itoa(s.cmd.Process.Pid)
	b.ok("join", "first", "--pid", pid)
	b.fails(1, []string{"default route", "--no-default-route"}, "join", "second", "--pid", pid, "--network", "bridge2", "--ifname", "eth1")
	b.fails(3, nil, "inspect", "second")
	eventually(t, "the namespace without eth1", func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/net/dev")
		return err == nil && !strings.Contains(string(text), "eth1")
	})
	b.asks("first", "tcp", "172.17.0.1:81", refused)
}

// A joined namespace comes back after a restart, if it is still the same.
func TestJoinedComesBack(t *testing.T) {
	b := newBench(t)
	b.up()
	stays, goes := stranger(t), stranger(t)
	b.ok("join", "stays", "--pid", itoa(stays.cmd.Process.Pid), "--network", "bridge:ip=172.17.0.50", "-p", "80")
	b.ok("join", "goes", "--pid", itoa(goes.cmd.Process.Pid))
	port := b.port("stays", "tcp", 80)
	b.ok("down")
	goes.signal(unix.SIGKILL)
	goes.wait()
	up := b.up()
	if c := b.inspect("stays"); c.Networks[0].IP != "172.17.0.50" || b.port("stays", "tcp", 80) != port {
		t.Errorf("it came back as %+v", c)
	}
	b.asks("stays", "tcp", "172.17.0.1:81", refused)
	up.errs.await(t, "not restored")
	b.fails(3, nil, "inspect", "goes")
	waiting := b.start("wait", b.inspect("stays").ID)
	stays.signal(unix.SIGKILL)
	waiting.line()
	b.fails(3, nil, "inspect", "stays")
}

// The configuration may name a namespace of others, too.
func TestJoinByFile(t *testing.T) {
	b := newBench(t)
	s := stranger(t)
	b.up("-c", b.write("c.yaml", "containers:\n  - {name: guest, pid: "+itoa(s.cmd.Process.Pid)+", ip: 172.17.0.60}\n  - {name: other, ip: 172.17.0.61}\n"))
	if c := b.inspect("guest"); c.Origin != "file" || c.Kind != "join" {
		t.Errorf("guest: %+v", c)
	}
	b.ok("exec", "other", prog, "ping", "172.17.0.60")
}
