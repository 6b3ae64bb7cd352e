package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManual holds that every command that people see has a page, and no other.
func TestManual(t *testing.T) {
	b := newHome(t)
	b.ok("man", "pages")
	found, err := filepath.Glob(filepath.Join(b.dir, "pages", "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	pages := make(map[string]bool)
	for _, f := range found {
		pages[filepath.Base(f)] = true
	}
	for _, want := range []string{"tapswitch.1", "tapswitch-run.1", "tapswitch-network-create.1", "tapswitch-install-service.1", "tapswitch-completion-bash.1"} {
		if !pages[want] {
			t.Errorf("no page %s", want)
		}
	}
	for _, hidden := range []string{"tapswitch-man.1", "tapswitch-faces.1"} {
		if pages[hidden] {
			t.Errorf("%s is for nobody to read", hidden)
		}
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "pages", "tapswitch.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".SH NAME", ".SH EXIT STATUS", ".SH FILES", "tapswitch " + Version} {
		if !strings.Contains(string(text), want) {
			t.Errorf("tapswitch.1 lacks %s", want)
		}
	}
}
