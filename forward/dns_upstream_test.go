package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstream is a resolver on 127.0.0.1, on one port over UDP and TCP.
type upstream struct {
	addr     netip.AddrPort
	udp, tcp atomic.Int64 // queries seen
	last     atomic.Pointer[dns.Msg]
}

// newUpstream starts a resolver that answers with handle; a nil reply is none.
func newUpstream(t testing.TB, handle func(network string, q *dns.Msg) *dns.Msg) *upstream {
	t.Helper()
	u := &upstream{}
	pc, l := listenBoth(t)
	u.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	serve := func(network string, count *atomic.Int64, srv *dns.Server) {
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			count.Add(1)
			u.last.Store(q.Copy())
			if r := handle(network, q); r != nil {
				w.WriteMsg(r)
			}
		})
		srv.UDPSize = 65535
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	serve("udp", &u.udp, &dns.Server{PacketConn: pc})
	serve("tcp", &u.tcp, &dns.Server{Listener: l})
	return u
}

// listenBoth finds a port that is free for both.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		var l net.Listener
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal(err)
	return nil, nil
}

// closedPort is one where nobody listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	pc, l := listenBoth(t)
	pc.Close()
	l.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

func answerWith(rcode int, records ...string) func(string, *dns.Msg) *dns.Msg {
	return func(_ string, q *dns.Msg) *dns.Msg {
		r := new(dns.Msg).SetRcode(q, rcode)
		r.RecursionAvailable = true
		for _, s := range records {
			rr, err := dns.NewRR(s)
			if err != nil {
				panic(err)
			}
			r.Answer = append(r.Answer, rr)
		}
		if opt := q.IsEdns0(); opt != nil {
			r.Extra = append(r.Extra, opt)
		}
		r.Compress = true
		return r
	}
}

func using(list ...netip.AddrPort) func() []netip.AddrPort {
	return func() []netip.AddrPort { return list }
}

func TestForward(t *testing.T) {
	u := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		return answerWith(0, q.Question[0].Name+" 30 IN A 192.0.2.1")(network, q)
	})
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(u.addr)})
	for i, name := range []string{
		"example.com.", "ExAmPle.COM.", "singlelabel.", "web.otherdomain.", ".",
		`a\.b.example.`, `web\000.`, "1.0.0.127.in-addr.arpa.", "17.172.in-addr.arpa.",
	} {
		q := question(name, dns.TypeA)
		q.SetEdns0(1400, true)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("kept")}}
		q.CheckingDisabled = true
		r := queryUDP(t, d, q)
		if len(r.Answer) != 1 || r.Answer[0].Header().Name != name || r.Answer[0].Header().Ttl != 30 {
			t.Errorf("%s: reply %v", name, r)
		}
		seen := u.last.Load()
		if seen.Question[0] != q.Question[0] || !seen.CheckingDisabled || !seen.RecursionDesired {
			t.Errorf("%s: upstream was asked %v", name, seen)
		}
		if opt := seen.IsEdns0(); opt == nil || opt.UDPSize() != 1400 || !opt.Do() || len(opt.Option) != 1 || opt.Option[0].String() != q.IsEdns0().Option[0].String() {
			t.Errorf("%s: upstream was asked with EDNS %v", name, opt)
		}
		if got := d.Stats(); got != (DNSStats{Queries: uint64(i + 1), Forwarded: uint64(i + 1)}) {
			t.Errorf("%s: stats %+v", name, got)
		}
	}
	if u.tcp.Load() != 0 {
		t.Error("upstream was asked over TCP")
	}
	// Another bridge has none of these names.
	q := question("web.", dns.TypeA)
	if r := parsed(t, d.Answer(t.Context(), "bridge2", true, packed(t, q), 0)); len(r.Answer) != 1 || !strings.Contains(r.Answer[0].String(), "192.0.2.1") {
		t.Errorf("web on bridge2: reply %v", r)
	}
	// None of ours, of which the others are not to know.
	asked := u.udp.Load()
	for _, q := range []*dns.Msg{
		question("web.", dns.TypeAAAA), question("web.", dns.TypeMX), question("WEB.bridge.", dns.TypeTXT),
		question("77.0.17.172.in-addr.arpa.", dns.TypePTR),
	} {
		queryUDP(t, d, q)
	}
	if n := u.udp.Load() - asked; n != 0 {
		t.Errorf("%d queries for names of ours were forwarded", n)
	}
	expectSum(t, d)
}

