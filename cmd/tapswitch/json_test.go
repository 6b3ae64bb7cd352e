package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"tapswitch/cmd/internal/fdpass"
)

// What scripts read. A shape is an example: each key must be there with a value
// of that kind; a list's element is the shape of all of its elements. More keys
// may come.
const (
	containerShape = `{"id":"","name":"","pid":0,"origin":"",
		"networks":[{"network":"","ip":"","ip6":"","mac":"","gateway":"","ifname":""}],
		"ports":[{"protocol":"","host_ip":"","host_port":0,"container_port":0}]}`
	networkShape = `{"id":"","name":"","driver":"","internal":false,"subnets":[{"subnet":"","gateway":""}],
		"containers":[{"id":"","name":"","ip":"","ip6":"","mac":""}]}`
	statusShape = `{"version":"","pid":0,"uptime_seconds":0,"config":"","rx_frames":0,"rx_bytes":0,"tx_frames":0,"tx_bytes":0,
		"drops":{},"flows":{"tcp":0,"udp":0,"ping":0}}`
	findingShape = `{"check":"","ok":true,"found":"","remedy":""}`
)

func TestJSON(t *testing.T) {
	b := newBench(t)
	b.up()
	for _, args := range [][]string{{"ps", "--json"}, {"ps", "-a", "--json"}, {"port", "--json"}, {"flow", "--json"}, {"fdb", "--json"}, {"drop", "--json"}, {"why", "--json"}, {"flow", "ls", "--json"}, {"fdbs", "ls", "--json"}, {"drops", "ls", "--json"}, {"rules", "ls", "--json"}} {
		if got := b.ok(args...); got != "[]" {
			t.Errorf("%v of nothing: %s", args, got)
		}
	}
	b.ok("down")

	file := b.write("full.yaml", `
networks:
  - {name: Net, subnet: 10.5.0.0/24, subnet6: "fd05::/64"}
  - {name: bridge, subnet: 10.6.0.0/24}
containers:
  - {name: held, networks: [{name: Net, aliases: [Other]}, bridge], publish: ["80", "127.0.0.1:0:53/udp"]}
  - {name: bare, networks: []}
`)
	b.up("-c", file)
	b.ok("run", "-d", "--name", "runs", "-p", "80", "--", prog, "hold")
	b.ok("run", "--name", "ended", "--", prog, "exit", "0")
	b.ok("exec", "runs", prog, "send", "10.5.0.9:9", "lost", "10.6.0.1")
	b.try("exec", "runs", prog, "lookup", "held")
	for _, c := range []struct {
		shape string
		args  []string
	}{
		{"[" + containerShape + "]", []string{"ps", "--json"}},
		{"[" + containerShape + "]", []string{"ps", "-a", "--json"}},
		{"[" + containerShape + "]", []string{"inspect", "runs", "held", "bare", "ended"}},
		{"[" + networkShape + "]", []string{"network", "ls", "--json"}},
		{"[" + networkShape + "]", []string{"network", "--json"}},
		{"[" + networkShape + "]", []string{"network", "inspect", "Net"}},
		{"[" + networkShape + "]", []string{"network", "inspect", "Net", "bridge"}},
		{`[{"container":"","protocol":"","host_ip":"","host_port":0,"container_port":0}]`, []string{"port", "--json"}},
		{`[{"network":"","mac":"","interface":"","static":true,"age_seconds":0}]`, []string{"fdb", "--json"}},
		{`[{"interface":"","reason":"","frames":0,"why":"","remedy":""}]`, []string{"drop", "--json"}},
		{`[{"first":"","last":"","count":0,"container":"","interface":"","network":"","direction":"","protocol":"","from":"","to":"","step":"","reason":"","why":"","remedy":""}]`, []string{"why", "--json"}},
		{`[{"network":"","address":"","mac":"","interface":"","origin":"","age_seconds":0}]`, []string{"neigh", "--json"}},
		{`{"questions":[{"time":"","container":"","network":"","client":"","name":"","type":"","rcode":"","by":"","took_ms":0}]}`, []string{"dns", "--json"}},
		{`[{"reason":"","why":"","remedy":""}]`, []string{"drop", "--reasons", "--json"}},
		{statusShape, []string{"status", "--json"}},
		{`{"version":"","api":""}`, []string{"version", "--json"}},
		{"[" + findingShape + "]", []string{"doctor", "--json"}},
		{`{"config":{"networks":[{}],"containers":[{}]},"origins":{}}`, []string{"config", "show", "--json"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			in := *b
			in.t = t
			var want, got any
			if err := json.Unmarshal([]byte(c.shape), &want); err != nil {
				t.Fatal(err)
			}
			in.json(&got, c.args...)
			compare(t, c.args[0], want, got)
			plainJSON(t, c.args[0], got)
		})
	}
	checkValues(t, b)
}

