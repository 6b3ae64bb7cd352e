package nat

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// Urgent bytes of the outside are bytes like others to the container, and
// nothing behind them is lost or doubled.
func TestUrgentBytes(t *testing.T) {
	eachPeek(t, boxConfig{in: usual, out: usual}, func(l *lab, in, out net.Conn) {
		const size = 1 * mib
		go shout(out, 1, size)
		if err := equal(in, newStream(1, size)); err != nil {
			l.Fatal(err)
		}
	})
}

// An urgent byte of a published port's client stays in the stream, as for the
// sockets that we open ourselves.
func TestUrgentBytesPublished(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	server, client, err := meet(ln, func() (net.Conn, error) { return dialFrom(outside4b+":0", hostPort(outside4, at)) })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	l.do(func() {
		fd := int(l.theTCP().fd)
		for _, o := range []struct {
			name       string
			level, opt int
		}{{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY}, {"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE}, {"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE}} {
			if v, e := getInt(fd, o.level, o.opt); v == 0 || e != 0 {
				t.Errorf("%s is %d, %v", o.name, v, e)
			}
		}
	})
	go shout(client, 1, 100_000)
	if err := equal(server, newStream(1, 100_000)); err != nil {
		t.Fatal(err)
	}
}

// A peek stops at an urgent byte, and nothing more comes that would have us look
// behind it.
func TestUrgentByteAmid(t *testing.T) {
	eachPeek(t, boxConfig{}, func(l *lab, in, out net.Conn) {
		l.do(func() {
			raw(out, func(fd int) { unix.Send(fd, []byte("before!"), unix.MSG_OOB) })
			io.WriteString(out, "behind")
		})
		got := make([]byte, len("before!behind"))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != "before!behind" {
			l.Errorf("%q, %v", got, err)
		}
	})
}

// shout sends a stream to its end as upload does, but each tenth write ends with an
// urgent byte.
func shout(c net.Conn, seed uint64, size int64) {
	s := newStream(seed, size)
	p := make([]byte, 1000)
	for k := 0; ; k++ {
		n, err := s.Read(p)
		if err != nil {
			break
		}
		if k%10 == 3 {
			raw(c, func(fd int) { unix.Send(fd, p[:n], unix.MSG_OOB) })
		} else {
			c.Write(p[:n])
		}
	}
	c.(*net.TCPConn).CloseWrite()
}
