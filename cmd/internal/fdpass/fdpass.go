// Package fdpass carries messages and descriptors between the processes of
// tapswitch: one JSON value a message over a SOCK_SEQPACKET pair, with
// descriptors beside it (unix(7), SCM_RIGHTS).
package fdpass

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	maxMessage = 64 << 20
	maxFDs     = 64

	// inline is the length up to which a message goes through the socket's buffer,
	// which an ordinary user cannot make larger than net.core.wmem_max. A longer one,
	// such as a configuration of a thousand containers, lies in a file in memory
	// (memfd_create(2)); aside is sent in its place, with that file as the last
	// descriptor.
	inline = 64 << 10
	aside  = 0 // no JSON begins so
)

// Conn is one end. Send and Receive may be called at the same time; each by
// several goroutines.
type Conn struct {
	f      *os.File
	fd     int
	out    sync.Mutex
	in     sync.Mutex
	closed atomic.Bool // fd may be another file's by now
}

// Pair makes a connected pair: a Conn, and the file to hand to a child.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return New(os.NewFile(uintptr(fds[0]), "parent")), os.NewFile(uintptr(fds[1]), "child"), nil
}

// New takes f over, a SOCK_SEQPACKET socket.
func New(f *os.File) *Conn {
	c := &Conn{f: f, fd: int(f.Fd())}
	unix.CloseOnExec(c.fd)
	return c
}

// Close closes the connection; a Receive that waits ends with io.EOF. Closing
// twice is no error.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // those that wait let their locks go
	c.in.Lock()
	defer c.in.Unlock()
	c.out.Lock()
	defer c.out.Unlock()
	return c.f.Close()
}

// Send sends v and copies of fds, which stay the caller's.
func (c *Conn) Send(v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", len(b), maxMessage)
	}
	if len(b) > inline {
		f, err := inMemory(b)
		if err != nil {
			return fmt.Errorf("message of %d bytes: %w", len(b), err)
		}
		defer unix.Close(f)
		b, fds = []byte{aside}, append(fds[:len(fds):len(fds)], f)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	c.out.Lock()
	defer c.out.Unlock()
	for {
		if c.closed.Load() {
			return os.ErrClosed
		}
		err = unix.Sendmsg(c.fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// Receive waits for a message, decodes it into v and returns the descriptors
// that came with it, which are the caller's. io.EOF says that the other end is
// closed.
func (c *Conn) Receive(v any) ([]int, error) {
	c.in.Lock()
	defer c.in.Unlock()
	oob := make([]byte, unix.CmsgSpace((maxFDs+1)*4))
	for {
		if c.closed.Load() {
			return nil, io.EOF
		}
		// The length first: a connection per container must not hold a buffer for
		// the longest message there is.
		size, _, err := unix.Recvfrom(c.fd, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		buf := make([]byte, max(size, 1))
		n, on, flags, _, err := unix.Recvmsg(c.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECONNRESET || err == nil && n == 0 {
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		fds := Rights(oob[:on])
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			CloseAll(fds)
			return nil, errors.New("message is too long")
		}
		buf = buf[:n]
		if buf[0] == aside && len(fds) > 0 {
			buf, err = readMemory(fds[len(fds)-1])
			unix.Close(fds[len(fds)-1])
			fds = fds[:len(fds)-1]
		}
		if err == nil {
			err = json.Unmarshal(buf, v)
		}
		if err != nil {
			CloseAll(fds)
			return nil, err
		}
		return fds, nil
	}
}

// inMemory makes a file that holds b.
func inMemory(b []byte) (int, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	for at := 0; at < len(b); {
		n, err := unix.Pwrite(fd, b[at:], int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		at += n
	}
	return fd, nil
}

// readMemory is what inMemory has put there.
func readMemory(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Size > maxMessage {
		return nil, fmt.Errorf("message of %d bytes: at most %d", st.Size, maxMessage)
	}
	b := make([]byte, st.Size)
	for at := 0; at < len(b); {
		n, err := unix.Pread(fd, b[at:], int64(at))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		at += n
	}
	return b, nil
}

// Rights takes descriptors out of control data.
func Rights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// StreamOf makes a connection of a stream socket's descriptor, which it takes
// over.
func StreamOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "stream")
	if f == nil {
		return nil, errors.New("no descriptor")
	}
	defer f.Close()
	if t, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || t != unix.SOCK_STREAM {
		return nil, errors.New("not a stream socket")
	}
	return net.FileConn(f)
}
