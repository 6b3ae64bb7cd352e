package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/capture"
)

// A capture says what became of each packet, to as many as ask, each with a
// filter of its own, and goes on when one has gone.
func TestCapture(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	file := filepath.Join(b.dir, "all.pcapng")
	watch := func(args ...string) *proc {
		p := b.start(append([]string{"capture"}, args...)...)
		eventually(t, "the capture to begin", func() bool { return strings.Contains(p.errs.String(), "capturing") })
		return p
	}
	all := watch("-w", file, "-s", "0")
	text, drops, one, few := watch("tcp port 80 or udp port 80"), watch("--drops"), watch("-i", "c3"), watch("-c", "2", "-i", "c1", "udp")
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	b.ok("exec", "c1", prog, "ping", "172.17.0.1")
	if l := text.line(); !strings.Contains(l, "c1:eth0 > IP 172.17.0.2.") || !strings.Contains(l, "> 172.17.0.3.80: UDP, length 5") || !strings.HasSuffix(l, "| forwarded to c2:eth0") {
		t.Errorf("the first line is %q", l)
	}
	text.expect("Flags [S]")
	text.expect("c3:eth0 > IP 172.18.0.2.")
	if l := drops.line(); !strings.Contains(l, "c3:eth0 > IP 172.18.0.2.") || !strings.Contains(l, "dropped: isolated") {
		t.Errorf("drops begin with %q", l)
	}
	if l := one.line(); !strings.Contains(l, "c3:eth0") {
		t.Errorf("c3 alone begins with %q", l)
	}
	if code := few.wait(); code != 0 || !strings.Contains(few.errs.String(), "2 packets captured, 0 missed") {
		t.Errorf("two packets: exit code %d: %s", code, few.errs)
	}
	for _, p := range []*proc{text, drops, one, all} {
		p.cmd.Process.Signal(unix.SIGINT)
		if code := p.wait(); code != 0 {
			t.Errorf("%v ends with %d: %s", p.cmd.Args, code, p.errs)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fates := map[string]int{}
	r := capture.NewReader(f)
	for {
		p, err := r.Next()
		if err != nil {
			break
		}
		fate, _, _ := strings.Cut(p.Comment, ":")
		fates[r.Interfaces[p.Interface]+" "+fate]++
	}
	for _, want := range []string{"c1:eth0 forwarded to c2", "c2:eth0 forwarded to c1", "c3:eth0 dropped", "c1:eth0 answered by the gateway"} {
		if fates[want] == 0 {
			t.Errorf("nothing was %s: %v", want, fates)
		}
	}
	if !strings.Contains(strings.Join(r.Interfaces, " "), "plain:eth0") {
		t.Errorf("interfaces: %v", r.Interfaces)
	}
	b.fails(2, []string{"this is no port", "^"}, "capture", "port", "x")
	b.fails(3, []string{"nosuch"}, "capture", "-i", "nosuch")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:") // with nobody watching
}
