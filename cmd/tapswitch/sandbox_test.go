package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
)

// TestSandboxModes looks at a worker as the kernel does. What it may not do is
// tried in package sandbox; that it still works, by every test here.
func TestSandboxModes(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run(mode, func(t *testing.T) {
			b := newBench(t)
			b.up("--ephemeral", "--sandbox", mode)
			s := b.status()
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.WorkerPid))
			if err != nil {
				t.Fatal(err)
			}
			field := func(name string) string {
				_, rest, _ := strings.Cut(string(text), "\n"+name+":\t")
				v, _, _ := strings.Cut(rest, "\n")
				return v
			}
			if s.Sandbox.Mode != mode {
				t.Errorf("status says mode %q", s.Sandbox.Mode)
			}
			if got := field("Seccomp") == "2"; got != (mode == "on") || s.Sandbox.Seccomp != got {
				t.Errorf("filtered: %v, status says %v", got, s.Sandbox.Seccomp)
			}
			if mode == "off" {
				return
			}
			if field("NoNewPrivs") != "1" || !s.Sandbox.NoNewPrivs {
				t.Error("the worker may gain privileges")
			}
			// Root keeps the one for low ports, and nobody has another.
			if c := field("CapEff"); c != "0000000000000000" && c != "0000000000000400" {
				t.Errorf("the worker has capabilities %s", c)
			}
			if out := b.ok("status"); !strings.Contains(out, "system calls filtered") {
				t.Errorf("status does not tell:\n%s", out)
			}
		})
	}
}

func TestSandboxString(t *testing.T) {
	for _, tt := range []struct {
		s    api.Sandbox
		want string
	}{
		{api.Sandbox{Mode: "off"}, "off"},
		{api.Sandbox{Mode: "on", Seccomp: true, Landlock: 7}, "system calls filtered, files restricted (Landlock 7), no capabilities"},
		{api.Sandbox{Mode: "on", Capabilities: []string{"net_bind_service"}}, "files not restricted (this kernel has no Landlock), capabilities net_bind_service"},
	} {
		if got := tt.s.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
