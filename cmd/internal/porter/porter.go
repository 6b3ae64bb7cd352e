package porter

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
)

// WorkerName is argv[0] of the worker.
const WorkerName = "tapswitch-worker"

// Options of a porter.
type Options struct {
	Start  Start
	Load   func() (Config, error) // reads the configuration anew
	Ready  func(text string)      // everything is made
	Warn   func(text string)
	Log    *slog.Logger
	Stop   <-chan os.Signal // SIGINT, SIGTERM: end
	Phase  func(Phase)      // tells a service manager; nil: there is none
	HUP    <-chan os.Signal // SIGHUP: read the configuration anew
	Watch  <-chan struct{}  // the file has changed
	Ended  <-chan struct{}  // whoever we serve is gone
	Listen *os.File         // the control socket, if it is there; else it is made
	Lock   *os.File         // for the worker alone to hold, so that its end is the lock's; nil: none
	API    *Worker          // for those that ask the worker from here; nil: nobody does
}

type porter struct {
	opt    Options
	spawn  spawner
	conn   *fdpass.Conn
	mu     sync.Mutex
	byID   map[string]*container
	sess   map[string]*sess
	next   int
	served chan struct{} // closed when the worker's end of the connection is
	down   chan struct{}
	once   sync.Once
	failed error

	sockets map[string]bool // paths that configurations name, and whether one of ours is there
}

// Run starts the worker and serves it until the switch ends. The error says why
// it could not start, or that the worker died.
func Run(opt Options) error {
	p := &porter{opt: opt, spawn: newSpawner(), byID: make(map[string]*container), sess: make(map[string]*sess), down: make(chan struct{}), served: make(chan struct{})}
	conn, child, err := fdpass.Pair()
	if err != nil {
		return err
	}
	p.conn = conn
	if p.opt.API == nil {
		p.opt.API = new(Worker)
	}
	p.opt.API.begin(conn)
	control, err := p.control()
	if err != nil {
		child.Close()
		return err
	}
	defer control.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: opt.Start.workerArgs(), Env: os.Environ(), Stdin: nil, Stdout: os.Stderr, Stderr: os.Stderr,
		ExtraFiles:  []*os.File{child},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	}
	if opt.Lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, opt.Lock)
	}
	p.spawn.do(func() { err = cmd.Start() })
	child.Close()
	if opt.Lock != nil {
		opt.Lock.Close()
	}
	if err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	if err := conn.Send(Message{Op: OpStart, Start: &opt.Start}, control.fds()...); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return fmt.Errorf("start the worker: %w", err)
	}
	p.named(opt.Start.Config.Config)
	go p.serve()
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	err = p.wait(cmd, died)
	p.unlinkAll()
	p.killAll()
	return err
}

// wait is the porter's life: until somebody asks for the end, or the worker
// ends by itself.
func (p *porter) wait(cmd *exec.Cmd, died chan error) error {
	for {
		select {
		case <-p.opt.HUP:
			p.phase(Reloading)
			p.reload()
			continue
		case <-p.opt.Watch:
			p.reload()
			continue
		case err := <-died:
			<-p.served // its last words
			if p.failed != nil {
				return p.failed
			}
			if err == nil {
				err = errors.New("without an error")
			}
			return fmt.Errorf("the worker ended: %w", err)
		case <-p.opt.Stop:
		case <-p.opt.Ended:
		case <-p.down:
		}
		p.phase(Stopping)
		p.stop(cmd, died)
		return nil
	}
}

// reload reads the configuration and gives it, or what is wrong, to the worker.
func (p *porter) reload() {
	_ = p.conn.Send(p.reloadMessage(0))
}

func (p *porter) reloadMessage(id uint64) Message {
	m := Message{ID: id, Op: OpReload}
	if c, err := p.opt.Load(); err != nil {
		m.Err = api.Errorf(api.BadRequest, "%v", err)
	} else {
		m.Config = &c
		p.named(c.Config)
	}
	return m
}

// serve answers the worker's requests, each on its own goroutine: making a
// container takes milliseconds that others need not wait for.
func (p *porter) serve() {
	defer close(p.served)
	defer p.opt.API.end()
	for {
		var m Message
		fds, err := p.conn.Receive(&m)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.opt.Log.Error("worker connection", "err", err)
			}
			return
		}
		switch m.Op {
		case OpReady:
			p.opt.Ready(m.Text)
		case OpFailed:
			p.failed = m.Err
		case OpDown:
			p.once.Do(func() { close(p.down) })
		case OpWarn:
			p.opt.Warn(m.Text)
		case OpRequest:
			fdpass.CloseAll(fds)
			p.opt.API.deliver(m)
		case OpReloaded:
			p.phase(Ready)
		default:
			go p.answer(m, fds)
		}
	}
}

