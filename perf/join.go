package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// joinsPerRound is how many namespaces come in one measurement.
const joinsPerRound = 20

// guests is how namespaces that others made get onto a peer.
type guests struct {
	lab     *lab   // makes the namespaces
	gateway string // answers pings from those that are there
	// api puts the namespace of a process on the peer; nil if it takes a command.
	api     func(ctx context.Context, pid int, name string) error
	from    place // where the command is run
	command func(pid int, name, netns string) []string
	stays   bool // the command ends only with the network
}

// joins measures how long it takes to get namespaces onto a peer.
type joins struct{ command bool }

// A guest is one such namespace, with a process in it that pings.
type guest struct {
	name   string
	netns  string // where from finds the namespace
	ping   *child
	joined *child // the command, if one was run
}

// measure makes all namespaces first, and the lab lets all go at the end of the
// round: the kernel takes locks for either that the one which is measured would
// wait for.
func (j joins) measure(ctx context.Context, b *bench, t *topology, _ path) (sample, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	var waiting []*guest
	defer func() {
		for _, g := range waiting {
			g.stop()
		}
	}()
	for i := range joinsPerRound {
		g, err := t.guests.invite(ctx, b, fmt.Sprintf("guest%d", i))
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, g)
	}
	var answered, ended series
	for _, g := range waiting {
		first, end, err := j.one(ctx, t.guests, g)
		if err != nil {
			return nil, err
		}
		answered, ended = append(answered, milliseconds(first)), append(ended, milliseconds(end))
	}
	s := sample{"join_ms": answered.median(), "join_worst_ms": slices.Max(answered)}
	if j.command && !t.guests.stays {
		s["ended_ms"] = ended.median()
	}
	return s, nil
}

// one puts a guest on the peer and returns when the gateway answered it, and when
// the call or command had ended.
func (j joins) one(ctx context.Context, of *guests, g *guest) (answered, ended time.Duration, err error) {
	pid := g.ping.cmd.Process.Pid
	if _, err := io.WriteString(g.ping.stdin, "go\n"); err != nil {
		return 0, 0, g.ping.failure(err)
	}
	begin := monotonic()
	switch {
	case !j.command:
		err = of.api(ctx, pid, g.name)
	case of.stays:
		g.joined, err = of.from.start(ctx, of.command(pid, g.name, g.netns))
	default:
		_, err = of.from.run(ctx, of.command(pid, g.name, g.netns)...)
	}
	ended = monotonic() - begin
	if err != nil {
		return 0, 0, err
	}
	if err := g.ping.awaitLine("}"); err != nil {
		if g.joined != nil {
			err = errors.Join(err, g.joined.died(0))
		}
		return 0, 0, err
	}
	var said pingStats
	err = lastJSON(g.ping.stdout.bytes(), &said)
	return said.Answered - begin, ended, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// invite makes a namespace with a process that will ping.
func (of *guests) invite(ctx context.Context, b *bench, name string) (*guest, error) {
	n, netns, err := of.lab.container(name)
	if err != nil {
		return nil, err
	}
	ping, err := b.serve(ctx, place{ns: n}, "ready", b.self, "ping", "--address", of.gateway, "--life", b.life())
	if err != nil {
		return nil, err
	}
	return &guest{name: name, netns: netns, ping: ping}, nil
}

func (g *guest) stop() {
	g.joined.stop()
	g.ping.stop()
}
