package engine

import (
	"slices"
	"syscall"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Exec runs a command in a container; files are its standard files, which the
// engine takes over. The session's end is told by Session.
func (e *Engine) Exec(name string, x api.Exec, files []int) (string, error) {
	defer closeFDs(files)
	c, state, err := e.look(name)
	if err != nil {
		return "", err
	}
	if len(x.Command) == 0 {
		return "", api.Errorf(api.BadRequest, "no command given")
	}
	if state != stateRunning {
		return "", api.Errorf(api.Conflict, "container %s is not running", c.name)
	}
	req := api.Create{Env: slices.Concat(c.create.Env, x.Env), TTY: x.TTY}
	host := c.create.Hostname
	if host == "" {
		host = c.name
	}
	e.mu.Lock()
	links := e.linkEnv(c)
	e.mu.Unlock()
	spec := &porter.ExecSpec{Command: x.Command, Env: environment(req, host, links), Workdir: x.Workdir, TTY: x.TTY}
	if spec.Workdir == "" {
		spec.Workdir = c.create.Workdir
	}
	if c.kind == kindJoin {
		if c.pid == 0 {
			return "", api.Errorf(api.BadRequest, "container %s was joined by path: its other namespaces are unknown", c.name).WithHint("use its own tool, such as ip netns exec")
		}
		spec.Pid = c.pid
	}
	r, _, err := e.porter.Call(porter.Message{Op: porter.OpExec, Name: c.id, Exec: spec}, files...)
	if err != nil {
		return "", err
	}
	e.session(r.Name)
	return r.Name, nil
}

// session finds or makes the channel that carries a session's exit code: the
// porter's event may come before anybody waits.
func (e *Engine) session(id string) chan int {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := e.sessions[id]
	if ch == nil {
		ch = make(chan int, 1)
		e.sessions[id] = ch
	}
	return ch
}

// Ended is the porter's word that a session has ended.
func (e *Engine) Ended(id string, code int) { e.session(id) <- code }

// WaitSession waits for a session's end.
func (e *Engine) WaitSession(id string, gone <-chan struct{}) (int, error) {
	ch := e.session(id)
	select {
	case code := <-ch:
		e.mu.Lock()
		delete(e.sessions, id)
		e.mu.Unlock()
		return code, nil
	case <-gone:
		return 0, api.Errorf(api.Failed, "the client left")
	case <-e.ctx.Done():
		return 137, nil
	}
}

// SignalSession sends a signal to a session's command.
func (e *Engine) SignalSession(id string, sig syscall.Signal) error {
	_, _, err := e.porter.Call(porter.Message{Op: porter.OpSignal, Name: id, Signal: int(sig)})
	return err
}
