package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	idleSettle = 2 * time.Second // from the start: what a start leaves to be done is not idling
	idleWatch  = 10 * time.Second
)

// idle counts how often threads of a peer without traffic went to sleep, which is
// how often something woke them.
func idle(ctx context.Context, _ *bench, t *topology, _ path) (sample, error) {
	if err := pause(ctx, idleSettle); err != nil {
		return nil, err
	}
	before, err := switchesOf(t)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := pause(ctx, idleWatch); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	after, err := switchesOf(t)
	if err != nil {
		return nil, err
	}
	return sample{
		"switches_per_s": float64(after.since(before)) / took.Seconds(),
		"threads":        float64(len(after)),
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// switches are the voluntary context switches of threads since their begin, by
// the thread's directory below /proc.
type switches map[string]uint64

// since is how many there have been after an earlier look: all those of a thread
// that is new, none of one that has ended.
func (s switches) since(earlier switches) uint64 {
	var sum uint64
	for thread, n := range s {
		sum += n - earlier[thread]
	}
	return sum
}

// switchesOf looks at all threads of all processes of a peer.
func switchesOf(t *topology) (switches, error) {
	table, err := processTable()
	if err != nil {
		return nil, err
	}
	seen := switches{}
	for _, pid := range family(table, t.roots) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return nil, err
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread + "/status")
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has ended meanwhile
			}
			if err != nil {
				return nil, err
			}
			if seen[thread], err = parseSwitches(string(text)); err != nil {
				return nil, fmt.Errorf("%s: %w", thread, err)
			}
		}
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("no thread found of the processes %v", t.roots)
	}
	return seen, nil
}

// parseSwitches reads /proc/PID/task/TID/status (proc(5)).
func parseSwitches(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		rest, found := strings.CutPrefix(line, "voluntary_ctxt_switches:")
		if !found {
			continue
		}
		var n uint64
		if _, err := fmt.Sscan(rest, &n); err != nil {
			return 0, fmt.Errorf("cannot read %q: %w", line, err)
		}
		return n, nil
	}
	return 0, errors.New("status has no voluntary_ctxt_switches line")
}
