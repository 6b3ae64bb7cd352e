package nat

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"tapswitch/switch"
)

// A bridge with one port behind which are guests that we know nothing of leases
// the addresses of a range, a MAC each, as DHCP servers do (RFC 2131, 4.3.1):
// the one that it had, the one that it asks for if that is free, else the first
// that was never given, else the one whose lease is over for longest.

type lease struct {
	addr  netip.Addr
	mac   vswitch.MAC
	until int64 // 0: never given
}

// maxLeases bounds what is remembered of one bridge.
const maxLeases = 256

func leased(br *vswitch.Bridge) bool { return br.Service.First.IsValid() }

// lease is the address for the client that asks; invalid if there is none left.
func (n *NAT) lease(br *vswitch.Bridge, q *dhcpv4.DHCPv4) netip.Addr {
	if len(q.ClientHWAddr) != len(vswitch.MAC{}) {
		return netip.Addr{}
	}
	mac, now := vswitch.MAC(q.ClientHWAddr), n.sw.Now()
	pool := n.leases[br.ID]
	if len(pool) == 0 || pool[0].addr != br.Service.First { // none yet, or those of a bridge that is gone
		pool = nil
		for a := br.Service.First; a.Compare(br.Service.Last) <= 0 && len(pool) < maxLeases; a = a.Next() {
			pool = append(pool, lease{addr: a})
		}
		n.leases[br.ID] = pool
	}
	want, _ := netip.AddrFromSlice(q.RequestedIPAddress().To4())
	best := -1
	for i := range pool {
		switch l := &pool[i]; {
		case l.mac == mac && l.until != 0:
			l.until = now + int64(dhcpLease)
			return l.addr
		case l.until > now:
		case best < 0, l.addr == want, pool[best].addr != want && l.until < pool[best].until:
			best = i
		}
	}
	if best < 0 {
		return netip.Addr{}
	}
	pool[best].mac, pool[best].until = mac, now+int64(dhcpLease)
	return pool[best].addr
}
