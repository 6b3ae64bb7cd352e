package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// vde is vde_switch, with a TAP in each of two containers plugged into it.
type vde struct{}

func (vde) name() string      { return "vde_switch" }
func (vde) about() string     { return "vde_switch, in each container vde_plug with a TAP of MTU 1500" }
func (vde) version() string   { return firstLine("vde_switch", "--version") }
func (vde) paths() []pathName { return []pathName{pathContainer} }

func (vde) missing() string {
	if why := needs("vde_switch", "vde-switch"); why != "" {
		return why
	}
	return needs("vde_plug", "vdeplug")
}

func (vde) start(ctx context.Context, l *lab) (*topology, error) {
	socket := l.file("vde")
	sw, err := place{ns: l.host}.start(ctx, []string{"vde_switch", "--sock", socket})
	if err != nil {
		return nil, err
	}
	running := children{sw}
	paths, err := plugVDE(ctx, l, &running, socket)
	if err != nil {
		running.stop()
		return nil, err
	}
	return &topology{paths: paths, stop: running.stop, died: running.died, roots: running.pids()}, nil
}

// plugVDE makes the containers and their connections to the switch.
func plugVDE(ctx context.Context, l *lab, running *children, socket string) (map[pathName]path, error) {
	// Its standard input is its console, which answers once the switch is up.
	sw := (*running)[0]
	if _, err := io.WriteString(sw.stdin, "showinfo\n"); err != nil {
		return nil, sw.failure(err)
	}
	if err := sw.awaitLine("Success"); err != nil {
		return nil, err
	}
	var containers [2]place
	for i := range containers {
		n, _, err := l.container(fmt.Sprintf("container%d", i+1))
		if err != nil {
			return nil, err
		}
		containers[i] = place{ns: n}
		plug, err := containers[i].start(ctx, []string{"vde_plug", "tap://eth0", "vde://" + socket})
		if err != nil {
			return nil, err
		}
		*running = append(*running, plug)
		if err := n.awaitLink("eth0", plug); err != nil {
			return nil, err
		}
		if err := errors.Join(n.address("eth0", fmt.Sprintf("10.88.0.%d/24", i+2)), n.setUp("eth0")); err != nil {
			return nil, err
		}
	}
	return map[pathName]path{
		pathContainer: {client: containers[0], server: containers[1], address: "10.88.0.3"},
	}, nil
}
