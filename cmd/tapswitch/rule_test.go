package main

import (
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
)

// rules are the rules in their order.
func (b *bench) rules(args ...string) (l []api.Rule) {
	b.t.Helper()
	b.json(&l, append([]string{"rule", "ls", "--json"}, args...)...)
	return l
}

// Rules decide before all else, in their order, for flows that are open, too;
// they count, and are there again after a restart, in their places.
func TestRules(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges+`
rules:
  - {from: "container:plain", to: "container:c2", proto: tcp, ports: [80], action: reject, comment: the file's}
`)
	b.up("-c", file)
	for _, c := range []string{"c2", "c3"} {
		b.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	b.asks("plain", "tcp", "172.17.0.3:80", refused)
	b.asks("plain", "udp", "172.17.0.3:80", "from 172.17.0.4:")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	if l := b.rules(); len(l) != 1 || l[0].Packets == 0 || l[0].Origin != "file" || l[0].Comment != "the file's" {
		t.Fatalf("rules: %+v", l)
	}
	chat := b.start("exec", "-i", "c1", "--", prog, "chat", "172.17.0.3:80")
	chat.expect("from 172.17.0.2:")
	if got := chat.say("before"); got != "before" {
		t.Errorf("the answer is %q", got)
	}
	drop := strings.TrimSpace(b.ok("rule", "add", "--at", "1", "--from", "c1", "--to", "172.17.0.0/16", "--action", "drop"))
	b.asks("c1", "tcp", "172.17.0.3:80", silent)
	b.asks("c1", "udp", "172.17.0.3:80", silent)
	b.fails(askSilence, nil, "exec", "c1", prog, "ping", "172.17.0.3", "300ms")
	b.asks("c1", "tcp", "[fd00:17::3]:80", "from [fd00:17::2]:") // another family
	b.asks("c2", "udp", "172.17.0.4:80", refused)                // by its kernel: this way is open
	chat.tell("during")
	accept := strings.TrimSpace(b.ok("rule", "add", "--at", "1", "--from", "container:c1", "--to", "c2", "--proto", "tcp", "--port", "80,443", "--action", "accept"))
	chat.expect("during") // repeated by its kernel, now let pass
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c1", "udp", "172.17.0.3:80", silent)
	// No rule makes a way where there is none.
	b.ok("rule", "add", "--from", "c1", "--to", "c3", "--action", "accept")
	b.asks("c1", "tcp", "172.18.0.2:80", silent)
	var order []string
	for _, r := range b.rules() {
		order = append(order, itoa(int(r.ID)))
	}
	if order[0] != accept || order[1] != drop || len(order) != 4 {
		t.Errorf("the rules stand as %v", order)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "nobody", []string{"add", "--from", "nosuch", "--action", "drop"}},
		{1, "not found", []string{"add", "--from", "network:nosuch", "--action", "drop"}},
		{1, "place 9", []string{"add", "--at", "9", "--action", "drop"}},
		{1, "icmp has none", []string{"add", "--proto", "icmp", "--port", "1", "--action", "drop"}},
		{1, "did you mean drop", []string{"add", "--action", "dorp"}},
		{2, "--action", []string{"add"}},
		{3, "no rule 9999", []string{"rm", "9999"}},
		{1, "configuration", []string{"rm", itoa(int(b.rules()[2].ID))}},
		{3, "nosuch", []string{"test", "nosuch", "1.2.3.4"}},
	} {
		r := b.try(append([]string{"rule"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) {
			t.Errorf("rule %v: exit code %d, want %d: %s", c.args, r.code, c.code, r.err)
		}
	}
	before := b.rules()
	b.ok("down")
	b.up("-c", file)
	after := b.rules()
	if len(after) != len(before) {
		t.Fatalf("%d rules after a restart, not %d", len(after), len(before))
	}
	for i := range after {
		if after[i].From != before[i].From || after[i].Action != before[i].Action || after[i].Origin != before[i].Origin ||
			after[i].Origin != "file" && after[i].ID != before[i].ID {
			t.Errorf("rule %d was %+v and is %+v", i, before[i], after[i])
		}
	}
	b.ok("rule", "rm", accept, drop)
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	b.write("c.yaml", twoBridges)
	b.ok("reload")
	b.asks("plain", "tcp", "172.17.0.3:80", "from 172.17.0.4:")
}

// What DOCKER-USER is used for: one address of the outside may reach the
// published ports, and who is in already is out.
func TestRuleForPublishedPorts(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges+`
  - {name: web, networks: [bridge], publish: ["8080:80", "8080:80/udp"]}
`), "--ephemeral")
	l.start("exec", "web", "--", prog, "serve", "80").expect("listening")
	asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
	chat := startProc(t, l.far("chat", "192.0.2.1:8080"))
	chat.expect("from 192.0.2.2:")
	l.ok("rule", "add", "--from", "!8.8.8.8", "--dir", "in", "--action", "drop")
	chat.tell("still there?")
	if code := chat.wait(); code == 0 {
		t.Error("a connection that a rule forbids goes on")
	}
	asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "1") // reset: the host's kernel has accepted before
	asksFrom(t, l.far("ask", "udp", "192.0.2.1:8080", "hello", "300ms"), silent)
	asksFrom(t, l.far("ask", "tcp", "[2001:db8::1]:8080", "hello"), "1")
	l.asks("c1", "tcp", "192.0.2.1:8080", "from 172.17.0.1:") // from container to container: not in
	l.ok("rule", "add", "--at", "1", "--from", "192.0.2.0/30", "--dir", "in", "--action", "accept")
	asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
	asksFrom(t, l.far("ask", "udp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
}

// What may be reached outside, by address, by name, and by the words for it.
func TestEgress(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	dns := startProc(t, l.far("names", "192.0.2.2:53", "good.example=198.51.100.1", "www.good.example=198.51.100.1", "bad.example=198.51.100.1"))
	dns.expect("listening")
	far := startProc(t, l.far("serve", "80"))
	far.expect("listening")
	l.up("--dns-upstream", "192.0.2.2", "-c", l.write("c.yaml", `
egress:
  - {name: list, allow: ["*.good.example:80/tcp", "192.0.2.2:80/udp"]}
networks:
  - {name: bridge, subnet: 172.17.0.0/16, subnet6: "fd00:17::/64"}
  - {name: shut, subnet: 172.18.0.0/16, egress: none}
containers:
  - {name: free, networks: [bridge]}
  - {name: net, networks: [bridge], egress: internet}
  - {name: none, networks: [bridge], egress: none}
  - {name: list, networks: [bridge], egress: list}
  - {name: inside, networks: [shut]}
  - {name: freed, networks: [shut], egress: all}
`), "--ephemeral")
	const open = "from 192.0.2.1:"
	for _, c := range []struct{ from, network, addr, want string }{
		{"free", "tcp", "198.51.100.1:80", open},
		{"net", "tcp", "198.51.100.1:80", open},
		{"net", "tcp", "192.0.2.1:80", refused}, // the host
		{"net", "tcp", "10.0.0.1:80", refused},
		{"net", "udp", "192.168.1.1:80", refused},
		{"net", "tcp", "[fd00:99::1]:80", refused},
		{"none", "tcp", "198.51.100.1:80", refused},
		{"none", "udp", "198.51.100.1:80", refused},
		{"inside", "tcp", "198.51.100.1:80", refused},
		{"freed", "tcp", "198.51.100.1:80", open},
		{"list", "udp", "192.0.2.2:80", open},
		{"list", "tcp", "192.0.2.2:80", refused},
		{"list", "tcp", "198.51.100.1:80", refused}, // not asked for by name yet
		{"list", "tcp", "www.good.example:80", open},
		{"list", "tcp", "198.51.100.1:80", open}, // while that answer lives
		{"list", "udp", "198.51.100.1:80", refused},
		{"list", "tcp", "198.51.100.1:81", refused},
		{"none", "tcp", "198.51.100.1:80", refused}, // told to another
	} {
		l.asks(c.from, c.network, c.addr, c.want)
	}
	// One address has many names: the connection says which it means.
	for host, want := range map[string]bool{"www.good.example": true, "WWW.Good.Example:80": true, "bad.example": false, "good.example": false, "": false} {
		r := l.try("exec", "list", "--", prog, "ask", "tcp4", "www.good.example:80", "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\nhello")
		if got := r.code == 0 && strings.Contains(r.out, "hello"); got != want {
			t.Errorf("HTTP for %q gets through: %t, want %t\n%s%s", host, got, want, r.out, r.err)
		}
	}
	l.fails(1, nil, "exec", "list", prog, "lookup", "bad.example")
	l.fails(1, nil, "exec", "list", prog, "lookup", "good.example") // only what is below it
	l.ok("exec", "free", prog, "lookup", "bad.example")
	l.ok("exec", "net", prog, "lookup", "bad.example")
	l.fails(1, nil, "exec", "none", prog, "lookup", "bad.example")
	for _, x := range []struct{ name, want string }{{"free", ""}, {"list", "egress"}} {
		if r := l.try("rule", "test", x.name, "192.0.2.2:9/tcp"); !strings.Contains(r.out, x.want) {
			t.Errorf("rule test %s: %s", x.name, r.out)
		}
	}
	// A wider policy, by command.
	l.fails(1, []string{"configuration"}, "egress", "add", "list", "1.2.3.4")
	l.ok("egress", "add", "more", "198.51.100.0/24", "2001:db8::/32")
	l.ok("run", "-d", "--name", "late", "--egress", "more", "--", prog, "hold")
	l.asks("late", "tcp", "198.51.100.1:80", open)
	l.asks("late", "tcp", "192.0.2.2:80", refused)
	l.asks("late", "tcp", "[2001:db8::2]:80", "from [2001:db8::1]:")
	l.ok("egress", "add", "more", "192.0.2.2:80")
	l.asks("late", "tcp", "198.51.100.1:80", refused)
	l.asks("late", "tcp", "192.0.2.2:80", open)
	l.fails(1, []string{"container:late"}, "egress", "rm", "more")
	l.fails(125, []string{"egress add"}, "run", "-d", "--egress", "nosuch", "--", prog, "hold")
	l.ok("rm", "-f", "late")
	l.ok("egress", "rm", "more")
}

// Without forwarding nothing leaves a network; what is published answers.
func TestNoForwarding(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	far := startProc(t, l.far("serve", "80"))
	far.expect("listening")
	l.up("-c", l.write("c.yaml", "ip_forward: false\n"+twoBridges+`
  - {name: web, networks: [bridge], publish: ["8080:80"]}
`), "--ephemeral")
	l.start("exec", "web", "--", prog, "serve", "80").expect("listening")
	if l.status().Forward {
		t.Error("status says that it forwards")
	}
	l.asks("c1", "tcp", "192.0.2.2:80", silent)
	l.asks("c1", "tcp", "172.18.0.2:80", silent)
	l.asks("c1", "tcp", "172.17.0.5:80", "from 172.17.0.2:")
	l.ok("exec", "c1", prog, "ping", "172.17.0.1")
	asksFrom(t, l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
}

// A file of expectations is checked by the code that decides about packets.
func TestVerify(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges), "--ephemeral")
	good := b.write("good", `# who reaches whom
c1 -> c2:80 accept
c1 -> [fd00:17::3]:80/udp accept
* -> 169.254.169.254 reject
bridge -> c3 drop   # a network's containers
c3 -> 172.18.0.1 accept
c1 -> gateway:53/udp accept
`)
	if out := b.ok("verify", good); !strings.HasSuffix(out, "11 of 11 hold") {
		t.Errorf("verify: %s", out)
	}
	bad := b.write("bad", "c1 -> c2:80 drop\nc1 => c2 accept\nnosuch -> c2 accept\nc1 -> c2:80 maybe\n")
	r := b.try("verify", bad)
	for _, want := range []string{"line 1: c1 -> c2:80: want drop, is accept", "line 2:", "line 3:", "line 4:", "0 of 4 hold"} {
		if r.code != 1 || !strings.Contains(r.out, want) {
			t.Errorf("verify: exit code %d, without %q: %s", r.code, want, r.out)
		}
	}
	r = b.try("trace", "--from", "c1", "--to", "c3:80")
	for _, want := range []string{"c1:eth0 -> c3 (172.18.0.2) port 80 tcp", "networks bridge and bridge2 are apart", "drop: isolated", "Put both containers on one network"} {
		if r.code != 1 || !strings.Contains(r.out, want) {
			t.Errorf("trace: exit code %d, without %q: %s", r.code, want, r.out)
		}
	}
	var tr api.Trace
	b.json(&tr, "trace", "--json", "--from", "c1", "--to", "c2")
	if tr.Verdict != "accept" || tr.Reaches != "c2:eth0" || tr.Proto != "icmp" || len(tr.Steps) < 3 {
		t.Errorf("trace: %+v", tr)
	}
	b.fails(2, []string{"--from"}, "trace")
	b.fails(1, []string{"needs a port"}, "trace", "--from", "c1", "--to", "c2/tcp")
}

