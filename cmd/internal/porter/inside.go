package porter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/switch/ns"
)

// InitName is argv[0] of the process that is first in a container.
const InitName = "tapswitch-init"

// Inside is the first program in a container's namespaces, as process 1. It
// sets them up, hands the TAPs to the porter, and becomes the command when it
// is told to.
func Inside() int {
	runtime.LockOSThread() // the parent-death signal and mounts are this thread's
	conn := fdpass.New(os.NewFile(3, "porter"))
	var m Message
	if _, err := conn.Receive(&m); err != nil || m.Spec == nil {
		return 125
	}
	spec := m.Spec
	fds, warnings, err := prepare(spec)
	if err != nil {
		_ = conn.Send(Message{Op: OpFailed, Err: asError(err)})
		return 125
	}
	if err := conn.Send(Message{Op: OpReady, Text: strings.Join(warnings, "\n")}, fds...); err != nil {
		return 125
	}
	fdpass.CloseAll(fds)
	if _, err := conn.Receive(&m); err != nil || m.Op != OpGo {
		return 0 // held: the porter has our namespaces and lets us go
	}
	fail := func(e *api.Error) int {
		_ = conn.Send(Message{Op: OpFailed, Err: e})
		if e.Code == api.NotExecutable {
			return 126
		}
		return 127
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return 125
	}
	path, e := lookCommand(spec.Command[0], spec.Env, spec.Workdir)
	if e != nil {
		return fail(e)
	}
	if spec.Init {
		return reap(path, spec.Command, spec.Env, spec.TTY, func(e *api.Error) {
			if e != nil {
				_ = conn.Send(Message{Op: OpFailed, Err: e})
			}
			conn.Close()
		})
	}
	session(spec.TTY)
	err = syscall.Exec(path, spec.Command, spec.Env)
	return fail(execError(spec.Command[0], err))
}

// session makes us the leader of a session, with the terminal if there is one.
func session(tty bool) {
	_, _ = unix.Setsid()
	if tty {
		_ = unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
	}
}

// prepare sets the namespaces up and returns the TAPs.
func prepare(spec *Spec) (fds []int, warnings []string, err error) {
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return nil, nil, fmt.Errorf("hostname: %w", err)
	}
	if warnings, err = mountFiles(spec); err != nil {
		return nil, nil, err
	}
	if !spec.HostNet && spec.Share == nil {
		setSysctls()
	}
	for _, c := range spec.Interfaces {
		fd, err := makeInterface(c)
		if err != nil {
			fdpass.CloseAll(fds)
			return nil, nil, err
		}
		fds = append(fds, fd)
	}
	if err := rewrite(spec.Sysctls); err != nil {
		fdpass.CloseAll(fds)
		return nil, nil, fmt.Errorf("setting of an interface: %w", err)
	}
	if len(spec.Interfaces) == 0 && !spec.HostNet && spec.Share == nil {
		in, err := ns.OpenInside()
		if err == nil {
			_ = in.Loopback()
			in.Close()
		}
	}
	if spec.Workdir != "" {
		if err := os.Chdir(spec.Workdir); err != nil {
			fdpass.CloseAll(fds)
			return nil, nil, fmt.Errorf("working directory: %w", err)
		}
	}
	return fds, warnings, nil
}

// makeInterface opens and sets up one interface of the namespace we are in.
func makeInterface(c api.Interface) (int, error) {
	cfg, err := parseInterface(c)
	if err != nil {
		return -1, err
	}
	in, err := ns.OpenInside()
	if err != nil {
		return -1, err
	}
	defer in.Close()
	var fd int
	if c.Offload {
		fd, err = in.CreateTAP(c.Name, true)
	} else {
		fd, err = ns.PlainTAP(c.Name)
	}
	if err != nil {
		return -1, err
	}
	if err := in.Configure(cfg); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func parseInterface(c api.Interface) (ns.Interface, error) {
	out := ns.Interface{Name: c.Name, MTU: c.MTU, Offload: c.Offload, Replace: c.Replace}
	var err error
	if out.MAC, err = net.ParseMAC(c.MAC); err != nil {
		return out, err
	}
	for _, a := range c.Addrs {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return out, err
		}
		out.Addrs = append(out.Addrs, p)
	}
	for s, at := range map[string]*netip.Addr{c.Gateway: &out.Gateway, c.Gateway6: &out.Gateway6} {
		if s == "" {
			continue
		}
		if *at, err = netip.ParseAddr(s); err != nil {
			return out, err
		}
	}
	return out, nil
}

// setSysctls gives the namespace what Docker gives: every group may ping, every
// port may be bound. One that is missing is no reason to fail.
func setSysctls() {
	set := func(path, value string) bool {
		return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) == nil
	}
	set("ipv4/ip_unprivileged_port_start", "0")
	if !set("ipv4/ping_group_range", "0 2147483647") {
		set("ipv4/ping_group_range", "0 0") // only group 0 is mapped
	}
	for _, where := range []string{"all", "default"} {
		set("ipv6/conf/"+where+"/accept_dad", "0")
		set("ipv6/conf/"+where+"/accept_ra", "0")
	}
	// IPv6 stays on where no network has it: one may be connected later, and an
	// interface has the addresses that it is given and no others.
}

// lookCommand finds a program as execvp(3) does, with the container's PATH.
func lookCommand(name string, env []string, dir string) (string, *api.Error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	denied := false
	for _, d := range filepath.SplitList(path) {
		p := filepath.Join(d, name)
		st, err := os.Stat(p)
		if err != nil || st.IsDir() {
			continue
		}
		if st.Mode()&0o111 != 0 {
			return p, nil
		}
		denied = true
	}
	if denied {
		return "", api.Errorf(api.NotExecutable, "%s: permission denied", name)
	}
	return "", noCommand(name)
}

func noCommand(name string) *api.Error {
	return api.Errorf(api.NoCommand, "%s: command not found on this host", name).
		WithHint("a container here is a program of this host in its own network, not an image: tapswitch run -- sh")
}

// execError says why a program could not be executed: 126 or 127.
func execError(name string, err error) *api.Error {
	if errors.Is(err, os.ErrNotExist) {
		return noCommand(name)
	}
	return api.Errorf(api.NotExecutable, "%s: %v", name, err)
}

// asError makes an API error of any.
func asError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return api.Errorf(api.Failed, "%v", err)
}

// reap runs the command as a child of process 1 and collects orphans, so that
// signals end it as anywhere (process 1 itself is deaf to those it does not
// handle) and nothing stays a zombie. ready is told that the command runs.
func reap(path string, args, env []string, tty bool, ready func(*api.Error)) int {
	cmd := &exec.Cmd{Path: path, Args: args, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: tty, Pdeathsig: unix.SIGKILL}}
	if err := cmd.Start(); err != nil {
		e := execError(args[0], err)
		ready(e)
		if e.Code == api.NotExecutable {
			return 126
		}
		return 127
	}
	ready(nil)
	forward(func(s syscall.Signal) { _ = unix.Kill(cmd.Process.Pid, s) })
	// The command has these now; a reader must see its end when it ends.
	for fd := range 3 {
		unix.Close(fd)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 125
		}
		if pid == cmd.Process.Pid {
			return exitCode(ws)
		}
	}
}

// exitCode is a shell's: 128+n for signal n.
func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
