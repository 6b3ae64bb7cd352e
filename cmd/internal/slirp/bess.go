package slirp

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
)

// accept waits for the guest at a SOCK_SEQPACKET socket: User Mode Linux
// connects to it (vec0:transport=bess,dst=PATH). A signal ends the waiting. The
// socket's name goes as soon as the one guest is there.
func accept(path string, signals <-chan os.Signal) (*face.Guest, os.Signal, error) {
	if err := free(path); err != nil {
		return nil, nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, nil, fmt.Errorf("bess socket: %w", err)
	}
	defer l.Close()
	fmt.Fprintf(os.Stderr, "Waiting for connection to %s\n", path)
	type accepted struct {
		c   *net.UnixConn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		c, err := l.AcceptUnix()
		got <- accepted{c, err}
	}()
	var a accepted
	select {
	case sig := <-signals:
		return nil, sig, nil
	case a = <-got:
	}
	if a.err != nil {
		return nil, nil, fmt.Errorf("bess socket: %w", a.err)
	}
	defer a.c.Close()
	raw, err := a.c.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	g := &face.Guest{Foreign: true, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0}} // its own is heard when it speaks
	rand.Read(g.MAC[1:])
	if cerr := raw.Control(func(fd uintptr) { g.FD, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("bess socket: %w", err)
	}
	return g, nil, nil
}

// free removes a socket that somebody left; what is none is left alone.
func free(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return nil // bind says what is wrong, if something is
	}
	if st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there already, and is no socket", path)
	}
	return os.Remove(path)
}
