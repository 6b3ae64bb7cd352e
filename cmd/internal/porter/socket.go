package porter

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/sandbox"
)

// control is the control socket on its way to the worker, which may make no
// unix sockets and remove no files where it stands; nil: this switch has none.
type control struct {
	file *os.File
	path string // to be removed at the end; "": whoever made it keeps it
}

// control gives the control socket that was handed to us, or makes it.
func (p *porter) control() (*control, error) {
	if f := p.opt.Listen; f != nil {
		return &control{f, ""}, nil
	}
	if p.opt.Start.Socket == "" {
		return nil, nil
	}
	f, err := listen(p.opt.Start.Socket)
	if err != nil {
		return nil, err
	}
	return &control{f, p.opt.Start.Socket}, nil
}

func (c *control) fds() []int {
	if c == nil {
		return nil
	}
	return []int{int(c.file.Fd())}
}

func (c *control) Close() {
	if c == nil {
		return
	}
	_ = c.file.Close()
	if c.path != "" {
		_ = os.Remove(c.path)
	}
}

// listen makes a socket for the owner alone. A leftover of a switch that died is
// replaced: we hold the lock that says that nobody else lives.
func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// workerArgs are the worker's: by way of the sandbox, with the directories that
// it may write to, unless that is off.
func (s *Start) workerArgs() []string {
	if s.Config.Config.Sandbox == "off" {
		return []string{WorkerName}
	}
	args := []string{sandbox.StageName, WorkerName}
	for _, dir := range []string{s.Runtime, s.Logs} {
		if dir != "" {
			args = append(args, dir)
		}
	}
	if s.State != "" {
		args = append(args, filepath.Dir(s.State))
	}
	return args
}

// readable are the files of the host that the worker follows. Programs replace
// them by others of the same name, in directories that it has no business in.
var readable = map[string]bool{"/etc/resolv.conf": true}

// onOpen opens one of them for the worker.
func (p *porter) onOpen(m Message, r *Message) []int {
	if !readable[m.Name] {
		r.Err = api.Errorf(api.BadRequest, "%s is not for the worker to read", m.Name)
		return nil
	}
	fd, err := unix.Open(m.Name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Err = api.Errorf(api.Failed, "%s: %v", m.Name, err)
		return nil
	}
	return []int{fd}
}
