package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepOutput = 4 << 20         // bytes of a child's output that are kept
	stopGrace  = 8 * time.Second // from SIGTERM to SIGKILL
	readyLimit = 20 * time.Second
)

// A place is where a command can be run: a namespace of ours, or what a peer's
// own command enters.
type place struct {
	ns     *namespace
	before []string            // put before the command, e.g. "tapswitch exec NAME --"
	env    []string            // added to the environment
	as     *syscall.Credential // the user, if not perf's own
}

// A child is a process that perf started. It leads a process group of its own
// (the terminal's Ctrl-C reaches perf alone, which then ends its children in
// order) and is killed by the kernel if perf dies.
type child struct {
	what   string
	ctx    context.Context
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout output
	stderr output
	exited chan struct{} // closed when the process ends
	done   chan struct{} // closed when its output has ended too
	err    error         // of Wait; valid once done is closed
}

// start runs a command in the place. It is killed with its group when ctx ends.
// extra become its descriptors from 3 on. The caller ends it with wait or stop.
func (p place) start(ctx context.Context, argv []string, extra ...*os.File) (*child, error) {
	argv = append(append([]string{}, p.before...), argv...)
	c := &child{what: inShort(argv), ctx: ctx, exited: make(chan struct{}), done: make(chan struct{})}
	c.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	c.cmd.ExtraFiles = extra
	c.cmd.Env = append(os.Environ(), p.env...)
	var fd int
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &fd, Credential: p.as}
	c.cmd.Cancel = func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild may hold the output open for longer than the child lives.
	c.cmd.WaitDelay = 2 * time.Second
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.ns.do(c.cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	go func() {
		awaitEnd(fd)
		close(c.exited)
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// awaitEnd waits for the end of the process of a pidfd, which it closes.
func awaitEnd(pidfd int) {
	defer unix.Close(pidfd)
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	again(func() error { _, err := unix.Poll(poll, -1); return err })
}

// run runs a command to its end and returns its standard output. A ctx without a
// limit gets one.
func (p place) run(ctx context.Context, argv ...string) ([]byte, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, readyLimit, fmt.Errorf("not done within %s", readyLimit))
		defer cancel()
	}
	c, err := p.start(ctx, argv)
	if err != nil {
		return nil, err
	}
	return c.wait()
}

// wait returns the standard output once the child has ended; the error names the
// command and the end of what it said.
func (c *child) wait() ([]byte, error) {
	<-c.done
	return c.stdout.bytes(), c.ended()
}

// ended is why a child that has ended did not end well, or nil.
func (c *child) ended() error {
	switch {
	case c.err == nil:
		return nil
	case c.ctx.Err() != nil:
		return c.failure(context.Cause(c.ctx))
	}
	return c.failure(c.err)
}

// died says how a child that should still run has ended; nil if it still runs
// after the limit.
func (c *child) died(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.exited:
		<-c.done
		return c.failure(fmt.Errorf("has died: %w", orEnded(c.err)))
	case <-timer.C:
		return nil
	}
}

// awaitLine waits until the child has printed a text on standard output.
func (c *child) awaitLine(text string) error { return c.await(&c.stdout, text, readyLimit) }

// awaitLineFor does so with another limit.
func (c *child) awaitLineFor(text string, limit time.Duration) error {
	return c.await(&c.stdout, text, limit)
}

// awaitError does so for standard error.
func (c *child) awaitError(text string) error { return c.await(&c.stderr, text, readyLimit) }

func (c *child) await(o *output, text string, atMost time.Duration) error {
	seen := o.await(text)
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	select {
	case <-seen:
		return nil
	case <-c.done:
		return c.failure(fmt.Errorf("ended before it said %q: %w", text, orEnded(c.err)))
	case <-limit.C:
		return c.failure(fmt.Errorf("did not say %q within %s", text, atMost))
	}
}

// stop ends the child: it closes its standard input and sends SIGTERM; SIGKILL to
// its whole group follows if it has not ended by then.
func (c *child) stop() {
	if c == nil {
		return
	}
	c.stdin.Close()
	c.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(stopGrace)
	defer limit.Stop()
	select {
	case <-c.done:
	case <-limit.C:
		c.cmd.Cancel()
		<-c.done
	}
}

// children are the processes of a peer that has several, in the order in which
// they were started.
type children []*child

// stop ends them, the last one first.
func (cs children) stop() {
	for i := len(cs) - 1; i >= 0; i-- {
		cs[i].stop()
	}
}

// pids are their process ids.
func (cs children) pids() []int {
	var pids []int
	for _, c := range cs {
		pids = append(pids, c.cmd.Process.Pid)
	}
	return pids
}

// died says how any of them has ended by itself; nil if all still run after the
// limit.
func (cs children) died(limit time.Duration) error {
	until := time.Now().Add(limit)
	for _, c := range cs {
		if err := c.died(time.Until(until)); err != nil {
			return err
		}
	}
	return nil
}

// failure wraps a cause with the command and what it said on standard error.
func (c *child) failure(cause error) error {
	what := middleOut(c.what, 160)
	if said := strings.TrimSpace(string(c.stderr.bytes())); said != "" {
		return fmt.Errorf("%s: %w: %s", what, cause, middleOut(said, 400))
	}
	return fmt.Errorf("%s: %w", what, cause)
}

// middleOut shortens a text to about n bytes: what went wrong stands at its end,
// or, of a program that panics, at its beginning.
func middleOut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return text[:n/2] + " ... " + text[len(text)-n/2:]
}

// inShort writes a command down with the last elements of its paths alone: the
// rest is of one run, and long.
func inShort(argv []string) string {
	short := make([]string, len(argv))
	for i, arg := range argv {
		short[i] = arg
		if filepath.IsAbs(arg) {
			short[i] = filepath.Base(arg)
		}
	}
	return strings.Join(short, " ")
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// An output keeps what a child prints, up to keepOutput bytes, and tells when a
// text has appeared.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	text []byte
	seen chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := keepOutput - o.buf.Len(); room > 0 {
		o.buf.Write(b[:min(len(b), room)])
	}
	o.look()
	return len(b), nil
}

// await returns a channel that is closed once text has been printed.
func (o *output) await(text string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text, o.seen = []byte(text), make(chan struct{})
	seen := o.seen
	o.look()
	return seen
}

func (o *output) look() {
	if o.seen != nil && bytes.Contains(o.buf.Bytes(), o.text) {
		close(o.seen)
		o.seen = nil
	}
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.buf.Bytes())
}
