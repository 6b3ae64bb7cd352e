//go:build interop

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	programs["pattern"] = progPattern
	programs["stream"] = progStream
	programs["short"] = progShort
}

// progPattern SIZE writes that many bytes, the same ones each time.
func progPattern(args []string) int {
	if err := pattern(os.Stdout, args[0]); err != nil {
		return fail(err)
	}
	return 0
}

func pattern(to io.Writer, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(to, 1<<16)
	var b [8]byte
	for x := uint64(88172645463325252); n > 0; n -= 8 { // Marsaglia's xorshift
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(b[:], x)
		if _, err := w.Write(b[:min(n, 8)]); err != nil {
			return err
		}
	}
	return w.Flush()
}

// progStream PORT serves the pattern as /SIZE, and answers an upload with its
// hash, in the words of sha256sum(1).
func progStream(args []string) int {
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return fail(err)
	}
	fmt.Println("listening")
	return fail(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			h := sha256.New()
			_, _ = io.Copy(h, r.Body)
			fmt.Fprintf(w, "%x  -\n", h.Sum(nil))
			return
		}
		size := strings.TrimPrefix(r.URL.Path, "/")
		w.Header().Set("Content-Length", size)
		_ = pattern(w, size)
	})))
}

// progShort HOST FIRST PORTS TOTAL makes connections one after the other, on
// each of 50 threads, over ports from FIRST on; each asks once.
func progShort(args []string) int {
	first, _ := strconv.Atoi(args[1])
	ports, _ := strconv.Atoi(args[2])
	total, _ := strconv.Atoi(args[3])
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	bad := 0
	for range 50 {
		wg.Go(func() {
			for i := range next {
				text := "question " + itoa(i)
				got, err := ask("tcp", net.JoinHostPort(args[0], itoa(first+i%ports)), text, silence)
				if err != nil || !strings.HasSuffix(got, text) {
					mu.Lock()
					bad++
					fmt.Fprintln(os.Stderr, text, got, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range total {
		next <- i
	}
	close(next)
	wg.Wait()
	fmt.Println(total-bad, "answered")
	return min(bad, 1)
}

// Many short connections leave nothing: descriptors and memory are back where
// they began.
func TestInteropShortConnections(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	const ports = 8
	total := 20000
	if testing.Short() {
		total = 4000
	}
	l.up("-c", l.write("c.yaml", twoBridges), "--ephemeral")
	for i := range ports {
		startProc(t, l.far("serve", itoa(8000+i))).expect("listening")
	}
	worker := l.status().WorkerPid
	run := func(n int) { l.ok("exec", "c1", "--", prog, "short", "192.0.2.2", "8000", itoa(ports), itoa(n)) }
	run(500) // what a first use allocates is no leak
	l.idle()
	fds, memory := descriptors(t, worker), rss(t, worker)
	begin := time.Now()
	run(total)
	t.Logf("%d connections in %v", total, time.Since(begin).Round(time.Millisecond))
	l.idle()
	if more := leaked(fds, descriptors(t, worker)); more != nil {
		t.Errorf("the worker has %v more than before", more)
	}
	after := rss(t, worker)
	t.Logf("resident: %d KiB before, %d KiB after", memory, after)
	if after > memory+8<<10 {
		t.Errorf("the worker has grown from %d to %d KiB", memory, after)
	}
}

// rss is a process's resident memory in KiB.
func rss(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ = strconv.Atoi(strings.Fields(v)[0])
		}
	}
	return kib
}

// idle waits until no flow is left.
func (b *bench) idle() {
	b.t.Helper()
	eventually(b.t, "the end of all flows", func() bool {
		n := 0
		for _, c := range b.status().Flows {
			n += c
		}
		return n == 0
	})
}

// Two hundred containers on one bridge: they come, talk, survive the switch's
// violent end, and go.
func TestInteropManyContainers(t *testing.T) {
	b := newBench(t)
	const n = 200
	var file strings.Builder
	file.WriteString("networks: [{name: bridge, subnet: 172.17.0.0/16, subnet6: \"fd00:17::/64\"}]\ncontainers:\n")
	for i := range n {
		fmt.Fprintf(&file, "  - {name: c%d}\n", i)
	}
	path := b.write("c.yaml", file.String())
	timed := func(what string, f func()) {
		begin := time.Now()
		f()
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
	}
	timed("up with 200 containers", func() { b.up("-c", path) })
	check := func(more int) {
		t.Helper()
		if s := b.status(); s.Containers != n+more {
			t.Fatalf("%d containers", s.Containers)
		}
		if ip := b.inspect("c199").Networks[0].IP; ip != "172.17.0.201" {
			t.Errorf("the last one has %s", ip)
		}
		for _, i := range []int{1, 57, 199} {
			b.ok("exec", "c0", prog, "ping", fmt.Sprintf("172.17.0.%d", i+2))
			b.ok("exec", "c"+itoa(i), prog, "ping", "fd00:17::2")
		}
	}
	timed("six pings", func() { check(0) })
	b.ok("run", "-d", "--name", "mine", "-p", "80", "--", prog, "hold")
	port := b.port("mine", "tcp", 80)
	s := b.status()
	t.Logf("resident: porter %d KiB, worker %d KiB; worker's descriptors: %d", rss(t, s.Pid), rss(t, s.WorkerPid), s.FDs)
	for _, p := range []int{s.Pid, s.WorkerPid} {
		if err := unix.Kill(p, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	timed("up after kill -9", func() { b.up("-c", path) })
	check(1)
	if b.port("mine", "tcp", 80) != port {
		t.Error("the published port has changed")
	}
	timed("down", func() { b.ok("down") })
	if _, err := os.Stat(b.socket); err == nil {
		t.Error("the control socket is left")
	}
}