// Domains have their own name servers; replies are kept; and where it is asked
// for, a question to anybody is answered here.
func TestNameServers(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	for at, name := range map[string]string{"192.0.2.2:53": "www.example=198.51.100.1", "198.51.100.1:53": "db.corp.example=198.51.100.2"} {
		startProc(t, l.far("names", at, name)).expect("listening")
	}
	file := l.write("c.yaml", twoBridges+"dns: {upstream: [192.0.2.2], domains: [corp.example=198.51.100.1]}\n")
	l.up("-c", file, "--ephemeral")
	for name, want := range map[string]string{"www.example": "198.51.100.1", "db.corp.example": "198.51.100.2"} {
		for range 2 {
			if got := l.ok("exec", "c1", prog, "lookup", name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
	}
	var s api.Status
	l.json(&s, "status", "--json")
	if s.DNS["cached"] == 0 {
		t.Errorf("nothing came from the cache: %v", s.DNS)
	}
	l.write("c.yaml", twoBridges+"dns: {upstream: [192.0.2.2], intercept: true}\n")
	l.ok("reload")
	if got := l.ok("exec", "c1", prog, "lookup", "c2", "203.0.113.1"); got != "172.17.0.3 fd00:17::3" {
		t.Errorf("by a name server that is not there: %s", got)
	}
	l.fails(1, nil, "exec", "c1", prog, "lookup", "db.corp.example") // and the domain is gone
}

// What was made by command stands in its place among the file's, whatever the
// file does, and holds before the first container runs.
func TestRulesKeepTheirPlaces(t *testing.T) {
	b := newBench(t)
	const rules = `
rules:
  - {from: "container:c1", to: "container:plain", action: accept}
  - {action: accept, comment: last}
`
	file := b.write("c.yaml", twoBridges+rules)
	b.up("-c", file)
	id := strings.TrimSpace(b.ok("rule", "add", "--at", "2", "--from", "c1", "--to", "c2", "--action", "drop"))
	stands := func(when string, at int) {
		t.Helper()
		l := b.rules()
		if len(l) < at || itoa(int(l[at-1].ID)) != id {
			t.Errorf("%s: the rules are %+v", when, l)
		}
		if r := b.try("rule", "test", "c1", "c2:80"); r.code != 1 {
			t.Errorf("%s: rule test says %s", when, r.out)
		}
	}
	stands("at first", 2)
	b.ok("reload")
	stands("after a reload", 2)
	b.write("c.yaml", twoBridges+rules+"  - {from: 192.0.2.1, action: drop}\n")
	b.ok("reload")
	stands("with one more in the file", 2)
	b.ok("down")
	b.up("-c", file)
	stands("after a restart", 2)
	b.fails(3, []string{"no route " + id}, "route", "rm", id)

	b.ok("egress", "add", "mine", "192.0.2.1")
	b.write("c.yaml", twoBridges+"egress:\n  - {name: mine, allow: [198.51.100.1]}\n")
	b.fails(1, []string{"mine", "egress rm"}, "reload")
	b.write("c.yaml", twoBridges+"egress:\n  - {name: files, allow: [198.51.100.1]}\n")
	b.ok("reload")
	b.ok("run", "-d", "--name", "user", "--egress", "files", "--", prog, "hold")
	b.write("c.yaml", twoBridges)
	b.fails(1, []string{"files", "container:user"}, "reload")
}

// A container that was not made leaves nothing to the next of its name; nor
// does one that has left its network.
func TestPolicyOfTheGone(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", `
networks:
  - {name: apart, subnet: 172.26.0.0/16, icc: false}
  - {name: street, subnet: 172.27.0.0/16}
  - {name: routed, subnet: 172.28.0.0/16, gateway_mode: routed}
  - {name: inner, subnet: 172.29.0.0/16, internal: true}
containers:
  - {name: db, networks: [apart], ip: 172.26.0.3, expose: [80]}
  - {name: stranger, networks: [street]}
`)
	b.up("-c", file)
	b.start("exec", "db", "--", prog, "serve", "80").expect("listening")
	b.fails(127, nil, "run", "-d", "--name", "x", "--net", "apart", "--link", "db", "--", "/nosuch")
	b.try("rm", "-f", "x")
	b.ok("run", "-d", "--name", "x", "--net", "apart", "--", prog, "hold")
	b.asks("x", "tcp", "172.26.0.3:80", silent)

	b.ok("run", "-d", "--name", "web", "--net", "routed:ip=172.28.0.9", "-p", "80", "--", prog, "serve", "80")
	b.start("logs", "-f", "web").expect("listening")
	b.asks("stranger", "tcp", "172.28.0.9:80", "from 172.27.0.")
	if got := b.ok("port", "web"); got != "80/tcp -> routed" {
		t.Errorf("port: %q", got)
	}
	b.ok("network", "connect", "inner", "web")
	b.ok("network", "disconnect", "routed", "web")
	b.ok("network", "connect", "--ip", "172.28.0.9", "routed", "web")
	b.asks("stranger", "tcp", "172.28.0.9:80", silent)

	// What is exposed alone is not open there; and all of it is published once,
	// however often it is made again.
	b.ok("run", "-d", "--name", "all", "--net", "street", "-P", "--expose", "80", "--", prog, "hold")
	before := b.ok("port", "all")
	b.ok("down")
	b.up("-c", file)
	if got := b.ok("port", "all"); got != before {
		t.Errorf("published: %q, then %q", before, got)
	}
	b.fails(125, []string{"conflicting"}, "run", "--rm", "--net", "host", "--egress", "none", "--", "true")
	b.fails(1, []string{"enable_iccc"}, "network", "create", "-o", "com.docker.network.bridge.enable_iccc=false", "typo")
	long := b.write("long", "x -> db:80 drop\n# "+strings.Repeat("x", 70000)+"\nx -> db:80 accept\n")
	if r := b.try("verify", long); r.code != 1 || !strings.Contains(r.out, "1 of 2 hold") {
		t.Errorf("verify: %d %s", r.code, r.out)
	}
}

// On several threads, too, who may only answer sends nothing by itself.
func TestOneWayAcrossThreads(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", "threads: 3\n"+twoBridges+`
rules:
  - {from: "container:c2", to: "container:c1", action: drop}
  - {from: "container:c2", to: "container:plain", action: drop}
  - {from: "container:plain", to: "container:c1", action: drop}
`))
	for _, c := range []string{"c1", "c2", "plain"} {
		b.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	for _, c := range []struct{ from, to, want string }{
		{"c2", "172.17.0.2:80", silent}, {"c2", "172.17.0.4:80", silent}, {"plain", "172.17.0.2:80", silent},
		{"c1", "172.17.0.3:80", "from 172.17.0.2:"}, {"plain", "172.17.0.3:80", "from 172.17.0.4:"}, {"c1", "172.17.0.4:80", "from 172.17.0.2:"},
		{"c2", "172.17.0.2:80", silent}, {"c2", "172.17.0.4:80", silent}, {"plain", "172.17.0.2:80", silent},
	} {
		b.asks(c.from, "udp", c.to, c.want)
		b.asks(c.from, "tcp", c.to, c.want)
	}
	b.ok("exec", "c1", prog, "ping", "172.17.0.3")
	b.fails(askSilence, nil, "exec", "c2", prog, "ping", "172.17.0.2", "300ms")
}
