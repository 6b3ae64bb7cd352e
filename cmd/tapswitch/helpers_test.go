package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// The tests of this package need Go and a kernel with user namespaces, nothing
// else: the test binary is tapswitch itself when it is called by one of its
// names, and the program that runs inside containers when its first argument is
// one of program_test.go's.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "tapswitch" || name == "exe" || called(name) != nil {
		main()
	}
	if len(os.Args) > 1 {
		if p := programs[os.Args[1]]; p != nil {
			syscall.Exit(p(os.Args[2:])) // os.Exit dwells for a second if built to find races
		}
	}
	os.Exit(m.Run())
}

// patience bounds every wait for an event, so that a hang fails and names itself.
const patience = 60 * time.Second

// prog is the test binary, as a command inside a container.
var prog, _ = os.Executable()

// bench is a switch of a test's own: socket, state and working directory.
type bench struct {
	t      *testing.T
	dir    string
	socket string
	env    []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "ts") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	b.env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "TAPSWITCH_") || strings.HasPrefix(kv, "XDG_")
	})
	b.env = append(b.env, "TAPSWITCH_SOCKET="+b.socket, "XDG_STATE_HOME="+dir+"/state", "XDG_CONFIG_HOME="+dir+"/config",
		"GORACE=atexit_sleep_ms=0 log_path="+dir+"/race")
	t.Cleanup(func() {
		// Whoever was found racing has said so in a file, if the tests are built to tell.
		found, _ := filepath.Glob(dir + "/race.*")
		for _, f := range found {
			text, _ := os.ReadFile(f)
			t.Errorf("data race:\n%s", text)
		}
		os.RemoveAll(dir)
	})
	return b
}

// need skips a test on a machine that cannot run it; on CI that is a failure.
func need(t *testing.T) {
	t.Helper()
	for _, f := range []finding{tryTun(), tryNamespaces()} {
		if !f.OK {
			skip(t, f.Check+": "+f.Found)
		}
	}
}

func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// cmd is a tapswitch command of this bench.
func (b *bench) cmd(args ...string) *exec.Cmd {
	c := exec.Command(prog, args...)
	c.Args[0], c.Env, c.Dir = "tapswitch", b.env, b.dir
	return c
}

// result is how a command ended, and what it said.
type result struct {
	code     int
	out, err string
}

// try runs a command to its end.
func (b *bench) try(args ...string) result { return b.feed("", args...) }

// feed is try with text for the command's standard input.
func (b *bench) feed(input string, args ...string) result {
	b.t.Helper()
	c := b.cmd(args...)
	var out, err bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &err
	if e := c.Start(); e != nil {
		b.t.Fatal(e)
	}
	stuck := time.AfterFunc(patience, func() { c.Process.Kill() })
	e := c.Wait()
	if !stuck.Stop() {
		b.t.Fatalf("tapswitch %s does not end\n%s%s", strings.Join(args, " "), out.String(), err.String())
	}
	var xe *exec.ExitError
	if e != nil && !errors.As(e, &xe) {
		b.t.Fatal(e)
	}
	return result{c.ProcessState.ExitCode(), out.String(), err.String()}
}

