package nat

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
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
		{"a part of a method", []byte("DELE"), "", saidMore},
		{"HTTP/2 in the clear", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "", saidNone},
		{"ssh", []byte("SSH-2.0-x\r\n"), "", saidOther},
		{"mail", []byte("EHLO x\r\n"), "", saidOther},
	} {
		if name, got := saysName(c.b); name != c.name || got != c.want {
			t.Errorf("%s: %q, %d, want %q, %d", c.what, name, got, c.name, c.want)
		}
	}
}

// FuzzSaysName: what is known does not change with what follows.
func FuzzSaysName(f *testing.F) {
	f.Add(hello(f, "www.example.org"), 50)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 20)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		name, s := saysName(b)
		if cut < 0 || cut > len(b) {
			return
		}
		if part, before := saysName(b[:cut]); before != saidMore && (part != name || before != s) {
			t.Errorf("%q, %d after %d bytes, %q, %d after %d", part, before, cut, name, s, len(b))
		}
		if s == saidName && len(bytes.TrimSpace([]byte(name))) == 0 {
			t.Errorf("an empty name")
		}
	})
}
