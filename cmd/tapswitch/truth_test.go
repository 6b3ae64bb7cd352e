package main

import (
	_ "embed"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

//go:embed testdata/truth.txt
var truthTable string

//go:embed testdata/truth.yaml
var truthWorld string

// truth is one row of the table for one address and protocol.
type truth struct {
	line           int
	from, to, port string // to: an address
	how, want      string // tcp, udp, ping; yes, no, told, shut
}

// name is the address with its port, as clients take it.
func (r truth) name() string {
	if r.port == "" {
		return r.to
	}
	return net.JoinHostPort(r.to, r.port)
}

// Each row of the truth table holds over real namespaces, on one thread and on
// three, and `trace` says of each what is.
func TestTruthTable(t *testing.T)              { truthTables(t, 1) }
func TestTruthTableAcrossThreads(t *testing.T) { truthTables(t, 3) }

func truthTables(t *testing.T, threads int) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", fmt.Sprintf("threads: %d\n", threads)+truthWorld), "--ephemeral")
	for _, c := range []string{"stranger", "passer", "server", "client", "router", "opener", "in1", "in2", "a", "b", "linker"} {
		for _, port := range []string{"80", "81"} {
			l.start("exec", c, "--", prog, "serve", port).expect("listening")
		}
	}
	far := startProc(t, l.far("serve", "80"))
	far.expect("listening")
	rows := l.truths(truthTable)
	if len(rows) < 150 {
		t.Fatalf("%d rows: the table was not read", len(rows))
	}
	l.holds(rows)
}

// holds tries all rows, some at a time: those without an answer take a while.
func (l *lab) holds(rows []truth) {
	l.t.Helper()
	slots := make(chan struct{}, 8)
	var all sync.WaitGroup
	for _, r := range rows {
		all.Add(1)
		slots <- struct{}{}
		go func() {
			defer all.Done()
			defer func() { <-slots }()
			l.hold(r)
		}()
	}
	all.Wait()
}

func (l *lab) hold(r truth) {
	args := []string{"ask", r.how, r.name(), "hello"}
	if r.how == "ping" {
		args = []string{"ping", r.to}
	}
	if r.want == "no" {
		args = append(args, "700ms")
	}
	var c *exec.Cmd
	switch r.from {
	case "host":
		c = exec.Command(prog, args...)
	case "remote":
		c = l.far(args...)
	default:
		c = l.cmd(append([]string{"exec", r.from, "--", prog}, args...)...)
	}
	out, _ := c.CombinedOutput()
	got := map[int]string{0: "yes", askSilence: "no", askRefused: "told", askUnreachable: "told"}[c.ProcessState.ExitCode()]
	if want := map[bool]string{true: "told", false: r.want}[r.want == "shut"]; got != want {
		l.t.Errorf("line %d: %s -> %s %s: %s (exit code %d), want %s\n%s", r.line, r.from, r.name(), r.how, or(got, "?"), c.ProcessState.ExitCode(), r.want, out)
	}
	l.traced(r)
}

// traced asks what `trace` and `rule test` ask: that says what is, where the
// packet ends, and for which reason it gets nowhere.
func (l *lab) traced(r truth) {
	from := r.from
	if from == "remote" {
		from = map[bool]string{true: "2001:db8::2", false: "192.0.2.2"}[strings.Contains(r.to, ":")]
	}
	req := api.TraceRequest{From: from, To: r.to, Proto: map[bool]string{true: "icmp", false: r.how}[r.how == "ping"]}
	if r.port != "" {
		n, _ := strconv.ParseUint(r.port, 10, 16)
		req.Port = uint16(n)
	}
	var t api.Trace
	if err := (&client.Client{Socket: l.socket}).Do("POST", "/trace", req, &t); err != nil {
		l.t.Errorf("line %d: trace from %s to %s %s: %v", r.line, r.from, r.name(), r.how, err)
		return
	}
	want := map[string]string{"yes": "accept", "no": "drop", "told": "reject", "shut": "accept"}[r.want]
	if t.Verdict != want {
		l.t.Errorf("line %d: trace from %s to %s %s: %s (%s), want %s", r.line, r.from, r.name(), r.how, t.Verdict, t.Reason, want)
	}
	accepted := t.Verdict == "accept"
	if accepted != (t.Reaches != "") || accepted != (t.Reason == "") || !accepted && t.Why == "" || len(t.Steps) == 0 && t.Reason != "internal" {
		l.t.Errorf("line %d: trace from %s to %s %s explains nothing: %+v", r.line, r.from, r.name(), r.how, t)
	}
}

var truthRow = regexp.MustCompile(`^(\S+) +-> +([a-z0-9]+)(?:\((\w+)\))?(?::(\d+))? +((?:(?:tcp|udp|ping) +)+)(yes|no|told|shut)$`)

// truths reads the table: each row once for each protocol and address.
func (l *lab) truths(table string) (rows []truth) {
	l.t.Helper()
	for i, line := range strings.Split(table, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		m := truthRow.FindStringSubmatch(line)
		if m == nil {
			l.t.Fatalf("line %d is no row: %s", i+1, line)
		}
		for _, how := range strings.Fields(m[5]) {
			for _, a := range l.addresses(m[2], m[3]) {
				rows = append(rows, truth{i + 1, m[1], a, m[4], how, m[6]})
			}
		}
	}
	return rows
}

// addresses are those of what a row calls its destination.
func (l *lab) addresses(name, of string) []string {
	l.t.Helper()
	switch name {
	case "host":
		return []string{"192.0.2.1", "2001:db8::1"}
	case "loopback":
		return []string{"127.0.0.1", "::1"}
	case "remote":
		return []string{"192.0.2.2", "2001:db8::2"}
	case "gateway":
		n := l.network(of)
		return []string{n.Subnets[0].Gateway.String(), n.Subnets[1].Gateway.String()}
	}
	c := l.inspect(name)
	return []string{c.Networks[0].IP, c.Networks[0].IP6}
}

// T8: two containers publish the same port on addresses of the host's loopback
// of their own: each answers on its own. T7: nobody else reaches them.
func TestLoopbackAddressesApart(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges+`
  - {name: one, networks: [bridge], publish: ["127.0.1.2:9000:80", "127.0.1.2:9000:80/udp"]}
  - {name: two, networks: [bridge2], publish: ["127.0.1.3:9000:80", "127.0.1.3:9000:80/udp"]}
`), "--ephemeral")
	for _, c := range []string{"one", "two"} {
		l.start("exec", c, "--", prog, "serve", "80").expect("listening")
	}
	for i, gateway := range []string{"172.17.0.1", "172.18.0.1"} {
		at := "127.0.1." + strconv.Itoa(i+2) + ":9000"
		for _, network := range []string{"tcp", "udp"} {
			asksFrom(t, exec.Command(prog, "ask", network, at, "hello"), "from "+gateway+":")
			asksFrom(t, l.far("ask", network, at, "hello"), refused) // its own loopback, where nobody listens
			l.asks("c1", network, "192.0.2.1:9000", refused)
			l.asks("c1", network, "172.17.0.1:9000", refused)
		}
	}
}
