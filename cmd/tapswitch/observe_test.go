package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
)

// request sends a request to a unix socket and returns the status and the answer.
func request(t *testing.T, socket, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://switch"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := fdpass.Client(socket).Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Metrics are where the configuration has them, follow it, and count what
// passes.
func TestMetrics(t *testing.T) {
	b := newBench(t)
	socket := b.dir + "/m"
	file := b.write("c.yaml", "metrics: unix:"+socket+"\n"+twoBridges)
	b.up("-c", file, "--ephemeral")
	b.ok("exec", "c1", prog, "send", "172.18.0.2:9", "lost", "172.17.0.1")
	code, text := request(t, socket, "GET", "/metrics", "")
	for _, want := range []string{`tapswitch_containers 4`, `tapswitch_drops_total{reason="isolated"} 1`,
		`tapswitch_interface_drops_total{container="c1",interface="eth0",network="bridge",reason="isolated"} 1`, "process_resident_memory_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics (status %d):\n%s", want, code, text)
		}
	}
	if code, _ := request(t, socket, "GET", "/v1/status", ""); code != 404 {
		t.Errorf("the metrics' socket answers %d to /v1/status", code)
	}
	if got := b.ok("metrics"); !strings.Contains(got, "tapswitch_drops_total{reason=\"isolated\"} 1.0\n") || !strings.HasSuffix(got, "# EOF") {
		t.Errorf("metrics:\n%s", got)
	}
	var list []metricFamily
	b.json(&list, "metrics", "--json")
	seen := map[string]metricFamily{}
	for _, f := range list {
		seen[f.Name] = f
	}
	if f := seen["tapswitch_containers"]; f.Type != "gauge" || len(f.Samples) != 1 || f.Samples[0].Value != 4 {
		t.Errorf("metrics --json: %+v", f)
	}
	// All that the gateways count has a name here.
	for k := range b.status().NAT {
		k = strings.TrimPrefix(k, "nat_")
		if _, ok := seen["tapswitch_nat_"+k+"_total"]; !ok {
			t.Errorf("the gateways count %s, which is in no metric", k)
		}
	}
	var board map[string]any
	b.json(&board, "metrics", "--dashboard")

	// Another place, one that is taken, one that is no socket, none.
	at := freeAddress(t)
	b.write("c.yaml", "metrics: "+at+"\n"+twoBridges)
	b.ok("reload")
	if _, err := os.Stat(socket); err == nil {
		t.Errorf("%s is left", socket)
	}
	scrape := func(want bool) {
		t.Helper()
		resp, err := http.Get("http://" + at + "/metrics")
		if err == nil {
			resp.Body.Close()
		}
		if got := err == nil && resp.StatusCode == 200; got != want {
			t.Errorf("a scrape of %s: %v, want %v (%v)", at, got, want, err)
		}
	}
	scrape(true)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ at, words string }{
		{taken.Addr().String(), "address already in use"}, {"unix:" + file, "no socket"}, {"unix:" + b.socket, "somebody listens"},
		{"0.0.0.0:9475", "no loopback address"},
	} {
		b.write("c.yaml", "metrics: "+c.at+"\nip_forward: false\n"+twoBridges)
		b.fails(1, []string{c.words}, "reload")
		scrape(true)
	}
	if s := b.status(); !s.Forward || s.ConfigError == "" {
		t.Errorf("after configurations that were refused: %+v", s)
	}
	b.write("c.yaml", twoBridges)
	b.ok("reload")
	scrape(false)
}

