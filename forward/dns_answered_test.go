package forward

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What became of a question is told once, with who answered it.
func TestAnswered(t *testing.T) {
	good := newUpstream(t, answerWith(dns.RcodeSuccess, "www.test. 60 IN A 192.0.2.7"))
	missing := newUpstream(t, answerWith(dns.RcodeNameError))
	failing := newUpstream(t, answerWith(dns.RcodeServerFailure))
	silent := newUpstream(t, func(string, *dns.Msg) *dns.Msg { return nil })
	for _, c := range []struct {
		name  string
		ask   string
		ups   []netip.AddrPort
		twice bool
		want  Answered
	}{
		{name: "local", ask: "web", want: Answered{By: ByLocal, Rcode: "NOERROR"}},
		{name: "upstream", ask: "WWW.test", ups: []netip.AddrPort{good.addr}, want: Answered{By: ByUpstream, Rcode: "NOERROR", Upstream: good.addr}},
		{name: "cache", ask: "www.test", ups: []netip.AddrPort{good.addr}, twice: true, want: Answered{By: ByCache, Rcode: "NOERROR"}},
		{name: "not there", ask: "www.test", ups: []netip.AddrPort{missing.addr}, want: Answered{By: ByUpstream, Rcode: "NXDOMAIN", Upstream: missing.addr}},
		{name: "the second", ask: "www.test", ups: []netip.AddrPort{silent.addr, good.addr}, want: Answered{By: ByUpstream, Rcode: "NOERROR", Upstream: good.addr}},
		{name: "fails", ask: "www.test", ups: []netip.AddrPort{failing.addr}, want: Answered{By: ByNobody, Rcode: "SERVFAIL", Upstream: failing.addr}},
		{name: "silent", ask: "www.test", ups: []netip.AddrPort{silent.addr}, want: Answered{By: ByNobody, Rcode: "SERVFAIL", TimedOut: true}},
		{name: "policy", ask: "secret.test", want: Answered{By: ByPolicy, Rcode: "REFUSED"}},
		{name: "internal", ask: "closed.test", want: Answered{By: ByInternal, Rcode: "SERVFAIL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var heard []Answered
			bridge := "bridge"
			d := NewDNS(DNSConfig{Names: names, Upstreams: func() []netip.AddrPort { return c.ups }, Cache: 10, Timeout: 50 * time.Millisecond,
				Allowed:  func(_, name string) bool { return name != "secret.test" },
				Closed:   func(string) bool { return c.ask == "closed.test" },
				Answered: func(a Answered) { heard = append(heard, a) }})
			n := 1
			if c.twice {
				n = 2
			}
			for range n {
				d.Answer(context.Background(), bridge, true, packed(t, question(dns.Fqdn(c.ask), dns.TypeA)), 0)
			}
			d.Answer(context.Background(), bridge, true, []byte("no question at all"), 0)
			if len(heard) != n {
				t.Fatalf("told %d times: %v", len(heard), heard)
			}
			got := heard[n-1]
			want := c.want
			want.Bridge, want.Type, want.Took = bridge, "A", got.Took
			if want.Name = c.ask; c.name == "upstream" {
				want.Name = "www.test"
			}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			asked := uint64(0)
			for _, u := range d.UpstreamStats() {
				if asked += u.Asked; u.Asked != u.Answered+u.Failed+u.Timeouts {
					t.Errorf("%+v does not add up", u)
				}
			}
			if int(asked) != len(c.ups) {
				t.Errorf("%d exchanges are counted", asked)
			}
		})
	}
}
