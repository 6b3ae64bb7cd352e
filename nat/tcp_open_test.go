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
