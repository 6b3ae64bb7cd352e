package forward

import (
	"slices"

	"github.com/miekg/dns"
)

// Bits of the header's third and fourth byte, RFC 1035 4.1.1.
const (
	dnsQR     = 0x80 // third
	dnsOpcode = 0x78
	dnsTC     = 0x02
	dnsRD     = 0x01
	dnsRA     = 0x80 // fourth
	dnsRcode  = 0x0f
)

func isReply(msg []byte) bool     { return msg[2]&dnsQR != 0 }
func isTruncated(msg []byte) bool { return msg[2]&dnsTC != 0 }
func rcodeOf(msg []byte) int      { return int(msg[3] & dnsRcode) }

// hasQuestion reports whether a question follows the header. Some servers
// send a header that says so and nothing behind it.
func hasQuestion(msg []byte) bool {
	return len(msg) > dnsHeaderSize && (msg[4] != 0 || msg[5] != 0)
}

// questionEnd returns the offset behind the first question. That is the first
// name of a message, so it has nothing to be compressed against.
func questionEnd(msg []byte) (int, bool) {
	i := dnsHeaderSize
	for i < len(msg) && msg[i] != 0 {
		if msg[i] > 63 {
			return 0, false
		}
		i += 1 + int(msg[i])
	}
	i += 1 + 4 // root label, type, class
	return i, i <= len(msg)
}

// equalQuestion compares two questions of the same length, names without
// regard to case. The length bytes among the letters are too small to be any.
func equalQuestion(a, b []byte) bool {
	name := len(a) - 4
	for i := range name {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return slices.Equal(a[name:], b[name:])
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// newReply returns a reply to q without records. It speaks EDNS if q does.
func newReply(q *dns.Msg, rcode int) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.Rcode = rcode
	r.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		r.SetEdns0(dnsUDPSize, opt.Do())
	}
	return r
}

// pack returns the bytes of r, our own reply to query, at most limit of them.
// What cannot be packed, as a name that is too long, is a failure of the server.
func pack(query []byte, r *dns.Msg, limit int) []byte {
	b, err := r.Pack()
	if err == nil && len(b) > limit {
		r.Truncate(limit)
		b, err = r.Pack()
	}
	if err != nil {
		return headerReply(query, dns.RcodeServerFailure)
	}
	return b
}

// headerReply returns a reply that is a header alone, to a message of which
// nothing else may be sound.
func headerReply(msg []byte, rcode int) []byte {
	r := make([]byte, dnsHeaderSize)
	copy(r, msg[:2])
	r[2] = dnsQR | msg[2]&(dnsOpcode|dnsRD)
	r[3] = dnsRA | byte(rcode)
	return r
}

// cutReply returns reply without its records and with TC set.
func cutReply(reply []byte) []byte {
	end, ok := questionEnd(reply)
	if !ok {
		end = dnsHeaderSize
	}
	r := slices.Clone(reply[:end])
	r[2] |= dnsTC
	clear(r[4:dnsHeaderSize])
	if ok {
		r[5] = 1
	}
	return r
}