// TestForwardKeepsCase has an upstream that writes all names in lower case.
func TestForwardKeepsCase(t *testing.T) {
	u := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		q.Question[0].Name = strings.ToLower(q.Question[0].Name)
		return answerWith(0, q.Question[0].Name+" 30 IN A 192.0.2.1")(network, q)
	})
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(u.addr)})
	r := queryUDP(t, d, question("ExAmPle.COM.", dns.TypeA))
	if len(r.Answer) != 1 || r.Answer[0].Header().Name != "ExAmPle.COM." {
		t.Errorf("reply %v", r)
	}
}

// TestForwardOrder has the first upstream that is not passed over say which
// one it is.
func TestForwardOrder(t *testing.T) {
	good := func(ip string) *upstream {
		return newUpstream(t, answerWith(0, "example.com. 30 IN A "+ip))
	}
	a, b, c, x := good("192.0.2.1"), good("192.0.2.2"), good("192.0.2.3"), good("192.0.2.4")
	servfail := newUpstream(t, answerWith(dns.RcodeServerFailure))
	refused := newUpstream(t, answerWith(dns.RcodeRefused))
	nxdomain := newUpstream(t, answerWith(dns.RcodeNameError))
	notimp := newUpstream(t, answerWith(dns.RcodeNotImplemented))
	closed := closedPort(t)
	for _, tt := range []struct {
		name      string
		upstreams []netip.AddrPort
		rcode     int
		ip        string
	}{
		{"the first", []netip.AddrPort{a.addr, b.addr, c.addr}, 0, "192.0.2.1"},
		{"after SERVFAIL", []netip.AddrPort{servfail.addr, b.addr, c.addr}, 0, "192.0.2.2"},
		{"after REFUSED", []netip.AddrPort{refused.addr, b.addr}, 0, "192.0.2.2"},
		{"after a closed port", []netip.AddrPort{closed, b.addr}, 0, "192.0.2.2"},
		{"the third", []netip.AddrPort{servfail.addr, closed, c.addr}, 0, "192.0.2.3"},
		{"never the fourth", []netip.AddrPort{servfail.addr, closed, refused.addr, x.addr}, dns.RcodeServerFailure, ""},
		{"NXDOMAIN is final", []netip.AddrPort{nxdomain.addr, b.addr}, dns.RcodeNameError, ""},
		{"NOTIMP is final", []netip.AddrPort{notimp.addr, b.addr}, dns.RcodeNotImplemented, ""},
		{"none", nil, dns.RcodeServerFailure, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDNS(DNSConfig{Names: names, Upstreams: using(tt.upstreams...), Timeout: time.Minute})
			for _, edns := range []bool{false, true} {
				q := question("example.com.", dns.TypeA)
				if edns {
					q.SetEdns0(1232, true)
				}
				r := queryUDP(t, d, q)
				var ip string
				if len(r.Answer) == 1 {
					ip = r.Answer[0].(*dns.A).A.String()
				}
				if r.Rcode != tt.rcode || ip != tt.ip {
					t.Errorf("reply %v", r)
				}
			}
			want := DNSStats{Queries: 2}
			if tt.rcode == dns.RcodeServerFailure {
				want.Failed = 2
			} else {
				want.Forwarded = 2
			}
			if got := d.Stats(); got != want {
				t.Errorf("stats %+v, want %+v", got, want)
			}
		})
	}
	if x.udp.Load() != 0 {
		t.Error("the fourth upstream was asked")
	}
}