func (p *porter) answer(m Message, fds []int) {
	r := Message{ID: m.ID, Op: m.Op}
	var out []int
	switch m.Op {
	case OpCreate:
		out = p.onCreate(m, fds, &r)
		fds = nil
	case OpGo:
		p.onGo(m, &r)
	case OpSignal:
		r.Err = p.signal(m.Name, syscall.Signal(m.Signal))
	case OpRelease:
		p.release(m.Name)
	case OpExec:
		p.onExec(m, fds, &r)
		fds = nil
	case OpRejoin:
		out = p.onRejoin(m, &r)
	case OpFiles:
		p.onFiles(m, &r)
	case OpOwners:
		p.onOwners(m, &r)
	case OpPlug:
		out = p.onPlug(m, &r)
	case OpHost:
		out = p.onHost(m, &r)
	case OpSockets:
		out = p.onSockets(m, &r)
	case OpOpen:
		out = p.onOpen(m, &r)
	case OpListen, OpReveal, OpUnlink:
		out = p.onSocket(m, &r)
	case OpReload:
		r = p.reloadMessage(m.ID)
	default:
		r.Err = api.Errorf(api.BadRequest, "unknown operation %q", m.Op)
	}
	fdpass.CloseAll(fds)
	_ = p.conn.Send(r, out...)
	fdpass.CloseAll(out)
}

func (p *porter) onCreate(m Message, fds []int, r *Message) []int {
	c, taps, warn, err := p.create(m.Spec, fds)
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	if warn != "" {
		p.opt.Warn(warn)
	}
	p.mu.Lock()
	p.byID[m.Spec.ID] = c
	p.mu.Unlock()
	if !m.Spec.Hold {
		r.Pid = c.pid()
		go func() {
			code := c.wait()
			_ = p.conn.Send(Message{Op: OpExited, Name: m.Spec.ID, Code: code})
		}()
	}
	return taps
}

func (p *porter) onGo(m Message, r *Message) {
	c := p.find(m.Name)
	if c == nil {
		r.Err = api.Errorf(api.NotFound, "no such container %s", m.Name)
		return
	}
	if err := c.run(); err != nil {
		r.Err = asError(err)
	}
}

func (p *porter) find(id string) *container {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byID[id]
}

// signal sends a signal to a container's command or to a session.
func (p *porter) signal(id string, sig syscall.Signal) *api.Error {
	p.mu.Lock()
	c, s := p.byID[id], p.sess[id]
	p.mu.Unlock()
	switch {
	case c != nil && c.hold == nil:
		if err := c.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return api.Errorf(api.Failed, "signal %s: %v", id, err)
		}
	case s != nil:
		_ = s.conn.Send(Message{Op: OpSignal, Signal: int(sig)})
	default:
		return api.Errorf(api.NotFound, "%s has no process", id)
	}
	return nil
}

// release ends a container and forgets it.
func (p *porter) release(id string) {
	p.mu.Lock()
	c := p.byID[id]
	delete(p.byID, id)
	p.mu.Unlock()
	if c == nil {
		return
	}
	if c.hold == nil {
		_ = c.proc.Kill()
		<-c.done
	}
	c.letGo()
}

func (p *porter) onExec(m Message, fds []int, r *Message) {
	p.mu.Lock()
	c := p.byID[m.Name]
	p.next++
	id := "exec-" + strconv.Itoa(p.next)
	p.mu.Unlock()
	if c == nil && m.Exec.Pid == 0 {
		fdpass.CloseAll(fds)
		r.Err = api.Errorf(api.NotFound, "no such container %s", m.Name)
		return
	}
	s, err := p.exec(id, c, m.Exec, fds)
	if err != nil {
		r.Err = asError(err)
		return
	}
	p.mu.Lock()
	p.sess[id] = s
	p.mu.Unlock()
	r.Name = id
	go func() {
		code := s.wait()
		p.mu.Lock()
		delete(p.sess, id)
		p.mu.Unlock()
		_ = p.conn.Send(Message{Op: OpEnded, Name: id, Code: code})
	}()
}

// stop asks the worker to end, with patience that is bounded.
func (p *porter) stop(cmd *exec.Cmd, died chan error) {
	_ = p.conn.Send(Message{Op: OpStop})
	select {
	case <-died:
	case <-time.After(20 * time.Second):
		p.opt.Log.Warn("the worker does not end; killed")
		_ = cmd.Process.Kill()
		<-died
	}
}

// killAll ends every process in every container.
func (p *porter) killAll() {
	p.mu.Lock()
	ids := make([]string, 0, len(p.byID))
	for id := range p.byID {
		ids = append(ids, id)
	}
	for _, s := range p.sess {
		s.conn.Close()
	}
	p.mu.Unlock()
	for _, id := range ids {
		p.release(id)
	}
}
