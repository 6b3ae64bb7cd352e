package switchtest

import (
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Socket is one end of a pair of packet sockets: a device with a descriptor,
// so that Switch.Run and its epoll set are tested without a privilege.
type Socket struct {
	fd   int
	caps vswitch.Caps
}

// SocketPair makes a device for the switch and its other end for the test.
// Closing the test's end looks to the switch like a namespace that is gone; it
// is closed when the test ends. The device is the caller's to close when the
// switch has let it go.
func SocketPair(t testing.TB, caps vswitch.Caps) (device, test *Socket) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	device, test = &Socket{fds[0], caps}, &Socket{fds[1], caps}
	t.Cleanup(func() { test.Close() })
	return device, test
}

// Read takes one frame, or says EAGAIN; at the end it says EBADFD as a TAP does.
func (s *Socket) Read(b []byte) (int, unix.Errno) {
	n, err := unix.Read(s.fd, b)
	if err != nil {
		return 0, err.(unix.Errno)
	}
	if n == 0 {
		return 0, unix.EBADFD
	}
	return n, 0
}

// Write sends one frame.
func (s *Socket) Write(b []byte) unix.Errno {
	if _, err := unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return err.(unix.Errno)
	}
	return 0
}

// Wait takes one frame and waits for it. It fails the test if none comes within
// ten seconds.
func (s *Socket) Wait(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, vswitch.VnetLen+vswitch.MaxFrame)
	for {
		n, e := s.Read(b)
		if e == 0 {
			return b[:n]
		}
		if e != unix.EAGAIN {
			t.Fatalf("read from the switch: %v", e)
		}
		p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 10_000); n == 0 {
			t.Fatal("the switch sent nothing within 10 s")
		} else if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

// FD is the descriptor.
func (s *Socket) FD() int { return s.fd }

// Caps is what SocketPair was told.
func (s *Socket) Caps() vswitch.Caps { return s.caps }

// Close closes this end. Closing twice is no error.
func (s *Socket) Close() error {
	fd := s.fd
	s.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
