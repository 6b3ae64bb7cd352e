package sandbox

import (
	"os"
	"strconv"
	"strings"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// State is what is in force for this process, as the kernel says; landlock is
// the version that the stage found.
func State(landlock int) api.Sandbox {
	b, _ := os.ReadFile("/proc/self/status")
	s := parseStatus(string(b))
	s.Landlock = landlock
	return s
}

// parseStatus reads proc_pid_status(5).
func parseStatus(text string) (s api.Sandbox) {
	s.Capabilities = []string{}
	for line := range strings.Lines(text) {
		key, v, _ := strings.Cut(line, ":")
		switch v = strings.TrimSpace(v); key {
		case "Seccomp":
			s.Seccomp = v == "2" // SECCOMP_MODE_FILTER
		case "NoNewPrivs":
			s.NoNewPrivs = v == "1"
		case "CapEff":
			set, _ := strconv.ParseUint(v, 16, 64)
			for c := range 64 {
				if set&(1<<c) != 0 {
					s.Capabilities = append(s.Capabilities, capability(c))
				}
			}
		}
	}
	return s
}

func capability(c int) string {
	if c == unix.CAP_NET_BIND_SERVICE {
		return "net_bind_service"
	}
	return strconv.Itoa(c)
}

// Landlock is the version of the kernel's; 0: it has none, or it is not on.
func Landlock() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil || v < 0 {
		return 0
	}
	return v
}
