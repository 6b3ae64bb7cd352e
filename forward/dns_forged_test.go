package forward

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// rawUpstream answers each datagram with those that reply makes of it.
func rawUpstream(t *testing.T, reply func(query []byte) [][]byte) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, r := range reply(slices.Clone(buf[:n])) {
				pc.WriteTo(r, from)
			}
		}
	}()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestForwardForged sends what does not belong to the query before what does.
func TestForwardForged(t *testing.T) {
	seen := make(chan uint16, 100)
	up := rawUpstream(t, func(query []byte) [][]byte {
		var q dns.Msg
		if err := q.Unpack(query); err != nil {
			panic(err)
		}
		seen <- q.Id
		forged := func(do func(r *dns.Msg)) []byte {
			r := answerWith(0, "example.com. 30 IN A 203.0.113.66")("", q.Copy())
			do(r)
			b, err := r.Pack()
			if err != nil {
				panic(err)
			}
			return b
		}
		genuine := answerWith(0, "example.com. 30 IN A 192.0.2.1")("", &q)
		b, err := genuine.Pack()
		if err != nil {
			panic(err)
		}
		return [][]byte{
			{},
			query,
			b[:11],
			forged(func(r *dns.Msg) { r.Id++ }),
			forged(func(r *dns.Msg) { r.Response = false }),
			forged(func(r *dns.Msg) { r.Question[0].Name = "example.org." }),
			forged(func(r *dns.Msg) { r.Question[0].Name = "example.co." }),
			forged(func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeAAAA }),
			forged(func(r *dns.Msg) { r.Question[0].Qclass = dns.ClassCHAOS }),
			forged(func(r *dns.Msg) { r.Question = nil }),
			forged(func(r *dns.Msg) { r.Question = nil; r.Rcode = dns.RcodeNameError }),
			b,
		}
	})
	d := NewDNS(DNSConfig{Names: names, Upstreams: using(up)})
	q := question("example.com.", dns.TypeA)
	ids := map[uint16]bool{}
	for range 20 {
		r := queryUDP(t, d, q)
		if len(r.Answer) != 1 || r.Answer[0].(*dns.A).A.String() != "192.0.2.1" {
			t.Fatalf("reply %v", r)
		}
		ids[<-seen] = true
	}
	// 20 random ids of 65536 are 10 different ones, or they are not random.
	if len(ids) < 10 {
		t.Errorf("ids %v", ids)
	}
}

// TestForwardBareError has errors without a question, some of the header alone.
func TestForwardBareError(t *testing.T) {
	bare := func(rcode byte, qdcount byte) netip.AddrPort {
		return rawUpstream(t, func(query []byte) [][]byte {
			return [][]byte{{query[0], query[1], 0x81, 0x80 | rcode, 0, qdcount, 0, 0, 0, 0, 0, 0}}
		})
	}
	good := newUpstream(t, answerWith(0, "example.com. 30 IN A 192.0.2.1"))
	for _, tt := range []struct {
		name     string
		first    netip.AddrPort
		rcode, n int
	}{
		{"FORMERR", bare(dns.RcodeFormatError, 0), dns.RcodeFormatError, 0},
		{"FORMERR that promises a question", bare(dns.RcodeFormatError, 1), dns.RcodeFormatError, 0},
		{"REFUSED", bare(dns.RcodeRefused, 1), 0, 1},
		{"SERVFAIL", bare(dns.RcodeServerFailure, 0), 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDNS(DNSConfig{Names: names, Upstreams: using(tt.first, good.addr)})
			r := queryUDP(t, d, question("example.com.", dns.TypeA).SetEdns0(1232, false))
			if r.Rcode != tt.rcode || len(r.Answer) != tt.n {
				t.Errorf("reply %v", r)
			}
		})
	}
}
