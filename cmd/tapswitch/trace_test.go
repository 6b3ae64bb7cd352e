package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// Real packets are followed through the steps of their decision, those that a
// filter takes and no others; flows that were open before are seen, too.
func TestTraceLive(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:") // remembered by the switch
	p, text := b.start("trace", "--live", "--json", "udp", "or", "tcp"), b.start("trace", "--live", "port", "99")
	for _, x := range []*proc{p, text} {
		x.errs.await(t, "following")
	}
	next := func(packet string) (x api.LiveTrace, steps string) {
		t.Helper()
		for {
			x = api.LiveTrace{}
			if err := json.Unmarshal([]byte(p.line()), &x); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(x.Packet, packet) {
				break
			}
		}
		for _, s := range x.Steps {
			steps += s.Name + ": " + s.Text + "\n"
		}
		return x, steps
	}
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	if x, steps := next("> 172.17.0.3.80: UDP"); x.Interface != "c1:eth0" || x.Verdict != "accept" || !strings.Contains(steps, "guard: its sources are") || !strings.Contains(steps, "output: switched to c2:eth0") {
		t.Errorf("%+v", x)
	}
	b.asks("c1", "tcp", "172.18.0.2:99", silent)
	x, steps := next("> 172.18.0.2.99: Flags [S]")
	if x.Verdict != "drop" || x.Reason != "isolated" || x.Why == "" || x.Remedy == "" {
		t.Errorf("%+v", x)
	}
	// The same code decides about what is not sent: it says the same.
	var asked api.Trace
	if r := b.try("trace", "--from", "c1", "--to", "172.18.0.2:99", "--json"); json.Unmarshal([]byte(r.out), &asked) != nil || asked.Verdict != x.Verdict || asked.Reason != x.Reason {
		t.Errorf("trace says %+v", asked)
	}
	for _, s := range asked.Steps {
		if s.Name != "guard" && !strings.Contains(steps, s.Name+": "+s.Text+"\n") {
			t.Errorf("a real packet has no step %s: %s, only\n%s", s.Name, s.Text, steps)
		}
	}
	port := b.publishOne("c2", "80")
	b.asks("c1", "tcp", "172.17.0.1:"+itoa(int(port)), "from 172.17.0.1:")
	if x, steps := next("Flags [S]"); x.Verdict != "accept" || !strings.Contains(steps, "nat: to c2:eth0 port 80") {
		t.Errorf("%+v", x)
	}
	if _, steps := next("Flags [F.]"); !strings.Contains(steps, "flow: of an open flow, ") {
		t.Errorf("%s", steps)
	}
	text.expect("c1:eth0 IP 172.17.0.2.")
	text.expect("route")
	text.expect("drop: isolated")
	for _, x := range []*proc{p, text} {
		x.signal(unix.SIGINT)
		if code := x.wait(); code != 0 {
			t.Errorf("%v ends with %d: %s", x.cmd.Args, code, x.errs)
		}
	}
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:") // with nobody watching
	b.fails(2, []string{"filter"}, "trace", "--live", "this is none")
	b.fails(2, []string{"--live"}, "trace", "--live", "--from", "c1")
	b.fails(2, []string{"--live"}, "trace", "udp")
}

// Flows are listed by conditions, and ended by them.
func TestFlowKill(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	port := itoa(int(b.publishOne("c2", "80")))
	chat := b.start("exec", "-i", "c3", "--", prog, "chat", "172.18.0.1:"+port)
	chat.expect("from")
	if got := chat.say("one"); !strings.Contains(got, "one") {
		t.Fatalf("an answer: %q", got)
	}
	b.asks("c1", "udp", "172.17.0.1:53", silent)
	list := func(args ...string) (flows []api.Flow) {
		b.json(&flows, append([]string{"flow", "ls", "--json"}, args...)...)
		return flows
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{1, []string{"--container", "c3"}}, {1, []string{"--container", "c3:eth0", "--proto", "tcp"}}, {0, []string{"--container", "c2"}}, {0, []string{"--container", "c3", "--proto", "udp"}},
		{1, []string{"--remote", ":" + port}}, {1, []string{"--remote", "172.18.0.1:" + port}}, {1, []string{"--remote", "172.18.0.0/24"}}, {0, []string{"--remote", "172.18.0.9"}},
		{1, []string{"--state", "assured"}}, {0, []string{"--state", "connecting"}},
	} {
		if got := list(c.args...); len(got) != c.want {
			t.Errorf("flow ls %v: %d flows, want %d: %+v", c.args, len(got), c.want, got)
		}
	}
	if line := b.ok("flows", "--container", "c3"); !strings.Contains(line, "c3:eth0 tcp 172.18.0.2:") || !strings.Contains(line, " => 172.17.0.1:") || !strings.Contains(line, " -> 172.17.0.3:80, assured, sent ") {
		t.Errorf("the line: %q", line)
	}
	b.fails(2, []string{"--all"}, "flow", "kill")
	b.fails(1, []string{"one of"}, "flow", "kill", "--state", "asleep")
	b.fails(1, []string{"CIDR"}, "flow", "ls", "--remote", "somewhere")
	b.fails(1, []string{"tcp, udp"}, "flow", "ls", "--proto", "sctp")
	if got := b.ok("flow", "kill", "--container", "c1"); got != "0" {
		t.Errorf("of a container without flows %s were ended", got)
	}
	if got := b.ok("flow", "kill", "--container", "c3", "--remote", ":"+port); got != "1" {
		t.Errorf("%s flows were ended", got)
	}
	chat.tell("two")
	if code := chat.wait(); code == 0 {
		t.Error("a connection that was ended goes on")
	}
	if got := list(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// What is watched is shown again and again, with what is new.
func TestDropWatch(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.asks("c1", "tcp", "172.18.0.2:80", silent)
	p := b.start("drops", "--watch")
	first := p.expect("c1:eth0")
	if f := strings.Fields(first); !slices.Equal(f[:3], []string{"c1:eth0", "isolated", "1"}) || strings.Contains(first, "+") {
		t.Errorf("first %q", first)
	}
	p.expect("-> Put both containers on one network")
	b.asks("c1", "tcp", "172.18.0.2:80", silent)
	p.expect("+1")
	p.signal(unix.SIGINT)
	if code := p.wait(); code != 0 {
		t.Errorf("it ends with %d: %s", code, p.errs)
	}
}
