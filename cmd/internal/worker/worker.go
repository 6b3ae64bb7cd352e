// Package worker is the process that carries the traffic: it runs the switch
// and its control plane in the host's network namespace, without a privilege.
// Every descriptor of another namespace comes to it from the porter or from a
// caller; it enters nothing and starts no process.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/cmd/internal/porter"
)

// client is the engine's way to the porter.
type client struct {
	conn *fdpass.Conn
	mu   sync.Mutex
	next uint64
	wait map[uint64]chan reply
	gone bool
}

type reply struct {
	m   porter.Message
	fds []int
}

var errGone = errors.New("the porter is gone")

// Call sends a request and waits for its reply.
func (c *client) Call(m porter.Message, fds ...int) (porter.Message, []int, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return m, nil, errGone
	}
	c.next++
	m.ID = c.next
	c.wait[m.ID] = ch
	c.mu.Unlock()
	if err := c.conn.Send(m, fds...); err != nil {
		c.mu.Lock()
		delete(c.wait, m.ID)
		c.mu.Unlock()
		return m, nil, err
	}
	r, ok := <-ch
	if !ok {
		return m, nil, errGone
	}
	if r.m.Err != nil {
		fdpass.CloseAll(r.fds)
		return r.m, nil, r.m.Err
	}
	return r.m, r.fds, nil
}

// Tell sends an event.
func (c *client) Tell(m porter.Message) { _ = c.conn.Send(m) }

func (c *client) deliver(m porter.Message, fds []int) {
	c.mu.Lock()
	ch := c.wait[m.ID]
	delete(c.wait, m.ID)
	c.mu.Unlock()
	if ch == nil {
		fdpass.CloseAll(fds)
		return
	}
	ch <- reply{m, fds}
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for id, ch := range c.wait {
		close(ch)
		delete(c.wait, id)
	}
}

// Run is the worker's life: descriptor 3 is the connection to the porter.
func Run() int {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE) // the porter's to act upon
	raiseLimit()
	unix.CloseOnExec(lockFD)
	c := &client{conn: fdpass.New(os.NewFile(3, "porter")), wait: make(map[uint64]chan reply)}
	var m porter.Message
	fds, err := c.conn.Receive(&m)
	if err != nil || m.Start == nil {
		return 1
	}
	level := new(slog.LevelVar)
	log := newLogger(m.Start.Config, level)
	fail := func(err error) int {
		c.Tell(porter.Message{Op: porter.OpFailed, Err: api.Errorf(api.Failed, "%v", err)})
		return 1
	}
	l, err := listener(fds)
	if err != nil {
		return fail(err)
	}
	if m.Start.Sandbox, err = contain(m.Start.Config.Config.Sandbox, log); err != nil {
		return fail(err)
	}
	e, err := engine.New(*m.Start, c, log)
	if err != nil {
		return fail(err)
	}
	x := &control{e: e, c: c, log: log, level: level}
	stop := make(chan struct{})
	control := handler(x)
	go serve(x, control, stop)
	e.RestorePolicies()
	if err := x.apply(&m.Start.Config); err != nil {
		e.Close()
		return fail(err)
	}
	restored, problems := e.Restore()
	for _, p := range problems {
		if p != nil {
			c.Tell(porter.Message{Op: porter.OpWarn, Text: p.Error()})
		}
	}
	srv := newServer(log, control)
	srv.ConnContext = fdpass.ConnContext
	if l != nil {
		go srv.Serve(fdpass.Listener{UnixListener: l, Allow: owner})
	}
	made := e.Made()
	if restored > 0 {
		made += fmt.Sprintf("restored %d from %s\n", restored, m.Start.State)
	}
	c.Tell(porter.Message{Op: porter.OpReady, Text: made})
	<-stop
	x.close()
	if l != nil {
		_ = l.Close()
	}
	e.Close()
	last, done := context.WithTimeout(context.Background(), 2*time.Second)
	defer done()
	_ = srv.Shutdown(last) // those who asked for the end, or wait for one, get their answer
	return 0
}

// serve takes the porter's replies and events until it asks for the end, or is
// gone.
func serve(x *control, h http.Handler, stop chan struct{}) {
	c, e := x.c, x.e
	defer close(stop)
	defer c.close()
	for {
		var m porter.Message
		fds, err := c.conn.Receive(&m)
		if err != nil {
			return
		}
		switch {
		case m.Op == porter.OpRequest:
			go request(c, h, m, fds)
		case m.ID != 0:
			c.deliver(m, fds)
		case m.Op == porter.OpStop:
			return
		case m.Op == porter.OpExited:
			go e.Exited(m.Name, m.Code)
		case m.Op == porter.OpEnded:
			go e.Ended(m.Name, m.Code)
		case m.Op == porter.OpReload:
			go func() {
				_ = reload(x, m)
				c.Tell(porter.Message{Op: porter.OpReloaded})
			}()
		}
	}
}

// reload applies a configuration that the porter read; a bad one changes
// nothing and is named in status.
func reload(x *control, m porter.Message) error {
	c := x.c
	if m.Err != nil {
		x.e.SetConfigError(m.Err.Message)
		c.Tell(porter.Message{Op: porter.OpWarn, Text: "configuration not changed: " + m.Err.Message})
		return m.Err
	}
	if err := x.apply(m.Config); err != nil {
		c.Tell(porter.Message{Op: porter.OpWarn, Text: err.Error()})
		return err
	}
	c.Tell(porter.Message{Op: porter.OpWarn, Text: "configuration applied"})
	return nil
}

// raiseLimit lifts the number of descriptors to what the host allows: each
// connection to the outside needs one.
func raiseLimit() {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < r.Max {
		r.Cur = r.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &r)
	}
}

// Our lock of the place comes as descriptor 4 and stays there, below whatever is
// opened later. At our death the kernel closes descriptors from the lowest up,
// but puts the work of it on a stack (task_work_run in kernel/task_work.c): the
// lowest one is let go last, so that whoever gets the lock next finds our TAPs
// and listeners gone.
const lockFD = 4

// listener is the control socket, which came with the first message; nil: this
// switch has none.
func listener(fds []int) (*net.UnixListener, error) {
	if len(fds) == 0 {
		return nil, nil
	}
	f := os.NewFile(uintptr(fds[0]), "control socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, errors.New("control socket: not a unix socket")
	}
	return u, nil
}

// owner says who may use the control socket: the user the switch runs as, and
// root.
func owner(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }

func newLogger(c porter.Config, level *slog.LevelVar) *slog.Logger {
	setLevel(level, c.Config.LogLevel)
	opt := &slog.HandlerOptions{Level: level}
	if c.Config.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opt))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opt))
}

func newServer(log *slog.Logger, h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

func levelName(l slog.Level) string { return strings.ToLower(l.String()) }

func setLevel(v *slog.LevelVar, name string) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(name))); err == nil {
		v.Set(l)
	}
}
