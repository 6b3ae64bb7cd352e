package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/porter"
)

// WorldName is argv[0] of the process that is the demo's host.
const WorldName = "tapswitch-demo-world"

// Row is one result, as --json prints it.
type Row struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Check    string `json:"check"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	OK       bool   `json:"ok"`
}

// noProc is the exit code of a world that cannot mount its own /proc: it is
// built again without a pid namespace, in the outer one's /proc.
const noProc = 77

// Run starts the world in fresh namespaces and returns its exit code.
func Run(asJSON bool) (int, error) {
	dir, err := os.MkdirTemp("", "tapswitch-demo-*")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	args := []string{WorldName, dir}
	if asJSON {
		args = append(args, "--json")
	}
	runtime.LockOSThread() // the parent-death signal is this thread's
	defer runtime.UnlockOSThread()
	code, err := start(args, unix.CLONE_NEWPID)
	if code == noProc {
		code, err = start(args, 0)
	}
	return code, err
}

func start(args []string, pid uintptr) (int, error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: os.Environ(), Stdin: nil, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | pid,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   unix.SIGKILL,
		}}
	if err := cmd.Start(); err != nil {
		return 1, porter.NamespaceError(err)
	}
	err := cmd.Wait()
	var xe *exec.ExitError
	if errors.As(err, &xe) {
		return max(xe.ExitCode(), 1), nil
	}
	return 0, err
}

// World is the program WorldName: process 1 of the demo's namespaces, so that
// its end is the end of all that was started.
func World(args []string) int {
	dir, asJSON := args[1], len(args) > 2
	if os.Getpid() == 1 {
		// All that follows names processes by their numbers in our pid namespace.
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return noProc
		}
	}
	ok, err := build(dir, asJSON)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tapswitch: demo:", err)
		return 1
	}
	if !ok {
		return 1
	}
	return 0
}

type runner struct {
	w      *world
	exe    string
	socket string
	c      *client.Client
	ends   []io.Closer
}

func build(dir string, asJSON bool) (bool, error) {
	begun := time.Now()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return false, err
	}
	w, err := newWorld(dir)
	if err != nil {
		return false, err
	}
	defer w.close()
	r := &runner{w: w, exe: exe, socket: filepath.Join(dir, "sock"), c: &client.Client{Socket: filepath.Join(dir, "sock")}}
	before := snapshot()
	if err := r.up(); err != nil {
		return false, err
	}
	if err := r.servers(); err != nil {
		return false, err
	}
	up := time.Since(begun)
	during := snapshot()
	rows := r.probeAll(matrix())
	rows = append(rows, r.counted(b3, ip1), r.counted(b1, ip3), r.verified(matrix()))
	if err := r.c.Do("POST", "/shutdown", nil, nil); err != nil {
		return false, err
	}
	r.stop()
	after := snapshot()
	rows = append(rows, untouched("while it ran", before, during), untouched("after it", before, after))
	return print(rows, asJSON, up, time.Since(begun))
}

// up starts the switch in the demo's host as an ordinary user of it.
func (r *runner) up() error {
	ready, readyW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(r.exe, "--socket", r.socket, "up", "--demo", "--ephemeral", "--log-level", "warn", "--ready-fd", "3")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+r.w.dir)
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.Stderr = os.Stderr
	ordinaryUser(cmd)
	if err := cmd.Start(); err != nil {
		return porter.NamespaceError(err)
	}
	readyW.Close()
	r.ends = append(r.ends, waiter{cmd})
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		return errors.New("the switch did not start")
	}
	return nil
}

type waiter struct{ cmd *exec.Cmd }

func (w waiter) Close() error { return w.cmd.Wait() }

// ordinaryUser makes the command an ordinary user of the demo's host: uid 1000
// of one more user namespace, which owns nothing there and keeps no capability
// over execve.
func ordinaryUser(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
	}
}

// servers starts the other end of the probes everywhere.
func (r *runner) servers() error {
	for _, s := range []struct {
		at   string
		args []string
	}{{b1, []string{"80"}}, {b2, []string{"80"}}, {b3, []string{"80"}}, {host, []string{"7100"}}, {host, []string{"127.0.0.1:7200"}}, {outside, []string{"dns", "7000"}}} {
		cmd := r.command(s.at, true, append([]string{"serve"}, s.args...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		cmd.Stderr = os.Stderr
		if err := r.w.start(r.netOf(s.at), cmd); err != nil {
			return err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "listening\n" {
			return fmt.Errorf("server in %s: %q %v", s.at, line, err)
		}
		r.ends = append(r.ends, waiter{cmd}, in)
	}
	return nil
}

func (r *runner) netOf(at string) netns.NsHandle {
	if at == outside {
		return r.w.outside
	}
	return netns.None()
}

// command is ourselves as a probe, run where at says.
func (r *runner) command(at string, input bool, args ...string) *exec.Cmd {
	if at == host || at == outside {
		cmd := exec.Command(r.exe, args...)
		cmd.Args[0] = ProbeName
		return cmd
	}
	all := []string{"--socket", r.socket, "exec"}
	if input {
		all = append(all, "-i")
	}
	all = append(all, at, "--", r.exe, "demo-probe")
	return exec.Command(r.exe, append(all, args...)...)
}

// probeAll runs all checks, several at a time.
func (r *runner) probeAll(list []check) []Row {
	rows := make([]Row, len(list))
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			rows[i] = r.probe(c)
		}()
	}
	wg.Wait()
	return rows
}

func (r *runner) probe(c check) Row {
	to := c.to
	if c.label != "" {
		to = fmt.Sprintf("%s (%s)", c.to, c.label)
	}
	row := Row{From: c.from, To: to, Check: c.kind, Expected: c.expected}
	cmd := r.command(c.from, false, c.kind, c.to)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := r.w.start(r.netOf(c.from), cmd)
	if err == nil {
		err = cmd.Wait()
	}
	row.Seen = strings.TrimSpace(out.String())
	if err != nil {
		row.Seen = strings.TrimSpace(row.Seen + " " + errs.String() + " " + err.Error())
	}
	row.OK = row.Seen == row.Expected
	return row
}

// counted sends one echo request across the bridges and looks at the sender's
// counters: one frame more, under one reason, and nothing else.
func (r *runner) counted(from, to string) Row {
	row := Row{From: from, To: to, Check: "drops counted", Expected: "isolated +1"}
	// One that is answered first, so that no ARP is in the way.
	before := r.drops(from)
	r.probe(check{from: from, kind: "ping", to: to})
	after := r.drops(from)
	var diff []string
	for k, n := range after {
		if d := n - before[k]; d != 0 {
			diff = append(diff, fmt.Sprintf("%s +%d", k, d))
		}
	}
	row.Seen = strings.Join(diff, ", ")
	row.OK = row.Seen == row.Expected
	return row
}

// verified asks the switch what it would make of the first packet of each probe
// from a container; nothing is sent. It must say what was seen.
func (r *runner) verified(list []check) Row {
	var text strings.Builder
	for _, c := range list {
		if c.from != b1 && c.from != b2 && c.from != b3 || strings.HasSuffix(c.to, ".9:80") {
			continue // nobody but the host knows that there is no such network
		}
		to, proto := c.to, c.kind
		switch proto {
		case "ping":
			to, proto = c.to, "icmp"
		case "tcp", "udp":
		default:
			continue
		}
		switch {
		case c.expected == "reply" || strings.HasPrefix(c.expected, seen):
			fmt.Fprintf(&text, "%s -> %s/%s accept\n", c.from, to, proto)
		case c.expected == "silence":
			fmt.Fprintf(&text, "%s -> %s/%s drop\n", c.from, to, proto)
		case c.expected == "unreachable":
			fmt.Fprintf(&text, "%s -> %s/%s reject\n", c.from, to, proto)
		}
	}
	var l []api.Expectation
	row := Row{From: "containers", To: "everywhere", Check: "rules say the same"}
	if err := r.c.Do("POST", "/verify", api.Verify{Text: text.String()}, &l); err != nil {
		row.Seen = err.Error()
		return row
	}
	good := 0
	for _, x := range l {
		if x.OK {
			good++
		} else {
			row.Seen += fmt.Sprintf("%s: %s%s; ", x.Text, x.Got, x.Problem)
		}
	}
	row.Expected = fmt.Sprintf("%d of %d", len(l), len(l))
	row.Seen += fmt.Sprintf("%d of %d", good, len(l))
	row.OK = row.Seen == row.Expected && len(l) > 30
	return row
}

func (r *runner) drops(name string) map[string]uint64 {
	var c api.Container
	if err := r.c.Do("GET", "/containers/"+name, nil, &c); err != nil || len(c.Networks) == 0 || c.Networks[0].Stats == nil {
		return nil
	}
	return c.Networks[0].Stats.Drops
}

// stop waits for everything that was started.
func (r *runner) stop() {
	for i := len(r.ends) - 1; i >= 0; i-- {
		_ = r.ends[i].Close()
	}
}

func untouched(when, before, now string) Row {
	row := Row{From: host, To: host, Check: "network of the host " + when, Expected: "unchanged", Seen: "unchanged", OK: true}
	if before != now {
		row.OK = false
		row.Seen = "changed: " + difference(before, now)
	}
	return row
}

func difference(a, b string) string {
	have := make(map[string]bool)
	for _, l := range strings.Split(a, "\n") {
		have[l] = true
	}
	var out []string
	for _, l := range strings.Split(b, "\n") {
		if !have[l] {
			out = append(out, l)
		}
		delete(have, l)
	}
	for l := range have {
		out = append(out, "not "+l)
	}
	return strings.Join(out, "; ")
}

// print shows the rows and says whether each is as expected.
func print(rows []Row, asJSON bool, up, all time.Duration) (bool, error) {
	bad := 0
	for _, r := range rows {
		if !r.OK {
			bad++
		}
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return bad == 0, e.Encode(rows)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tFROM\tTO\tCHECK\tEXPECTED\tSEEN")
	for _, r := range rows {
		mark := "ok"
		if !r.OK {
			mark = "BAD"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", mark, r.From, r.To, r.Check, r.Expected, r.Seen)
	}
	if err := w.Flush(); err != nil {
		return false, err
	}
	fmt.Printf("\n%d checks, %d as expected; up in %.1f s, all in %.1f s\n", len(rows), len(rows)-bad, up.Seconds(), all.Seconds())
	return bad == 0, nil
}
