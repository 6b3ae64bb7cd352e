package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
)

// insideVar is set in the environment of the perf that runs inside the user
// namespace.
const insideVar = "TAPSWITCH_PERF_INSIDE"

// becomeRoot starts perf anew as root of a user namespace if it is not root
// already. All of its network namespaces then belong to that one. It does not
// return if it succeeds. Subordinate ids are needed since some peers change their
// user.
func becomeRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if insideUserNamespace() {
		return errors.New("not root inside the user namespace that was made for it; run perf as root")
	}
	if why := lacksSubordinates(); why != "" {
		return fmt.Errorf("needs root, or a user with subordinate ids: %s", why)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fmt.Errorf("%w (Debian package util-linux); or run perf as root", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{"unshare", "--user", "--map-root-user", "--map-auto", "--", self}, os.Args[1:]...)
	return syscall.Exec(unshare, argv, append(os.Environ(), insideVar+"=1"))
}

func insideUserNamespace() bool { return os.Getenv(insideVar) != "" }

// lacksSubordinates says what the calling user lacks; "" if nothing.
func lacksSubordinates() string {
	if why := needs("newuidmap", "uidmap"); why != "" {
		return why
	}
	u, err := user.Current()
	if err != nil {
		return err.Error()
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err.Error()
		}
		if !listsUser(string(text), u) {
			return fmt.Sprintf("%s has no line for %s (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s)", file, u.Username, u.Username)
		}
	}
	return ""
}

// listsUser says whether a file as subuid(5) describes it names a user.
func listsUser(file string, u *user.User) bool {
	for line := range strings.Lines(file) {
		owner, _, found := strings.Cut(line, ":")
		if found && (owner == u.Username || owner == u.Uid) {
			return true
		}
	}
	return false
}
