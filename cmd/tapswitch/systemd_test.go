package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// progService executes this program as systemd does: LISTEN_PID is the
// program's own, which nobody else can know beforehand.
func progService(args []string) int {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	err := syscall.Exec("/proc/self/exe", append([]string{"tapswitch"}, args...), os.Environ())
	fmt.Fprintln(os.Stderr, err)
	return 125
}

func init() { programs["as-service"] = progService }

// manager is a service manager: it has the control socket before the switch
// runs, and hears what is notified.
type manager struct {
	*bench
	notify  *net.UnixConn
	control *os.File
}

func newManager(t *testing.T) *manager {
	b := newBench(t)
	n, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(b.dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { n.Close(); f.Close() })
	return &manager{b, n, f}
}

// service starts the switch as a service, with files for it.
func (m *manager) service(files []*os.File, args ...string) *proc {
	m.t.Helper()
	c := m.cmd(args...)
	c.Args = append([]string{prog, "as-service"}, args...)
	c.Env = append(slices.Clone(m.env), "NOTIFY_SOCKET="+filepath.Join(m.dir, "n"), "LISTEN_FDS="+strconv.Itoa(len(files)), "WATCHDOG_USEC=300000")
	c.ExtraFiles = files
	return startProc(m.t, c)
}

// hears waits for a notification that begins with text; those before it that
// are not among others are errors.
func (m *manager) hears(text string, others ...string) {
	m.t.Helper()
	b := make([]byte, 4096)
	for {
		if err := m.notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
			m.t.Fatal(err)
		}
		n, err := m.notify.Read(b)
		if err != nil {
			m.t.Fatalf("%s is not notified: %v", text, err)
		}
		got := string(b[:n])
		if strings.HasPrefix(got, text) {
			return
		}
		if !slices.Contains(others, got) {
			m.t.Fatalf("notified %q, want %s", got, text)
		}
	}
}

func TestService(t *testing.T) {
	m := newManager(t)
	cfg := m.write("c.yaml", "log: {level: info}\n")
	first := m.start("status", "--json") // it comes before the switch, and is what starts it
	p := m.service([]*os.File{m.control}, "up", "-c", cfg)
	m.hears("READY=1")
	if code := first.wait(); code != 0 {
		t.Errorf("whoever came first got exit code %d\n%s", code, first.errs)
	}
	if s := m.status(); s.Socket != m.socket || s.Pid != p.cmd.Process.Pid {
		t.Errorf("socket %s of process %d, want %s of %d", s.Socket, s.Pid, m.socket, p.cmd.Process.Pid)
	}
	m.hears("WATCHDOG=1")
	p.signal(unix.SIGHUP)
	m.hears("RELOADING=1\nMONOTONIC_USEC=", "WATCHDOG=1")
	m.hears("READY=1", "WATCHDOG=1")
	if err := os.WriteFile(cfg, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(unix.SIGHUP)
	m.hears("RELOADING=1", "WATCHDOG=1")
	m.hears("READY=1", "WATCHDOG=1") // a bad file changes nothing: the service goes on
	p.signal(unix.SIGTERM)
	m.hears("STOPPING=1", "WATCHDOG=1")
	if code := p.wait(); code != 0 {
		t.Errorf("it ends with %d\n%s", code, p.errs)
	}
	if _, err := os.Stat(m.socket); err != nil {
		t.Errorf("the manager's socket: %v", err)
	}
}

// TestServiceDown stops a service by our own command.
func TestServiceDown(t *testing.T) {
	m := newManager(t)
	p := m.service([]*os.File{m.control}, "up")
	m.hears("READY=1")
	m.ok("down")
	m.hears("STOPPING=1", "WATCHDOG=1")
	p.wait()
}

func TestServiceSockets(t *testing.T) {
	m := newManager(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tcp, err := other.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, tt := range []struct {
		name  string
		files []*os.File
		args  []string
		code  int
		says  string
	}{
		{"two", []*os.File{m.control, m.control}, nil, exitFailed, "one socket unit"},
		{"tcp", []*os.File{tcp}, nil, exitFailed, "ListenStream="},
		{"another path", []*os.File{m.control}, []string{"--socket", "/elsewhere"}, exitUsage, "socket unit has " + m.socket},
	} {
		p := m.service(tt.files, append([]string{"up"}, tt.args...)...)
		if code := p.wait(); code != tt.code {
			t.Errorf("%s: exit code %d, want %d", tt.name, code, tt.code)
		}
		p.errs.await(t, tt.says)
	}
}
