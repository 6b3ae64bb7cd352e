package engine

import (
	"os"
	"regexp"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/configs"
	"tapswitch/switch"
)

// A container engine has ids of its own for networks and endpoints, and comes
// back with nothing else. So it may give them, and what it reserves is there
// under its id from the first moment on. It keeps duplicates of the TAPs, too:
// the interfaces in its containers outlast a restart of the switch, and come
// back to it by another Reserve and Join with the same descriptors.

var idRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

// checkID says whether a given id is one as ours are; none is.
func checkID(id string) error {
	if id != "" && !idRE.MatchString(id) {
		return api.Errorf(api.BadRequest, "id %q: 64 hexadecimal digits", id)
	}
	return nil
}

// freeNetworkID refuses a given id that another network has. The lock is held.
func (e *Engine) freeNetworkID(id string) error {
	for _, n := range e.networks {
		if id != "" && n.id == id {
			return api.Errorf(api.Conflict, "network %s has the id %s already", n.cfg.Name, id[:12])
		}
	}
	return nil
}

// checkGiven reads what an engine says of an endpoint beyond its addresses. The
// lock is held.
func (e *Engine) checkGiven(r *api.Reserve) error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	if old := e.containers[r.ID]; old != nil {
		return api.Errorf(api.Conflict, "container %s has the id %s already", old.name, r.ID[:12])
	}
	for _, s := range r.Expose {
		if _, err := configs.ParseExpose(s); err != nil {
			return api.Errorf(api.BadRequest, "%v", err)
		}
	}
	for _, l := range r.Links {
		if !nameRE.MatchString(linked(l)) {
			return api.Errorf(api.BadRequest, "bad format for links: %s", l).WithHint("write the name of a container")
		}
	}
	return nil
}

// rename gives a new container the id that its engine has for it. The lock is
// held.
func (e *Engine) rename(c *container, id string) {
	delete(e.containers, c.id)
	c.id = id
	e.containers[id] = c
}

// TAPs sends duplicates of a joined container's TAPs, in the order of its
// networks, through a socket of fdpass's that came beside the request. They
// share the device with ours: who has one does not read it, but keeps the
// device where it is when we are gone.
func (e *Engine) TAPs(name string, files []int) error {
	if len(files) != 1 {
		closeFDs(files)
		return api.Errorf(api.BadRequest, "TAPs go to a socket beside the request; none came")
	}
	conn := fdpass.New(os.NewFile(uintptr(files[0]), "taps"))
	defer conn.Close()
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if c.kind != kindJoin || state != stateRunning {
		return api.Errorf(api.Conflict, "container %s has no TAP that a caller brought", c.name)
	}
	e.mu.Lock()
	eps := c.endpoints
	e.mu.Unlock()
	var fds []int
	defer func() { closeFDs(fds) }()
	c.wiring.Lock()
	for _, ep := range eps {
		if ep.seat == nil {
			continue
		}
		if t, is := ep.seat.Port.Device.(*vswitch.TAP); is {
			fd, err := unix.FcntlInt(uintptr(t.FD()), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				c.wiring.Unlock()
				return api.Errorf(api.Failed, "TAP of %s: %v", c.name, err)
			}
			fds = append(fds, fd)
		}
	}
	c.wiring.Unlock()
	if err := conn.Send(struct{}{}, fds...); err != nil {
		return api.Errorf(api.Failed, "TAPs of %s: %v", c.name, err)
	}
	return nil
}
