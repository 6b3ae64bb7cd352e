package nat

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hello is what crypto/tls sends first, to name.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		a.Close()
	}()
	buf := make([]byte, helloLimit)
	n, err := b.Read(buf)
	b.Close()
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestSaysName(t *testing.T) {
	// The same hello in records of 100 bytes.
	whole := hello(t, "www.example.org")
	var split []byte
	for b := whole[5:]; len(b) > 0; {
		n := min(100, len(b))
		split = append(append(split, 0x16, 3, 1, 0, byte(n)), b[:n]...)
		b = b[n:]
	}
	for _, c := range []struct {
		what string
		b    []byte
		name string
		want said
	}{
		{"nothing", nil, "", saidMore},
		{"TLS", whole, "www.example.org", saidName},
		{"TLS in many records", split, "www.example.org", saidName},
		{"TLS by address", hello(t, ""), "", saidNone},
		{"half a hello", whole[:len(whole)/2], "", saidMore},
		{"a byte of TLS", []byte{0x16}, "", saidMore},
		{"an alert", []byte{0x15, 3, 1, 0, 2, 1, 0}, "", saidOther},
		{"a hello that is none", []byte{0x16, 3, 1, 0, 4, 2, 0, 0, 0}, "", saidOther},
		{"a hello that is too short inside", []byte{0x16, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3}, "", saidNone},
		{"HTTP", []byte("GET / HTTP/1.1\r\nAccept: x\r\nhOST:  Www.Example.Org:80 \r\n\r\n"), "www.example.org", saidName},
		{"HTTP to an IPv6 address", []byte("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"), "[::1]", saidName},
		{"HTTP without a Host", []byte("GET / HTTP/1.0\r\n\r\n"), "", saidNone},
		{"half of HTTP", []byte("GET / HTTP/1.1\r\nHost: www"), "", saidMore},
		{"a head without its end", []byte("GET / HTTP/1.1\r\nHost: www\r\n"), "", saidMore},
		{"HTTP behind an empty line", []byte("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "a", saidName},
		{"any method", []byte("QUERY / HTTP/1.1\r\nHost: a\r\n\r\n"), "a", saidName},
		{"a method in small letters", []byte("get / HTTP/1.1\r\nHost: a\r\n\r\n"), "a", saidName},
		{"HTTP/0.9", []byte("GET /\r\n"), "", saidNone},
		{"two hosts", []byte("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), "", saidNone},
		{"a whole URL", []byte("GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n"), "a", saidName},
		{"a URL of another", []byte("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a URL of another behind a user", []byte("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a proxy's request", []byte("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), "a", saidName},
		{"a proxy's request for another", []byte("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a space before the colon", []byte("GET / HTTP/1.1\r\nHost : b\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a folded line", []byte("GET / HTTP/1.1\r\nX: y\r\n Host: b\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a bare carriage return", []byte("GET / HTTP/1.1\r\nX: y\rHost: b\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a tab in the first line", []byte("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), "", saidNone},
		{"another version", []byte("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), "", saidNone},
		{"a word", []byte("hello"), "", saidMore},
		{"a long word", []byte(strings.Repeat("x", 40)), "", saidOther},
		{"bytes", []byte{0, 0, 0, 8, 4, 210}, "", saidOther},
		{"a word in quotes", []byte("\"hello\""), "", saidOther},
		{"a part of a method", []byte("DELE"), "", saidMore},
		{"HTTP/2 in the clear", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "", saidNone},
		{"ssh", []byte("SSH-2.0-x\r\n"), "", saidOther},
		{"mail", []byte("EHLO x\r\n"), "", saidOther},
	} {
		if name, got, _ := saysName(c.b, false); name != c.name || got != c.want {
			t.Errorf("%s: %q, %d, want %q, %d", c.what, name, got, c.name, c.want)
		}
	}
}

// FuzzSaysName: what is known does not change with what follows.
func FuzzSaysName(f *testing.F) {
	f.Add(hello(f, "www.example.org"), 50)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 20)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		name, s, r := saysName(b, false)
		if cut < 0 || cut > len(b) {
			return
		}
		if part, before, _ := saysName(b[:cut], false); before != saidMore && (part != name || before != s) {
			t.Errorf("%q, %d after %d bytes, %q, %d after %d", part, before, cut, name, s, len(b))
		}
		if s == saidName && len(bytes.TrimSpace([]byte(name))) == 0 {
			t.Errorf("an empty name")
		}
		if s == saidName && len(r.line) > 0 {
			if again, s2, r2 := saysName(r.alone(), false); s2 != saidName || again != name || !bytes.Equal(r2.alone(), r.alone()) {
				t.Errorf("%q goes out as %q, which says %q, %d", b, r.alone(), again, s2)
			}
		}
	})
}

// TestRequestAlone: what keeps a connection open does not go out.
func TestRequestAlone(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n"},
		{"\nPOST /x HTTP/1.1\nHost: a\nconnection: keep-alive, TE\nKeep-Alive: 5\nContent-Length: 4\n\nbody", "POST /x HTTP/1.1\r\nConnection: close\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\nHost: a\r\nSec-WebSocket-Key: x\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n"},
	} {
		if _, s, r := saysName([]byte(c.in), false); s != saidName || string(r.alone()) != c.out {
			t.Errorf("%q goes out as %q, not %q", c.in, r.alone(), c.out)
		}
	}
	if _, s, _ := saysName([]byte("hello"), true); s != saidOther {
		t.Error("a word that is all is held")
	}
	if _, s, _ := saysName([]byte("GET / HTTP/1.1\r\nHost: a\r\n"), true); s != saidMore {
		t.Error("a part of a request passes")
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
		i = l.indexTCP()
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
