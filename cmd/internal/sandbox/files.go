package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// rights that are taken away wherever no rule gives them back: all that the
// kernel knows about files, and signals and abstract unix sockets towards
// processes outside. What an older kernel does not know is left out.
var rights = landlock.Config{
	HandledAccessFS: landlock.V11.HandledAccessFS,
	Scoped:          landlock.V11.Scoped,
}.BestEffort()

const (
	readFile = ll.AccessFSReadFile
	readDir  = ll.AccessFSReadFile | ll.AccessFSReadDir
	keep     = readDir | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSRemoveFile
)

// restrictFiles leaves the thread, and what it executes, the directories dirs
// and what a Go program needs to run. It gives Landlock's version; 0 says that
// the kernel has none.
func restrictFiles(dirs []string) (int, error) {
	version, err := ll.LandlockGetABIVersion()
	if err != nil || version < 1 {
		return 0, nil
	}
	rules := []landlock.Rule{
		// Our descriptors and mappings, and the settings of the network. Of other
		// processes Landlock's rule for ptrace hides what is not for everybody.
		landlock.PathAccess(readDir, "/proc"),
		// What the runtime asks for at its start: limits of processors, size of huge pages.
		landlock.PathAccess(readDir, "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage").IgnoreIfMissing(),
		// Local times of the log.
		landlock.PathAccess(readDir, "/usr/share/zoneinfo").IgnoreIfMissing(),
		landlock.PathAccess(readFile, "/etc/localtime", "/etc/ld.so.cache").IgnoreIfMissing(),
		landlock.PathAccess(readFile|ll.AccessFSWriteFile, os.DevNull).IgnoreIfMissing(),
		landlock.PathAccess(keep, dirs...),
	}
	program, err := mapped()
	if err != nil {
		return 0, err
	}
	rules = append(rules, landlock.PathAccess(readFile|ll.AccessFSExecute, program...).IgnoreIfMissing())
	fd, flags, err := rights.NewRulesetFD(rules...)
	if err != nil {
		return 0, err
	}
	if fd < 0 {
		return 0, nil
	}
	defer unix.Close(fd)
	return version, ll.LandlockRestrictSelf(fd, flags)
}

// mapped are the files that this program consists of: itself, and, if it was
// not linked statically, the loader and libraries that it needs to start again.
func mapped() ([]string, error) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	return append(mappedFiles(string(b)), "/proc/self/exe"), nil
}

// mappedFiles reads proc_pid_maps(5).
func mappedFiles(maps string) (list []string) {
	seen := make(map[string]bool)
	for line := range strings.Lines(maps) {
		_, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " /")
		if ok && !seen[path] && !strings.HasPrefix(path, "dev/") && !strings.HasSuffix(path, " (deleted)") {
			seen[path] = true
			list = append(list, "/"+path)
		}
	}
	return list
}

// makeDirs makes those that are not there: rules are for what is.
func makeDirs(dirs []string) error {
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	return nil
}
