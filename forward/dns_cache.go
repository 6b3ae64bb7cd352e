package forward

import (
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	cacheLongest  = time.Hour       // however long a record says
	cacheNegative = 5 * time.Minute // RFC 2308, 5: for names that are not there
)

// dnsCache keeps upstreams' replies as long as their records live. A key is all
// that a reply depends on; a question with options of its own is not kept.
type dnsCache struct {
	now func() time.Time
	max int

	mu      sync.Mutex
	entries map[cacheKey]cached
}

type cacheKey struct {
	name          string // in lower case
	rrtype, class uint16
	edns, do, cd  bool
}

type cached struct {
	m     *dns.Msg // never changed
	since time.Time
	until time.Time
}

func newCache(max int, now func() time.Time) *dnsCache {
	if now == nil {
		now = time.Now
	}
	return &dnsCache{now: now, max: max, entries: make(map[cacheKey]cached)}
}

// key says under which key the reply to q is kept, if it may be.
func (c *dnsCache) key(q *dns.Msg) (k cacheKey, ok bool) {
	if c == nil || !q.RecursionDesired {
		return k, false
	}
	x := q.Question[0]
	k = cacheKey{name: strings.ToLower(x.Name), rrtype: x.Qtype, class: x.Qclass, cd: q.CheckingDisabled}
	if o := q.IsEdns0(); o != nil {
		if len(o.Option) > 0 {
			return k, false
		}
		k.edns, k.do = true, o.Do()
	}
	return k, true
}

// get is the reply to q, packed for it, or nil.
func (c *dnsCache) get(q *dns.Msg, query []byte, limit int) []byte {
	k, ok := c.key(q)
	if !ok {
		return nil
	}
	now := c.now()
	c.mu.Lock()
	e, ok := c.entries[k]
	if ok && !now.Before(e.until) {
		delete(c.entries, k)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := e.m.Copy()
	m.Id = q.Id
	m.Question = q.Question // as this client writes it
	age := uint32(now.Sub(e.since) / time.Second)
	for _, list := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range list {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, age)
			}
		}
	}
	return pack(query, m, limit)
}

// put keeps a whole reply to q for as long as it may be kept.
func (c *dnsCache) put(q *dns.Msg, reply []byte) {
	k, ok := c.key(q)
	if !ok || isTruncated(reply) {
		return
	}
	m := new(dns.Msg)
	if m.Unpack(reply) != nil {
		return
	}
	d := keeps(m)
	if d <= 0 {
		return
	}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= c.max {
		c.evict(now)
	}
	c.entries[k] = cached{m, now, now.Add(d)}
}

// evict makes room: what is over goes, else any one.
func (c *dnsCache) evict(now time.Time) {
	var victim cacheKey
	for k, e := range c.entries {
		victim = k
		if !now.Before(e.until) {
			delete(c.entries, k)
		}
	}
	if len(c.entries) >= c.max {
		delete(c.entries, victim)
	}
}

// keeps is how long a reply may be kept: its shortest record, or for what is
// not there what the zone's SOA says (RFC 2308, 5).
func keeps(m *dns.Msg) time.Duration {
	least := cacheLongest
	negative := m.Rcode == dns.RcodeNameError || m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0
	if m.Rcode != dns.RcodeSuccess && !negative {
		return 0
	}
	soa := false
	for _, list := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range list {
			h := rr.Header()
			if h.Rrtype == dns.TypeOPT {
				continue
			}
			least = min(least, time.Duration(h.Ttl)*time.Second)
			if s, is := rr.(*dns.SOA); is {
				soa = true
				least = min(least, time.Duration(s.Minttl)*time.Second)
			}
		}
	}
	if negative && !soa {
		return 0 // RFC 2308, 5: nobody says for how long
	}
	if negative {
		least = min(least, cacheNegative)
	}
	return least
}

// flush forgets all.
func (c *dnsCache) flush() {
	if c == nil {
		return
	}
	c.mu.Lock()
	clear(c.entries)
	c.mu.Unlock()
}

// size is how many replies are kept.
func (c *dnsCache) size() int {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
