package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestSubordinate(t *testing.T) {
	const text = "root:100000:65536\nme:165536:65536\n# me:1:1\n1000:300000:10\nme:400000:x\nme:1\n\nmeandyou:1:5\n"
	for _, tt := range []struct {
		name, uid string
		want      uint64
	}{{"me", "1000", 65546}, {"me", "7", 65536}, {"you", "8", 0}, {"root", "0", 65536}} {
		if got := subordinate(text, tt.name, tt.uid); got != tt.want {
			t.Errorf("%s (%s) has %d, want %d", tt.name, tt.uid, got, tt.want)
		}
	}
}

// TestDoctor makes sure that each thing that is amiss comes with what to type.
func TestDoctor(t *testing.T) {
	b := newHome(t)
	r := b.try("doctor", "--json")
	if r.code != exitOK && r.code != exitFailed {
		t.Fatalf("exit code %d\n%s", r.code, r.err)
	}
	var list []finding
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	var checks []string
	for _, f := range list {
		checks = append(checks, f.Check)
		if f.Found == "" || !f.OK && f.Remedy == "" {
			t.Errorf("%s: found %q, remedy %q", f.Check, f.Found, f.Remedy)
		}
	}
	for _, want := range []string{"/dev/net/tun", "user namespaces", "TAP in a namespace", "namespaces", "sandbox", "subordinate ids", "ping_group_range", "low ports",
		"descriptors", "lingering", "kernel"} {
		if !slices.Contains(checks, want) {
			t.Errorf("the doctor does not look at %s: %s", want, strings.Join(checks, ", "))
		}
	}
}
