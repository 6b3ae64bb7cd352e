package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A build is the tapswitch under test: the program named by --tapswitch, or one
// that is built once from this tree.
type build struct {
	given string // --tapswitch
	dir   string // where to build

	once sync.Once
	path string
	err  error
}

// program returns the path of the built program.
func (b *build) program() (string, error) {
	b.once.Do(func() { b.path, b.err = b.make() })
	return b.path, b.err
}

func (b *build) make() (string, error) {
	if b.given != "" {
		return exec.LookPath(b.given)
	}
	path := filepath.Join(b.dir, "tapswitch")
	const source = "tapswitch/cmd/tapswitch"
	compile := func(flags ...string) ([]byte, error) {
		c := exec.Command("go", slices.Concat([]string{"build"}, flags, []string{"-o", path, source})...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0") // as the Makefile does
		return c.CombinedOutput()
	}
	out, err := compile()
	if err != nil && bytes.Contains(out, []byte("-buildvcs=false")) {
		out, err = compile("-buildvcs=false") // root may not ask git about another user's clone
	}
	if err != nil {
		return "", fmt.Errorf("go build tapswitch/cmd/tapswitch: %w (start perf inside the source tree, or give --tapswitch PROGRAM)\n%s",
			err, bytes.TrimSpace(out))
	}
	return path, nil
}

// tapswitch is us: one process, two containers on one bridge.
type tapswitch struct {
	build   *build
	mtu     int
	threads int // 0 for the default
	idle    int // containers beside the two, without traffic
}

const (
	tapswitchGateway = "172.17.0.1"
	tapswitchA       = "172.17.0.2"
	tapswitchB       = "172.17.0.3"

	// tapswitchFlows is the limit of flows per container, which must not be what
	// ends a row.
	tapswitchFlows = 4 * manyFlows

	// tapswitchMakes is how long a container may take that the configuration lists.
	tapswitchMakes = 60 * time.Millisecond
)

func (t tapswitch) name() string {
	if t.threads != 0 {
		return fmt.Sprintf("%s-threads-%d", us, t.threads)
	}
	if t.mtu == 1500 {
		return us
	}
	return fmt.Sprintf("%s-%d", us, t.mtu)
}

func (t tapswitch) about() string {
	more := ""
	if t.threads != 0 {
		more = fmt.Sprintf(", threads: %d", t.threads)
	}
	return fmt.Sprintf("tapswitch up --ephemeral, one network with MTU %d, two containers%s", t.mtu, more)
}

// missing is nothing: without us there is no run, see build.
func (t tapswitch) missing() string { return "" }

func (t tapswitch) version() string { return firstLine(t.build.path, "version") }

// config is the file that tapswitch is started with. Container a publishes.
func (t tapswitch) config() string {
	var ports []string
	for _, p := range publishedPorts {
		r := fmt.Sprint(p.first)
		if p.count > 1 {
			r = fmt.Sprintf("%d-%d", p.first, p.first+p.count-1)
		}
		ports = append(ports, fmt.Sprintf("%q", r+":"+r+"/"+p.proto))
	}
	var more strings.Builder
	for i := range t.idle {
		fmt.Fprintf(&more, "  - {name: idle%d, networks: [bridge]}\n", i)
	}
	return fmt.Sprintf(`limits: {flows: %d}
threads: %d
networks:
  - {name: bridge, subnet: 172.17.0.0/16, mtu: %d}
containers:
  - {name: a, networks: [bridge], ip: %s, publish: [%s]}
  - {name: b, networks: [bridge], ip: %s}
%s`, tapswitchFlows, t.threads, t.mtu, tapswitchA, strings.Join(ports, ", "), tapswitchB, more.String())
}

func (tapswitch) paths() []pathName { return append(slices.Clone(pathNames), pathSecond) }

func (t tapswitch) start(ctx context.Context, l *lab) (*topology, error) {
	program, err := t.build.program()
	if err != nil {
		return nil, err
	}
	config, socket := l.file("tapswitch.yaml"), l.file("tapswitch.sock")
	if err := os.WriteFile(config, []byte(t.config()), 0o644); err != nil {
		return nil, err
	}
	// What a switch of this machine's user keeps there must not be mixed in.
	host := place{ns: l.host, env: []string{
		"XDG_RUNTIME_DIR=" + l.dir, "XDG_STATE_HOME=" + l.dir, "XDG_CONFIG_HOME=" + l.dir, "TAPSWITCH_SOCKET=" + socket,
	}}
	c, err := host.start(ctx, []string{program, "up", "--ephemeral", "--socket", socket, "-c", config})
	if err != nil {
		return nil, err
	}
	if err := c.awaitLineFor("ready", readyLimit+time.Duration(t.idle)*tapswitchMakes); err != nil {
		c.stop()
		return nil, err
	}
	inside := func(name string) place {
		p := host
		p.before = []string{program, "exec", "--socket", socket, "-i", name, "--"}
		return p
	}
	paths := natPaths(l, inside("a"))
	paths[pathContainer] = path{client: inside("a"), server: inside("b"), address: tapswitchB}
	paths[pathSecond] = path{client: inside("b"), server: place{ns: l.outside}, address: outsideAddr}
	return &topology{
		paths: paths, stop: c.stop, died: c.died, roots: children{c}.pids(),
		guests: &guests{
			lab:     l,
			gateway: tapswitchGateway,
			api:     control{socket}.join,
			from:    host,
			command: func(pid int, name, _ string) []string {
				return []string{program, "join", "--socket", socket, name, "--pid", strconv.Itoa(pid)}
			},
		},
	}, nil
}

// watch is the command that captures. It counts what it takes at its end.
func (t tapswitch) watch(ctx context.Context, on *topology, snap int) (*child, error) {
	g := on.guests
	program, err := t.build.program()
	if err != nil {
		return nil, err
	}
	sink := place{ns: g.from.ns, env: g.from.env}
	c, err := sink.start(ctx, []string{program, "capture", "-s", fmt.Sprint(snap), "-w", os.DevNull})
	if err != nil {
		return nil, err
	}
	if err := c.awaitError("capturing"); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// crowded is the same with that many containers.
func (t tapswitch) crowded(endpoints int) peer {
	t.idle = endpoints - 2
	return t
}
