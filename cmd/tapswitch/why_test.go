package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// Whoever asks afterwards is told what failed, at which step and why: drops inside,
// refusals outside and in containers, questions without an answer, and what
// nobody has answered so far. It is remembered when the container has gone.
func TestWhy(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges+"dns: {upstream: [192.0.2.2]}\n"), "--ephemeral")
	if got := l.ok("why", "--json"); got != "[]" {
		t.Errorf("before anything has failed: %s", got)
	}
	port := strconv.Itoa(int(l.publishOne("c2", "81")))
	l.asks("c1", "tcp", "172.18.0.2:80", silent)
	l.asks("c1", "tcp", "172.18.0.2:80", silent)
	l.asks("c1", "tcp", "192.0.2.2:99", refused)
	l.asks("c1", "udp", "192.0.2.2:99", refused)
	l.asks("c1", "tcp", "203.0.113.7:80", unreachable)
	l.asks("c3", "tcp", "127.0.0.1:1", refused) // its own: nothing of ours
	if out, err := l.far("ask", "tcp", "192.0.2.1:"+port, "hello").CombinedOutput(); err == nil {
		t.Errorf("a container where nobody listens answers: %s", out)
	}
	l.try("exec", "c1", "--", prog, "lookup", "nosuch.example")
	var all []api.Failure
	l.json(&all, "why", "--json")
	for _, want := range []string{
		"c1:eth0 out tcp 172.18.0.2:80 route isolated",
		"c1:eth0 out tcp 192.0.2.2:99 outside refused",
		"c1:eth0 out udp 192.0.2.2:99 outside refused",
		"c1:eth0 out tcp 203.0.113.7:80 host no-route",
		"c2:eth0 in tcp 172.17.0.3:81 container refused",
	} {
		if !slices.ContainsFunc(all, func(f api.Failure) bool { return failureText(&f) == want && f.Why != "" && f.Count > 0 }) {
			var have []string
			for i := range all {
				have = append(have, failureText(&all[i]))
			}
			t.Errorf("it is not said that %s, only\n%s", want, strings.Join(have, "\n"))
		}
	}
	if i := slices.IndexFunc(all, func(f api.Failure) bool { return f.Protocol == "dns" }); i < 0 || all[i].Container != "c1" || !strings.HasSuffix(all[i].To, "nosuch.example") || all[i].Reason != "servfail" {
		t.Errorf("DNS: %+v", all)
	}
	text := l.ok("why", "c1")
	for _, want := range []string{"times since", "-> 172.18.0.2:80 (c3)", "  route: isolated: ", "  -> Put both containers"} {
		if !strings.Contains(text, want) {
			t.Errorf("why c1 does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "c2:eth0") || strings.Count(l.ok("why", "c1", "--last", "1"), "\n") > 2 {
		t.Errorf("more than was asked for:\n%s", text)
	}
	l.ok("rm", "-f", "c1")
	if got := l.ok("why", "c1"); !strings.Contains(got, "c1:eth0: tcp 172.17.0.2:") {
		t.Errorf("when it has gone: %s", got)
	}
	l.fails(3, []string{"nobody"}, "why", "nobody")
	l.fails(2, []string{"--last"}, "why", "--last", "-1")
}

func failureText(f *api.Failure) string {
	return strings.Join([]string{f.Interface, f.Direction, f.Protocol, f.To, f.Step, f.Reason}, " ")
}

// A connection that nobody answers is told of while it waits, and ends as the
// host's kernel says.
func TestWhyPending(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges), "--ephemeral")
	// A neighbour of the host that is not there: its kernel asks for it for three seconds.
	l.start("exec", "c1", "--", prog, "ask", "tcp", "192.0.2.77:80", "hello")
	eventually(t, "it is told of", func() bool {
		var all []api.Failure
		l.json(&all, "why", "c1", "--json")
		return slices.ContainsFunc(all, func(f api.Failure) bool {
			return f.To == "192.0.2.77:80" && f.Step == "outside" && f.Reason == "no-answer" && f.Pending
		})
	})
	eventually(t, "its end", func() bool {
		var all []api.Failure
		l.json(&all, "why", "c1", "--json")
		return slices.ContainsFunc(all, func(f api.Failure) bool { return f.To == "192.0.2.77:80" && f.Reason == "no-route" && !f.Pending })
	})
}

