package forward

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// serveTCP starts ServeTCP on one end of a pipe; done is closed when it ends.
func serveTCP(ctx context.Context, answer func([]byte) []byte) (client net.Conn, done chan struct{}) {
	client, server := net.Pipe()
	done = make(chan struct{})
	go func() {
		defer close(done)
		ServeTCP(ctx, server, answer)
	}()
	return client, done
}

func upper(query []byte) []byte { return bytes.ToUpper(query) }

// expectEnd checks that ServeTCP ends and hangs up.
func expectEnd(t *testing.T, client net.Conn, done chan struct{}) {
	t.Helper()
	if n, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read %d, %v, want EOF", n, err)
	}
	<-done
}

func TestServeTCP(t *testing.T) {
	client, done := serveTCP(t.Context(), upper)
	// Several queries on one connection, whole, in pieces and at once.
	for _, writes := range [][]string{
		{"\x00\x03abc"},
		{"\x00", "\x03", "a", "bc"},
		{"\x00\x03ab", "c"},
	} {
		for _, w := range writes {
			if _, err := client.Write([]byte(w)); err != nil {
				t.Fatal(err)
			}
		}
		expectRead(t, client, "\x00\x03ABC")
	}
	go client.Write([]byte("\x00\x01x\x00\x02yz"))
	expectRead(t, client, "\x00\x01X\x00\x02YZ")

	big := bytes.Repeat([]byte{'q'}, dnsMaxQuery)
	go writeTCP(client, big)
	expectRead(t, client, "\x10\x00"+string(bytes.ToUpper(big)))

	client.Close()
	<-done
}

func expectRead(t *testing.T, client net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestServeTCPEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		send   string
		answer func([]byte) []byte
	}{
		{"a query above the bound", "\x10\x01", upper},
		{"the longest length", "\xff\xff", upper},
		{"no answer", "\x00\x01x", func([]byte) []byte { return nil }},
		{"an answer that no length can say", "\x00\x01x", func([]byte) []byte { return make([]byte, 65536) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, done := serveTCP(t.Context(), tt.answer)
			if _, err := client.Write([]byte(tt.send)); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, client, done)
		})
	}
}

func TestServeTCPContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, done := serveTCP(ctx, upper)
	go client.Write([]byte("\x00\x01x"))
	expectRead(t, client, "\x00\x01X")
	cancel()
	expectEnd(t, client, done)
}

func TestServeTCPIdle(t *testing.T) {
	for _, tt := range []struct {
		name string
		send string
	}{
		{"nothing", ""},
		{"half a query", "\x00\x05abc"},
		{"a query, and the reply not taken", "\x00\x01x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, done := serveTCP(t.Context(), upper)
				start := time.Now() // of the test's own clock, which jumps
				if _, err := client.Write([]byte(tt.send)); err != nil {
					t.Fatal(err)
				}
				<-done
				if took := time.Since(start); took != 30*time.Second {
					t.Errorf("ended after %v", took)
				}
			})
		})
	}
}

// TestServeTCPDNS is a client of the library against a server of ours.
func TestServeTCPDNS(t *testing.T) {
	d := newDNS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go ServeTCP(t.Context(), conn, func(query []byte) []byte {
				return d.Answer(t.Context(), "bridge", false, query, 0)
			})
		}
	}()
	conn, err := dns.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		r, _, err := new(dns.Client).ExchangeWithConn(question("web.", dns.TypeA), conn)
		if err != nil || len(r.Answer) != 1 {
			t.Fatalf("reply %v, %v", r, err)
		}
	}
}
