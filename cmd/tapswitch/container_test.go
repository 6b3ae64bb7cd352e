package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// show runs the program `show` and decodes what it saw.
func (b *bench) show(args ...string) (s shown) {
	b.t.Helper()
	text := b.ok(args...)
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
	return s
}

func TestRunBehind(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	id := b.ok("run", "-d", "--name", "c1", "--", prog, "serve", "80")
	logs := b.start("logs", "-f", "c1")
	logs.expect("listening")
	if len(id) != 64 || b.inspect("c1").ID != id || b.inspect(id[:12]).Name != "c1" {
		t.Errorf("id %s, inspect says %s", id, b.inspect("c1").ID)
	}
	if got := b.ok("run", "--rm", "--", prog, "ask", "tcp", "c1:80", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("the server answers %q", got)
	}
	logs.expect("tcp 172.17.0.3")

	waiting := b.start("wait", "c1")
	if got := b.ok("stop", "-t", "0", "c1"); got != "c1" {
		t.Errorf("stop prints %q", got)
	}
	if got := waiting.line(); got != "137" {
		t.Errorf("wait prints %s, want 137", got)
	}
	if code := logs.wait(); code != 0 {
		t.Errorf("logs -f ends with %d", code)
	}
	if got := b.ok("ps", "--json"); got != "[]" {
		t.Errorf("ps lists %s", got)
	}
	if got := b.ok("logs", "c1"); !strings.HasPrefix(got, "listening\ntcp 172.17.0.3") {
		t.Errorf("the log of an ended container: %q", got)
	}
	// Its address is free, its name is not.
	b.fails(125, []string{"c1"}, "run", "--name", "c1", "--", prog, "exit", "0")
	if s := b.show("run", "--rm", "--", prog, "show"); !slices.Contains(s.Ifaces["eth0"], "172.17.0.2/16") {
		t.Errorf("the next container has %v", s.Ifaces)
	}
	b.ok("rm", "c1")
	b.fails(3, nil, "logs", "c1")
	b.ok("run", "--name", "c1", "--", prog, "exit", "0")
}

func TestStopAsksFirst(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	b.ok("run", "-d", "--name", "polite", "--", prog, "hold")
	b.start("logs", "-f", "polite").expect("holding")
	b.ok("stop", "polite")
	if got := b.ok("wait", "polite"); got != "7" {
		t.Errorf("exit code %s, want that of its SIGTERM handler", got)
	}
	// It may be gone before wait asks: its id is still known for a while.
	waiting := b.start("wait", b.ok("run", "-d", "--name", "k", "--rm", "--", prog, "hold"))
	b.ok("kill", "-s", "9", "k")
	if got := waiting.line(); got != "137" {
		t.Errorf("killed: exit code %s", got)
	}
	b.fails(3, nil, "inspect", "k")
	if r := b.try("rm", "polite", "nobody", "none"); r.code != 3 || r.out != "polite\n" || !strings.Contains(r.err, "nobody") || !strings.Contains(r.err, "none") {
		t.Errorf("rm of several: %+v", r)
	}
}

func TestInside(t *testing.T) {
	b := newBench(t)
	other, w, err := os.Pipe() // a stray descriptor of whoever starts the switch
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	defer w.Close()
	c := b.cmd("up", "--ephemeral", "--ready-fd", "5")
	c.ExtraFiles = []*os.File{other, other, w}
	p := startProc(t, c)
	p.expect("ready")
	state := filepath.Join(b.dir, "state", "tapswitch")
	own := []string{b.socket, b.socket + ".d"}
	for _, x := range []struct {
		name string
		args []string
	}{
		{"run", []string{"run", "--rm", "--name", "c1", "-e", "A=b", "-w", "/usr", "--"}},
		{"exec", []string{"exec", "-e", "A=b", "-w", "/usr", "keeps", "--"}},
		{"exec in a held one", []string{"exec", "-e", "A=b", "-w", "/usr", "held", "--"}},
	} {
		if x.name == "exec" {
			b.ok("down")
			b.up("--ephemeral", "-c", b.write("c.yaml", "containers: [{name: held}]\n"))
			b.ok("run", "-d", "--name", "keeps", "--hostname", "c1", "--", prog, "hold")
		}
		s := b.show(append(append(x.args, prog, "show"), own...)...)
		host := map[string]string{"run": "c1", "exec": "c1"}[x.name]
		if host == "" {
			host = "held"
		}
		if s.UID != 0 || s.Dir != "/usr" || s.Host != host {
			t.Errorf("%s: uid %d in %s on %s", x.name, s.UID, s.Dir, s.Host)
		}
		if s.Pid > 20 { // of a pid namespace of its own
			t.Errorf("%s: process %d", x.name, s.Pid)
		}
		if !slices.Contains(s.Env, "A=b") || !slices.Contains(s.Env, "HOSTNAME="+host) || slices.ContainsFunc(s.Env, func(kv string) bool { return strings.HasPrefix(kv, "TAPSWITCH") }) {
			t.Errorf("%s: environment %q", x.name, s.Env)
		}
		if len(s.FDs) > 0 {
			t.Errorf("%s: strange descriptors %q", x.name, s.FDs)
		}
		if !strings.HasPrefix(s.Resolv, "nameserver 172.17.0.1\n") || !strings.Contains(s.Hosts, "\t"+host) {
			t.Errorf("%s: resolv.conf %q, hosts %q", x.name, s.Resolv, s.Hosts)
		}
		if s.Sysctl["ipv4/ip_unprivileged_port_start"] != "0" || !strings.HasPrefix(s.Sysctl["ipv4/ping_group_range"], "0") || s.Sysctl["ipv6/conf/default/accept_dad"] != "0" {
			t.Errorf("%s: sysctls %v", x.name, s.Sysctl)
		}
		if len(s.Ifaces) != 2 || len(s.Ifaces["eth0"]) != 2 || !strings.HasPrefix(s.Ifaces["eth0"][1], "02:42:ac:11:00:0") {
			t.Errorf("%s: interfaces %v", x.name, s.Ifaces)
		}
		// The control socket is none, and its directory holds the container's own files.
		if s.Hidden[own[0]] == "S---------" || strings.Contains(s.Hidden[own[1]], "lock") {
			t.Errorf("%s: it sees of the switch %v", x.name, s.Hidden)
		}
	}
	b.fails(askRefused, nil, "exec", "held", prog, "ask", "unix", b.socket)
	if _, err := os.Stat(state); err == nil {
		t.Errorf("an ephemeral switch keeps state in %s", state)
	}
	// The pipe of --ready-fd was closed by all who had it.
	w.Close()
	if err := other.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if n, _ := other.Read(buf); string(buf[:n]) != "1" {
		t.Errorf("--ready-fd says %q", buf[:n])
	}
	if n, err := other.Read(buf); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("--ready-fd stays open: %d %v", n, err)
	}
}

