package main

import (
	_ "embed"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/sequences.txt
var sequences string

// What people type for Docker works as typed.
func TestSequences(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		skip(t, "no ip(8)")
	}
	b := newBench(t)
	b.up("--ephemeral")
	var r result
	var line int
	var command string
	code, checked := 0, 0
	done := func() {
		if command != "" && r.code != code {
			t.Errorf("line %d: %s: exit code %d, want %d\n%s%s", line, command, r.code, code, r.out, r.err)
		}
		code = 0
	}
	for i, l := range strings.Split(sequences, "\n") {
		switch l = strings.TrimSpace(l); {
		case l == "" || l[0] == '#':
		case strings.HasPrefix(l, "$ "):
			done()
			line, command = i+1, l[2:]
			var args []string
			for _, a := range strings.Fields(command) {
				if a == "PROGRAM" {
					args = append(args, "--", prog, "serve", "80")
					continue
				}
				args = append(args, strings.Replace(a, "{{range.", "{{range .", 1))
			}
			r = b.try(args...)
		case strings.HasPrefix(l, "? "):
			code, _ = strconv.Atoi(l[2:])
		default:
			checked++
			if !strings.Contains(squeeze(r.out+r.err), squeeze(l)) {
				t.Errorf("line %d: %s: no %q in\n%s%s", i+1, command, l, r.out, r.err)
			}
		}
	}
	done()
	if checked < 25 {
		t.Errorf("%d lines of output were looked at", checked)
	}
}

// squeeze makes any space one.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
