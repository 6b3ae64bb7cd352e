package dockerplugin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstInherited is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstInherited = 3

// Inherited is the socket that systemd has opened for us, or nil.
func Inherited() (*net.UnixListener, error) {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return nil, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for _, k := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(k) // not for those that we start
	}
	if err != nil || n != 1 {
		return nil, fmt.Errorf("LISTEN_FDS: one socket is served, not %d", n)
	}
	f := os.NewFile(firstInherited, "socket")
	defer f.Close()
	unix.CloseOnExec(firstInherited)
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket of LISTEN_FDS: %w", err)
	}
	u, is := l.(*net.UnixListener)
	if !is {
		l.Close()
		return nil, errors.New("socket of LISTEN_FDS: it must be a unix socket")
	}
	u.SetUnlinkOnClose(false) // it is systemd's
	return u, nil
}

// Listen makes the socket at path, which goes with us. One that a plugin left
// behind is replaced; one that answers is somebody's.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("plugin socket: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("plugin socket %s: another plugin serves it; choose another --name", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		_ = os.Remove(path)
	}
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("plugin socket: %w", err)
	}
	return l, nil
}

// WriteSpec lets a Docker that cannot see our socket's directory find it: rootless
// Docker has a /run/docker of its own. The file stays: Docker then waits for a
// plugin that is not there yet.
func WriteSpec(path, socket string) error {
	text := "unix://" + socket + "\n"
	if b, err := os.ReadFile(path); err == nil && string(b) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("spec file: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("spec file: %w", err)
	}
	return nil
}