func TestStandardFiles(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	b.ok("run", "-d", "--name", "there", "--", prog, "hold")
	for _, how := range [][]string{{"run", "--rm"}, {"exec"}} {
		args := func(flags ...string) []string {
			a := append(slices.Clone(how), flags...)
			if how[0] == "exec" {
				a = append(a, "there")
			}
			return append(a, "--")
		}
		if r := b.feed("to standard input", append(args("-i"), "cat")...); r.out != "to standard input" {
			t.Errorf("%s -i cat: %+v", how[0], r)
		}
		if r := b.feed("to nobody", append(args(), "cat")...); r.out != "" || r.code != 0 {
			t.Errorf("%s cat, without -i: %+v", how[0], r)
		}
		if r := b.try(append(args(), "sh", "-c", "echo out; echo err >&2")...); r.out != "out\n" || r.err != "err\n" {
			t.Errorf("%s: outputs are mixed: %+v", how[0], r)
		}
		var s shown
		r := b.try(append(args("-t"), prog, "show")...)
		if err := json.Unmarshal([]byte(r.out), &s); err != nil || !s.TTY {
			t.Errorf("%s -t: terminal %v, %v\n%s", how[0], s.TTY, err, r.out)
		}
		if r := b.feed("typed\n", append(args("-i", "-t"), "sh", "-c", "read x; echo got $x")...); !strings.Contains(r.out, "got typed\r\n") {
			t.Errorf("%s -it: %q", how[0], r.out)
		}
	}
}

// A signal for the command that a person sees reaches the one in the container.
func TestSignalsReachTheCommand(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	b.ok("run", "-d", "--name", "there", "--", prog, "hold")
	for _, args := range [][]string{{"run", "--rm", "--"}, {"exec", "there", "--"}} {
		p := b.start(append(args, prog, "hold")...)
		p.expect("holding")
		p.signal(unix.SIGTERM)
		if code := p.wait(); code != 7 {
			t.Errorf("%s: exit code %d, want that of its SIGTERM handler", args[0], code)
		}
	}
	// The end of a container is the end of what runs in it.
	p := b.start("exec", "there", "--", prog, "hold")
	p.expect("holding")
	b.ok("rm", "-f", "there")
	if code := p.wait(); code != 137 {
		t.Errorf("exec in a container that was removed ends with %d", code)
	}
	// So is the end of the switch.
	p = b.start("run", "--", prog, "hold")
	p.expect("holding")
	b.ok("down")
	if code := p.wait(); code != 137 {
		t.Errorf("run on a switch that was taken down ends with %d\n%s", code, p.errs)
	}
}

// Scripts that were written for Docker find what they look for.
func TestInspectAsDocker(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges), "--ephemeral")
	b.ok("run", "-d", "--network", "bridge2:ip=172.18.0.9,alias=db", "--name", "web", "-p", "127.0.0.1::80", "--", prog, "hold")
	port := itoa(b.port("web", "tcp", 80))
	for format, want := range map[string]string{
		"{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}":                                    "172.18.0.9",
		"{{.NetworkSettings.IPAddress}} {{.State.Status}} {{.State.Running}}":                         "172.18.0.9 running true",
		`{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}`:                              port,
		"{{.Name}} {{.name}} {{.Config.Hostname}} {{json .NetworkSettings.Networks.bridge2.Aliases}}": `/web web web ["db"]`,
		"{{index .Config.Cmd 1}}": "hold",
	} {
		for _, command := range [][]string{{"inspect"}, {"container", "inspect"}} {
			if got := b.ok(append(command, "-f", format, "web")...); got != want {
				t.Errorf("%s: %q, want %q", format, got, want)
			}
		}
	}
	b.fails(1, []string{"bogus"}, "inspect", "-f", "{{.bogus}}", "web")
	b.fails(2, []string{"--format"}, "inspect", "-f", "{{", "web")
	b.fails(3, []string{"nosuch"}, "inspect", "-f", "{{.name}}", "nosuch")
}
