package forward

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsTimeout      = 4 * time.Second // for each upstream, as Docker
	dnsMaxInflight  = 1024
	dnsMaxUpstreams = 3    // as Docker and glibc's MAXNS
	dnsHeaderSize   = 12   // RFC 1035 4.1.1
	dnsUDPSize      = 1232 // what our own EDNS says we take; fits any path of IPv6
)

// Names is what the DNS server knows itself: the containers of one bridge and
// their addresses. Methods are called from many goroutines; the slices they
// return are only read.
type Names interface {
	// Lookup returns the addresses of both families of name, which has no
	// trailing dot and is in lower case; what is special in a zone file is
	// escaped as there, RFC 1035 5.1. found means that the name is one of
	// ours, be it without an address of the family asked for.
	Lookup(bridge string, name string) (addrs []netip.Addr, found bool)
	// Reverse returns the name of an address, like "web.bridge".
	Reverse(bridge string, a netip.Addr) (name string, found bool)
	// Local reports whether a belongs to a subnet of ours: nobody outside is
	// asked about it.
	Local(bridge string, a netip.Addr) bool
}

// DNSConfig is what a DNS server works with. Only Names and Upstreams must be
// given.
type DNSConfig struct {
	Names Names
	// Upstreams returns the resolvers to ask, in order, of which the first
	// three are. It is called for each query from any goroutine.
	Upstreams func() []netip.AddrPort
	// Closed says of a bridge that it is internal: other names than its own are
	// not asked for, and get SERVFAIL; nil: none is.
	Closed func(bridge string) bool
	// Allowed says whether a name that is none of ours may be asked for; one that
	// may not gets REFUSED, and nobody outside hears of it. Nil: all may.
	Allowed func(bridge, name string) bool
	// Told hears which addresses upstreams have given for a name, and for how long.
	// Nil: nobody does.
	Told func(bridge, name string, addrs []netip.Addr, ttl time.Duration)
	// Answered hears what became of each question that was understood, when it is
	// over. It is called from the goroutine that asked. Nil: nobody does.
	Answered func(Answered)
	// Split names other upstreams for a name; none for the ordinary ones. Nil: for
	// no name.
	Split func(name string) []netip.AddrPort
	// Cache is how many replies of upstreams are kept; 0: none.
	Cache int
	// Now is the cache's clock; nil: the system's.
	Now func() time.Time
	// Timeout is for one exchange with one upstream; 0: 4 s.
	Timeout time.Duration
	// MaxInflight bounds the queries that wait for an upstream; 0: 1024.
	MaxInflight int
	// Dial opens a socket to an upstream, network "udp" or "tcp"; nil: a
	// net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger is told at debug level; nil: nobody is.
	Logger *slog.Logger
}

// DNS answers the queries that containers send to their gateway: names of
// their bridge itself, all others by asking the host's resolvers. It is the
// counterpart of Docker's resolver at 127.0.0.11 and decides as that does.
// All methods may be called from several goroutines.
type DNS struct {
	names       Names
	upstreams   func() []netip.AddrPort
	closed      func(bridge string) bool
	allowed     func(bridge, name string) bool
	told        func(bridge, name string, addrs []netip.Addr, ttl time.Duration)
	answered    func(Answered)
	split       func(name string) []netip.AddrPort
	cache       *dnsCache
	asked       askedUpstreams
	timeout     time.Duration
	maxInflight int64
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	log         *slog.Logger

	inflight atomic.Int64
	stats    struct {
		queries, local, cached, forwarded, failed, refused, timeouts atomic.Uint64
	}
}

// DNSStats counts since the start. Once nothing is in flight, Queries is the
// sum of Local, Cached, Forwarded, Failed and Refused.
type DNSStats struct {
	Queries   uint64 // messages received
	Local     uint64 // answered from Names, also with an empty answer
	Cached    uint64 // answered as an upstream has answered before
	Forwarded uint64 // answered by an upstream
	Failed    uint64 // malformed, not supported, or no upstream answered
	Refused   uint64 // over MaxInflight, or not allowed
	Timeouts  uint64 // exchanges, not queries: one query may time out several times
}

// NewDNS returns a server; it opens no socket before it is asked something.
func NewDNS(c DNSConfig) *DNS {
	d := &DNS{
		names:       c.Names,
		upstreams:   c.Upstreams,
		closed:      c.Closed,
		allowed:     c.Allowed,
		told:        c.Told,
		answered:    c.Answered,
		split:       c.Split,
		timeout:     c.Timeout,
		maxInflight: int64(c.MaxInflight),
		dial:        c.Dial,
		log:         c.Logger,
	}
	if c.Cache > 0 {
		d.cache = newCache(c.Cache, c.Now)
	}
	if d.timeout <= 0 {
		d.timeout = dnsTimeout
	}
	if d.maxInflight <= 0 {
		d.maxInflight = dnsMaxInflight
	}
	if d.dial == nil {
		d.dial = new(net.Dialer).DialContext
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Stats returns the counters.
func (d *DNS) Stats() DNSStats {
	return DNSStats{
		Queries:   d.stats.queries.Load(),
		Local:     d.stats.local.Load(),
		Cached:    d.stats.cached.Load(),
		Forwarded: d.stats.forwarded.Load(),
		Failed:    d.stats.failed.Load(),
		Refused:   d.stats.refused.Load(),
		Timeouts:  d.stats.timeouts.Load(),
	}
}

// Answer returns the reply to one message from a container on bridge. query
// is the DNS message alone, without UDP header or TCP length, and is not kept;
// the reply is the caller's. It blocks while upstreams are asked, at most six
// timeouts, or until ctx is done.
//
// A reply over UDP fits the client's EDNS size (512 bytes without EDNS), and
// any reply fits maxSize (0: no limit; less than 512 counts as 512, which
// every path carries), with TC set where something was left out.
//
// The reply is nil only where there is nothing to answer to: less than a
// header, or a message that is itself a reply. What has a header but makes no
// sense gets FORMERR.
func (d *DNS) Answer(ctx context.Context, bridge string, udp bool, query []byte, maxSize int) (reply []byte) {
	d.stats.queries.Add(1)
	if len(query) < dnsHeaderSize || isReply(query) {
		d.stats.failed.Add(1)
		return nil
	}
	var q dns.Msg
	err := q.Unpack(query)
	if q.Opcode != dns.OpcodeQuery {
		d.stats.failed.Add(1)
		return headerReply(query, dns.RcodeNotImplemented)
	}
	// More or less than one question has no meaning: RFC 9619.
	if _, ok := questionEnd(query); err != nil || !ok || len(q.Question) != 1 {
		d.stats.failed.Add(1)
		return headerReply(query, dns.RcodeFormatError)
	}
	limit := replyLimit(&q, udp, maxSize)
	if opt := q.IsEdns0(); opt != nil && opt.Version() != 0 { // RFC 6891 6.1.3
		d.stats.failed.Add(1)
		return pack(query, newReply(&q, dns.RcodeBadVers), limit)
	}
	name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
	a := Answered{Bridge: bridge, Name: name, Type: dns.Type(q.Question[0].Qtype).String()}
	begin := time.Now()
	reply = d.answer(ctx, bridge, name, &q, query, limit, &a)
	if d.answered != nil {
		a.Took, a.Rcode = time.Since(begin), rcodeName(reply)
		d.answered(a)
	}
	return reply
}

// answer is Answer for a question that was understood; a notes by whom.
func (d *DNS) answer(ctx context.Context, bridge, name string, q *dns.Msg, query []byte, limit int, a *Answered) (reply []byte) {
	if r := d.answerLocal(bridge, q); r != nil {
		d.stats.local.Add(1)
		a.By = ByLocal
		return pack(query, r, limit)
	}
	if d.closed != nil && d.closed(bridge) {
		d.stats.failed.Add(1)
		a.By = ByInternal
		return pack(query, newReply(q, dns.RcodeServerFailure), limit)
	}
	if d.allowed != nil && !d.allowed(bridge, name) {
		d.stats.refused.Add(1)
		a.By = ByPolicy
		return pack(query, newReply(q, dns.RcodeRefused), limit)
	}
	if reply = d.cache.get(q, query, limit); reply != nil {
		d.stats.cached.Add(1)
		a.By = ByCache
	} else {
		reply = d.forward(ctx, q, query, limit, a)
	}
	if d.told != nil {
		if addrs, ttl := told(reply); len(addrs) > 0 {
			d.told(bridge, name, addrs, ttl)
		}
	}
	return reply
}

// Flush forgets what upstreams have answered: others are asked from now on.
func (d *DNS) Flush() { d.cache.flush() }

// CacheSize is how many replies are kept.
func (d *DNS) CacheSize() int { return d.cache.size() }

// replyLimit returns the largest reply that the client takes.
func replyLimit(q *dns.Msg, udp bool, maxSize int) int {
	limit := dns.MaxMsgSize
	if udp {
		limit = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			limit = max(limit, int(opt.UDPSize()))
		}
	}
	if maxSize > 0 {
		limit = min(limit, maxSize)
	}
	return max(limit, dns.MinMsgSize)
}
