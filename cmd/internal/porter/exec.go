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

// Names of the helpers of exec, as argv[0].
const (
	ExecName  = "tapswitch-exec"  // joins the namespaces and runs the command
	StageName = "tapswitch-stage" // first in a fresh pid namespace
)

// sess is a command that runs in a container.
type sess struct {
	id   string
	conn *fdpass.Conn
	proc *os.Process
}

var kinds = []struct {
	name string
	flag int
}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"ipc", unix.CLONE_NEWIPC}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS}}

// exec starts a command in a container: a helper is executed in the container's
// user namespace, where it is uid 0 and keeps its capabilities, and joins the
// rest by itself.
func (p *porter) exec(name string, c *container, x *ExecSpec, files []int) (*sess, error) {
	defer fdpass.CloseAll(files)
	if len(files) < 3 {
		return nil, errors.New("exec needs three files")
	}
	nsfds, err := namespacesOf(c, x.Pid)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range nsfds {
			f.Close()
		}
	}()
	_, own := nsfds["pid"]
	x.Mount = !own
	conn, child, err := fdpass.Pair()
	if err != nil {
		return nil, err
	}
	defer child.Close()
	user := -1
	if f := nsfds["user"]; f != nil {
		user = int(f.Fd())
	}
	var pid int
	p.spawn.do(func() {
		pid, err = ns.SpawnIn(user, "/proc/self/exe", []string{ExecName}, []string{}, []int{files[0], files[1], files[2], int(child.Fd())})
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	proc, _ := os.FindProcess(pid)
	s := &sess{id: name, conn: conn, proc: proc}
	var fds []int
	var have []string
	for _, k := range kinds {
		if f := nsfds[k.name]; f != nil {
			fds = append(fds, int(f.Fd()))
			have = append(have, k.name)
		}
	}
	m := Message{Op: OpExec, Exec: x, Spec: &Spec{Env: have}}
	if err := conn.Send(m, fds...); err != nil {
		s.end()
		return nil, err
	}
	var r Message
	if _, err := conn.Receive(&r); err != nil {
		s.end()
		return nil, fmt.Errorf("run %s: the helper died: %w", x.Command[0], err)
	}
	if r.Err != nil {
		s.end()
		return nil, r.Err
	}
	return s, nil
}

// namespacesOf opens a container's namespaces: the held ones, or those of its
// first process.
func namespacesOf(c *container, pid int) (map[string]*os.File, error) {
	out := make(map[string]*os.File)
	if c != nil && c.hold != nil {
		for k, f := range c.hold {
			fd, err := dupCloexec(f)
			if err != nil {
				return nil, err
			}
			out[k] = os.NewFile(uintptr(fd), k)
		}
		return out, nil
	}
	if c != nil {
		pid = c.pid()
	}
	for _, k := range []string{"user", "net", "mnt", "uts", "ipc", "pid"} {
		f, err := os.Open(nspath(pid, k))
		if err != nil {
			for _, f := range out {
				f.Close()
			}
			return nil, fmt.Errorf("namespaces of process %d: %w", pid, err)
		}
		if same(f, "/proc/self/ns/"+k) {
			f.Close() // shared with us: nothing to join
			continue
		}
		out[k] = f
	}
	return out, nil
}

func dupCloexec(f *os.File) (int, error) { return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0) }

func same(f *os.File, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// end gives the session up: its helper ends the command when nobody is at the
// other end.
func (s *sess) end() int {
	s.conn.Close()
	return s.wait()
}

func (s *sess) wait() int {
	st, err := s.proc.Wait()
	s.conn.Close()
	if err != nil {
		return 125
	}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok {
		return exitCode(unix.WaitStatus(ws))
	}
	return 125
}

// ExecHelper is the program ExecName: it joins the namespaces whose descriptors
// it is sent, runs the command, passes signals on and exits as it did.
func ExecHelper() int {
	runtime.LockOSThread()
	conn := fdpass.New(os.NewFile(3, "porter"))
	var m Message
	fds, err := conn.Receive(&m)
	if err != nil || m.Exec == nil || m.Spec == nil || len(m.Spec.Env) != len(fds) {
		return 125
	}
	x := m.Exec
	fail := func(e *api.Error, code int) int {
		_ = conn.Send(Message{Op: OpFailed, Err: e})
		return code
	}
	self, err := os.Open("/proc/self/exe") // before /proc is another one
	if err != nil {
		return fail(asError(err), 125)
	}
	_ = unix.Unshare(unix.CLONE_FS) // a thread that shares its root may not change mounts
	for i, name := range m.Spec.Env {
		for _, k := range kinds {
			if k.name == name {
				if err := unix.Setns(fds[i], k.flag); err != nil {
					return fail(api.Errorf(api.Failed, "join the %s namespace: %v", name, err), 125)
				}
			}
		}
		unix.Close(fds[i])
	}
	if len(x.Files) > 0 {
		if err := rewrite(x.Files); err != nil {
			return fail(asError(err), 125)
		}
		_ = conn.Send(Message{Op: OpReady})
		return 0
	}
	if x.Workdir != "" {
		if err := unix.Chdir(x.Workdir); err != nil {
			return fail(api.Errorf(api.Failed, "working directory %s: %v", x.Workdir, err), 125)
		}
	}
	path, e := lookCommand(x.Command[0], x.Env, x.Workdir)
	if e != nil {
		return fail(e, 127)
	}
	// No Pdeathsig: its parent is none of that pid namespace's, which os/exec
	// takes for a parent that has died. The connection's end tells of ours.
	attr := &syscall.SysProcAttr{Setsid: true, Setctty: x.TTY}
	cmd := &exec.Cmd{Path: path, Args: x.Command, Env: x.Env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr}
	if x.Mount {
		// The container holds no pid namespace: the command gets one of its own.
		*attr = syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
		cmd.Path = "/proc/self/fd/" + strconv.Itoa(int(self.Fd()))
		cmd.Args = append([]string{StageName, strconv.FormatBool(x.TTY), path}, x.Command...)
	}
	if err := cmd.Start(); err != nil {
		ee := execError(x.Command[0], err)
		if ee.Code == api.NotExecutable {
			return fail(ee, 126)
		}
		return fail(ee, 127)
	}
	self.Close()
	if err := conn.Send(Message{Op: OpReady}); err != nil {
		return 125
	}
	go func() {
		for {
			var m Message
			if _, err := conn.Receive(&m); err != nil {
				_ = cmd.Process.Kill() // the porter is gone, or has given us up
				return
			}
			if m.Op == OpSignal {
				_ = cmd.Process.Signal(syscall.Signal(m.Signal))
			}
		}
	}()
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		return exitCode(unix.WaitStatus(ws))
	}
	return 125
}

// rewrite changes files of ours in place: they are mounted, so that a new one
// would be another.
func rewrite(files []File) error {
	for _, f := range files {
		w, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		_, err = w.WriteString(f.Text)
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Stage is the program StageName, process 1 of a fresh pid namespace: it shows
// that namespace's processes in /proc and runs the command.
func Stage() int {
	runtime.LockOSThread() // the command's parent-death signal is this thread's
	_ = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	_ = mountProc()
	return reap(os.Args[2], os.Args[3:], os.Environ(), os.Args[1] == "true", func(e *api.Error) {
		if e != nil {
			fmt.Fprintln(os.Stderr, "tapswitch:", e.Message)
		}
	})
}
