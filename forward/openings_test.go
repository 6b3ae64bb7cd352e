package forward

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestOpenings(t *testing.T) {
	now := time.Unix(1000, 0)
	o := NewOpenings(func() time.Time { return now })
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	o.Add("web", "x.example", []netip.Addr{a, b}, time.Minute)
	o.Add("web", "y.example", []netip.Addr{a}, time.Second) // at least ten
	if got := o.Names("web", a, false); !slices.Equal(got, []string{"x.example", "y.example"}) {
		t.Errorf("names of %s: %v", a, got)
	}
	if got := o.Names("web", netip.MustParseAddr("::ffff:192.0.2.1"), false); len(got) != 2 {
		t.Errorf("the mapped form has %v", got)
	}
	if got := o.Names("db", a, false); got != nil {
		t.Errorf("somebody else was told %v", got)
	}
	now = now.Add(11 * time.Second)
	if got := o.Names("web", a, false); !slices.Equal(got, []string{"x.example"}) {
		t.Errorf("after 11 s: %v", got)
	}
	o.Add("web", "x.example", []netip.Addr{a}, time.Minute)
	now = now.Add(55 * time.Second)
	if got := o.Names("web", a, false); !slices.Equal(got, []string{"x.example"}) {
		t.Errorf("told again it lives longer: %v", got)
	}
	if got := o.Names("web", b, false); got != nil {
		t.Errorf("after its time: %v", got)
	}
	if got := o.Names("web", b, true); !slices.Equal(got, []string{"x.example"}) {
		t.Errorf("ever told: %v", got)
	}
	o.Forget("web")
	if got := o.Names("web", a, false); got != nil {
		t.Errorf("forgotten: %v", got)
	}
}

// TestOpeningsAreBounded: one that asks for ever more names gets no more room,
// until the old ones are over.
func TestOpeningsAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	o := NewOpenings(func() time.Time { return now })
	at := netip.MustParseAddr("10.0.0.0")
	first := at
	for range openingsPerOwner + 100 {
		o.Add("web", "x.example", []netip.Addr{at}, time.Minute)
		at = at.Next()
	}
	if n := len(o.own["web"]); n != openingsPerOwner {
		t.Errorf("%d addresses are kept", n)
	}
	now = now.Add(2 * time.Minute)
	o.Add("web", "x.example", []netip.Addr{at}, time.Minute)
	if len(o.own["web"]) != 1 || o.Names("web", first, false) != nil || o.Names("web", at, false) == nil {
		t.Errorf("%d addresses are kept after their time", len(o.own["web"]))
	}
}

func TestMatchName(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"example.org", "example.org", true}, {"example.org", "www.example.org", false}, {"*.example.org", "www.example.org", true},
		{"*.example.org", "a.b.example.org", true}, {"*.example.org", "example.org", false}, {"*.example.org", ".example.org", false},
		{"*.example.org", "badexample.org", false}, {"*.svc.example.org", "evil\\.svc.example.org", false},
	} {
		if got := MatchName(c.pattern, c.name); got != c.want {
			t.Errorf("%s for %s: %t", c.pattern, c.name, got)
		}
	}
}

// TestTold reads what an upstream's reply opens, at the end of aliases.
func TestTold(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	m.Response = true
	for _, rr := range []string{"www.example.org. 300 IN CNAME cdn.example.net.", "cdn.example.net. 30 IN A 192.0.2.7", "cdn.example.net. 60 IN A 192.0.2.8"} {
		r, err := dns.NewRR(rr)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, r)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	addrs, ttl := told(b)
	if ttl != 30*time.Second || !slices.Equal(addrs, []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}) {
		t.Errorf("%v for %v", addrs, ttl)
	}
	if addrs, _ := told(b[:20]); addrs != nil {
		t.Errorf("half a reply tells %v", addrs)
	}
}

// TestNotAllowed: a name outside of the policy is refused, and no upstream is
// asked.
func TestNotAllowed(t *testing.T) {
	asked := false
	d := NewDNS(DNSConfig{Names: nobody{}, Upstreams: func() []netip.AddrPort { asked = true; return nil },
		Allowed: func(_, name string) bool { return name == "good.example" }})
	q := new(dns.Msg)
	q.SetQuestion("Bad.example.", dns.TypeA)
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Answer(context.Background(), "br", true, b, 0); rcodeOf(r) != dns.RcodeRefused || asked {
		t.Errorf("rcode %d, upstreams asked: %t", rcodeOf(r), asked)
	}
	q.SetQuestion("GOOD.example.", dns.TypeA)
	if b, err = q.Pack(); err != nil {
		t.Fatal(err)
	}
	if r := d.Answer(context.Background(), "br", true, b, 0); rcodeOf(r) != dns.RcodeServerFailure || !asked {
		t.Errorf("rcode %d, upstreams asked: %t", rcodeOf(r), asked)
	}
}

type nobody struct{}

func (nobody) Lookup(string, string) ([]netip.Addr, bool) { return nil, false }
func (nobody) Reverse(string, netip.Addr) (string, bool)  { return "", false }
func (nobody) Local(string, netip.Addr) bool              { return false }
