package forward

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	openingsPerOwner = 4096
	// openingsLeast is how long an address stays open at least: who asks needs a
	// moment to connect, also where an answer may not be kept at all.
	openingsLeast = 10 * time.Second
	openingsMost  = 24 * time.Hour
	openingsNames = 64 // of one address
)

// Openings remembers under which names our answers have told which addresses to
// whom, as long as those answers live. Egress policies by name stand on it. Its
// methods may be called from several goroutines.
type Openings struct {
	now func() time.Time

	mu  sync.Mutex
	own map[string]map[netip.Addr][]named // by owner
}

type named struct {
	name  string
	until time.Time
}

// NewOpenings returns one that knows nothing; now nil is the system's clock.
func NewOpenings(now func() time.Time) *Openings {
	if now == nil {
		now = time.Now
	}
	return &Openings{now: now, own: make(map[string]map[netip.Addr][]named)}
}

// Add notes that owner was told addrs under name for ttl.
func (o *Openings) Add(owner, name string, addrs []netip.Addr, ttl time.Duration) {
	now := o.now()
	until := now.Add(min(max(ttl, openingsLeast), openingsMost))
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.own[owner]
	if known == nil {
		known = make(map[netip.Addr][]named)
		o.own[owner] = known
	}
	if len(known)+len(addrs) > openingsPerOwner {
		prune(known, now)
	}
	for _, a := range addrs {
		a = a.Unmap()
		if _, there := known[a]; !there && len(known) >= openingsPerOwner {
			return // whoever asks for this many names waits until some are forgotten
		}
		known[a] = remember(known[a], named{name, until}, now)
	}
}

// remember adds a name to those of an address. Of too many the oldest goes.
func remember(list []named, n named, now time.Time) []named {
	for i := range list {
		if list[i].name == n.name {
			if list[i].until.Before(n.until) {
				list[i].until = n.until
			}
			return list
		}
	}
	if len(list) >= openingsNames {
		list = append(list[:0], list[1:]...)
	}
	return append(list, n)
}

func prune(known map[netip.Addr][]named, now time.Time) {
	for a, list := range known {
		live := list[:0]
		for _, n := range list {
			if n.until.After(now) {
				live = append(live, n)
			}
		}
		if known[a] = live; len(live) == 0 {
			delete(known, a)
		}
	}
}

// Names are those under which owner was told a, and that live; with ever, also
// those that are over and not yet forgotten.
func (o *Openings) Names(owner string, a netip.Addr, ever bool) (names []string) {
	now := o.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.own[owner][a.Unmap()] {
		if ever || n.until.After(now) {
			names = append(names, n.name)
		}
	}
	return names
}

// Forget drops what owner was told.
func (o *Openings) Forget(owner string) {
	o.mu.Lock()
	delete(o.own, owner)
	o.mu.Unlock()
}

// told are the addresses of a reply, and how long they may be kept.
func told(reply []byte) (addrs []netip.Addr, ttl time.Duration) {
	var m dns.Msg
	if m.Unpack(reply) != nil || m.Rcode != dns.RcodeSuccess {
		return nil, 0
	}
	least := uint32(1 << 31)
	for _, rr := range m.Answer {
		least = min(least, rr.Header().Ttl)
		var b []byte
		switch r := rr.(type) {
		case *dns.A:
			b = r.A.To4()
		case *dns.AAAA:
			b = r.AAAA
		}
		if a, ok := netip.AddrFromSlice(b); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs, time.Duration(least) * time.Second
}

// MatchName says whether name, in lower case and without a dot at its end, is
// what pattern means: itself, or all below it for *.NAME.
func MatchName(pattern, name string) bool {
	if strings.ContainsRune(name, '\\') {
		return false // an escape (RFC 1035, 5.1): its dots are no dots
	}
	if below, is := strings.CutPrefix(pattern, "*"); is {
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return pattern == name
}
