package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The end, by whatever is asked for it, leaves no process, no namespace, no
// socket and no host port.
func TestDownLeavesNothing(t *testing.T) {
	for _, how := range []string{"down", "SIGTERM", "SIGINT", "killed", "worker killed"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t)
			up := b.up("-c", b.write("c.yaml", "containers: [{name: held, publish: [\"80\", \"80/udp\"]}]\n"), "--ephemeral")
			b.ok("run", "-d", "--name", "deaf", "--init=false", "--", prog, "serve", "80")
			b.start("logs", "-f", "deaf").expect("listening")
			b.start("exec", "deaf", "--", prog, "hold").expect("holding")
			b.start("exec", "held", "--", prog, "hold").expect("holding")
			var spaces []string
			for _, c := range []string{"deaf", "held"} {
				ns := b.ok("exec", c, "readlink", "/proc/self/ns/net")
				if len(holders(ns)) == 0 {
					t.Fatalf("nobody holds %s", ns)
				}
				spaces = append(spaces, ns)
			}
			s := b.status()
			all := family(s.Pid)
			if len(all) < 6 || !slices.Contains(all, s.WorkerPid) {
				t.Fatalf("the switch's processes: %v", all)
			}
			fds := pidfds(t, all)
			switch how {
			case "down":
				b.ok("down")
			case "SIGTERM":
				up.signal(unix.SIGTERM)
			case "SIGINT":
				up.signal(unix.SIGINT)
			case "killed":
				up.signal(unix.SIGKILL)
			case "worker killed":
				if err := unix.Kill(s.WorkerPid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			code := up.wait()
			if want := map[string]int{"killed": -1, "worker killed": 1}[how]; code != want {
				t.Errorf("up ends with %d, want %d\n%s", code, want, up.errs)
			}
			for i, fd := range fds {
				// Those that the kernel kills for their parent's death die a moment later.
				eventually(t, "the end of process "+itoa(all[i]), func() bool { return !alive(fd) })
			}
			for _, ns := range spaces {
				eventually(t, "the end of "+ns, func() bool { return len(holders(ns)) == 0 })
			}
			b.fails(4, nil, "status")
			if _, err := os.Stat(b.socket); err == nil && how != "killed" && how != "worker killed" {
				t.Error("the socket is left")
			}
			// What is left stops nobody.
			b.up("-c", b.dir+"/c.yaml", "--ephemeral")
		})
	}
}

// What was made by command is there again after any end of the switch, with
// its addresses and ports; what had ended, ran on a terminal, or was removed is
// not.
func TestStateLasts(t *testing.T) {
	for _, how := range []string{"down", "killed", "all killed"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t)
			file := b.write("c.yaml", "networks: [{name: bridge, subnet: 172.17.0.0/16, subnet6: \"fd00:17::/64\"}]\ncontainers: [{name: fixed, ip: 172.17.0.4}]\n")
			up := b.up("-c", file)
			b.ok("run", "-d", "--name", "removed", "--", prog, "hold")
			b.ok("run", "-d", "--name", "one", "-p", "80", "-p", "80/udp", "-e", "K=v", "-w", "/usr", "--", prog, "serve", "80")
			b.ok("run", "-d", "--name", "two", "--network", "bridge:ip=172.17.9.9,alias=Other", "--", prog, "hold")
			b.ok("rm", "-f", "removed")
			b.ok("run", "-d", "--name", "ended", "--", prog, "exit", "3")
			b.ok("wait", "ended")
			terminal := b.start("run", "--name", "terminal", "--", prog, "hold")
			terminal.expect("holding")
			before := b.lasting()
			s := b.status()
			switch how {
			case "down":
				b.ok("down")
			case "killed":
				up.signal(unix.SIGKILL)
			case "all killed":
				up.signal(unix.SIGKILL)
				_ = unix.Kill(s.WorkerPid, unix.SIGKILL)
			}
			up = b.up("-c", file) // waits for what is still dying
			if got := b.lasting(); !slices.Equal(got, before) {
				t.Errorf("it was\n%s\nand is\n%s\n%s", strings.Join(before, "\n"), strings.Join(got, "\n"), up.errs)
			}
			for _, name := range []string{"removed", "ended", "terminal"} {
				b.fails(3, nil, "inspect", name)
			}
			b.start("logs", "-f", "one").expect("listening")
			b.asks("two", "tcp4", "one:80", "from 172.17.9.9:")
			b.asks("one", "udp", "172.17.0.3:80", "from 172.17.0.3:")
			if got := b.ok("exec", "one", prog, "lookup", "other"); !strings.HasPrefix(got, "172.17.9.9 ") {
				t.Errorf("the alias names %s", got)
			}
			if s := b.show("exec", "one", prog, "show"); s.Dir != "/usr" || !slices.Contains(s.Env, "K=v") {
				t.Errorf("one runs in %s with %q", s.Dir, s.Env)
			}
			b.ok("rm", "-f", "one", "two")
			b.ok("down")
			b.up("-c", file)
			b.fails(3, nil, "inspect", "one")
		})
	}
}

