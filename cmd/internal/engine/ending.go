package engine

import (
	"os"
	"syscall"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Exited is the porter's word that a container's first process has ended.
func (e *Engine) Exited(id string, code int) {
	e.mu.Lock()
	c := e.containers[id]
	e.mu.Unlock()
	if c != nil {
		e.ended(c, code)
	}
}

// ended takes a container whose processes are gone off the switch: one of ours
// stays listed as exited, a joined one leaves.
func (e *Engine) ended(c *container, code int) {
	e.mu.Lock()
	if c.ending {
		e.mu.Unlock()
		return
	}
	c.ending = true
	e.mu.Unlock()
	e.detachAll(c)
	if c.kind != kindJoin {
		_, _, _ = e.porter.Call(porter.Message{Op: porter.OpRelease, Name: c.id})
	}
	e.mu.Lock()
	if c.state == stateExited || e.containers[c.id] != c {
		e.mu.Unlock()
		return
	}
	release(c.endpoints)
	c.state, c.code, c.pid = stateExited, code, 0
	c.ports = nil
	remove := c.kind == kindJoin || c.create.Remove
	if remove {
		e.unlist(c)
		e.keepCode(c)
		if c.log != "" {
			_ = os.Remove(c.log)
		}
	}
	close(c.done)
	e.mu.Unlock()
	e.log.Info("container ended", "container", c.name, "exit_code", code)
	e.publishNames()
	e.policyOf(c)
	e.openings.Forget(c.name)
	e.save()
}

// unlist takes a container out of the maps; its counters stay in the totals.
// The lock is held.
func (e *Engine) unlist(c *container) {
	if e.containers[c.id] != c {
		return
	}
	delete(e.containers, c.id)
	delete(e.names, c.name)
	for _, s := range c.last {
		e.total(s)
	}
}

// total keeps the counters of an interface that is gone. The lock is held.
func (e *Engine) total(s api.Stats) {
	t := &e.lastTotals
	t.RxFrames, t.RxBytes = t.RxFrames+s.RxFrames, t.RxBytes+s.RxBytes
	t.TxFrames, t.TxBytes = t.TxFrames+s.TxFrames, t.TxBytes+s.TxBytes
	for r, n := range s.Drops {
		if t.Drops == nil {
			t.Drops = make(map[string]uint64)
		}
		t.Drops[r] += n
	}
}

// keepCode remembers how a container that removed itself ended, for a wait that
// comes a moment later. The lock is held.
func (e *Engine) keepCode(c *container) {
	for id, x := range e.codes {
		if time.Since(x.at) > time.Minute {
			delete(e.codes, id)
		}
	}
	e.codes[c.id] = exited{c.code, time.Now()}
}

// Wait waits for a container's end and returns its exit code.
func (e *Engine) Wait(name string, gone <-chan struct{}) (int, error) {
	e.mu.Lock()
	if x, ok := e.codes[name]; ok {
		e.mu.Unlock()
		return x.code, nil
	}
	c, err := e.find(name)
	e.mu.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case <-c.done:
		return c.code, nil
	case <-gone:
		return 0, api.Errorf(api.Failed, "the client left")
	case <-e.ctx.Done():
		return 137, nil
	}
}

// Signal sends a signal to a container's command.
func (e *Engine) Signal(name string, sig syscall.Signal) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if c.kind != kindRun || state != stateRunning {
		return api.Errorf(api.Conflict, "container %s has no command that runs", c.name)
	}
	_, _, err = e.porter.Call(porter.Message{Op: porter.OpSignal, Name: c.id, Signal: int(sig)})
	return err
}

// Stop ends a container: SIGTERM, and SIGKILL when patience is over. A held or
// joined one leaves the switch.
func (e *Engine) Stop(name string, patience time.Duration) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	switch {
	case state == stateExited:
		return nil
	case c.kind != kindRun:
		e.ended(c, 0)
		return nil
	}
	_ = e.Signal(c.id, syscall.SIGTERM)
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c.done:
		return nil
	case <-t.C:
	}
	_ = e.Signal(c.id, syscall.SIGKILL)
	select {
	case <-c.done:
	case <-e.ctx.Done():
	}
	return nil
}

// Remove takes a container away; one that runs only by force.
func (e *Engine) Remove(name string, force bool) error {
	c, state, err := e.look(name)
	if err != nil {
		return err
	}
	if state != stateExited {
		if !force && c.kind == kindRun {
			return api.Errorf(api.Conflict, "container %s is running", c.name).WithHint("stop it first, or use rm -f")
		}
		e.remove(c)
	} else {
		e.erase(c)
	}
	e.save()
	return nil
}

// remove ends and erases a container.
func (e *Engine) remove(c *container) {
	if c.kind == kindRun {
		_ = e.Signal(c.id, syscall.SIGKILL)
		select {
		case <-c.done:
		case <-e.ctx.Done():
		}
	} else {
		e.ended(c, 0)
	}
	e.erase(c)
}

func (e *Engine) erase(c *container) {
	e.mu.Lock()
	e.unlist(c)
	log := c.log
	e.mu.Unlock()
	if log != "" {
		_ = os.Remove(log)
	}
	e.publishNames()
}
