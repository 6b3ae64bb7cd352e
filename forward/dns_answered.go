package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Answered is what became of one question.
type Answered struct {
	Bridge   string // as Answer was told
	Name     string // in lower case, without the trailing dot
	Type     string // A, AAAA, PTR
	Rcode    string // NOERROR, NXDOMAIN, SERVFAIL
	By       string // one of the words below
	Upstream netip.AddrPort
	TimedOut bool // an upstream was silent, and no other answered
	Took     time.Duration
}

// Who answers.
const (
	ByLocal    = "local"    // a name or an address of ours
	ByCache    = "cache"    // as an upstream has answered before
	ByUpstream = "upstream" // and which
	ByPolicy   = "policy"   // refused: the egress policy does not hold the name
	ByInternal = "internal" // refused: all networks of who asks are internal
	ByLimit    = "limit"    // refused: too many questions wait
	ByNobody   = "nobody"   // no upstream answered, or all failed
)

func rcodeName(reply []byte) string {
	if len(reply) < dnsHeaderSize {
		return ""
	}
	r := rcodeOf(reply)
	return cmp.Or(dns.RcodeToString[r], fmt.Sprintf("RCODE%d", r))
}

// timedOut says whether an exchange ended because nobody answered in time.
func timedOut(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// UpstreamStats counts what one upstream was asked.
type UpstreamStats struct {
	Upstream netip.AddrPort
	Asked    uint64
	Answered uint64        // with anything but SERVFAIL and REFUSED
	Failed   uint64        // with those, or with an error
	Timeouts uint64        // not at all
	Took     time.Duration // of those that answered, together
}

// askedUpstreams counts by upstream; a changed configuration may name ever new
// ones, so the counts of those that are asked no more are not kept for ever.
type askedUpstreams struct {
	mu sync.Mutex
	of map[netip.AddrPort]*UpstreamStats
}

const maxCountedUpstreams = 64

func (u *askedUpstreams) note(up netip.AddrPort, reply []byte, err error, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.of[up]
	if s == nil {
		if len(u.of) >= maxCountedUpstreams || u.of == nil {
			u.of = make(map[netip.AddrPort]*UpstreamStats)
		}
		s = &UpstreamStats{Upstream: up}
		u.of[up] = s
	}
	s.Asked++
	switch {
	case err != nil && timedOut(err):
		s.Timeouts++
	case err != nil || rcodeOf(reply) == dns.RcodeServerFailure || rcodeOf(reply) == dns.RcodeRefused:
		s.Failed++
	default:
		s.Answered++
		s.Took += took
	}
}

// UpstreamStats are the counters of all upstreams that were asked.
func (d *DNS) UpstreamStats() []UpstreamStats {
	d.asked.mu.Lock()
	defer d.asked.mu.Unlock()
	out := make([]UpstreamStats, 0, len(d.asked.of))
	for _, s := range d.asked.of {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b UpstreamStats) int { return a.Upstream.Compare(b.Upstream) })
	return out
}
