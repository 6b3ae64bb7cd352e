//go:build interop

package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
)

// TestInteropEventsByCurl: events, failures and flows need nothing but curl.
func TestInteropEventsByCurl(t *testing.T) {
	tools(t, "curl")
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	curl := func(path string) *exec.Cmd {
		return exec.Command("curl", "-sS", "-N", "--unix-socket", b.socket, "http://x/v1"+path)
	}
	events, live := startProc(t, curl("/events?type=network,drop")), startProc(t, curl("/trace/live?filter=tcp"))
	// Nothing says that curl has been answered: do things until one is told of.
	n := 0
	eventually(t, "an event", func() bool {
		n++
		b.ok("network", "create", "n"+itoa(n))
		b.ok("network", "rm", "n"+itoa(n))
		return len(events.lines) > 0
	})
	eventually(t, "a packet", func() bool { b.asks("c1", "tcp", "172.18.0.2:80", silent); return len(live.lines) > 0 })
	first := events.line()
	var x api.Event
	if err := json.Unmarshal([]byte(first), &x); err != nil || x.Type != "network" || x.Action == "" {
		t.Errorf("%s: %v", first, err)
	}
	events.expect(`"reason":"isolated"`)
	live.expect(`"name":"route"`)
	out, err := curl("/failures?container=c1&last=1").Output()
	if err != nil || !strings.Contains(string(out), `"to":"172.18.0.2:80"`) {
		t.Errorf("%s (%v)", out, err)
	}
	out, _ = curl("/events?type=weather").Output()
	if !strings.Contains(string(out), `"code":"bad_request"`) {
		t.Errorf("%s", out)
	}
}
