package porter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/switch/ns"
)

// ShareName is argv[0] of the helper that starts a container on the network of
// another.
const ShareName = "tapswitch-share"

// Share says on whose network a container is.
type Share struct {
	ID  string `json:"id"`            // a container of ours
	Pid int    `json:"pid,omitempty"` // or a process in a joined one
}

// share starts a container's first process on the network of another. Whoever
// enters a network namespace must be at home in the user namespace that owns
// it: a helper is executed there, enters, and starts the process with mount,
// pid, uts and ipc namespaces of its own. It lives as long as that does.
func (p *porter) share(spec *Spec, stdio [3]*os.File, conn *fdpass.Conn, child *os.File) (*container, error) {
	var other *container
	if spec.Share.Pid == 0 {
		if other = p.find(spec.Share.ID); other == nil {
			return nil, api.Errorf(api.NotFound, "no such container %s", spec.Share.ID)
		}
	}
	files, err := namespacesOf(other, spec.Share.Pid)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	net, user := files["net"], -1
	if net == nil {
		return nil, errors.New("the other container has no network of its own")
	}
	if f := files["user"]; f != nil {
		user = int(f.Fd())
	}
	var pid int
	p.spawn.do(func() {
		pid, err = ns.SpawnIn(user, "/proc/self/exe", []string{ShareName}, []string{},
			[]int{int(stdio[0].Fd()), int(stdio[1].Fd()), int(stdio[2].Fd()), int(child.Fd()), int(net.Fd())})
	})
	if err != nil {
		return nil, err
	}
	proc, _ := os.FindProcess(pid)
	c := &container{spec: spec, proc: proc, conn: conn, done: make(chan struct{})}
	var m Message
	if _, err = conn.Receive(&m); err == nil && m.Err != nil {
		err = m.Err
	}
	if err != nil {
		_ = proc.Kill()
		_, _ = proc.Wait()
		return nil, fmt.Errorf("enter the network of %s: %w", spec.Share.ID[:min(12, len(spec.Share.ID))], err)
	}
	c.inner = m.Pid
	return c, nil
}

// ShareHelper is the program ShareName.
func ShareHelper() int {
	runtime.LockOSThread() // the network namespace and the parent-death signal are this thread's
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	conn := fdpass.New(os.NewFile(3, "porter"))
	fail := func(err error) int {
		_ = conn.Send(Message{Op: OpFailed, Err: asError(err)})
		return 125
	}
	if err := unix.Setns(4, unix.CLONE_NEWNET); err != nil {
		return fail(fmt.Errorf("join the network namespace: %w", err))
	}
	unix.Close(4)
	fd, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{InitName}, Env: []string{}, Dir: "/", Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{os.NewFile(uintptr(fd), "child")},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
			Pdeathsig:  unix.SIGKILL,
		},
	}
	if err := cmd.Start(); err != nil {
		return fail(NamespaceError(err))
	}
	if err := conn.Send(Message{Op: OpReady, Pid: cmd.Process.Pid}); err != nil {
		_ = cmd.Process.Kill()
		return 125
	}
	// The process has these now; a reader must see its end when it ends. Conn.Close
	// would shut the connection down, which is the process's, too.
	defer runtime.KeepAlive(conn)
	for fd := range 4 {
		unix.Close(fd)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	forward(func(s syscall.Signal) { _ = cmd.Process.Signal(s) })
	state, err := cmd.Process.Wait()
	if err != nil {
		return 125
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok {
		return exitCode(unix.WaitStatus(ws))
	}
	return 125
}

// nspath is a namespace of a process, by its kind.
func nspath(pid int, kind string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind }
