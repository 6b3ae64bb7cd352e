package forward

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// silentDial returns sockets on which nothing ever arrives.
func silentDial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	return ours, nil
}

func TestForwardTimeout(t *testing.T) {
	quiet, good := netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:53")
	for _, tt := range []struct {
		name      string
		upstreams []netip.AddrPort
		took      time.Duration
		rcode     int
		stats     DNSStats
	}{
		{"the first is silent", []netip.AddrPort{quiet, good}, 4 * time.Second, dns.RcodeNameError, DNSStats{Queries: 1, Forwarded: 1, Timeouts: 1}},
		{"all are silent", []netip.AddrPort{quiet, quiet, quiet, good}, 12 * time.Second, dns.RcodeServerFailure, DNSStats{Queries: 1, Failed: 1, Timeouts: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := question("example.com.", dns.TypeA)
				d := NewDNS(DNSConfig{
					Names: names, Upstreams: using(tt.upstreams...),
					Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
						if address == good.String() {
							return &echo{network, packed(t, answerWith(dns.RcodeNameError)(network, q)), nil}, nil
						}
						return silentDial(ctx, network, address)
					},
				})
				start := time.Now() // of the test's own clock, which jumps
				r := queryUDP(t, d, q)
				if took := time.Since(start); took != tt.took || r.Rcode != tt.rcode {
					t.Errorf("after %v: reply %v", took, r)
				}
				if got := d.Stats(); got != tt.stats {
					t.Errorf("stats %+v, want %+v", got, tt.stats)
				}
			})
		})
	}
}

func TestForwardCancelled(t *testing.T) {
	up := netip.MustParseAddrPort("192.0.2.53:53")
	ctx, cancel := context.WithCancel(t.Context())
	dials := 0
	d := NewDNS(DNSConfig{
		Names: names, Upstreams: using(up, up, up), Timeout: time.Hour,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			cancel()
			dials++
			return silentDial(ctx, network, address)
		},
	})
	q := question("example.com.", dns.TypeA)
	r := checkReply(t, q, d.Answer(ctx, "bridge", true, packed(t, q), 0))
	if r.Rcode != dns.RcodeServerFailure || dials != 1 {
		t.Errorf("after %d dials: reply %v", dials, r)
	}
	if got := d.Stats(); got != (DNSStats{Queries: 1, Failed: 1}) {
		t.Errorf("stats %+v", got)
	}
}

func TestForwardInflight(t *testing.T) {
	const limit = 8
	u := newUpstream(t, answerWith(0, "example.com. 30 IN A 192.0.2.1"))
	dialling := make(chan struct{}, limit)
	release := make(chan struct{})
	d := NewDNS(DNSConfig{
		Names: names, Upstreams: using(u.addr), MaxInflight: limit,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialling <- struct{}{}
			<-release
			return new(net.Dialer).Dial(network, address)
		},
		Timeout: time.Minute,
	})
	var wg sync.WaitGroup
	for range limit {
		wg.Go(func() {
			if r := queryUDP(t, d, question("example.com.", dns.TypeA)); r.Rcode != 0 || len(r.Answer) != 1 {
				t.Errorf("reply within the limit: %v", r)
			}
		})
	}
	for range limit {
		<-dialling
	}
	if r := queryUDP(t, d, question("example.com.", dns.TypeA)); r.Rcode != dns.RcodeRefused {
		t.Errorf("reply over the limit: %v", r)
	}
	// Names of ours need no upstream.
	if r := queryUDP(t, d, question("web.", dns.TypeA)); r.Rcode != 0 || len(r.Answer) != 1 {
		t.Errorf("local reply over the limit: %v", r)
	}
	close(release)
	wg.Wait()
	if got := d.Stats(); got != (DNSStats{Queries: limit + 2, Local: 1, Forwarded: limit, Refused: 1}) {
		t.Errorf("stats %+v", got)
	}
	go func() { <-dialling }()
	if r := queryUDP(t, d, question("example.com.", dns.TypeA)); r.Rcode != 0 {
		t.Errorf("reply when there is room again: %v", r)
	}
}

func TestAnswerConcurrent(t *testing.T) {
	u := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		r := answerWith(0, q.Question[0].Name+` 30 IN TXT "`+strings.TrimSuffix(q.Question[0].Name, ".")+`"`)(network, q)
		if network == "udp" && strings.HasPrefix(q.Question[0].Name, "tcp") {
			r.Answer, r.Truncated = nil, true
		}
		return r
	})
	dead := newUpstream(t, answerWith(dns.RcodeServerFailure))
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(dead.addr, u.addr), Timeout: time.Minute})
	const clients, queries = 16, 40
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := range queries {
				switch i % 4 {
				case 0:
					if r := queryUDP(t, d, question("web.", dns.TypeA)); len(r.Answer) != 1 {
						t.Errorf("reply %v", r)
					}
				default:
					name := fmt.Sprintf("%s-%d-%d.example", []string{"", "udp", "tcp", "udp"}[i%4], client, i)
					r := queryUDP(t, d, question(name+".", dns.TypeTXT))
					if len(r.Answer) != 1 || r.Answer[0].(*dns.TXT).Txt[0] != name {
						t.Errorf("%s: reply %v", name, r)
					}
				}
				d.Stats()
			}
		})
	}
	wg.Wait()
	if got := d.Stats(); got != (DNSStats{Queries: clients * queries, Local: clients * queries / 4, Forwarded: clients * queries * 3 / 4}) {
		t.Errorf("stats %+v", got)
	}
	if n := d.inflight.Load(); n != 0 {
		t.Errorf("%d in flight at the end", n)
	}
}

// FuzzForward has an upstream reply anything over UDP and TCP; its id is made
// the right one.
func FuzzForward(f *testing.F) {
	query := packed(f, question("Example.com.", dns.TypeA).SetEdns0(1232, true))
	for _, r := range []*dns.Msg{
		answerWith(0, "example.com. 30 IN A 192.0.2.1")("", parsed(f, query)),
		answerWith(dns.RcodeNameError)("", parsed(f, query)),
		answerWith(dns.RcodeFormatError)("", parsed(f, query)),
	} {
		f.Add(packed(f, r), true)
		r.Truncated = true
		f.Add(packed(f, r), false)
	}
	f.Add(append(slices.Clone(query), make([]byte, 4096)...), true)
	f.Fuzz(func(t *testing.T, reply []byte, udp bool) {
		if len(reply) > dns.MaxMsgSize {
			return
		}
		d := NewDNS(DNSConfig{
			Names: names, Upstreams: using(netip.MustParseAddrPort("192.0.2.53:53")), Timeout: time.Hour,
			Dial: func(_ context.Context, network, _ string) (net.Conn, error) { return &echo{network, reply, nil}, nil },
		})
		b := d.Answer(t.Context(), "bridge", udp, query, 0)
		if len(b) < 12 || !bytes.Equal(b[:2], query[:2]) || b[2]&0x80 == 0 {
			t.Fatalf("reply %x", b)
		}
		if limit := replyLimit(parsed(t, query), udp, 0); len(b) > limit {
			t.Errorf("reply of %d bytes, limit %d", len(b), limit)
		}
		if end, ok := questionEnd(query); ok && !bytes.Equal(b[12:end], query[12:end]) {
			t.Errorf("question %x, want %x", b[12:end], query[12:end])
		}
		expectSum(t, d)
	})
}

// echo is a connection whose other end sends reply once, with the id of the
// query that was written.
type echo struct {
	network string
	reply   []byte
	unread  []byte
}

func (e *echo) Write(p []byte) (int, error) {
	r := slices.Clone(e.reply)
	id := p
	if e.network == "tcp" {
		id = p[2:]
		r = append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...)
		if len(r) >= 4 {
			copy(r[2:], id[:2])
		}
	} else if len(r) >= 2 {
		copy(r, id[:2])
	}
	e.unread = r
	return len(p), nil
}

func (e *echo) Read(p []byte) (int, error) {
	if e.unread == nil {
		return 0, io.EOF
	}
	n := copy(p, e.unread)
	e.unread = e.unread[n:]
	if e.network == "udp" || len(e.unread) == 0 {
		e.unread = nil
	}
	return n, nil
}

func (e *echo) Close() error                     { return nil }
func (e *echo) LocalAddr() net.Addr              { return nil }
func (e *echo) RemoteAddr() net.Addr             { return nil }
func (e *echo) SetDeadline(time.Time) error      { return nil }
func (e *echo) SetReadDeadline(time.Time) error  { return nil }
func (e *echo) SetWriteDeadline(time.Time) error { return nil }