// checkValues looks at what the values mean, once.
func checkValues(t *testing.T, b *bench) {
	held, runs := b.inspect("held"), b.inspect("runs")
	if held.Pid != nil || held.Origin != "file" || runs.Pid == nil || runs.Origin != "cli" {
		t.Errorf("held: pid %v origin %s; runs: pid %v origin %s", held.Pid, held.Origin, runs.Pid, runs.Origin)
	}
	want := "Net 10.5.0.2 fd05::2 02:42:0a:05:00:02 10.5.0.1 eth0; bridge 10.6.0.2  02:42:0a:06:00:02 10.6.0.1 eth1; "
	var got string
	for _, n := range held.Networks {
		got += fmt.Sprintln(n.Network, n.IP, n.IP6, n.MAC, n.Gateway, n.IfName)
	}
	if got = strings.ReplaceAll(got, "\n", "; "); got != want {
		t.Errorf("networks of held: %s, want %s", got, want)
	}
	if n := len(b.inspect("ended").Ports); n != 0 || b.inspect("ended").ExitCode == nil {
		t.Errorf("an ended container has %d ports and exit code %v", n, b.inspect("ended").ExitCode)
	}
	if s := b.status(); s.Drops["isolated"] != 1 || s.Containers != 3 || s.Networks != 2 || time.Since(s.Started) > time.Hour {
		t.Errorf("status: %+v", s)
	}
	if id := b.ok("ps", "-q"); len(strings.Fields(id)) != 3 || b.inspect(strings.Fields(id)[0]).Name != "held" {
		t.Errorf("ps -q: %s", id)
	}
	if got := b.ok("port", "held"); !strings.Contains(got, "80/tcp -> 0.0.0.0:") || !strings.Contains(got, "53/udp -> 127.0.0.1:") {
		t.Errorf("port: %s", got)
	}
}

// compare says where got lacks what want has.
func compare(t *testing.T, at string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", at, got)
			return
		}
		for k, v := range w {
			if _, ok := g[k]; !ok {
				t.Errorf("%s has no %q", at, k)
			} else if k != "pid" || g[k] != nil { // a held container has no process
				compare(t, at+"."+k, v, g[k])
			}
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			t.Errorf("%s is %v, want a list", at, got)
		}
		for i, x := range g {
			compare(t, fmt.Sprintf("%s[%d]", at, i), w[0], x)
		}
		if len(g) == 0 && !strings.Contains(at, "]") {
			t.Errorf("%s is empty", at)
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
			t.Errorf("%s is %v, want a %T", at, got, want)
		}
	}
}

var snake = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// plainJSON walks all of v: no null but for a process that is not there, keys
// in snake_case.
func plainJSON(t *testing.T, at string, v any) {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		for k, y := range x {
			data := strings.HasSuffix(at, ".drops") || strings.HasSuffix(at, ".origins")
			if !data && !snake.MatchString(k) {
				t.Errorf("key %q in %s is not in snake_case", k, at)
			}
			if k != "pid" {
				plainJSON(t, at+"."+k, y)
			}
		}
	case []any:
		for i, y := range x {
			plainJSON(t, fmt.Sprintf("%s[%d]", at, i), y)
		}
	case nil:
		t.Errorf("%s is null", at)
	}
}

func TestAPIErrors(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/v1/containers/nobody", "", 404, "not_found"},
		{"GET", "/v1/networks/nowhere", "", 404, "not_found"},
		{"GET", "/v1/nothing", "", 404, "not_found"},
		{"GET", "/v9/status", "", 404, "not_found"},
		{"POST", "/v1/containers", "{", 400, "bad_request"},
		{"POST", "/v1/containers", `{"colour":"red"}`, 400, "bad_request"},
		{"POST", "/v1/containers", `{"networks":[{"network":"bridge","ip":"x"}]}`, 400, "bad_request"},
		{"POST", "/v1/containers", `{"networks":[{"network":"bridge","ip":"172.17.0.1"}]}`, 409, "conflict"},
		{"POST", "/v1/containers", `{"command":["/no/such"]}`, 400, "no_command"},
		{"POST", "/v1/containers/x/stop?time=-1", "", 400, "bad_request"},
		{"POST", "/v1/reservations", `{"name":"x","lifetime":"for ever"}`, 400, "bad_request"},
		{"POST", "/v1/ports", `{"reservation":"none"}`, 404, "not_found"},
		{"DELETE", "/v1/status", "", 404, "not_found"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			req, err := http.NewRequest(c.method, "http://switch"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := fdpass.Client(b.socket).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			var e struct {
				Error *struct{ Code, Message, Hint string }
			}
			if resp.StatusCode != c.status {
				t.Fatalf("status %s, want %d: %s", resp.Status, c.status, text)
			}
			if err := json.Unmarshal(text, &e); err != nil || e.Error == nil || e.Error.Code != c.code || e.Error.Message == "" {
				t.Errorf("%s, want an error of code %s (%v)", text, c.code, err)
			}
		})
	}
	if s := b.status(); s.Containers != 0 {
		t.Errorf("%d containers after nothing but errors", s.Containers)
	}
}
