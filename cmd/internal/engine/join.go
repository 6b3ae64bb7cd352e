package engine

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Lifetimes of a joined namespace: how its end is learnt.
const (
	lifePidfd = "pidfd"       // a process of it
	lifeDel   = "until_del"   // the caller says so
	lifeError = "until_error" // its TAP reports it, having been moved there
)

// reservation holds addresses for a caller that sets the interfaces up with its
// own rights and then joins.
type reservation struct {
	c     *container
	more  []*endpoint // of a container that is there
	timer *time.Timer
}

const reserveFor = 30 * time.Second

// Reserve takes a name, addresses and ports for a namespace of the caller's.
func (e *Engine) Reserve(r api.Reserve) (*api.Reservation, error) {
	switch r.Lifetime {
	case lifePidfd, lifeDel, lifeError:
	case "":
		r.Lifetime = lifeDel
	default:
		return nil, api.Errorf(api.BadRequest, "lifetime %q: pidfd, until_del or until_error", r.Lifetime)
	}
	if r.Origin == "" {
		r.Origin = "api"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.checkEgress(r.Egress); err != nil {
		return nil, err
	}
	if err := checkShape(r.Shape); err != nil {
		return nil, err
	}
	if err := e.checkGiven(&r); err != nil {
		return nil, err
	}
	if r.Key != "" {
		if c := e.byKey(r.Key); c != nil {
			return e.reserveMore(c, r)
		}
	}
	c, err := e.newContainer(r.Name, r.Origin, kindJoin, r.Networks, r.Publish)
	if err != nil {
		return nil, err
	}
	c.reserve, c.spoof = r, r.Spoof
	c.create.Hostname, c.create.Links, c.create.Expose = r.Hostname, r.Links, r.Expose
	id := newID()
	if r.ID != "" {
		e.rename(c, r.ID)
		id = r.ID
	}
	return e.hold(id, &reservation{c: c}, c.endpoints), nil
}

// hold keeps a reservation under id for a while, or until it is used, and says
// how eps are to be set up. The lock is held.
func (e *Engine) hold(id string, r *reservation, eps []*endpoint) *api.Reservation {
	c := r.c
	r.timer = time.AfterFunc(reserveFor, func() { e.lapse(id) })
	if c.reserve.Hold {
		r.timer.Stop()
	}
	e.reserved[id] = r
	out := &api.Reservation{ID: id, Interfaces: interfaces(&container{endpoints: eps}, !c.reserve.PlainTAP, !c.reserve.NoRoute), DNS: []string{}}
	for _, ep := range eps {
		if a := ep.net.resolver(); a.IsValid() {
			out.DNS = append(out.DNS, a.String())
		}
	}
	out.Resolv, out.Hosts = e.files(c, cmp.Or(c.create.Hostname, c.name))
	return out
}

// lapse gives a reservation up that nobody used.
func (e *Engine) lapse(id string) {
	e.mu.Lock()
	r := e.reserved[id]
	delete(e.reserved, id)
	e.mu.Unlock()
	if r != nil {
		r.timer.Stop()
		e.giveUp(r)
	}
}

// giveUp gives back what a reservation has taken.
func (e *Engine) giveUp(r *reservation) {
	if r.more == nil {
		e.forget(r.c)
		return
	}
	e.mu.Lock()
	release(r.more)
	e.mu.Unlock()
}

// Cancel gives a reservation up.
func (e *Engine) Cancel(id string) { e.lapse(id) }

// Join puts a reserved namespace on the switch. fds are its TAPs and, where a
// process is the lifetime, a pidfd; the engine takes them over.
func (e *Engine) Join(j api.Join, fds []int) (*api.Container, error) {
	e.mu.Lock()
	r := e.reserved[j.Reservation]
	delete(e.reserved, j.Reservation)
	there := r != nil && e.containers[r.c.id] == r.c // not removed meanwhile
	e.mu.Unlock()
	if !there {
		if r != nil {
			r.timer.Stop()
			e.giveUp(r)
		}
		closeFDs(fds)
		return nil, api.Errorf(api.NotFound, "no such reservation, or it has lapsed")
	}
	r.timer.Stop()
	err := error(nil)
	if r.more != nil {
		err = e.enterMore(r, fds)
	} else {
		err = e.enter(r.c, j.Pid, fds)
	}
	if err != nil {
		e.giveUp(r)
		return nil, err
	}
	e.save()
	e.mu.Lock()
	defer e.mu.Unlock()
	return r.c.view(), nil
}

// enter attaches a joined namespace's TAPs and watches for its end.
func (e *Engine) enter(c *container, pid int, fds []int) error {
	pidfd := -1
	if c.reserve.Lifetime == lifePidfd {
		if len(fds) == 0 {
			return api.Errorf(api.BadRequest, "lifetime pidfd: no pidfd came")
		}
		pidfd = fds[len(fds)-1]
		fds = fds[:len(fds)-1]
	}
	e.policyOf(c) // before its first packet
	if err := e.connect(c, fds); err != nil {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		return err
	}
	e.mu.Lock()
	c.pid, c.state = pid, stateRunning
	if pid > 0 {
		c.startTime, _ = porter.StartTime(pid)
	}
	e.mu.Unlock()
	if pidfd >= 0 {
		e.lifetimes.watch(pidfd, c.done, func() {
			e.log.Info("process ended", "container", c.name, "pid", pid)
			e.ended(c, -1)
		})
	}
	e.publishNames()
	return nil
}

// Leave takes a joined namespace off the switch, or off one of its networks.
func (e *Engine) Leave(name, network string) error {
	e.mu.Lock()
	c, err := e.find(name)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if c.kind != kindJoin {
		return api.Errorf(api.BadRequest, "container %s was not joined", c.name).WithHint("tapswitch rm -f %s ends it", c.name)
	}
	if network == "" {
		e.ended(c, 0)
		select { // somebody else may be at it: who comes back under the name finds it free
		case <-c.done:
		case <-e.ctx.Done():
		}
		return nil
	}
	return e.Disconnect(network, c.name)
}
