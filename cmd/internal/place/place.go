// Package place says where a switch keeps its socket, lock, state and logs, and
// makes sure that one switch runs per place.
package place

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/porter"
)

// Place are the paths of one switch.
type Place struct {
	Socket  string
	Runtime string // directory of ours alone: lock, process ids
	State   string // file
	Logs    string // directory
	Mask    []string
}

// Socket is where the control socket is: the flag's, TAPSWITCH_SOCKET's, or the
// user's default.
func Socket(flag string) (string, error) {
	if flag == "" {
		flag = os.Getenv("TAPSWITCH_SOCKET")
	}
	if flag != "" {
		return filepath.Abs(flag)
	}
	dir, err := runtimeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "tapswitch.sock"), nil
}

// runtimeDir is the user's directory for sockets. uid 0 of a user namespace is
// not root: its sockets stand with the user who made it.
func runtimeDir() (string, error) {
	uid, real := realUID()
	switch {
	case uid == 0 && real:
		return "/run/tapswitch", nil
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "tapswitch"), nil
	}
	user := "/run/user/" + strconv.Itoa(uid)
	if st, err := os.Stat(user); err == nil && st.IsDir() && owned(user) {
		return filepath.Join(user, "tapswitch"), nil
	}
	return filepath.Join(os.TempDir(), "tapswitch-"+strconv.Itoa(uid)), nil
}

// realUID is our user id in the outermost namespace we can tell, and whether
// our user namespace is the initial one.
func realUID() (int, bool) {
	uid := os.Geteuid()
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return uid, true
	}
	for _, line := range strings.Split(string(b), "\n") {
		var in, out, n int
		if k, _ := fmt.Sscan(line, &in, &out, &n); k == 3 {
			if in == 0 && out == 0 && n > 1<<31 {
				return uid, true
			}
			if uid >= in && uid < in+n {
				return out + uid - in, false
			}
		}
	}
	return uid, false
}

func owned(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && int(st.Uid) == os.Geteuid()
}

// Of finds the paths that belong to a socket and makes the runtime directory,
// which nobody else may enter.
func Of(socket string) (*Place, error) {
	std, err := runtimeDir()
	if err != nil {
		return nil, err
	}
	p := &Place{Socket: socket, Runtime: std}
	name := "state.json"
	if socket != filepath.Join(std, "tapswitch.sock") {
		p.Runtime = socket + ".d"
		h := fnv.New32a()
		h.Write([]byte(socket))
		name = fmt.Sprintf("state-%08x.json", h.Sum32())
	}
	if err := os.MkdirAll(p.Runtime, 0o700); err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	if !owned(p.Runtime) {
		return nil, fmt.Errorf("runtime directory %s belongs to somebody else: set XDG_RUNTIME_DIR or --socket", p.Runtime)
	}
	if err := os.Chmod(p.Runtime, 0o700); err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	state := stateDir()
	p.State = filepath.Join(state, name)
	p.Logs = filepath.Join(p.Runtime, "logs")
	p.Mask = []string{p.Runtime, socket}
	if p.Runtime != std {
		p.Mask = append(p.Mask, filepath.Join(std, "tapswitch.sock"))
	}
	return p, nil
}

func stateDir() string {
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "tapswitch")
	}
	if uid, real := realUID(); uid == 0 && real {
		return "/var/lib/tapswitch"
	}
	if h, err := os.UserHomeDir(); err == nil {
		return filepath.Join(h, ".local", "state", "tapswitch")
	}
	return filepath.Join(os.TempDir(), "tapswitch-"+strconv.Itoa(os.Geteuid()))
}

// owner is who holds a place, as its lock file says.
type owner struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start_time"`
	Since string `json:"since"`
}

// Running says that somebody else runs a switch here.
type Running struct {
	Socket string
	Pid    int
	Since  string
}

func (r *Running) Error() string {
	return fmt.Sprintf("a switch is running already: process %d since %s, socket %s (tapswitch down ends it)", r.Pid, r.Since, r.Socket)
}

