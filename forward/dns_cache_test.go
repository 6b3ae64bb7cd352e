package forward

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// cacheWorld is a server with a cache, its clock, and an upstream that counts.
type cacheWorld struct {
	*DNS
	now   atomic.Int64 // seconds
	asked atomic.Int64
}

func newCacheWorld(t *testing.T, max int, answer func(q *dns.Msg, r *dns.Msg)) *cacheWorld {
	w := new(cacheWorld)
	w.now.Store(1000)
	up := rawUpstream(t, func(query []byte) [][]byte {
		w.asked.Add(1)
		var q dns.Msg
		if err := q.Unpack(query); err != nil {
			t.Error(err)
			return nil
		}
		r := new(dns.Msg)
		r.SetReply(&q)
		if o := q.IsEdns0(); o != nil {
			r.SetEdns0(1232, o.Do())
		}
		answer(&q, r)
		return [][]byte{packed(t, r)}
	})
	w.DNS = NewDNS(DNSConfig{Names: nobody{}, Upstreams: func() []netip.AddrPort { return []netip.AddrPort{up} }, Cache: max,
		Now: func() time.Time { return time.Unix(w.now.Load(), 0) }})
	return w
}

func record(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

func TestCache(t *testing.T) {
	w := newCacheWorld(t, 100, func(q, r *dns.Msg) {
		switch name := strings.ToLower(q.Question[0].Name); name {
		case "a.example.":
			r.Answer = []dns.RR{record(t, "a.example. 300 IN CNAME b.example."), record(t, "b.example. 60 IN A 192.0.2.1")}
		case "gone.example.":
			r.Rcode = dns.RcodeNameError
			r.Ns = []dns.RR{record(t, "example. 900 IN SOA ns.example. x.example. 1 2 3 4 30")}
		case "zero.example.":
			r.Answer = []dns.RR{record(t, "zero.example. 0 IN A 192.0.2.2")}
		case "broken.example.":
			r.Rcode = dns.RcodeRefused
		}
	})
	asks := func(name string, more int64, ttl uint32, change func(*dns.Msg)) *dns.Msg {
		t.Helper()
		q := question(name, dns.TypeA)
		q.RecursionDesired = true
		if change != nil {
			change(q)
		}
		before := w.asked.Load()
		r := queryUDP(t, w.DNS, q)
		if got := w.asked.Load() - before; got != more {
			t.Errorf("%s at %d: the upstream was asked %d times, want %d", name, w.now.Load(), got, more)
		}
		if len(r.Answer) > 0 && r.Answer[len(r.Answer)-1].Header().Ttl != ttl {
			t.Errorf("%s at %d: a TTL of %d, want %d", name, w.now.Load(), r.Answer[len(r.Answer)-1].Header().Ttl, ttl)
		}
		return r
	}
	asks("a.example.", 1, 60, nil)
	w.now.Add(20)
	if r := asks("A.Example.", 0, 40, nil); r.Question[0].Name != "A.Example." || len(r.Answer) != 2 || r.Answer[0].Header().Ttl != 280 {
		t.Errorf("from the cache: %v", r)
	}
	asks("a.example.", 1, 60, func(q *dns.Msg) { q.SetEdns0(1232, true) }) // signatures are another reply
	asks("a.example.", 1, 60, func(q *dns.Msg) { q.CheckingDisabled = true })
	asks("a.example.", 1, 60, func(q *dns.Msg) {
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
	})
	w.now.Add(40)
	asks("a.example.", 1, 60, nil) // its shortest record is over
	if r := asks("gone.example.", 1, 0, nil); r.Rcode != dns.RcodeNameError {
		t.Errorf("rcode %d", r.Rcode)
	}
	w.now.Add(29)
	if r := asks("gone.example.", 0, 0, nil); r.Rcode != dns.RcodeNameError {
		t.Errorf("rcode %d from the cache", r.Rcode)
	}
	w.now.Add(1)
	asks("gone.example.", 1, 0, nil)
	for range 2 {
		asks("zero.example.", 1, 0, nil)
		asks("broken.example.", 1, 0, nil)
	}
	w.Flush()
	asks("a.example.", 1, 60, nil)
	s := w.Stats()
	if s.Cached != 2 || s.Queries != s.Local+s.Cached+s.Forwarded+s.Failed+s.Refused {
		t.Errorf("%+v", s)
	}
}

// TestCacheIsBounded: what is over makes room first.
func TestCacheIsBounded(t *testing.T) {
	w := newCacheWorld(t, 8, func(q, r *dns.Msg) {
		r.Answer = []dns.RR{record(t, q.Question[0].Name+" 60 IN A 192.0.2.1")}
	})
	for i := range 50 {
		q := question(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		q.RecursionDesired = true
		queryUDP(t, w.DNS, q)
		if n := w.CacheSize(); n > 8 {
			t.Fatalf("%d replies are kept", n)
		}
	}
	w.now.Add(61)
	q := question("last.example.", dns.TypeA)
	q.RecursionDesired = true
	queryUDP(t, w.DNS, q)
	if n := w.CacheSize(); n != 1 {
		t.Errorf("%d replies are kept after their time", n)
	}
}

// TestSplit: a name's own upstreams are asked, and no others.
func TestSplit(t *testing.T) {
	up := func(a string) netip.AddrPort {
		return rawUpstream(t, func(query []byte) [][]byte {
			var q dns.Msg
			if err := q.Unpack(query); err != nil {
				t.Error(err)
			}
			r := new(dns.Msg)
			r.SetReply(&q)
			r.Answer = []dns.RR{record(t, q.Question[0].Name+" 60 IN A "+a)}
			return [][]byte{packed(t, r)}
		})
	}
	usual, corp := up("192.0.2.1"), up("192.0.2.2")
	d := NewDNS(DNSConfig{Names: nobody{}, Upstreams: func() []netip.AddrPort { return []netip.AddrPort{usual} },
		Split: func(name string) []netip.AddrPort {
			if strings.HasSuffix(name, "corp.example") {
				return []netip.AddrPort{corp}
			}
			return nil
		}})
	for name, want := range map[string]string{"www.example.": "192.0.2.1", "DB.Corp.Example.": "192.0.2.2"} {
		if r := queryUDP(t, d, question(name, dns.TypeA)); len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != want {
			t.Errorf("%s: %v, want %s", name, r.Answer, want)
		}
	}
}
