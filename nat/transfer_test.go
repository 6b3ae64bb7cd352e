package nat

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stream is size bytes that are the same for one seed.
type stream struct {
	rng  *rand.ChaCha8
	left int64
}

func newStream(seed uint64, size int64) *stream {
	var s [32]byte
	for i := range 8 {
		s[i] = byte(seed >> (8 * i))
	}
	return &stream{rand.NewChaCha8(s), size}
}

func (s *stream) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), s.left)]
	s.left -= int64(len(b))
	return s.rng.Read(b)
}

func sumOf(seed uint64, size int64) []byte {
	h := sha256.New()
	io.Copy(h, newStream(seed, size))
	return h.Sum(nil)
}

// upload sends a stream and says that it ends.
func upload(c net.Conn, seed uint64, size int64) error {
	if n, err := io.CopyBuffer(c, struct{ io.Reader }{newStream(seed, size)}, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("sent %d of %d bytes: %w", n, size, err)
	}
	return c.(*net.TCPConn).CloseWrite()
}

// download reads a stream to its end and compares.
func download(r io.Reader, seed uint64, size int64) error {
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil {
		return fmt.Errorf("received %d of %d bytes: %w", n, size, err)
	}
	if n != size || !bytes.Equal(h.Sum(nil), sumOf(seed, size)) {
		return fmt.Errorf("received %d of %d bytes, and not those that were sent", n, size)
	}
	return nil
}

// both runs one side of a connection: it sends up bytes and expects down, at
// the same time.
func both(c net.Conn, up, down int64, seedUp, seedDown uint64) error {
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() { sent <- upload(c, seedUp, up) }()
	err := download(c, seedDown, down)
	if err != nil {
		c.SetDeadline(time.Now()) // lets the other half end, too
	}
	return errors.Join(err, <-sent)
}

// exchange lets two ends of a connection send to each other what is asked for
// and reports what went wrong.
func exchange(a, b net.Conn, aToB, bToA int64) error {
	there := make(chan error, 1)
	go func() { there <- both(b, bToA, aToB, 2, 1) }()
	err := both(a, aToB, bToA, 1, 2)
	if e := <-there; e != nil {
		err = errors.Join(err, fmt.Errorf("at the other end: %w", e))
	}
	return err
}

// pair connects a container with a listener of the outside.
func (b *box) pair(ln net.Listener, tune func(fd int)) (inside, outside net.Conn) {
	b.lab.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			b.lab.Error(err)
		}
		accepted <- c
	}()
	inside, err := b.dialWith("tcp", ln.Addr().String(), tune)
	if err != nil {
		b.lab.Fatal(err)
	}
	outside = <-accepted
	if outside == nil {
		b.lab.FailNow()
	}
	b.lab.Cleanup(func() { inside.Close(); outside.Close() })
	for _, c := range []net.Conn{inside, outside} {
		c.SetDeadline(time.Now().Add(patience))
	}
	return inside, outside
}

// eachPeek runs f for a connection from a container to the outside, with SO_PEEK_OFF and
// without.
func eachPeek(t *testing.T, c boxConfig, f func(l *lab, in, out net.Conn)) {
	for _, noPeek := range []bool{false, true} {
		t.Run(fmt.Sprintf("no SO_PEEK_OFF %v", noPeek), func(t *testing.T) {
			l := newLab(t, Config{})
			l.nat.noPeekOffset = noPeek
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), c)
			in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
			f(l, in, out)
		})
	}
}

// control lets tune see a socket before it is bound or connected.
func control(tune func(fd int)) func(network, address string, c syscall.RawConn) error {
	if tune == nil {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error { return c.Control(func(fd uintptr) { tune(int(fd)) }) }
}

// small gives a socket the smallest buffers the kernel allows.
func small(fd int) {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 2048)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
}

// raw runs f on the descriptor of a connection.
func raw(c net.Conn, f func(fd int)) {
	rc, err := c.(syscall.Conn).SyscallConn()
	if err == nil {
		rc.Control(func(fd uintptr) { f(int(fd)) })
	}
}
