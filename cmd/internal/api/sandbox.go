package api

import (
	"fmt"
	"strings"
)

// Sandbox is what the worker has given up.
type Sandbox struct {
	Mode         string   `json:"mode"`         // as configured: on, strict, off
	Seccomp      bool     `json:"seccomp"`      // system calls are filtered
	Landlock     int      `json:"landlock"`     // version that restricts files; 0: none
	NoNewPrivs   bool     `json:"no_new_privs"` // no program that it ran would gain privileges
	Capabilities []string `json:"capabilities"` // that it still has
}

// String is one line about it.
func (s Sandbox) String() string {
	if s.Mode == "off" {
		return "off"
	}
	var parts []string
	if s.Seccomp {
		parts = append(parts, "system calls filtered")
	}
	if s.Landlock > 0 {
		parts = append(parts, fmt.Sprintf("files restricted (Landlock %d)", s.Landlock))
	} else {
		parts = append(parts, "files not restricted (this kernel has no Landlock)")
	}
	if len(s.Capabilities) == 0 {
		parts = append(parts, "no capabilities")
	} else {
		parts = append(parts, "capabilities "+strings.Join(s.Capabilities, ", "))
	}
	return strings.Join(parts, ", ")
}
