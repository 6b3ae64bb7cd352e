package porter

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountFiles gives the mount namespace its own /proc and /sys, its resolv.conf
// and hosts, and hides what containers must not see: above all our sockets,
// whose peer credentials would take a container's root for the owner.
func mountFiles(spec *Spec) (warnings []string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// A held container's pid namespace ends with its first process; each command
	// in it gets one of its own, with its own /proc.
	if !spec.Hold {
		if err := mountProc(); err != nil {
			warnings = append(warnings, fmt.Sprintf("container %s keeps the host's /proc: %v", spec.Name, err))
		}
	}
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	dir, err := hide(spec.Mask)
	if err != nil {
		return nil, err
	}
	if spec.HostNet {
		return warnings, nil // names are the host's, too
	}
	for _, f := range []struct{ name, target, text string }{
		{"resolv.conf", "/etc/resolv.conf", spec.Resolv},
		{"hosts", "/etc/hosts", spec.Hosts},
		{"hostname", "/etc/hostname", spec.Hostname + "\n"},
	} {
		src := filepath.Join(dir, f.name)
		if err := os.WriteFile(src, []byte(f.text), 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if err := bindFile(src, f.target); err != nil && f.name != "hostname" {
			warnings = append(warnings, fmt.Sprintf("container %s keeps the host's %s: %v", spec.Name, f.target, err))
		}
	}
	return warnings, nil
}

// mountProc shows the processes of our own pid namespace. It is refused where
// parts of the outer /proc are hidden, as in a locked-down container.
func mountProc() error {
	return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
}

// hide covers the first path, a directory of ours, with an empty file system,
// which also holds the container's files, and the others with nothing. A
// directory in which a socket stands among strangers' files is left: there the
// socket itself is covered.
func hide(mask []string) (string, error) {
	if len(mask) == 0 {
		return "", errors.New("nothing to hide")
	}
	dir := mask[0]
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
		return "", fmt.Errorf("hide %s: %w", dir, err)
	}
	for _, m := range mask[1:] {
		if st, err := os.Lstat(m); err == nil && !st.IsDir() {
			if err := unix.Mount("/dev/null", m, "", unix.MS_BIND, ""); err != nil {
				return "", fmt.Errorf("hide %s: %w", m, err)
			}
		}
	}
	return dir, nil
}

// bindFile puts src in the place of target. Where the host has a dangling link
// there, as systemd's resolv.conf may be, its target's directory is not ours to
// fill: the file system cannot be changed, only covered.
func bindFile(src, target string) error {
	return unix.Mount(src, target, "", unix.MS_BIND, "")
}

// forward passes the signals that end or poke programs on to f.
func forward(f func(syscall.Signal)) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT, unix.SIGWINCH)
	go func() {
		for s := range c {
			if n, ok := s.(syscall.Signal); ok {
				f(n)
			}
		}
	}()
}
