package nat

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client of a published port that has said something before the container
// answers: the frame that ends the handshake carries it.
func TestHandshakeCarriesTheRequest(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	var client net.Conn
	l.do(func() { // the switch waits meanwhile
		var err error
		if client, err = dialFrom(outside4b+":0", hostPort(outside4, at)); err != nil {
			t.Error(err)
			return
		}
		if _, err = io.WriteString(client, "request"); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.SetDeadline(time.Now().Add(patience))
	got := make([]byte, len("request"))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "request" {
		t.Fatalf("%q, %v", got, err)
	}
	l.do(func() {
		if got := l.theTCP().packets[1]; got != 2 {
			t.Errorf("%d frames went to the container, not a SYN and the request", got)
		}
	})
}

// A connection to this host is established when connect(2) returns, and one
// that is only begun is not.
func TestConnected(t *testing.T) {
	l := newLab(t, Config{})
	ln := l.listenOutside("tcp", outside4+":0", nil)
	defer blackHole(t, "198.51.100.128/25").Close()
	for _, c := range []struct {
		to   netip.AddrPort
		want bool
	}{
		{netip.MustParseAddrPort(ln.Addr().String()), true},
		{netip.MustParseAddrPort("198.51.100.129:80"), false},
	} {
		fd, e := sysSocket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if e != 0 {
			t.Fatal(e)
		}
		if sysConnected(fd) {
			t.Error("a socket that was never connected looks so")
		}
		var to sockaddr
		to.set(c.to)
		if e := sysConnect(fd, &to); e != unix.EINPROGRESS {
			t.Errorf("connect to %v: %v", c.to, e)
		}
		if got := sysConnected(fd); got != c.want {
			t.Errorf("to %v: connected is %v", c.to, got)
		}
		sysClose(fd)
	}
}

// An urgent byte of a published port's client stays in the stream, as for the
// sockets that we open ourselves.
func TestUrgentBytesPublished(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	client, err := dialFrom(outside4b+":0", hostPort(outside4, at))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.SetDeadline(time.Now().Add(patience))
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
	go func() {
		s := newStream(1, 100_000)
		p := make([]byte, 1000)
		for k := 0; ; k++ {
			n, err := s.Read(p)
			if err != nil {
				break
			}
			if k%10 == 3 {
				raw(client, func(fd int) { unix.Send(fd, p[:n], unix.MSG_OOB) })
			} else {
				client.Write(p[:n])
			}
		}
		client.(*net.TCPConn).CloseWrite()
	}()
	if err := equal(server, newStream(1, 100_000)); err != nil {
		t.Fatal(err)
	}
}

// A peek stops at an urgent byte, and nothing more comes that would have us look
// behind it.
func TestUrgentByteAmid(t *testing.T) {
	for _, noPeek := range []bool{false, true} {
		l := newLab(t, Config{})
		l.nat.noPeekOffset = noPeek
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
		in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
		l.do(func() {
			raw(out, func(fd int) { unix.Send(fd, []byte("before!"), unix.MSG_OOB) })
			io.WriteString(out, "behind")
		})
		got := make([]byte, len("before!behind"))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != "before!behind" {
			t.Errorf("no peek offset %v: %q, %v", noPeek, got, err)
		}
		in.Close()
		out.Close()
	}
}

// The socket's end comes with its last bytes, in one event: it is seen once the
// container has acknowledged these.
func TestEndWithTheLastBytes(t *testing.T) {
	for _, noPeek := range []bool{false, true} {
		l := newLab(t, Config{})
		l.nat.noPeekOffset = noPeek
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
		in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
		l.do(func() {
			if err := upload(out, 1, 100); err != nil {
				t.Error(err)
			}
		})
		if err := equal(in, newStream(1, 100)); err != nil {
			t.Errorf("no peek offset %v: %v", noPeek, err)
		}
		in.Close()
		out.Close()
	}
}

// What is kept back until it is known which name it means stays so, whatever
// epoll says of the socket.
func TestInspectedBytesWait(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
	var i uint32
	l.do(func() {
		for k := range l.nat.flows {
			if l.nat.flows[k].kind == kindTCP {
				i = uint32(k)
			}
		}
		l.nat.flows[i].set(fInspect)
	})
	head := "GET / HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n"
	io.WriteString(in, head[:30])
	l.eventually("the first part is kept", func() bool { return l.nat.flows[i].tcp.spill != none })
	l.do(func() { l.nat.Event(l.nat.token(i), unix.EPOLLIN|unix.EPOLLOUT) })
	l.do(func() {
		if f := &l.nat.flows[i]; f.tcp.spill == none || !f.has(fInspect) || f.has(fQueued) {
			t.Errorf("the first part has gone, flags %#x", f.flags)
		}
	})
	io.WriteString(in, head[30:])
	got := make([]byte, len("GET / HTTP/1.1"))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "GET / HTTP/1.1" {
		t.Errorf("%q, %v", got, err)
	}
}
