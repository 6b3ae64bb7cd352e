//go:build interop

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

const (
	crowd    = 500
	networks = 31
)

// inCrowd runs f for the numbers below n, some at a time, and returns the errors.
func inCrowd(n int, f func(i int) error) (errs []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := f(i); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return errs
}

// Many containers on many networks come, reach whom they should, and go; nothing
// stays behind.
func TestInteropCrowd(t *testing.T) {
	tools(t, "busybox")
	b := newBench(t)
	up := b.up("--ephemeral", "-c", b.write("c.yaml", "limits: {flows: 100}\n"))
	c := &client.Client{Socket: b.socket}
	s := b.status()
	before, processes := descriptors(t, s.WorkerPid), len(family(up.cmd.Process.Pid))
	ask := func(method, path string, in, out any) error { return c.Do(method, path, in, out) }
	net1 := func(i int) string {
		if i%networks == 0 {
			return "bridge"
		}
		return fmt.Sprintf("net%d", i%networks)
	}
	if errs := inCrowd(networks-1, func(i int) error {
		return ask("POST", "/networks", api.NetworkCreate{Name: net1(i + 1), Subnets: []string{fmt.Sprintf("10.7.%d.0/24", i)}}, nil)
	}); errs != nil {
		t.Fatal(errs)
	}
	made := make([]api.Container, crowd)
	if errs := inCrowd(crowd, func(i int) error {
		r := api.Create{Name: fmt.Sprintf("c%d", i), Networks: []api.Attachment{{Network: net1(i)}}, Command: []string{"busybox", "sleep", "1000"}, Init: true}
		if i%7 == 0 {
			r.Networks = append(r.Networks, api.Attachment{Network: net1(i + 1)})
		}
		if i%10 == 0 {
			r.Publish = []string{"80"}
		}
		return ask("POST", "/containers", r, &made[i])
	}); errs != nil {
		t.Fatal(errs)
	}
	if s := b.status(); s.Containers != crowd || s.Networks != networks {
		t.Fatalf("%d containers on %d networks", s.Containers, s.Networks)
	}
	// A sample of the matrix: each by a real packet.
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	type pair struct{ from, to int }
	var pairs []pair
	for range 120 {
		from := r.IntN(crowd)
		to := r.IntN(crowd)
		if len(pairs)%2 == 0 {
			to = (from + networks*(1+r.IntN(10))) % (crowd / networks * networks) // mostly of the same network
		}
		pairs = append(pairs, pair{from, to})
	}
	share := func(a, b api.Container) string {
		for _, x := range a.Networks {
			for _, y := range b.Networks {
				if x.Network == y.Network {
					return y.IP
				}
			}
		}
		return ""
	}
	met := 0
	if errs := inCrowd(len(pairs), func(i int) error {
		a, z := made[pairs[i].from], made[pairs[i].to]
		to, want := share(a, z), 0
		if to == "" {
			to, want = z.Networks[0].IP, askSilence
		} else {
			met++
		}
		if x := b.cmd("exec", a.Name, "--", prog, "ping", to, map[int]string{0: "30s", askSilence: "300ms"}[want]); x.Run() != nil && x.ProcessState.ExitCode() != want || x.ProcessState.ExitCode() != want {
			return fmt.Errorf("%s to %s (%s): exit code %d, want %d", a.Name, z.Name, to, x.ProcessState.ExitCode(), want)
		}
		return nil
	}); errs != nil {
		t.Errorf("seed %d: %v", seed, errs)
	}
	if met < 30 || met > 100 {
		t.Errorf("seed %d: %d of %d pairs share a network", seed, met, len(pairs))
	}
	if errs := inCrowd(crowd, func(i int) error { return ask("DELETE", "/containers/"+made[i].ID+"?force=1", nil, nil) }); errs != nil {
		t.Fatal(errs)
	}
	var gone api.Pruned
	if err := ask("POST", "/networks/prune", nil, &gone); err != nil || len(gone.Networks) != networks-1 {
		t.Errorf("%d networks are removed: %v", len(gone.Networks), err)
	}
	released(t, s.WorkerPid, before)
	eventually(t, "the containers' processes to be gone", func() bool { return len(family(up.cmd.Process.Pid)) <= processes })
	if got := b.status(); got.Containers != 0 || got.Networks != 1 {
		t.Errorf("%d containers on %d networks are left", got.Containers, got.Networks)
	}
}

// A thousand ports are published at once, all or none, with a record each.
func TestInteropThousandPorts(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "20999").expect("listening")
	processes := len(family(b.status().WorkerPid))
	first := freeRange(t, 1000)
	spec := fmt.Sprintf("127.0.0.1:%d-%d:20000-20999", first, first+999)
	b.ok("publish", "c2", spec)
	if n := len(b.inspect("c2").Ports); n != 1000 {
		t.Errorf("%d ports", n)
	}
	if n := len(family(b.status().WorkerPid)); n != processes {
		t.Errorf("%d processes, before %d", n, processes)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", first+999))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	b.fails(1, []string{"allocated"}, "publish", "c1", spec)
	if n := len(b.inspect("c1").Ports); n != 0 {
		t.Errorf("%d ports of a publication that failed", n)
	}
	b.ok("unpublish", "c2", strings.Replace(spec, "127.0.0.1:", "", 1))
	if n := len(b.inspect("c2").Ports); n != 0 {
		t.Errorf("%d ports are left", n)
	}
}

// freeRange is the first of n ports of the loopback that nobody has now.
func freeRange(t *testing.T, n int) int {
	t.Helper()
	for first := 20000; first+n < 32000; first += n {
		free := true
		for p := first; p < first+n && free; p++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Skip("no thousand free ports")
	return 0
}
