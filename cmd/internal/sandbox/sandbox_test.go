package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childName is argv[0] of the test binary when it plays the worker.
const childName = "tapswitch-sandboxed"

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case StageName:
		syscall.Exit(Stage(os.Args))
	case childName:
		syscall.Exit(child())
	}
	os.Exit(m.Run())
}

// child seals itself and tries what it is told to; it says what came of it.
func child() int {
	version, _ := strconv.Atoi(os.Args[1])
	if err := Seal(); err != nil {
		fmt.Println(err)
		return 1
	}
	what := os.Getenv("ATTEMPT")
	if what == "state" {
		s := State(version)
		fmt.Printf("seccomp %v, nnp %v, landlock %v, capabilities %v", s.Seccomp, s.NoNewPrivs, s.Landlock > 0, s.Capabilities)
		return 0
	}
	err := attempts[what](os.Getenv("ITS"), os.Getenv("OTHERS"))
	var e syscall.Errno
	switch {
	case err == nil:
		fmt.Print("done")
	case errors.As(err, &e):
		fmt.Print(unix.ErrnoName(e))
	default:
		fmt.Print(err)
	}
	return 0
}

// attempts are what the worker must be able to do, and what it must not; its is
// the directory it was given, others one that it was not.
var attempts = map[string]func(its, others string) error{
	"replace the state file": func(its, _ string) error {
		return errors.Join(os.MkdirAll(its+"/logs", 0o700), os.WriteFile(its+"/logs/new", []byte("x"), 0o600), os.Rename(its+"/logs/new", its+"/logs/state"), os.Remove(its+"/logs/state"))
	},
	"read itself in /proc": func(string, string) error { _, err := os.ReadDir("/proc/self/fd"); return err },
	"read a setting of the network": func(string, string) error {
		_, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		return err
	},
	"connect to a listener": func(string, string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		return errors.Join(c.Close(), l.Close())
	},
	"send a datagram": func(string, string) error {
		c, err := net.ListenUDP("udp", nil)
		if err != nil {
			return err
		}
		_, err = c.WriteTo([]byte("x"), c.LocalAddr().(*net.UDPAddr))
		return errors.Join(err, c.Close())
	},
	"list addresses": func(string, string) error { _, err := net.InterfaceAddrs(); return err },
	"start threads and collect garbage": func(string, string) error {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				runtime.LockOSThread() // the thread ends with the goroutine
				b := make([]byte, 4<<20)
				b[0] = 1
				_ = time.Now().Local().String() // reads the time zone
			})
		}
		wg.Wait()
		runtime.GC()
		return nil
	},
	"be preempted": func(string, string) error { // by signals of the runtime's own
		runtime.GOMAXPROCS(1)
		done := make(chan bool)
		var stop atomic.Bool
		go func() {
			for n := uint(0); !stop.Load(); n++ { //nolint: no call in it to be preempted at
			}
			close(done)
		}()
		runtime.Gosched()
		stop.Store(true)
		return nil
	},

	"read another file":     func(_, others string) error { _, err := os.ReadFile(others + "/secret"); return err },
	"write another file":    func(_, others string) error { return os.WriteFile(others+"/secret", nil, 0) },
	"make a file elsewhere": func(_, others string) error { return os.WriteFile(others+"/new", nil, 0o600) },
	"remove another file":   func(_, others string) error { return os.Remove(others + "/secret") },
	"list the root":         func(string, string) error { _, err := os.ReadDir("/"); return err },
	"read /etc/passwd":      func(string, string) error { _, err := os.ReadFile("/etc/passwd"); return err },
	"read /etc/shadow":      func(string, string) error { _, err := os.ReadFile("/etc/shadow"); return err },
	"open /dev/net/tun":     func(string, string) error { _, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); return err },
	"read the porter's memory": func(string, string) error {
		_, err := os.Open(fmt.Sprintf("/proc/%d/mem", porterPid()))
		return err
	},
	"read the porter's environment": func(string, string) error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/environ", porterPid()))
		if err == nil {
			_, err = f.Read(make([]byte, 1))
		}
		return err
	},
	"enter by the porter's root": func(string, string) error {
		_, err := os.Open(fmt.Sprintf("/proc/%d/root/etc/passwd", porterPid()))
		return err
	},

	"a unix socket":        func(string, string) error { return socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) },
	"a packet socket":      func(string, string) error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"a vsock":              func(string, string) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"netfilter's netlink":  func(string, string) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) },
	"a crypto socket":      func(string, string) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
	"signal the porter":    func(string, string) error { return unix.Kill(porterPid(), 0) },
	"limit the porter":     func(string, string) error { return unix.Prlimit(porterPid(), unix.RLIMIT_NOFILE, nil, &unix.Rlimit{}) },
	"type on the terminal": func(string, string) error { return unix.IoctlSetPointerInt(0, unix.TIOCSTI, 'x') },
	"change a mode":        func(its, _ string) error { return os.Chmod(its, 0o755) },
	"make a link":          func(its, _ string) error { return os.Symlink("/", its+"/link") },
	"make code": func(string, string) error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
		return err
	},
	"watch files": func(string, string) error { _, err := unix.InotifyInit(); return err },
	"fork":        func(string, string) error { return call(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"a thread with a namespace of its own": func(string, string) error {
		return call(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_VM|unix.CLONE_SIGHAND|unix.CLONE_NEWNET, 0, 0)
	},
	"clone3": func(string, string) error { return call(unix.SYS_CLONE3, 0, 0, 0) },

	"execute":            func(string, string) error { return syscall.Exec("/proc/self/exe", []string{"x"}, nil) },
	"trace":              func(string, string) error { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(porterPid()), 0) },
	"read memory of":     func(string, string) error { return call(unix.SYS_PROCESS_VM_READV, uintptr(porterPid()), 0, 0) },
	"setns":              func(string, string) error { return unix.Setns(0, 0) },
	"unshare":            func(string, string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"mount":              func(string, string) error { return unix.Mount("", "/", "", unix.MS_BIND, "") },
	"chroot":             func(string, string) error { return unix.Chroot("/") },
	"bpf":                func(string, string) error { return call(unix.SYS_BPF, 0, 0, 0) },
	"io_uring":           func(string, string) error { return call(unix.SYS_IO_URING_SETUP, 0, 0, 0) },
	"load a module":      func(string, string) error { return unix.FinitModule(0, "", 0) },
	"keys":               func(string, string) error { return call(unix.SYS_KEYCTL, 0, 0, 0) },
	"change user":        func(string, string) error { return unix.Setresuid(-1, -1, -1) },
	"steal a descriptor": func(string, string) error { return call(unix.SYS_PIDFD_GETFD, 0, 0, 0) },
}

// porterPid is the process that the sandbox keeps the worker from: the test.
func porterPid() int { pid, _ := strconv.Atoi(os.Getenv("PORTER")); return pid }

func socket(family, kind, proto int) error {
	_, err := unix.Socket(family, kind, proto)
	return err
}

// call makes a raw call. What a fork makes ends at once: only a filter that
// leaks lets it live.
func call(nr, a, b, c uintptr) error {
	r, _, e := syscall.RawSyscall(nr, a, b, c)
	if nr == unix.SYS_CLONE && e == 0 && r == 0 {
		syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	}
	if e != 0 {
		return e
	}
	return nil
}

// try makes an attempt in a sandbox that may write to its and gives what the
// child said, or the signal that ended it.
func try(t *testing.T, what, its, others string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{StageName, childName, its}, Stdout: &out, Stderr: &out,
		Env: append(os.Environ(), "ATTEMPT="+what, "ITS="+its, "OTHERS="+others, "PORTER="+strconv.Itoa(os.Getpid()))}
	err := cmd.Run()
	var xe *exec.ExitError
	if errors.As(err, &xe) {
		if ws := xe.Sys().(syscall.WaitStatus); ws.Signaled() {
			return ws.Signal().String()
		}
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, out.String())
	}
	return out.String()
}