// ok runs a command that must succeed and returns what it printed.
func (b *bench) ok(args ...string) string {
	b.t.Helper()
	r := b.try(args...)
	if r.code != 0 {
		b.t.Fatalf("tapswitch %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return strings.TrimSuffix(r.out, "\n")
}

// fails runs a command that must end with code, and whose message must hold
// all of the words.
func (b *bench) fails(code int, words []string, args ...string) {
	b.t.Helper()
	r := b.try(args...)
	if r.code != code {
		b.t.Errorf("tapswitch %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.out, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			b.t.Errorf("tapswitch %s says %q, want %q in it", strings.Join(args, " "), r.err, w)
		}
	}
}

// json decodes what a command prints.
func (b *bench) json(v any, args ...string) {
	b.t.Helper()
	text := b.ok(args...)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		b.t.Fatalf("tapswitch %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

func (b *bench) inspect(name string) api.Container {
	b.t.Helper()
	var list []api.Container
	b.json(&list, "inspect", name)
	return list[0]
}

func (b *bench) status() (s api.Status) {
	b.t.Helper()
	b.json(&s, "status", "--json")
	return s
}

// port is the host port that leads to a container's, of protocol tcp or udp.
func (b *bench) port(name, protocol string, containerPort uint16) int {
	b.t.Helper()
	for _, p := range b.inspect(name).Ports {
		if p.Protocol == protocol && p.ContainerPort == containerPort {
			return int(p.HostPort)
		}
	}
	b.t.Fatalf("%s does not publish %d/%s", name, containerPort, protocol)
	return 0
}

// write makes a file in the bench's directory and returns its path.
func (b *bench) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// proc is a process that the test talks to line by line.
type proc struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	errs  *lineLog
	ended chan struct{}
}

// start starts a tapswitch command and goes on.
func (b *bench) start(args ...string) *proc { b.t.Helper(); return startProc(b.t, b.cmd(args...)) }

func startProc(t *testing.T, c *exec.Cmd) *proc {
	t.Helper()
	p := &proc{t: t, cmd: c, lines: make(chan string, 4096), errs: newLineLog(), ended: make(chan struct{})}
	// Pipes of our own: what a command started may hold them longer than it lives.
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, errW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = outW, errW
	err = c.Start()
	outW.Close()
	errW.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	go func() { _, _ = io.Copy(p.errs, errs) }()
	go func() { _ = c.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		c.Process.Kill()
		<-p.ended
		out.Close()
		errs.Close()
	})
	return p
}

// line is the next line of its standard output.
func (p *proc) line() string {
	p.t.Helper()
	select {
	case l, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("%v has ended\n%s", p.cmd.Args, p.errs)
		}
		return l
	case <-time.After(patience):
		p.t.Fatalf("%v says nothing\n%s", p.cmd.Args, p.errs)
	}
	return ""
}

// expect reads lines up to one that holds text, and returns it.
func (p *proc) expect(text string) string {
	p.t.Helper()
	for {
		if l := p.line(); strings.Contains(l, text) {
			return l
		}
	}
}

// say writes a line to its standard input and returns the line it answers.
func (p *proc) say(text string) string {
	p.t.Helper()
	p.tell(text)
	return p.line()
}

// tell writes a line to its standard input.
func (p *proc) tell(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, text+"\n"); err != nil {
		p.t.Fatalf("%v: %v\n%s", p.cmd.Args, err, p.errs)
	}
}

// wait waits for its end and returns its exit code.
func (p *proc) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%v does not end\n%s", p.cmd.Args, p.errs)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *proc) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// up starts a switch in the foreground and returns when it is ready; it ends
// with the test, whatever becomes of that.
func (b *bench) up(args ...string) *proc {
	b.t.Helper()
	life, w, err := os.Pipe()
	if err != nil {
		b.t.Fatal(err)
	}
	c := b.cmd(append([]string{"up", "--lifetime-fd", "3"}, args...)...)
	c.ExtraFiles = []*os.File{life}
	p := startProc(b.t, c)
	life.Close()
	b.t.Cleanup(func() { w.Close() })
	b.t.Cleanup(func() {
		p.cmd.Process.Signal(unix.SIGTERM)
		p.wait()
	})
	p.expect("ready")
	return p
}

// serve starts the program `serve` in a new container and returns when it
// listens.
func (b *bench) serve(name string, flags ...string) *proc {
	b.t.Helper()
	args := append([]string{"run", "--rm", "--name", name}, flags...)
	p := b.start(append(args, "--", prog, "serve", "80")...)
	p.expect("listening")
	return p
}

// lineLog keeps what is written to it, and lets a test wait for words.
type lineLog struct {
	mu   sync.Mutex
	more *sync.Cond
	text bytes.Buffer
}

func newLineLog() *lineLog { l := new(lineLog); l.more = sync.NewCond(&l.mu); return l }

func (l *lineLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.more.Broadcast()
	return l.text.Write(b)
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// forget drops what has been written so far.
func (l *lineLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// await waits until these words have been written.
func (l *lineLog) await(t *testing.T, words string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() { l.mu.Lock(); late = true; l.mu.Unlock(); l.more.Broadcast() })
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.text.String(), words) {
		if late {
			t.Fatalf("%q was not said:\n%s", words, l.text.String())
		}
		l.more.Wait()
	}
}
