package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestAnswerLocal(t *testing.T) {
	const any, in = dns.TypeANY, dns.ClassINET
	for _, tt := range []struct {
		name   string
		qtype  uint16
		qclass uint16
		rcode  int
		want   []string // records as zone files have them
	}{
		{"web.", dns.TypeA, in, 0, []string{"web. 600 IN A 172.17.0.2"}},
		{"web.bridge.", dns.TypeA, in, 0, []string{"web.bridge. 600 IN A 172.17.0.2"}},
		{"WeB.BridGe.", dns.TypeA, in, 0, []string{"WeB.BridGe. 600 IN A 172.17.0.2"}},
		{"my.name.", dns.TypeA, in, 0, []string{"my.name. 600 IN A 172.17.0.6"}},
		{"dual.", dns.TypeA, in, 0, []string{"dual. 600 IN A 172.17.0.3"}},
		{"dual.", dns.TypeAAAA, in, 0, []string{"dual. 600 IN AAAA fd00:17::3"}},
		{"dual.", any, in, 0, []string{"dual. 600 IN A 172.17.0.3", "dual. 600 IN AAAA fd00:17::3"}},
		{"dual.", dns.TypeA, dns.ClassANY, 0, []string{"dual. 600 IN A 172.17.0.3"}},
		{"mapped.", dns.TypeA, in, 0, []string{"mapped. 600 IN A 172.17.0.5"}},

		// Ours, but without what is asked for: empty, and nobody else is asked.
		{"web.", dns.TypeAAAA, in, 0, nil},
		{"six.bridge.", dns.TypeA, in, 0, nil},
		{"mapped.", dns.TypeAAAA, in, 0, nil},
		{"web.", dns.TypeMX, in, 0, nil},
		{"web.", dns.TypeHTTPS, in, 0, nil},
		{"web.", dns.TypeSOA, in, 0, nil},
		{"web.", dns.TypePTR, in, 0, nil},
		{"none.", dns.TypeA, in, 0, nil},
		{"web.", dns.TypeA, dns.ClassCHAOS, 0, nil},

		{"2.0.17.172.in-addr.arpa.", dns.TypePTR, in, 0, []string{"2.0.17.172.in-addr.arpa. 600 IN PTR web.bridge."}},
		{"2.0.17.172.IN-ADDR.Arpa.", dns.TypePTR, in, 0, []string{"2.0.17.172.IN-ADDR.Arpa. 600 IN PTR web.bridge."}},
		{"4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.1.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, in, 0,
			[]string{"4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.1.0.0.0.0.d.f.ip6.arpa. 600 IN PTR six.bridge."}},
		{"2.0.17.172.in-addr.arpa.", dns.TypeA, in, 0, nil},
		{"99.0.17.172.in-addr.arpa.", dns.TypePTR, in, dns.RcodeNameError, nil},
		{"99.0.17.172.in-addr.arpa.", dns.TypeTXT, in, dns.RcodeNameError, nil},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.1.0.0.0.0.D.F.ip6.arpa.", dns.TypePTR, in, dns.RcodeNameError, nil},
	} {
		t.Run(fmt.Sprintf("%s/%s/%s", tt.name, dns.TypeToString[tt.qtype], dns.ClassToString[tt.qclass]), func(t *testing.T) {
			d := newDNS(t)
			for _, edns := range []bool{false, true} {
				q := question(tt.name, tt.qtype)
				q.Question[0].Qclass = tt.qclass
				if edns {
					q.SetEdns0(4096, true)
				}
				r := queryUDP(t, d, q)
				if r.Rcode != tt.rcode || !r.RecursionAvailable || r.Truncated {
					t.Errorf("reply %v", r)
				}
				if edns && !r.IsEdns0().Do() {
					t.Errorf("DO bit not kept: %v", r)
				}
				var got []string
				for _, rr := range r.Answer {
					got = append(got, strings.Join(strings.Fields(rr.String()), " "))
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("answer %q, want %q", got, tt.want)
				}
			}
			if s := d.Stats(); s != (DNSStats{Queries: 2, Local: 2}) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestAnswerShuffles(t *testing.T) {
	set := addrs("172.17.0.2", "172.17.0.3", "172.17.0.4")
	d := NewDNS(DNSConfig{Names: testNames{"many": set}})
	first := map[string]bool{}
	// Each is first with probability 1/3: that one never is in 200 replies has
	// a probability below 1e-34.
	for range 200 {
		r := queryUDP(t, d, question("many.", dns.TypeA))
		if len(r.Answer) != 3 {
			t.Fatalf("answer %v", r.Answer)
		}
		first[r.Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v came first", first)
	}
	if want := addrs("172.17.0.2", "172.17.0.3", "172.17.0.4"); !slices.Equal(set, want) {
		t.Errorf("the addresses of Names were reordered: %v", set)
	}
}

func TestReverseAddr(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"2.0.17.172.in-addr.arpa", "172.17.0.2"},
		{"255.255.255.255.in-addr.arpa", "255.255.255.255"},
		{"0.0.0.0.in-addr.arpa", "0.0.0.0"},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "2001:db8::1"},
		{"f.e.d.c.b.a.9.8.7.6.5.4.3.2.1.0.f.e.d.c.b.a.9.8.7.6.5.4.3.2.1.0.ip6.arpa", "123:4567:89ab:cdef:123:4567:89ab:cdef"},
		{"0.17.172.in-addr.arpa", ""},
		{"1.2.0.17.172.in-addr.arpa", ""},
		{"256.0.17.172.in-addr.arpa", ""},
		{"02.0.17.172.in-addr.arpa", ""},
		{"-2.0.17.172.in-addr.arpa", ""},
		{"+2.0.17.172.in-addr.arpa", ""},
		{".0.17.172.in-addr.arpa", ""},
		{"2.0.17.172.in-addr.arpa.example", ""},
		{"in-addr.arpa", ""},
		{"ip6.arpa", ""},
		{"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", ""},
		{"g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", ""},
		{"10.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", ""},
		{"web", ""},
		{"", ""},
	} {
		a, ok := reverseAddr(tt.name)
		if ok != (tt.want != "") || ok && a != netip.MustParseAddr(tt.want) {
			t.Errorf("reverseAddr(%q) = %v, %v, want %q", tt.name, a, ok, tt.want)
		}
	}
}