// What happens is told as it happens, to those that it concerns, in both forms; a
// run writes the same about itself.
func TestMonitor(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	follow := func(args ...string) *proc {
		p := b.start(append([]string{"monitor"}, args...)...)
		p.errs.await(t, "watching")
		return p
	}
	all, mine, dns := follow(), follow("--container", "c1", "--json"), follow("--type", "dns,network")
	port := b.publishOne("c2", "80")
	b.asks("c1", "tcp", "172.17.0.1:"+strconv.Itoa(int(port)), "from 172.17.0.1:")
	b.try("exec", "c1", "--", prog, "lookup", "c2")
	b.ok("network", "create", "third")
	b.ok("network", "connect", "third", "c1")
	b.ok("network", "disconnect", "third", "c1")
	b.ok("network", "rm", "third")
	b.asks("c1", "tcp", "172.18.0.2:80", silent)
	all.expect("port published 0.0.0.0:" + strconv.Itoa(int(port)) + " -> c2 80/tcp")
	all.expect("flow opened c1:eth0 tcp 172.17.0.2:")
	all.expect("network third made")
	all.expect("container c1 joined third: c1:eth1 ")
	all.expect("container c1 left third: c1:eth1")
	all.expect("network third removed")
	all.expect("drop c1:eth0: 1 frame: isolated")
	b.ok("reload")
	all.expect("config applied")
	b.ok("rm", "-f", "c1")
	var types []string
	for {
		var x api.Event
		if err := json.Unmarshal([]byte(mine.line()), &x); err != nil {
			t.Fatal(err)
		}
		if x.Container != "c1" || x.Time.IsZero() {
			t.Errorf("%+v", x)
		}
		types = append(types, x.Type+" "+x.Action)
		if x.Type == "flow" && x.Action == "closed" && (x.Flow == nil || x.Flow.TxBytes == 0 || x.Flow.RxBytes == 0 || x.End == "") {
			t.Errorf("the end of a flow: %+v %+v", x, x.Flow)
		}
		if x.Type == "container" && x.Action == "left" && x.Network == "bridge" {
			break
		}
	}
	for _, want := range []string{"flow opened", "flow closed", "container joined", "container left", "drop dropped"} {
		if !slices.Contains(types, want) {
			t.Errorf("%q was not told: %v", want, types)
		}
	}
	if line := dns.line(); !strings.Contains(line, " dns c1: ") || !strings.Contains(line, " c2: NOERROR by local") {
		t.Errorf("dns alone begins with %q", line)
	}
	for _, p := range []*proc{all, mine, dns} {
		p.signal(unix.SIGINT)
		if code := p.wait(); code != 0 {
			t.Errorf("%v ends with %d: %s", p.cmd.Args, code, p.errs)
		}
	}
	b.fails(1, []string{"weather", "container, network"}, "monitor", "--type", "weather")
}

func TestAudit(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	port := b.publishOne("c2", "80")
	file := filepath.Join(b.dir, "audit")
	if r := b.try("run", "--rm", "--name", "mine", "--audit", file, "--", prog, "ask", "tcp", "172.17.0.1:"+strconv.Itoa(int(port)), "hello"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(string(text)) {
		var x api.Event
		if err := json.Unmarshal([]byte(line), &x); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if x.Container != "mine" {
			t.Errorf("not of this run: %s", line)
		}
		s := x.Type + " " + x.Action
		if x.Type == "flow" && x.Action == "closed" && (x.Flow.Remote != "172.17.0.1:"+strconv.Itoa(int(port)) || x.Flow.TxBytes < 40 || x.Flow.RxBytes < 40) {
			t.Errorf("the flow: %s", line)
		}
		said = append(said, s)
	}
	if want := []string{"run started", "container joined", "flow opened", "flow closed", "container left", "run ended"}; !slices.Equal(said, want) {
		t.Errorf("the audit has %v, want %v", said, want)
	}
	if r := b.try("run", "--rm", "--audit", file, "--", prog, "exit", "7"); r.code != 7 {
		t.Errorf("exit code %d", r.code)
	}
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), "exit code 7") {
		t.Errorf("the audit of a failure: %s", text)
	}
	b.fails(2, []string{"-d"}, "run", "-d", "--audit", file, "--", prog, "exit", "0")
	b.fails(125, []string{"no/such/dir"}, "run", "--audit", "no/such/dir/file", "--", prog, "exit", "0")
}

// publishOne publishes a container's TCP port on a port that is free.
func (b *bench) publishOne(name, port string) uint16 {
	b.t.Helper()
	b.ok("publish", name, port)
	for _, p := range b.inspect(name).Ports {
		if strconv.Itoa(int(p.ContainerPort)) == port {
			return p.HostPort
		}
	}
	b.t.Fatalf("%s does not publish %s", name, port)
	return 0
}
