package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A process is one line of the process table.
type process struct{ pid, parent, group int }

// processTable lists all processes.
func processTable() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var table []process
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		p, err := parseStat(stat)
		if err != nil {
			return nil, err
		}
		table = append(table, p)
	}
	return table, nil
}

// parseStat reads /proc/PID/stat (proc(5)). The name may hold spaces and brackets.
func parseStat(stat []byte) (process, error) {
	var p process
	var state string
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p, fmt.Errorf("cannot read /proc/PID/stat: %q", stat)
	}
	_, err1 := fmt.Sscan(string(stat[:open]), &p.pid)
	_, err2 := fmt.Sscan(string(stat[end+1:]), &state, &p.parent, &p.group)
	if err := errors.Join(err1, err2); err != nil {
		return p, fmt.Errorf("cannot read /proc/PID/stat: %q: %w", stat, err)
	}
	return p, nil
}

// family returns the processes in a table that are of some roots: themselves,
// their descendants, and whoever stayed in their process groups.
func family(table []process, roots []int) []int {
	inside := map[int]bool{}
	for _, root := range roots {
		inside[root] = true
	}
	groups := map[int]bool{}
	for _, root := range roots {
		groups[root] = true
	}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			if !inside[p.pid] && (inside[p.parent] || groups[p.group]) {
				inside[p.pid] = true
				grown = true
			}
		}
	}
	var pids []int
	for _, p := range table {
		if inside[p.pid] {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// pssOf adds up the memory of processes in bytes, pages that several share
// divided among them (PSS).
func pssOf(pids []int) (float64, error) {
	var sum float64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes, err := parsePSS(string(text))
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		sum += bytes
	}
	return sum, nil
}

// parsePSS reads the Pss line of /proc/PID/smaps_rollup.
func parsePSS(rollup string) (float64, error) {
	for line := range strings.Lines(rollup) {
		rest, found := strings.CutPrefix(line, "Pss:")
		if !found {
			continue
		}
		var kb float64
		if _, err := fmt.Sscanf(rest, "%f kB", &kb); err != nil {
			return 0, fmt.Errorf("cannot read %q: %w", line, err)
		}
		return kb * 1024, nil
	}
	return 0, errors.New("smaps_rollup has no Pss line")
}

// memoryOf is the PSS of all processes of a peer, in bytes.
func memoryOf(t *topology) (float64, error) {
	table, err := processTable()
	if err != nil {
		return 0, err
	}
	bytes, err := pssOf(family(table, t.roots))
	if err == nil && bytes == 0 {
		err = fmt.Errorf("no memory found of the processes %v", t.roots)
	}
	return bytes, err
}

// memoryIdle takes the memory of a peer without traffic.
func memoryIdle(_ context.Context, _ *bench, t *topology, _ path) (sample, error) {
	bytes, err := memoryOf(t)
	return sample{"pss_mb": bytes / 1e6}, err
}

// memoryFlows is how many connections are opened to see what one costs.
const memoryFlows = 1000

// memoryPerFlow opens connections and takes what the memory has grown by while
// they stand idle. The kernel's own memory for sockets is not in it.
func memoryPerFlow(ctx context.Context, b *bench, t *topology, p path) (sample, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	held, err := b.hold(ctx, p, portRR, memoryFlows)
	if err != nil {
		return nil, err
	}
	defer held.stop()
	// The client may itself be among the peer's descendants: it counts both times.
	before, err := memoryOf(t)
	if err != nil {
		return nil, err
	}
	if err := held.open(); err != nil {
		return nil, err
	}
	after, err := memoryOf(t)
	return sample{"bytes_per_flow": (after - before) / memoryFlows}, err
}
