package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dying is how long a crashed peer may take to end: its TAP goes first, which the
// measurement notices at once.
const dying = time.Second

// A runner brings the peers up, measures the rows, and takes all down again.
type runner struct {
	bench  *bench
	dir    string // scratch directory
	rounds int
	talk   io.Writer

	candidates []*candidate
}

// A candidate is a peer with its lab while it runs.
type candidate struct {
	peer     peer
	dir      string // scratch directory of the lab
	lab      *lab
	topology *topology
	trouble  string // why there is no topology
	missing  bool
}

// up starts every peer. One that cannot be started stays without a topology; its
// rows say why.
func (r *runner) up(ctx context.Context, peers []peer) {
	for i, p := range peers {
		c := &candidate{peer: p}
		r.candidates = append(r.candidates, c)
		if why := p.missing(); why != "" {
			c.trouble, c.missing = why, true
			fmt.Fprintf(r.talk, "perf: %s: %s\n", p.name(), why)
			continue
		}
		if err := r.plain(c.up(ctx, filepath.Join(r.dir, strconv.Itoa(i)))); err != nil {
			c.trouble = err.Error()
			fmt.Fprintf(r.talk, "perf: %s: %v\n", p.name(), err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// down ends what up started, also after an error.
func (r *runner) down() {
	for _, c := range r.candidates {
		c.down()
	}
}

// up builds the lab and starts the peer in it.
func (c *candidate) up(ctx context.Context, dir string) (err error) {
	c.dir = dir
	if c.lab, err = newLab(dir); err == nil {
		c.topology, err = c.peer.start(ctx, c.lab)
	}
	if err == nil {
		c.topology.peer, c.topology.another = c.peer, c.another
	}
	return err
}

// another starts a second one of the peer, or of a variant of it.
func (c *candidate) another(ctx context.Context, p peer) (*topology, error) {
	l, err := newLab(c.lab.file("another"))
	if err != nil {
		return nil, err
	}
	t, err := p.start(ctx, l)
	if err != nil {
		l.close()
		return nil, err
	}
	end := t.stop
	t.stop = func() { end(); l.close() }
	return t, nil
}

func (c *candidate) down() {
	if c.topology != nil {
		c.topology.stop()
	}
	if c.lab != nil {
		c.lab.close()
	}
	c.topology, c.lab = nil, nil
}

// prepare starts a peer that is not up, or anew if it died of an earlier
// measurement, which said so: the rows after it should not be lost.
func (c *candidate) prepare(ctx context.Context) error {
	if c.trouble != "" || c.topology != nil && c.topology.died(0) == nil {
		return nil
	}
	c.down()
	return c.up(ctx, c.dir)
}

// measure makes all rounds of a row: every peer once in each round, so that what
// the machine does meanwhile befalls all, and each round begins with another one.
func (r *runner) measure(ctx context.Context, row row) rowResult {
	done := rowResult{row: row}
	var in []*candidate
	for _, c := range r.candidates {
		if offers(c.peer, row) {
			in = append(in, c)
			done.results = append(done.results, c.blank())
		}
	}
	for round := range r.rounds {
		for k := range in {
			i := (k + round) % len(in)
			if ctx.Err() != nil || done.results[i].hopeless() {
				continue
			}
			if row.processes {
				r.down()
			}
			if err := r.plain(in[i].prepare(ctx)); err != nil {
				in[i].trouble = err.Error()
				done.results[i].add(nil, err)
			}
			if in[i].topology == nil {
				continue
			}
			begin := time.Now()
			s, err := row.measure(ctx, r.bench, in[i].topology, in[i].topology.paths[row.path])
			if ctx.Err() != nil {
				continue // not the peer's fault
			}
			if err != nil {
				err = errors.Join(err, in[i].topology.died(dying))
			}
			err = r.plain(err)
			done.results[i].add(s, err)
			r.tell(row, in[i], round, s, err, time.Since(begin))
		}
	}
	return done
}

// plain takes out of an error what differs in each run, so that the same trouble
// reads the same.
func (r *runner) plain(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), r.dir+"/", ""))
}

func (r *runner) tell(row row, c *candidate, round int, s sample, err error, took time.Duration) {
	if err != nil {
		fmt.Fprintf(r.talk, "perf: %s, %s, round %d: %v\n", row.id, c.peer.name(), round+1, err)
		return
	}
	id := row.metrics[0]
	fmt.Fprintf(r.talk, "%-38s %-22s round %d  %9s %s  (%.1f s)\n", row.id, c.peer.name(), round+1, number(s[id]), metrics[id].title, took.Seconds())
}

// offers says whether a peer belongs in a row.
func offers(p peer, r row) bool {
	if r.processes && kernelOnly(p) || r.only != nil && !slices.Contains(r.only, p.name()) {
		return false
	}
	return r.path == pathNone || slices.Contains(p.paths(), r.path)
}

func (c *candidate) blank() *result {
	res := &result{Peer: c.peer.name()}
	switch {
	case c.missing:
		res.Missing = c.trouble
	case c.trouble != "":
		res.Failed = []string{c.trouble}
	}
	return res
}
