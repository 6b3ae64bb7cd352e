package forward

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// testNames are those of bridge "bridge": no other bridge sees them.
type testNames map[string][]netip.Addr

func (n testNames) Lookup(bridge, name string) ([]netip.Addr, bool) {
	if bridge != "bridge" {
		return nil, false
	}
	addrs, found := n[name]
	return addrs, found
}

func (n testNames) Reverse(bridge string, a netip.Addr) (string, bool) {
	if bridge == "bridge" {
		for name, addrs := range n {
			if slices.Contains(addrs, a) && strings.HasSuffix(name, ".bridge") {
				return name, true
			}
		}
	}
	return "", false
}

func (n testNames) Local(bridge string, a netip.Addr) bool {
	return netip.MustParsePrefix("172.17.0.0/16").Contains(a) || netip.MustParsePrefix("fd00:17::/64").Contains(a)
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var names = testNames{
	"web":                               addrs("172.17.0.2"),
	"web.bridge":                        addrs("172.17.0.2"),
	"dual":                              addrs("172.17.0.3", "fd00:17::3"),
	"six.bridge":                        addrs("fd00:17::4"),
	"mapped":                            addrs("::ffff:172.17.0.5"),
	"none":                              nil,
	"my.name":                           addrs("172.17.0.6"),
	strings.Repeat("x", 64) + ".bridge": addrs("172.17.0.64"),
}

// newDNS returns a server that must not ask anyone.
func newDNS(t testing.TB) *DNS {
	return NewDNS(DNSConfig{
		Names:     names,
		Upstreams: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")} },
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			t.Errorf("dialled %s %s", network, address)
			return nil, errors.New("not to be asked")
		},
	})
}

func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype)
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, b []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatalf("reply %x: %v", b, err)
	}
	return m
}

// queryUDP sends q over UDP from bridge "bridge" and checks what holds of any
// reply to a sound query.
func queryUDP(t testing.TB, d *DNS, q *dns.Msg) *dns.Msg {
	t.Helper()
	return checkReply(t, q, d.Answer(t.Context(), "bridge", true, packed(t, q), 0))
}

func queryTCP(t testing.TB, d *DNS, q *dns.Msg) *dns.Msg {
	t.Helper()
	return checkReply(t, q, d.Answer(t.Context(), "bridge", false, packed(t, q), 0))
}

func checkReply(t testing.TB, q *dns.Msg, reply []byte) *dns.Msg {
	t.Helper()
	r := parsed(t, reply)
	if !r.Response || r.Id != q.Id || r.Opcode != q.Opcode || r.RecursionDesired != q.RecursionDesired {
		t.Errorf("header %+v does not answer %+v", r.MsgHdr, q.MsgHdr)
	}
	if len(r.Question) != 1 || r.Question[0] != q.Question[0] {
		t.Errorf("question %v, want %v", r.Question, q.Question)
	}
	if (q.IsEdns0() == nil) != (r.IsEdns0() == nil) {
		t.Errorf("EDNS %v answers %v", r.IsEdns0(), q.IsEdns0())
	}
	return r
}

// expectSum checks that nothing vanished.
func expectSum(t testing.TB, d *DNS) {
	t.Helper()
	if s := d.Stats(); s.Queries != s.Local+s.Forwarded+s.Failed+s.Refused {
		t.Errorf("counters do not add up: %+v", s)
	}
}

func TestAnswerTruncates(t *testing.T) {
	var many []netip.Addr
	for a := netip.MustParseAddr("172.17.1.0"); len(many) < 5000; a = a.Next() {
		many = append(many, a)
	}
	d := NewDNS(DNSConfig{Names: testNames{"few": many[:10], "hundred": many[:100], "many": many}})
	for _, tt := range []struct {
		name    string
		udp     bool
		edns    uint16 // 0: none
		maxSize int
		limit   int
		whole   bool
	}{
		{"few.", true, 0, 0, 512, true},
		{"hundred.", true, 0, 0, 512, false},
		{"hundred.", true, 0, 100, 512, false},
		{"hundred.", true, 100, 0, 512, false},
		{"hundred.", true, 1232, 0, 1232, false},
		{"hundred.", true, 4096, 1232, 1232, false},
		{"hundred.", true, 4096, 0, 4096, true},
		{"hundred.", false, 0, 0, 65535, true},
		{"hundred.", false, 512, 0, 65535, true},
		{"hundred.", false, 0, 1000, 1000, false},
		{"many.", true, 65535, 0, 65535, false},
		{"many.", false, 0, 0, 65535, false},
	} {
		q := question(tt.name, dns.TypeA)
		if tt.edns != 0 {
			q.SetEdns0(tt.edns, false)
		}
		b := d.Answer(t.Context(), "bridge", tt.udp, packed(t, q), tt.maxSize)
		r := checkReply(t, q, b)
		if len(b) > tt.limit || r.Truncated == tt.whole || len(r.Answer) == 0 {
			t.Errorf("%+v: %d bytes, TC %v, %d records", tt, len(b), r.Truncated, len(r.Answer))
		}
		if !tt.whole && len(b) < tt.limit-40 {
			t.Errorf("%+v: only %d bytes of the room are used", tt, len(b))
		}
	}
}

