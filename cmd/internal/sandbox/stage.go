package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// StageName is argv[0] of the stage between porter and worker.
const StageName = "tapswitch-sandbox"

// kept is the one capability that the worker has, if we have it: to listen on
// ports under 1024.
const kept = unix.CAP_NET_BIND_SERVICE

// Stage gives up what the worker does not need and executes it under the name
// args[1]; args[2:] are the directories that are its to write. The worker finds
// Landlock's version behind its name. It returns only if something failed.
func Stage(args []string) int {
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "tapswitch: sandbox: %s: %v\n  --sandbox off runs without it\n", what, err)
		return 1
	}
	if len(args) < 2 {
		return 1
	}
	runtime.LockOSThread() // what follows is this thread's, and what it executes inherits it
	if err := makeDirs(args[2:]); err != nil {
		return fail("directories", err)
	}
	// What passes through the worker is not for a core file.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fail("core files", err)
	}
	if err := dropCapabilities(); err != nil {
		return fail("capabilities", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail("no new privileges", err)
	}
	version, err := restrictFiles(args[2:])
	if err != nil {
		return fail("files", err)
	}
	return fail("execute the worker", syscall.Exec("/proc/self/exe", []string{args[1], strconv.Itoa(version)}, os.Environ()))
}

// dropCapabilities leaves none of them but the one that is kept, for this thread
// and what it executes, root or not.
func dropCapabilities() error {
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if c == kept {
			continue
		}
		// Only root has a set to take from; a kernel may know fewer than we do.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EPERM && err != unix.EINVAL {
			return err
		}
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var now [2]unix.CapUserData
	if err := unix.Capget(&h, &now[0]); err != nil {
		return err
	}
	bit := now[0].Permitted & (1 << kept)
	set := [2]unix.CapUserData{{Effective: bit, Permitted: bit, Inheritable: bit}}
	if err := unix.Capset(&h, &set[0]); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if bit == 0 {
		return nil
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, kept, 0, 0)
}
