package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/sandbox"
)

// What the host may offer: nothing here is needed, each says what is gained.

// trySandbox looks what the worker can give up here.
func trySandbox() finding {
	version := sandbox.Landlock()
	b, _ := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	filters := strings.Contains(string(b), "kill_process")
	f := finding{Check: "sandbox", OK: version > 0 && filters, Found: fmt.Sprintf("seccomp and Landlock %d", version)}
	switch {
	case !filters:
		f.Found, f.Remedy = "the kernel has no seccomp filters: the worker may make every system call", "a kernel with CONFIG_SECCOMP_FILTER, 4.14 or later"
	case version == 0:
		f.Found = "the kernel has no Landlock, or it is off: the worker may open the user's files"
		f.Remedy = "Linux 5.13 or later with landlock among lsm= on its command line (cat /sys/kernel/security/lsm), as in GRUB_CMDLINE_LINUX=\"lsm=landlock,lockdown,yama,integrity,apparmor,bpf\""
	}
	return f
}

// trySubordinate looks for the ids that podman's containers have beside the
// user's own.
func trySubordinate() finding {
	f := finding{Check: "subordinate ids", OK: true}
	u, err := user.Current()
	if err != nil || u.Uid == "0" {
		f.Found = "root needs none"
		return f
	}
	var counts [2]uint64
	for i, path := range []string{"/etc/subuid", "/etc/subgid"} {
		b, _ := os.ReadFile(path)
		counts[i] = subordinate(string(b), u.Username, u.Uid)
	}
	_, tool := exec.LookPath("newuidmap")
	f.Found = fmt.Sprintf("%d users, %d groups", counts[0], counts[1])
	switch {
	case counts[0] == 0 || counts[1] == 0:
		f.OK = false
		f.Found += ": podman's containers have one user; containers of tapswitch always do"
		f.Remedy = "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + u.Username
	case tool != nil:
		f.OK, f.Found, f.Remedy = false, f.Found+", but newuidmap is missing, with which podman uses them", "sudo apt install uidmap"
	}
	return f
}

// subordinate counts the ids of a user in a file as subuid(5) has it:
// NAME:FIRST:COUNT.
func subordinate(text, name, uid string) (n uint64) {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		if k, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			n += k
		}
	}
	return n
}

// tryLinger looks whether the user's services outlast the last session.
func tryLinger() finding {
	f := finding{Check: "lingering", OK: true}
	u, err := user.Current()
	switch {
	case err != nil || u.Uid == "0":
		f.Found = "root's services need none"
	case unix.Access("/run/systemd/system", unix.F_OK) != nil:
		f.Found = "systemd does not run here"
	case unix.Access("/var/lib/systemd/linger/"+u.Username, unix.F_OK) != nil:
		f.OK = false
		f.Found = "off: a switch that systemd runs for you ends with your last session"
		f.Remedy = "loginctl enable-linger"
	default:
		f.Found = "on"
	}
	return f
}

// tryNamespaceLimits looks how many containers there can be.
func tryNamespaceLimits() finding {
	f := finding{Check: "namespaces", OK: true}
	const few = 64
	least, which := uint64(1)<<63, ""
	for _, kind := range []string{"user", "net", "mnt", "pid", "uts", "ipc"} {
		name := "user.max_" + kind + "_namespaces"
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && n < least {
			least, which = n, name
		}
	}
	f.Found = fmt.Sprintf("%d at most (%s)", least, which)
	if which == "" {
		f.Found = "no limit is known"
	}
	if least < few {
		f.OK, f.Remedy = false, fmt.Sprintf("sudo sysctl %s=28633   # and in /etc/sysctl.d/ to keep it", which)
	}
	return f
}