// Lock takes the place. A predecessor that is dying is waited for, since the
// kernel needs seconds to take hundreds of TAPs away, and its listeners live as
// long; one that is alive is an error.
//
// There are two locks: the porter holds own as long as it lives, the worker
// alone holds worker, to be handed to it. With one lock for both, the last of
// them to let go would be whoever dies last, and not the one whose listeners
// are in the way.
func (p *Place) Lock(patience time.Duration) (own, worker *os.File, err error) {
	limit := time.Now().Add(patience)
	if own, err = p.lockOwn(limit); err != nil {
		return nil, nil, err
	}
	if worker, err = p.lockWorker(limit); err != nil {
		own.Close()
		return nil, nil, err
	}
	return own, worker, nil
}

func (p *Place) lockOwn(limit time.Time) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(p.Runtime, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		var o owner
		if b, err := os.ReadFile(f.Name()); err == nil {
			_ = json.Unmarshal(b, &o)
		}
		if alive(o) {
			f.Close()
			return nil, &Running{p.Socket, o.Pid, o.Since}
		}
		if time.Now().After(limit) {
			f.Close()
			return nil, fmt.Errorf("lock %s is held though process %d is gone: a part of it is still ending", f.Name(), o.Pid)
		}
		awaitExit(o.Pid, 50*time.Millisecond)
	}
	start, _ := porter.StartTime(os.Getpid())
	b, _ := json.Marshal(owner{os.Getpid(), start, time.Now().Format(time.RFC3339)})
	if err := errors.Join(f.Truncate(0), writeAt(f, b)); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// lockWorker waits for the end of a predecessor's worker, whose porter is dead.
func (p *Place) lockWorker(limit time.Time) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(p.Runtime, "worker.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	locked := make(chan error, 1)
	fd := int(f.Fd())
	go func() {
		err := unix.EINTR
		for err == unix.EINTR {
			err, _ = unix.Flock(fd, unix.LOCK_EX).(unix.Errno)
		}
		if err != 0 {
			locked <- err
		}
		close(locked)
	}()
	select {
	case err = <-locked:
	case <-time.After(time.Until(limit)):
		err = errors.New("a worker that has lost its porter does not end")
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func writeAt(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// alive says whether the process that took the lock still runs: not dead, not
// dying.
func alive(o owner) bool {
	if o.Pid == 0 {
		return false
	}
	start, err := porter.StartTime(o.Pid)
	if err != nil || start != o.Start {
		return false
	}
	fd, err := unix.PidfdOpen(o.Pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n == 0 && !dying(o.Pid)
}

// dying says whether a fatal signal waits for the process, or is at work: a
// process with many TAPs takes seconds to be taken apart.
func dying(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	return doomed(string(status), string(stat))
}

// doomed reads proc_pid_status(5) and proc_pid_stat(5): the state is zombie or
// dead, SIGKILL is pending, or the flags hold PF_EXITING.
func doomed(status, stat string) bool {
	const sigkill, exiting = 1 << (unix.SIGKILL - 1), 0x4
	for _, line := range strings.Split(status, "\n") {
		key, v, _ := strings.Cut(line, ":")
		v = strings.TrimSpace(v)
		switch key {
		case "State":
			if strings.HasPrefix(v, "Z") || strings.HasPrefix(v, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			if set, err := strconv.ParseUint(v, 16, 64); err == nil && set&sigkill != 0 {
				return true
			}
		}
	}
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	return err == nil && flags&exiting != 0
}

// awaitExit waits for the end of a process, or for at most d.
func awaitExit(pid int, d time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		// Gone already: what still holds the lock cannot be waited for by number.
		_, _ = unix.Poll(nil, int(d.Milliseconds()))
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
}

// Rootless says whether we are in a user namespace that somebody made.
func Rootless() bool {
	_, real := realUID()
	return !real
}
