package porter

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netns"
	"tapswitch/cmd/internal/api"
	"tapswitch/switch/ns"
)

// onPlug changes the interfaces of a container that runs: it adds some and
// returns their TAPs, or gives the default route to one that is there.
func (p *porter) onPlug(m Message, r *Message) []int {
	j := m.Plug
	h, err := p.handle(m.Name, j)
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	defer h.Close()
	if j.Route != nil {
		if err := defaultRoute(h, *j.Route); err != nil {
			r.Err = asError(err)
		}
		return nil
	}
	taps, err := Attach(h, j.Interfaces, j.Netns != "")
	if err != nil {
		r.Err = asError(err)
	}
	return taps
}

// onSockets opens what the worker asks for a container's bound sockets by.
func (p *porter) onSockets(m Message, r *Message) []int {
	h, err := p.handle(m.Name, m.Plug)
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	defer h.Close()
	fd, err := h.Sockets()
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	return []int{fd}
}

// handle is the network namespace of a container: one of ours by its id, a
// joined one by what it was joined by.
func (p *porter) handle(id string, j *Plug) (*ns.Handle, error) {
	p.mu.Lock()
	c := p.byID[id]
	p.mu.Unlock()
	switch {
	case c != nil:
		files, err := namespacesOf(c, 0)
		if err != nil {
			return nil, err
		}
		h := &ns.Handle{Net: -1, User: -1, Name: "container " + c.spec.Name}
		for kind, f := range files {
			to := map[string]*netns.NsHandle{"net": &h.Net, "user": &h.User}[kind]
			if to != nil {
				fd, err := dupCloexec(f)
				if err != nil {
					h.Close()
					return nil, err
				}
				*to = netns.NsHandle(fd)
			}
			f.Close()
		}
		if h.Net < 0 {
			h.Close()
			return nil, fmt.Errorf("container %s has no network namespace of its own", c.spec.Name)
		}
		return h, nil
	case j.Pid > 0:
		return ns.OfPID(j.Pid)
	case j.Netns != "":
		return ns.OfPath(j.Netns)
	}
	return nil, api.Errorf(api.NotFound, "no such container %s", id)
}

func defaultRoute(h *ns.Handle, c api.Interface) error {
	in, err := h.Enter()
	if err != nil {
		return err
	}
	defer in.Close()
	cfg, err := parseInterface(c)
	if err != nil {
		return err
	}
	return in.DefaultRoute(cfg)
}

// onFiles writes a container's resolv.conf and hosts anew, or settings of its
// interfaces. The former stand where our
// runtime directory would be seen, which the container's mounts cover: never are
// they the host's.
func (p *porter) onFiles(m Message, r *Message) {
	p.mu.Lock()
	c := p.byID[m.Name]
	p.mu.Unlock()
	files := m.Spec.Sysctls
	if c != nil && len(files) == 0 && len(m.Spec.Mask) > 0 {
		dir := m.Spec.Mask[0]
		files = []File{{filepath.Join(dir, "resolv.conf"), m.Spec.Resolv}, {filepath.Join(dir, "hosts"), m.Spec.Hosts}}
	}
	if c == nil || len(files) == 0 {
		r.Err = api.Errorf(api.NotFound, "no such container %s", m.Name)
		return
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		r.Err = asError(err)
		return
	}
	defer null.Close()
	var stdio []int
	for range 3 {
		if fd, err := dupCloexec(null); err == nil {
			stdio = append(stdio, fd)
		}
	}
	s, err := p.exec("files", c, &ExecSpec{Files: files}, stdio)
	if err != nil {
		r.Err = asError(err)
		return
	}
	s.wait()
}