func TestAnswerMalformed(t *testing.T) {
	sound := packed(t, question("web.", dns.TypeA))
	edit := func(do func(b []byte) []byte) []byte { return do(slices.Clone(sound)) }
	for _, tt := range []struct {
		name  string
		query []byte
		rcode int // -1: no reply
	}{
		{"nothing", nil, -1},
		{"less than a header", sound[:11], -1},
		{"a reply", edit(func(b []byte) []byte { b[2] |= 0x80; return b }), -1},
		{"header only", sound[:12], dns.RcodeFormatError},
		{"no question", edit(func(b []byte) []byte { b[5] = 0; return b[:12] }), dns.RcodeFormatError},
		{"no question, counted", edit(func(b []byte) []byte { b[5] = 0; return b }), dns.RcodeFormatError},
		{"name cut", sound[:15], dns.RcodeFormatError},
		{"name without type", sound[:17], dns.RcodeFormatError},
		{"type without class", sound[:19], dns.RcodeFormatError},
		{"two questions", edit(func(b []byte) []byte { b[5] = 2; return append(b, b[12:]...) }), dns.RcodeFormatError},
		{"two questions, one there", edit(func(b []byte) []byte { b[5] = 2; return b }), dns.RcodeFormatError},
		{"name points to itself", edit(func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }), dns.RcodeFormatError},
		{"name points to the header", edit(func(b []byte) []byte { b[12], b[13] = 0xc0, 0; return b }), dns.RcodeFormatError},
		{"label of 64 bytes", edit(func(b []byte) []byte { b[12] = 64; return append(b, make([]byte, 100)...) }), dns.RcodeFormatError},
		{"record that is not there", edit(func(b []byte) []byte { b[11] = 1; return append(b, 0, 0, 41) }), dns.RcodeFormatError},
		{"NOTIFY", edit(func(b []byte) []byte { b[2] |= dns.OpcodeNotify << 3; return b }), dns.RcodeNotImplemented},
		{"UPDATE", edit(func(b []byte) []byte { b[2] |= dns.OpcodeUpdate << 3; return b }), dns.RcodeNotImplemented},
		{"EDNS version 1", func() []byte {
			q := question("web.", dns.TypeA).SetEdns0(1232, false)
			q.Id = parsed(t, sound).Id
			q.IsEdns0().SetVersion(1)
			return packed(t, q)
		}(), dns.RcodeBadVers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDNS(t)
			before := slices.Clone(tt.query)
			b := d.Answer(t.Context(), "bridge", true, tt.query, 0)
			if !bytes.Equal(tt.query, before) {
				t.Error("the query was written to")
			}
			if s := d.Stats(); s != (DNSStats{Queries: 1, Failed: 1}) {
				t.Errorf("stats %+v", s)
			}
			if tt.rcode < 0 {
				if b != nil {
					t.Fatalf("reply %x, want none", b)
				}
				return
			}
			r := parsed(t, b)
			if r.Rcode != tt.rcode || !r.Response || r.Id != parsed(t, sound).Id || !r.RecursionDesired || len(r.Answer) != 0 {
				t.Errorf("reply %v", r)
			}
			if want := int(tt.query[2]>>3) & 0xf; r.Opcode != want {
				t.Errorf("opcode %d, want %d", r.Opcode, want)
			}
		})
	}
}

// TestAnswerUnpackable has a name in Names that DNS cannot express.
func TestAnswerUnpackable(t *testing.T) {
	d := newDNS(t)
	q := question("64.0.17.172.in-addr.arpa.", dns.TypePTR)
	r := parsed(t, d.Answer(t.Context(), "bridge", true, packed(t, q), 0))
	if r.Rcode != dns.RcodeServerFailure || r.Id != q.Id {
		t.Errorf("reply %v", r)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, m := range []*dns.Msg{
		question("web.", dns.TypeA),
		question("WEB.bridge.", dns.TypeANY).SetEdns0(1232, true),
		question("2.0.17.172.in-addr.arpa.", dns.TypePTR),
		question("example.com.", dns.TypeHTTPS),
		new(dns.Msg).SetUpdate("example."),
	} {
		f.Add(packed(f, m), true, 0)
		f.Add(packed(f, m), false, 512)
	}
	f.Add(make([]byte, 12), true, -1)
	f.Fuzz(func(t *testing.T, query []byte, udp bool, maxSize int) {
		d := NewDNS(DNSConfig{
			Names:     names,
			Upstreams: func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")} },
			Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("nobody there")
			},
		})
		before := slices.Clone(query)
		reply := d.Answer(t.Context(), "bridge", udp, query, maxSize)
		if !bytes.Equal(query, before) {
			t.Error("the query was written to")
		}
		expectSum(t, d)
		if len(query) < 12 || query[2]&0x80 != 0 {
			if reply != nil {
				t.Fatalf("reply %x to what is no query", reply)
			}
			return
		}
		r := parsed(t, reply)
		if !r.Response || !bytes.Equal(reply[:2], query[:2]) {
			t.Errorf("reply %v", r)
		}
		var q dns.Msg
		q.Unpack(query)
		if len(reply) > replyLimit(&q, udp, maxSize) {
			t.Errorf("reply of %d bytes", len(reply))
		}
	})
}

func BenchmarkAnswerLocal(b *testing.B) {
	d := newDNS(b)
	query := packed(b, question("web.bridge.", dns.TypeA))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if d.Answer(ctx, "bridge", true, query, 0) == nil {
			b.Fatal("no reply")
		}
	}
}
