package fdpass

import (
	"context"
	"net"
	"net/http"
	"sync"

	"golang.org/x/sys/unix"
)

// HTTP over a unix socket, with descriptors beside the request: the client
// attaches them to the first bytes that it writes, the server's handler finds
// them with the connection.

type serverConn struct {
	*net.UnixConn
	mu  sync.Mutex
	fds []int
	oob [512]byte
}

// Read collects descriptors that come with the bytes.
func (c *serverConn) Read(b []byte) (int, error) {
	n, on, _, _, err := c.ReadMsgUnix(b, c.oob[:])
	if on > 0 {
		fds := Rights(c.oob[:on])
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		c.mu.Lock()
		c.fds = append(c.fds, fds...)
		c.mu.Unlock()
	}
	if n == 0 && err == nil && len(b) > 0 {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *serverConn) Close() error {
	c.mu.Lock()
	CloseAll(c.fds)
	c.fds = nil
	c.mu.Unlock()
	return c.UnixConn.Close()
}

// Listener accepts connections that may carry descriptors. Allow is asked for
// each peer's user id.
type Listener struct {
	*net.UnixListener
	Allow func(uid uint32) bool
}

// Accept waits for a connection of an allowed user.
func (l Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, ok := peerUID(c); l.Allow == nil || ok && l.Allow(uid) {
			return &serverConn{UnixConn: c}, nil
		}
		c.Close()
	}
}

func peerUID(c *net.UnixConn) (uint32, bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cerr != nil {
		return 0, false
	}
	return cred.Uid, true
}

type connKey struct{}

// ConnContext is for http.Server: it lets Files find the connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// WithFiles is r with descriptors beside it, for one that no connection brought.
func WithFiles(r *http.Request, fds []int) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), connKey{}, &serverConn{fds: fds}))
}

// Files are the descriptors that came with the request; they are the caller's.
func Files(r *http.Request) []int {
	c, ok := r.Context().Value(connKey{}).(*serverConn)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := c.fds
	c.fds = nil
	return fds
}

// clientConn attaches descriptors to its first write.
type clientConn struct {
	*net.UnixConn
	fds []int
}

func (c *clientConn) Write(b []byte) (int, error) {
	if len(c.fds) == 0 {
		return c.UnixConn.Write(b)
	}
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(c.fds...), nil)
	c.fds = nil
	return n, err
}

// Client is an HTTP client of the socket at path whose first request carries
// fds, which stay the caller's.
func Client(path string, fds ...int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", path)
			if err != nil {
				return nil, err
			}
			return &clientConn{UnixConn: c.(*net.UnixConn), fds: fds}, nil
		},
	}}
}
