package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/place"
	"tapswitch/cmd/internal/porter"
)

// systemd is the service manager that started us, if one did: sd_listen_fds(3),
// sd_notify(3), sd_watchdog_enabled(3).
type systemd struct {
	listen   *os.File // the control socket of a socket unit
	path     string   // where that stands
	notify   string   // NOTIFY_SOCKET; "": nobody listens
	watchdog time.Duration
}

// newSystemd takes over what the manager gave us. It is not for containers and
// other processes of ours: they do not see it in their environment.
func newSystemd() (*systemd, error) {
	s := &systemd{notify: os.Getenv("NOTIFY_SOCKET")}
	s.watchdog, _ = daemon.SdWatchdogEnabled(true)
	os.Unsetenv("NOTIFY_SOCKET")
	files := activation.Files(true)
	if len(files) == 0 {
		return s, nil
	}
	if len(files) > 1 {
		return nil, fmt.Errorf("%d sockets were handed over: a switch has one (ListenStream= in one socket unit)", len(files))
	}
	s.listen = files[0]
	var err error
	if s.path, err = socketPath(s.listen); err != nil {
		return nil, err
	}
	return s, nil
}

// socketPath is where a listening unix socket stands.
func socketPath(f *os.File) (string, error) {
	wrong := errors.New("the socket that was handed over is not a unix stream socket that listens: ListenStream=%t/tapswitch/tapswitch.sock")
	fd := int(f.Fd())
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return "", wrong
	}
	a, err := unix.Getsockname(fd)
	if err != nil {
		return "", wrong
	}
	u, ok := a.(*unix.SockaddrUnix)
	if !ok || !filepath.IsAbs(u.Name) {
		return "", wrong
	}
	return u.Name, nil
}

// socket is the path of the control socket: that of the one handed over, unless
// a flag says that it is another, which cannot be.
func (s *systemd) socket(flag string) (string, error) {
	if s.listen == nil {
		return place.Socket(flag)
	}
	if flag != "" && flag != s.path {
		return "", usageError{fmt.Errorf("--socket %s, but the socket unit has %s", flag, s.path)}
	}
	return s.path, nil
}

// ready tells that the switch works, and begins to answer the watchdog.
func (s *systemd) ready(socket string) {
	s.tell(daemon.SdNotifyReady)
	if s.watchdog > 0 && s.notify != "" {
		go s.watch(&client.Client{Socket: socket})
	}
}

// watch tells the watchdog of life as long as the switch answers: the worker and
// its loops, all of which a status asks.
func (s *systemd) watch(c *client.Client) {
	for ; ; time.Sleep(s.watchdog / 3) {
		var st api.Status
		if err := c.Do("GET", "/status", nil, &st); err == nil {
			s.tell(daemon.SdNotifyWatchdog)
		}
	}
}

// phase tells of a change in the switch's life.
func (s *systemd) phase(p porter.Phase) {
	switch p {
	case porter.Ready:
		s.tell(daemon.SdNotifyReady)
	case porter.Reloading:
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		s.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, ts.Nano()/1000))
	case porter.Stopping:
		s.tell(daemon.SdNotifyStopping)
	}
}

// tell sends a state to the manager; that nobody listens is no error.
func (s *systemd) tell(state string) {
	if s.notify == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.notify, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