// The read-only socket answers questions, and changes and betrays nothing.
func TestReadOnlySocket(t *testing.T) {
	b := newBench(t)
	socket := b.dir + "/r"
	file := b.write("c.yaml", "api: {readonly: "+socket+", mode: \"0640\"}\n"+twoBridges)
	b.up("-c", file, "--ephemeral", "--pprof")
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("the socket: %v, mode %v", err, st.Mode())
	}
	for _, path := range []string{"/v1/status", "/v1/containers/c1", "/v1/flows", "/v1/metrics", "/v1/openapi.json"} {
		if code, text := request(t, socket, "GET", path, ""); code != 200 {
			t.Errorf("GET %s: %d %s", path, code, text)
		}
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/config", ""}, {"GET", "/debug/pprof/", ""}, {"GET", "/debug/pprof/heap", ""}, {"POST", "/v1/shutdown", ""},
		{"DELETE", "/v1/containers/c1?force=1", ""}, {"PUT", "/v1/log", `{"level":"debug"}`}, {"POST", "/v1/capture", "{}"}, {"POST", "/v1/nothing", ""},
		{"HEAD", "/v1/status", ""},
	} {
		code, text := request(t, socket, c.method, c.path, c.body)
		var e struct{ Error api.Error }
		if code != 403 || c.method != "HEAD" && (json.Unmarshal([]byte(text), &e) != nil || e.Error.Code != api.Forbidden || e.Error.Hint == "") {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, text)
		}
	}
	if code, _ := request(t, socket, "GET", "/v1/nothing", ""); code != 404 {
		t.Errorf("a request that is not there: %d", code)
	}
	if s := b.status(); s.Containers != 4 {
		t.Errorf("%d containers are left", s.Containers)
	}
	// Its mode changes in place.
	b.write("c.yaml", fmt.Sprintf("api: {readonly: %s, group: \"%d\"}\n", socket, os.Getgid())+twoBridges)
	b.ok("reload")
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("the socket then: %v, mode %v", err, st.Mode())
	}
	if code, _ := request(t, socket, "GET", "/v1/status", ""); code != 200 {
		t.Errorf("status then: %d", code)
	}
	b.write("c.yaml", "api: {readonly: "+socket+"2, group: \"no such group\"}\n"+twoBridges)
	b.fails(1, []string{"no group"}, "reload")
	if left, err := os.ReadDir(b.dir); err == nil {
		for _, f := range left {
			if strings.HasSuffix(f.Name(), ".new") {
				t.Errorf("%s is left", f.Name())
			}
		}
	}
	b.ok("down")
	if _, err := os.Stat(socket); err == nil {
		t.Errorf("%s is left", socket)
	}
}

// The level of the log changes while the switch runs, and holds over a reload
// that has no other.
func TestLogLevel(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", "log: {format: json}\n"+twoBridges)
	p := b.up("-c", file, "--ephemeral")
	var l api.Log
	b.json(&l, "log", "--json")
	if l != (api.Log{Level: "info", Format: "json"}) {
		t.Errorf("log: %+v", l)
	}
	if got := b.ok("log", "level", "debug"); got != "level debug, format json" {
		t.Errorf("log level debug: %s", got)
	}
	b.write("c.yaml", "log: {format: json}\nip_forward: false\n"+twoBridges)
	b.ok("reload")
	if got := b.ok("log", "level"); got != "level debug, format json" {
		t.Errorf("after a reload: %s", got)
	}
	b.write("c.yaml", "log: {format: json, level: warn}\n"+twoBridges)
	b.ok("reload")
	if got := b.ok("log"); got != "level warn, format json" {
		t.Errorf("after a reload with another level: %s", got)
	}
	b.fails(1, []string{"loud", "debug, info, warn or error"}, "log", "level", "loud")
	if code, text := request(t, b.socket, "PUT", "/v1/log", `{"level":"info","format":"text"}`); code != 400 || !strings.Contains(text, "stays json") {
		t.Errorf("another format: %d %s", code, text)
	}
	b.ok("down")
	p.wait()
	lines := strings.Split(strings.TrimSpace(p.errs.String()), "\n")
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q is no JSON", line)
		}
	}
	if !strings.Contains(p.errs.String(), `"msg":"log level"`) {
		t.Errorf("the log has no word of the change:\n%s", p.errs)
	}
}

// Profiles are there where they were asked for.
func TestPprof(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	if code, text := request(t, b.socket, "GET", "/debug/pprof/heap", ""); code != 404 || !strings.Contains(text, "--pprof") {
		t.Errorf("without --pprof: %d %s", code, text)
	}
	b.ok("down")
	b.up("--ephemeral", "--pprof")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
		if code, text := request(t, b.socket, "GET", path, ""); code != 200 || text == "" {
			t.Errorf("%s: %d, %d bytes", path, code, len(text))
		}
	}
}
