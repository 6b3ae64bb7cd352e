package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/pasta"
)

// pasta is tapswitch called so.
func (l *lab) pasta(args ...string) *exec.Cmd {
	c := exec.Command(prog)
	c.Args, c.Dir, c.Env = append([]string{pasta.Name}, args...), l.dir, append(l.env, "PATH=/usr/bin:/bin")
	return c
}

// run runs a command to its end and returns what it printed.
func (l *lab) run(c *exec.Cmd) result {
	l.t.Helper()
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	stuck := time.AfterFunc(patience, func() { c.Process.Kill() })
	_ = c.Wait()
	if !stuck.Stop() {
		l.t.Fatalf("%v does not end\n%s%s", c.Args, out.String(), errs.String())
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// host starts one of our programs on the lab's host.
func (l *lab) host(args ...string) *proc {
	l.t.Helper()
	return startProc(l.t, exec.Command(prog, args...))
}

// pasta's own way: the namespace has the host's address, and reaches what the
// host reaches.
func TestPastaCommand(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	startProc(t, l.far("serve", "80")).expect("listening")
	l.host("serve", "81").expect("listening")
	for _, x := range []struct {
		what, flags, program string
		code                 int
		out                  string
	}{
		{"outside", "--config-net", "ask tcp 198.51.100.1:80", 0, "from 192.0.2.1:"},
		{"outside by UDP", "--config-net --no-map-gw", "ask udp 192.0.2.2:80 x", 0, "from 192.0.2.1:"},
		{"outside by IPv6", "--config-net --no-map-gw", "ask tcp [2001:db8::2]:80", 0, "from [2001:db8::1]:"},
		{"ping", "--config-net", "ping 198.51.100.1", 0, "answered"},
		{"the host's loopback at the gateway", "--config-net", "ask tcp 192.0.2.2:81", 0, "from 127.0.0.1:"},
		{"the gateway itself", "--config-net --no-map-gw", "ask tcp 192.0.2.2:80", 0, "from 192.0.2.1:"},
		{"the host's loopback elsewhere", "--config-net --map-host-loopback 192.0.2.77", "ask tcp 192.0.2.77:81", 0, "from 127.0.0.1:"},
		{"and then not at the gateway", "--config-net --map-host-loopback 192.0.2.77", "ask tcp 192.0.2.2:80", 0, "from 192.0.2.1:"},
		{"the host's address", "--config-net --map-guest-addr 169.254.1.2", "ask tcp 169.254.1.2:81", 0, "from 192.0.2.1:"},
		{"the loopback leads to the host's", "--config-net -T 81", "ask tcp 127.0.0.1:81", 0, "from 127.0.0.1:"},
		{"by UDP", "--config-net -U 7081:81", "ask udp 127.0.0.1:7081 x", 0, "from 127.0.0.1:"},
		{"what listens there is followed", "--config-net", "ask tcp 127.0.0.1:81", 0, "from 127.0.0.1:"},
		{"or not", "--config-net -T none", "ask tcp 127.0.0.1:81", askRefused, ""},
		{"without TCP", "--config-net --no-tcp", "ask tcp 198.51.100.1:80 x 300ms", askSilence, ""},
		{"without the network set up", "", "ask tcp 198.51.100.1:80", askUnreachable, ""},
		{"another address", "--config-net -a 10.9.8.7 -n 24 -g 10.9.8.1", "ask tcp 198.51.100.1:80", 0, "from 192.0.2.1:"},
		{"the exit status", "", "exit 7", 7, ""},
	} {
		t.Run(x.what, func(t *testing.T) {
			args := append(strings.Fields(x.flags), "--", prog)
			r := l.run(l.pasta(append(args, strings.Fields(x.program)...)...))
			if r.code != x.code || !strings.HasPrefix(r.out, x.out) {
				t.Errorf("pasta %s: status %d, %q, want %d, %q\n%s", strings.Join(args, " "), r.code, r.out, x.code, x.out, r.err)
			}
		})
	}
	r := l.run(l.pasta("--config-net", "--", "/no/such"))
	if r.code != 1 || !strings.Contains(r.err, "/no/such") {
		t.Errorf("a command that is not there: status %d, %s", r.code, r.err)
	}
}

// The command lines of podman and RootlessKit, behind, in a namespace of theirs.
func TestPastaCallers(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	startProc(t, l.far("serve", "80")).expect("listening")
	l.host("serve", "81").expect("listening")
	for _, x := range []struct {
		caller, flags string
		target        func(pid, netns string) []string
		port          string // of the host, that leads to the guest's 90
	}{
		{"podman", "--config-net -t 8090-8090:90-90 --dns-forward 169.254.1.1 -u none -T none -U none --no-map-gw --quiet --map-guest-addr 169.254.1.2",
			func(_, netns string) []string { return []string{"--netns", netns} }, "8090"},
		{"rootlesskit", "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=none",
			func(pid, _ string) []string { return []string{pid} }, "90"},
	} {
		t.Run(x.caller, func(t *testing.T) {
			c := exec.Command(prog, "serve", "90")
			c.SysProcAttr = ownNamespaces()
			guest := startProc(t, c)
			guest.expect("listening")
			pidFile := l.dir + "/" + x.caller + ".pid"
			args := append(strings.Fields(x.flags), "--pid", pidFile)
			args = append(args, x.target(itoa(c.Process.Pid), guest.netns())...)
			if r := l.run(l.pasta(args...)); r.code != 0 {
				t.Fatalf("pasta %s: status %d\n%s", strings.Join(args, " "), r.code, r.err)
			}
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatalf("the process behind: %v", err)
			}
			defer unix.Close(fd)
			t.Cleanup(func() { _ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0) })

			if got := await(t, "127.0.0.1:"+x.port); !strings.HasPrefix(got, "from ") {
				t.Errorf("the guest's server answers %q", got)
			}
			// Its client's address is kept: 198.51.100.1 is of no network here.
			if r := l.run(l.far("ask", "tcp", "192.0.2.1:"+x.port)); r.code != 0 || !strings.HasPrefix(r.out, "from 192.0.2.2:") {
				t.Errorf("from outside: %d %q %s", r.code, r.out, r.err)
			}
			guest.signal(syscall.SIGKILL)
			guest.wait()
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, int(patience.Milliseconds())); n != 1 {
				t.Errorf("it stays when the namespace has gone (%v)", err)
			}
		})
	}
}

// await asks a server until somebody listens there.
func await(t *testing.T, addr string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		answer, err := ask("tcp", addr, "", patience)
		if err == nil {
			return answer
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens at %s: %v", addr, err)
		}
		time.Sleep(20 * time.Millisecond) // pasta looks once a second which ports listen
	}
}
