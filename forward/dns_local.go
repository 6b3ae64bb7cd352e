package forward

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

const dnsTTL = 600 // seconds, of our own records, as Docker

// answerLocal returns the reply to a question about a name or an address of
// ours, or nil if others are to be asked. The name of a container is ours for
// every type: a type that it does not have is an empty answer, and nobody
// outside is told that name.
func (d *DNS) answerLocal(bridge string, q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	if a, ok := reverseAddr(name); ok {
		return d.answerReverse(bridge, q, a)
	}
	addrs, found := d.names.Lookup(bridge, name)
	if !found {
		return nil
	}
	r := newReply(q, dns.RcodeSuccess)
	for _, a := range addrs {
		if rr := addressRR(question, a); rr != nil {
			r.Answer = append(r.Answer, rr)
		}
	}
	// Clients take the first: several containers with one alias share the load.
	rand.Shuffle(len(r.Answer), func(i, j int) { r.Answer[i], r.Answer[j] = r.Answer[j], r.Answer[i] })
	return r
}

// answerReverse is answerLocal for the reverse name of a.
func (d *DNS) answerReverse(bridge string, q *dns.Msg, a netip.Addr) *dns.Msg {
	question := q.Question[0]
	name, found := d.names.Reverse(bridge, a)
	if !found {
		if d.names.Local(bridge, a) {
			return newReply(q, dns.RcodeNameError)
		}
		return nil
	}
	r := newReply(q, dns.RcodeSuccess)
	if asks(question, dns.TypePTR) {
		r.Answer = []dns.RR{&dns.PTR{Hdr: rrHeader(question, dns.TypePTR), Ptr: dns.Fqdn(name)}}
	}
	return r
}

// addressRR returns the record of a, or nil if another type was asked for.
func addressRR(question dns.Question, a netip.Addr) dns.RR {
	a = a.Unmap()
	switch {
	case a.Is4() && asks(question, dns.TypeA):
		return &dns.A{Hdr: rrHeader(question, dns.TypeA), A: a.AsSlice()}
	case a.Is6() && asks(question, dns.TypeAAAA):
		return &dns.AAAA{Hdr: rrHeader(question, dns.TypeAAAA), AAAA: a.AsSlice()}
	}
	return nil
}

func asks(question dns.Question, rrtype uint16) bool {
	return (question.Qtype == rrtype || question.Qtype == dns.TypeANY) &&
		(question.Qclass == dns.ClassINET || question.Qclass == dns.ClassANY)
}

func rrHeader(question dns.Question, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: question.Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: dnsTTL}
}

// reverseAddr returns the address that a complete name under in-addr.arpa
// (RFC 1035 3.5) or ip6.arpa (RFC 3596 2.5) stands for.
func reverseAddr(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(s, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		var b [4]byte
		for i, l := range labels {
			n, err := strconv.ParseUint(l, 10, 8)
			if err != nil || len(l) > 1 && l[0] == '0' {
				return netip.Addr{}, false
			}
			b[3-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	if s, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		if len(s) != 63 { // 32 digits, 31 dots
			return netip.Addr{}, false
		}
		var b [16]byte
		for i := range 32 {
			if i > 0 && s[2*i-1] != '.' {
				return netip.Addr{}, false
			}
			n, err := strconv.ParseUint(s[2*i:2*i+1], 16, 4)
			if err != nil {
				return netip.Addr{}, false
			}
			b[15-i/2] |= byte(n) << (4 * (i % 2))
		}
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}
