package porter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
)

// spawner starts processes from one thread that lives as long as the porter:
// the parent-death signal of a child is sent when the thread that made it
// ends.
type spawner chan func()

func newSpawner() spawner {
	s := make(spawner)
	go func() {
		runtime.LockOSThread()
		for f := range s {
			f()
		}
	}()
	return s
}

func (s spawner) do(f func()) {
	done := make(chan struct{})
	s <- func() { f(); close(done) }
	<-done
}

// container is a namespace set of ours. A held one has no process: its
// namespaces live by the descriptors.
type container struct {
	spec  *Spec
	proc  *os.Process // ours to wait for
	inner int         // process 1 of one on the network of another, whose helper proc is
	conn  *fdpass.Conn
	hold  map[string]*os.File // user, net, mnt, uts, ipc
	done  chan struct{}       // closed when the process has ended
	code  int
}

// create starts a container's first process, lets it set up, and returns its
// TAPs. files are its standard files; without them it gets its log.
func (p *porter) create(spec *Spec, files []int) (*container, []int, string, error) {
	stdio, err := standardFiles(spec, files)
	if err != nil {
		return nil, nil, "", err
	}
	defer func() {
		for _, f := range stdio {
			f.Close()
		}
	}()
	conn, child, err := fdpass.Pair()
	if err != nil {
		return nil, nil, "", err
	}
	defer child.Close()
	if spec.Share != nil {
		c, err := p.share(spec, stdio, conn, child)
		if err != nil {
			conn.Close()
			return nil, nil, "", err
		}
		return c.begin()
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{InitName}, Env: []string{}, Dir: "/",
		Stdin: stdio[0], Stdout: stdio[1], Stderr: stdio[2], ExtraFiles: []*os.File{child},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   unix.SIGKILL,
		},
	}
	if spec.HostNet {
		cmd.SysProcAttr.Cloneflags &^= unix.CLONE_NEWNET
	}
	var started error
	p.spawn.do(func() { started = cmd.Start() })
	if started != nil {
		conn.Close()
		return nil, nil, "", NamespaceError(started)
	}
	return (&container{spec: spec, proc: cmd.Process, conn: conn, done: make(chan struct{})}).begin()
}

// begin lets a container's first process set up, and returns its TAPs and what
// there is to warn of.
func (c *container) begin() (*container, []int, string, error) {
	spec, conn := c.spec, c.conn
	fail := func(err error) (*container, []int, string, error) {
		_ = c.proc.Kill()
		_, _ = c.proc.Wait()
		conn.Close()
		return nil, nil, "", err
	}
	if err := conn.Send(Message{Op: OpCreate, Spec: spec}); err != nil {
		return fail(err)
	}
	var m Message
	taps, err := conn.Receive(&m)
	switch {
	case errors.Is(err, io.EOF):
		return fail(fmt.Errorf("container %s: its first process died: %w", spec.Name, errFirst))
	case err != nil:
		return fail(err)
	case m.Err != nil && restricted("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		return fail(NamespaceError(m.Err)) // the namespaces were made, but are worth nothing
	case m.Err != nil:
		return fail(m.Err)
	}
	if spec.Hold {
		if err := c.keep(); err != nil {
			fdpass.CloseAll(taps)
			return fail(err)
		}
		_ = conn.Send(Message{Op: OpStop})
		_, _ = c.proc.Wait()
		conn.Close()
		close(c.done)
	}
	return c, taps, m.Text, nil
}

var errFirst = errors.New("look at the messages above, or run tapswitch doctor")

// standardFiles are those the caller sent, or nothing and the log.
func standardFiles(spec *Spec, files []int) ([3]*os.File, error) {
	var out [3]*os.File
	if len(files) >= 3 {
		for i := range out {
			out[i] = os.NewFile(uintptr(files[i]), "stdio")
		}
		fdpass.CloseAll(files[3:])
		return out, nil
	}
	fdpass.CloseAll(files)
	null, err := os.Open(os.DevNull)
	if err != nil {
		return out, err
	}
	where := spec.Log
	if where == "" || spec.Hold {
		where = os.DevNull
	}
	log, err := os.OpenFile(where, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		null.Close()
		return out, fmt.Errorf("log: %w", err)
	}
	dup, err := unix.FcntlInt(log.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return out, err
	}
	return [3]*os.File{null, log, os.NewFile(uintptr(dup), where)}, nil
}

// keep opens the namespaces of a container whose process is about to end. The
// package netns has handles for network namespaces; the rest are opened alike.
func (c *container) keep() error {
	c.hold = make(map[string]*os.File)
	pid := c.pid()
	net, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("hold the network namespace: %w", err)
	}
	c.hold["net"] = os.NewFile(uintptr(net), "net")
	unix.CloseOnExec(int(net))
	for _, kind := range []string{"user", "mnt", "uts", "ipc"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			c.letGo()
			return fmt.Errorf("hold the %s namespace: %w", kind, err)
		}
		c.hold[kind] = f
	}
	return nil
}

// pid is process 1 of the container, as we see it.
func (c *container) pid() int {
	if c.inner != 0 {
		return c.inner
	}
	return c.proc.Pid
}

func (c *container) letGo() {
	for _, f := range c.hold {
		f.Close()
	}
	c.hold = nil
}

// run lets a created container become its command. An error says that it could
// not be executed.
func (c *container) run() error {
	if err := c.conn.Send(Message{Op: OpGo}); err != nil {
		return err
	}
	var m Message
	_, err := c.conn.Receive(&m)
	if errors.Is(err, io.EOF) {
		return nil // closed by execve
	}
	if err != nil {
		return err
	}
	if m.Err != nil {
		return m.Err
	}
	return nil
}

// wait collects the process and says how it ended.
func (c *container) wait() int {
	state, err := c.proc.Wait()
	c.conn.Close()
	if err != nil {
		c.code = 125
	} else if ws, ok := state.Sys().(syscall.WaitStatus); ok {
		c.code = exitCode(unix.WaitStatus(ws))
	}
	close(c.done)
	return c.code
}

// NamespaceError explains why user namespaces are refused, and what helps.
func NamespaceError(err error) error {
	e := api.Errorf(api.Failed, "make a container's namespaces: %v", err)
	switch {
	case restricted("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
		exe, _ := os.Readlink("/proc/self/exe")
		return e.WithHint("%s", AppArmorHint(exe))
	case restricted("/proc/sys/user/max_user_namespaces", "0"):
		return e.WithHint("user namespaces are off: sudo sysctl user.max_user_namespaces=28633")
	case restricted("/proc/sys/kernel/unprivileged_userns_clone", "0"):
		return e.WithHint("user namespaces are for root only: sudo sysctl kernel.unprivileged_userns_clone=1")
	case errors.Is(err, unix.ENOSPC):
		return e.WithHint("too many namespaces: see /proc/sys/user/max_*_namespaces")
	}
	return e.WithHint("tapswitch doctor tries each step")
}

func restricted(path, value string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == value
}

// AppArmorHint is the profile that lets exe make user namespaces on Ubuntu
// 23.10 and later.
func AppArmorHint(exe string) string {
	return fmt.Sprintf(`AppArmor restricts user namespaces here. Allow this program:
  sudo tee /etc/apparmor.d/tapswitch <<'END'
abi <abi/4.0>,
include <tunables/global>
profile tapswitch %s flags=(unconfined) {
  userns,
}
END
  sudo apparmor_parser -r /etc/apparmor.d/tapswitch
(for go run, whose program has no fixed place, build it first: go build ./cmd/tapswitch)`, exe)
}
