package porter

import (
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
)

// Further unix sockets of the configuration's, which the worker serves and may
// not make: nor may it name others than those that the configuration does.

// Listen is a socket that the worker wants: Name is its path.
type Listen struct {
	Mode  uint32 `json:"mode"`
	Group string `json:"group,omitempty"`
	Ours  bool   `json:"ours"` // the worker has one there already, which this one replaces
}

// fresh marks a socket that waits for its predecessor's place.
const fresh = ".new"

// named notes the paths of a configuration's sockets.
func (p *porter) named(c *configs.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets == nil {
		p.sockets = make(map[string]bool)
	}
	paths := []string{c.API.ReadOnly}
	if path, ok := configs.UnixPath(c.Metrics); ok {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if _, known := p.sockets[path]; path != "" && !known {
			p.sockets[path] = false
		}
	}
}

// unlink removes a socket if one of ours is there.
func (p *porter) unlink(path string) {
	p.mu.Lock()
	ours := p.sockets[path]
	p.sockets[path] = false
	p.mu.Unlock()
	if ours {
		_ = os.Remove(path)
	}
}

// unlinkAll removes what the worker has left, which had no time to say so.
func (p *porter) unlinkAll() {
	p.mu.Lock()
	paths := slices.Collect(maps.Keys(p.sockets))
	p.mu.Unlock()
	for _, path := range paths {
		p.unlink(path)
	}
}

// onSocket does what the worker asks about a socket at m.Name.
func (p *porter) onSocket(m Message, r *Message) []int {
	p.mu.Lock()
	_, known := p.sockets[m.Name]
	p.mu.Unlock()
	if !known || m.Op == OpListen && m.Listen == nil {
		r.Err = api.Errorf(api.BadRequest, "%s is no socket of the configuration", m.Name)
		return nil
	}
	var err error
	var fds []int
	switch m.Op {
	case OpListen:
		fds, err = listenAside(m.Name, m.Listen)
	case OpReveal:
		if err = os.Rename(m.Name+fresh, m.Name); err == nil {
			p.mu.Lock()
			p.sockets[m.Name] = true
			p.mu.Unlock()
		}
	case OpUnlink:
		_ = os.Remove(m.Name + fresh)
		if m.Text == "" {
			p.unlink(m.Name)
		}
	}
	if err != nil {
		r.Err = api.Errorf(api.Failed, "%v", err)
	}
	return fds
}

// listenAside listens beside path until the socket is moved there. What is at
// path and not ours, or left by somebody who is gone, is not replaced.
func listenAside(path string, l *Listen) ([]int, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, errors.New(path + " is there, and no socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		if !l.Ours {
			return nil, errors.New("somebody listens at " + path)
		}
	}
	f, err := listen(path + fresh)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := give(path+fresh, l); err != nil {
		os.Remove(path + fresh)
		return nil, err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		os.Remove(path + fresh)
		return nil, err
	}
	return []int{fd}, nil
}

// give hands a socket to its group, with its mode.
func give(path string, l *Listen) error {
	if l.Group != "" {
		id := l.Group
		if g, err := user.LookupGroup(id); err == nil {
			id = g.Gid
		}
		gid, err := strconv.Atoi(id)
		if err != nil {
			return errors.New("there is no group " + l.Group)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, fs.FileMode(l.Mode))
}
