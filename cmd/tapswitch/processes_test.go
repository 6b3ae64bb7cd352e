package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// family lists the processes that descend from pid, and itself.
func family(pid int) []int {
	parent := make(map[int]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		p, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		parent[p], _ = strconv.Atoi(rest[1])
	}
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		for p, of := range parent {
			if of == out[i] {
				out = append(out, p)
			}
		}
	}
	return out
}

// pidfds holds processes, so that their ends can be waited for.
func pidfds(t *testing.T, pids []int) (fds []int) {
	t.Helper()
	for _, p := range pids {
		fd, err := unix.PidfdOpen(p, 0)
		if err != nil {
			t.Fatalf("process %d: %v", p, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

func alive(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n == 0
}

// holders are the processes of ours that live in a namespace, or hold it open.
func holders(inode string) (out []string) {
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if l, err := os.Readlink(f); err == nil && l == inode {
				out = append(out, f)
			}
		}
	}
	return out
}

// eventually waits for a state of the kernel's that announces itself to nobody,
// such as a descriptor that another process closes.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("still waiting for: %s", what)
		}
		_, _ = unix.Poll(nil, 5)
	}
}

// descriptors lists what a process has open: the kind of each, without numbers.
func descriptors(t *testing.T, pid int) (out []string) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if l, err := os.Readlink(dir + e.Name()); err == nil {
			kind, _, _ := strings.Cut(l, ":[")
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return out
}

// leaked says what there is more of in now than in before; both are sorted.
func leaked(before, now []string) (more []string) {
	for _, kind := range slices.Compact(slices.Clone(now)) {
		count := func(list []string) (n int) {
			for _, k := range list {
				if k == kind {
					n++
				}
			}
			return n
		}
		if n := count(now) - count(before); n > 0 {
			more = append(more, itoa(n)+" "+kind)
		}
	}
	return more
}

// released waits until a process has no more open than before.
func released(t *testing.T, pid int, before []string) {
	t.Helper()
	var more []string
	for end := time.Now().Add(patience); ; {
		if more = leaked(before, descriptors(t, pid)); more == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d has more open than before: %s", pid, strings.Join(more, ", "))
		}
		_, _ = unix.Poll(nil, 5)
	}
}