func TestForwardTruncated(t *testing.T) {
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("example.com. 30 IN A 192.0.2.%d", i))
	}
	u := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		r := answerWith(0, records...)(network, q)
		if network == "udp" {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = min(1232, int(opt.UDPSize()))
			}
			r.Truncate(size)
		}
		return r
	})
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(u.addr)})
	for i, tt := range []struct {
		udp     bool
		edns    uint16
		maxSize int
		whole   bool
		atLeast int // records
	}{
		{true, 0, 0, false, 25},
		{true, 1232, 0, false, 70},
		{true, 4096, 0, true, 200},
		{true, 4096, 1472, false, 80},
		{false, 0, 0, true, 200},
		{false, 1232, 0, true, 200},
	} {
		q := question("Example.com.", dns.TypeA)
		if tt.edns != 0 {
			q.SetEdns0(tt.edns, false)
		}
		b := d.Answer(t.Context(), "bridge", tt.udp, packed(t, q), tt.maxSize)
		r := checkReply(t, q, b)
		if r.Truncated == tt.whole || len(r.Answer) < tt.atLeast || len(b) > replyLimit(q, tt.udp, tt.maxSize) {
			t.Errorf("%+v: %d bytes, TC %v, %d records", tt, len(b), r.Truncated, len(r.Answer))
		}
		if u.udp.Load() != int64(i+1) || u.tcp.Load() != int64(i+1) {
			t.Errorf("%+v: upstream saw %d over UDP and %d over TCP", tt, u.udp.Load(), u.tcp.Load())
		}
	}
	expectSum(t, d)
}

// TestForwardNoTCP has an upstream that truncates and does not do TCP: what
// came over UDP stands.
func TestForwardNoTCP(t *testing.T) {
	u := newUpstream(t, func(network string, q *dns.Msg) *dns.Msg {
		r := answerWith(0, "example.com. 30 IN A 192.0.2.1")(network, q)
		r.Truncated = true
		return r
	})
	d := NewDNS(DNSConfig{
		Names: names, Upstreams: using(u.addr),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if network == "tcp" {
				return nil, errors.New("no TCP here")
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	for _, query := range []func(testing.TB, *DNS, *dns.Msg) *dns.Msg{queryUDP, queryTCP} {
		if r := query(t, d, question("example.com.", dns.TypeA)); !r.Truncated || len(r.Answer) != 1 {
			t.Errorf("reply %v", r)
		}
	}
	if got := d.Stats(); got != (DNSStats{Queries: 2, Forwarded: 2}) {
		t.Errorf("stats %+v", got)
	}
}

// TestForwardOversized has an upstream that sends more over UDP than was asked
// for and than is read.
func TestForwardOversized(t *testing.T) {
	var records []string
	for i := range 400 {
		records = append(records, fmt.Sprintf("example.com. 30 IN A 192.0.%d.%d", i/256, i%256))
	}
	u := newUpstream(t, answerWith(0, records...))
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(u.addr)})
	if r := queryTCP(t, d, question("example.com.", dns.TypeA)); r.Truncated || len(r.Answer) != 400 {
		t.Errorf("TC %v, %d records", r.Truncated, len(r.Answer))
	}
	if u.udp.Load() != 1 || u.tcp.Load() != 1 {
		t.Errorf("upstream saw %d over UDP and %d over TCP", u.udp.Load(), u.tcp.Load())
	}
	if r := queryUDP(t, d, question("example.com.", dns.TypeA)); !r.Truncated || len(r.Answer) == 0 {
		t.Errorf("TC %v, %d records", r.Truncated, len(r.Answer))
	}
}

// TestForwardSigned has replies from which no record may be left out.
func TestForwardSigned(t *testing.T) {
	q := question("example.com.", dns.TypeA)
	var records []string
	for i := range 100 {
		records = append(records, fmt.Sprintf("example.com. 30 IN A 192.0.2.%d", i))
	}
	r := answerWith(0, records...)("", q)
	r.SetTsig("key.", dns.HmacSHA256, 300, 1_000_000)
	signed := packed(t, r)
	d := NewDNS(DNSConfig{
		Names: names, Upstreams: using(netip.MustParseAddrPort("192.0.2.53:53")),
		Dial: func(_ context.Context, network, _ string) (net.Conn, error) { return &echo{network, signed, nil}, nil },
	})
	if r := queryTCP(t, d, q); r.Truncated || len(r.Answer) != 100 {
		t.Errorf("over TCP: TC %v, %d records", r.Truncated, len(r.Answer))
	}
	if r := queryUDP(t, d, q); !r.Truncated || len(r.Answer) != 0 {
		t.Errorf("over UDP: TC %v, %d records", r.Truncated, len(r.Answer))
	}
}