// lasting are the lines of what must be the same after a restart: all of `ps`
// but ids, processes, times, and what ran on a terminal.
func (b *bench) lasting() (out []string) {
	b.t.Helper()
	var list []map[string]any
	b.json(&list, "ps", "--json")
	for _, c := range list {
		if c["name"] == "terminal" {
			continue
		}
		for _, k := range []string{"id", "pid", "created"} {
			delete(c, k)
		}
		text, err := json.Marshal(c)
		if err != nil {
			b.t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

func TestStateIsNotKept(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	b.ok("run", "-d", "--name", "one", "--", prog, "hold")
	if !b.status().Ephemeral {
		t.Error("status does not say that the switch is ephemeral")
	}
	b.ok("down")
	b.up()
	b.fails(3, nil, "inspect", "one")
}

// A start that fails, and what the file makes, leave the state as it is.
func TestStateSurvivesTheFile(t *testing.T) {
	b := newBench(t)
	b.up()
	b.ok("run", "-d", "--name", "one", "--net", "bridge:ip=172.17.0.99", "--", prog, "hold")
	b.ok("down")
	b.fails(1, []string{"/no/such"}, "up", "-c", b.write("bad.yaml", "containers: [{name: a, command: [/no/such]}]\n"))
	b.up("-c", b.write("c.yaml", "containers: [{name: short, command: [\""+prog+"\", exit, \"0\"]}]\n"))
	if c := b.inspect("one"); c.State != "running" {
		t.Errorf("one is %s", c.State)
	}
}

// A state file that is of no use is put aside, and said so.
func TestStateUnreadable(t *testing.T) {
	b := newBench(t)
	b.up()
	b.ok("run", "-d", "--name", "one", "--", prog, "hold")
	b.ok("down")
	files, _ := filepath.Glob(b.dir + "/state/tapswitch/*.json")
	if len(files) != 1 {
		t.Fatalf("state files: %v", files)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := b.up()
	up.errs.await(t, files[0]+".bad")
	if _, err := os.Stat(files[0] + ".bad"); err != nil {
		t.Error(err)
	}
	b.ok("run", "-d", "--name", "one", "--", prog, "hold")
}

// up -d returns when the switch is ready, and leaves nothing of itself behind
// but the switch.
func TestUpBehind(t *testing.T) {
	b := newBench(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := b.cmd("up", "-d", "--ephemeral")
	c.Stdout, c.Stderr = w, w
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.try("down") })
	w.Close()
	said, err := io.ReadAll(r) // to the end: the switch holds none of our files
	if err != nil || !strings.HasSuffix(string(said), "ready\n") || !strings.Contains(string(said), "network bridge 172.17.0.0/16") {
		t.Errorf("it says %q (%v)", said, err)
	}
	pid := b.status().Pid
	if pgid, _ := unix.Getpgid(pid); pgid == unix.Getpgrp() {
		t.Error("it is in our process group: an interrupt at the terminal would end it")
	}
	b.ok("down")
	b.fails(4, nil, "status")
}