// needSeccomp skips where the kernel, or a sandbox around the test, has no filters.
func needSeccomp(t *testing.T) {
	t.Helper()
	if _, _, e := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&[]uint32{unix.SECCOMP_RET_KILL_PROCESS}[0]))); e != 0 {
		t.Skip("no seccomp here: ", e)
	}
}

func TestSandbox(t *testing.T) {
	needSeccomp(t)
	its, others := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(others, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const killed = "bad system call"
	for _, tt := range []struct {
		want     string
		landlock int // from which version on the kernel can
		list     []string
	}{
		{"done", 0, []string{"replace the state file", "read itself in /proc", "read a setting of the network", "connect to a listener", "send a datagram",
			"list addresses", "start threads and collect garbage", "be preempted"}},
		{"EACCES", 1, []string{"read another file", "write another file", "make a file elsewhere", "remove another file", "list the root", "read /etc/passwd",
			"read /etc/shadow", "open /dev/net/tun", "read the porter's memory", "read the porter's environment", "enter by the porter's root"}},
		{"EPERM", 0, []string{"a unix socket", "a packet socket", "a vsock", "netfilter's netlink", "a crypto socket", "signal the porter", "limit the porter",
			"type on the terminal", "change a mode", "make a link", "make code", "watch files", "fork", "a thread with a namespace of its own"}},
		{"ENOSYS", 0, []string{"clone3"}},
		{killed, 0, []string{"execute", "trace", "read memory of", "setns", "unshare", "mount", "chroot", "bpf", "io_uring", "load a module", "keys", "change user",
			"steal a descriptor"}},
	} {
		for _, what := range tt.list {
			t.Run(strings.ReplaceAll(what, "/", "_"), func(t *testing.T) {
				if Landlock() < tt.landlock {
					t.Skip("this kernel has no Landlock")
				}
				if got := try(t, what, its, others); got != tt.want {
					t.Errorf("%s: %s, want %s", what, got, tt.want)
				}
			})
		}
	}
	if b, err := os.ReadFile(filepath.Join(others, "secret")); Landlock() > 0 && (err != nil || string(b) != "secret") {
		t.Errorf("the file that is not the worker's holds %q, %v", b, err)
	}
}

// TestWithout makes sure that the attempts fail for the sandbox and not by
// themselves.
func TestWithout(t *testing.T) {
	its, others := t.TempDir(), t.TempDir()
	t.Setenv("PORTER", strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(filepath.Join(others, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"read another file", "write another file", "make a file elsewhere", "list the root", "read /etc/passwd",
		"read the porter's environment", "enter by the porter's root", "a unix socket", "signal the porter", "change a mode", "make code", "watch files",
		"remove another file"} {
		if err := attempts[what](its, others); err != nil {
			t.Errorf("%s fails without a sandbox: %v", what, err)
		}
	}
}

func TestState(t *testing.T) {
	needSeccomp(t)
	capabilities := "[]"
	if permitted(t)&(1<<kept) != 0 {
		capabilities = "[net_bind_service]"
	}
	want := fmt.Sprintf("seccomp true, nnp true, landlock %v, capabilities %s", Landlock() > 0, capabilities)
	if got := try(t, "state", t.TempDir(), ""); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// permitted are the capabilities of this test.
func permitted(t *testing.T) uint32 {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var now [2]unix.CapUserData
	if err := unix.Capget(&h, &now[0]); err != nil {
		t.Fatal(err)
	}
	return now[0].Permitted
}

func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		text    string
		seccomp bool
		nnp     bool
		caps    []string
	}{
		{"", false, false, []string{}},
		{"NoNewPrivs:\t0\nSeccomp:\t0\nCapEff:\t0000000000000000\n", false, false, []string{}},
		{"NoNewPrivs:\t1\nSeccomp:\t2\nCapEff:\t0000000000001400\n", true, true, []string{"net_bind_service", "12"}},
		{"Seccomp:\t1\nCapEff:\tno number\n", false, false, []string{}},
	} {
		s := parseStatus(tt.text)
		if s.Seccomp != tt.seccomp || s.NoNewPrivs != tt.nnp || !slices.Equal(s.Capabilities, tt.caps) {
			t.Errorf("%q: %+v", tt.text, s)
		}
	}
}

func TestMappedFiles(t *testing.T) {
	const maps = `00400000-00883000 r-xp 00000000 00:1f 1234                       /usr/bin/tapswitch
00883000-00e00000 r--p 00483000 00:1f 1234                       /usr/bin/tapswitch
c000000000-c000400000 rw-p 00000000 00:00 0                      [anon: Go: heap]
7f01f2d00000-7f01f2d21000 r-xp 00000000 fe:00 99                 /lib/x86_64-linux-gnu/libc.so.6
7f01f2e00000-7f01f2e21000 rw-s 00000000 00:05 99                 /dev/zero (deleted)
7f01f2f00000-7f01f2f21000 r--p 00000000 fe:00 98                 /opt/with a space/lib.so
7ffe6a3b1000-7ffe6a3d2000 rw-p 00000000 00:00 0                  [stack]
`
	want := []string{"/usr/bin/tapswitch", "/lib/x86_64-linux-gnu/libc.so.6", "/opt/with a space/lib.so"}
	if got := mappedFiles(maps); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
