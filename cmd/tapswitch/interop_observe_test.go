//go:build interop

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// curlAs asks a socket as a user, and returns the answer, or why there is none.
func curlAs(uid, gid uint32, socket string, args ...string) string {
	c := exec.Command("curl", append([]string{"-sS", "-m", "20", "--unix-socket", socket}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, NoSetGroups: false}}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	_ = c.Run()
	return out.String()
}

// The owner and root use the control socket. Another user is kept off by its
// mode, and where that is open, by who they are; the read-only socket is for its
// group.
func TestRootWhoMayConnect(t *testing.T) {
	tools(t, "curl")
	b, start := asUser(t)
	const stranger, member = 12346, 12347
	readonly := b.dir + "/ro"
	file := b.write("c.yaml", fmt.Sprintf("api: {readonly: %s, group: \"%d\"}\n", readonly, ordinary)+twoBridges)
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	up := start("--socket", b.socket, "up", "-c", file, "--ephemeral")
	t.Cleanup(func() { up.cmd.Process.Signal(unix.SIGTERM); up.wait() })
	up.expect("ready")
	const status = "http://x/v1/status"
	check := func(who string, uid, gid uint32, socket, want string, args ...string) {
		t.Helper()
		if got := curlAs(uid, gid, socket, args...); !strings.Contains(got, want) {
			t.Errorf("%s at %s %v: %q, want %q in it", who, socket, args, got, want)
		}
	}
	check("the owner", ordinary, ordinary, b.socket, `"worker_pid"`, status)
	check("root", 0, 0, b.socket, `"worker_pid"`, status)
	check("a stranger", stranger, stranger, b.socket, "curl: (7)", status)
	if err := os.Chmod(b.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	check("a stranger who got to the socket", stranger, stranger, b.socket, "curl: (", status)
	check("a member of the group", member, ordinary, b.socket, "curl: (", status)
	check("the owner", ordinary, ordinary, b.socket, `"worker_pid"`, status)

	check("a member of the group", member, ordinary, readonly, `"worker_pid"`, status)
	check("a member of the group", member, ordinary, readonly, "tapswitch_containers 4", "http://x/v1/metrics")
	check("a member of the group", member, ordinary, readonly, "takes GET alone", "-X", "POST", "http://x/v1/shutdown")
	check("a stranger", stranger, stranger, readonly, "curl: (7)", status)
	check("the owner", ordinary, ordinary, b.socket, `"worker_pid"`, status)
}
