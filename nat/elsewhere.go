package nat

import (
	"net/netip"
	"slices"
)

// Where the switch runs on several threads, a published port belongs to the NAT
// of its container's shard. Containers of other shards reach it as the host
// does, through the listener: a flow has one owner, and no frame crosses.
// The published container sees the gateway as the client, as it does where both
// are of one shard, since the listener is asked over the host's loopback.

// PublishElsewhere notes what another shard has published.
func (n *NAT) PublishElsewhere(c Publish) {
	k := pubKey{c.Proto, c.Host.Port()}
	n.pub.elsewhere[k] = append(n.pub.elsewhere[k], c)
	n.sw.PolicyChanged()
}

// UnpublishElsewhere takes back what PublishElsewhere noted.
func (n *NAT) UnpublishElsewhere(c Publish) {
	k := pubKey{c.Proto, c.Host.Port()}
	left := slices.DeleteFunc(n.pub.elsewhere[k], func(x Publish) bool { return x.Host == c.Host })
	if n.pub.elsewhere[k] = left; len(left) == 0 {
		delete(n.pub.elsewhere, k)
	}
	n.sw.PolicyChanged()
}

// listens says whether a listener at host serves dst, which is one of the
// host's own addresses, or a gateway's.
func listens(host netip.AddrPort, dst netip.AddrPort, gateway bool) bool {
	h := host.Addr()
	return host.Port() == dst.Port() && h.Is4() == dst.Addr().Is4() && (h.IsUnspecified() || !gateway && h == dst.Addr())
}

// published decides about a new flow to dst, an address of the host or a
// gateway's, if something is published there.
func (n *NAT) published(q *packet, dst netip.AddrPort, gateway bool, t *Trace) (verdict, bool) {
	if x := n.pub.find(q.proto, dst, gateway); x != nil && x.reachable(dst.Addr()) {
		return n.ruled(n.toPublished(q, &x.Publish, t), verdict{kind: verdictPair, target: x}, t), true
	}
	if !gateway {
		// Of a family that the container lacks: it is reached by the listener, but
		// rules mean it all the same.
		for _, x := range n.pub.byTo[pubKey{q.proto, dst.Port()}] {
			if listens(x.Host, dst, false) {
				a := x.Target4
				if !a.IsValid() {
					a = x.Target6
				}
				p := *q
				t.Add("publish", "%s publishes port %d there, by its other family", x.Port.Label, x.ContainerPort)
				p.way, p.to, p.port = wayPublished, party{port: x.Port, addr: a}, x.ContainerPort
				if r := n.judge(&p, t); !r.ok {
					return verdict{reason: r.reason, reply: r.reply, rule: r.rule, way: wayPublished}, true
				}
			}
		}
	}
	for i := range n.pub.elsewhere[pubKey{q.proto, dst.Port()}] {
		x := &n.pub.elsewhere[pubKey{q.proto, dst.Port()}][i]
		v6 := dst.Addr().Is6()
		if !listens(x.Host, dst, gateway) || !(v6 && x.Target6.IsValid() || !v6 && x.Target4.IsValid()) {
			continue
		}
		to := x.Host.Addr()
		if to.IsUnspecified() {
			if to = netip.AddrFrom4([4]byte{127, 0, 0, 1}); v6 {
				to = netip.IPv6Loopback()
			}
		}
		return n.ruled(n.toPublished(q, x, t), verdict{kind: verdictOutside, to: netip.AddrPortFrom(to, dst.Port()), loop: true}, t), true
	}
	return verdict{}, false
}

// toPublished makes q a packet to the container that publishes x, as rules see
// it: behind the translation.
func (n *NAT) toPublished(q *packet, x *Publish, t *Trace) *packet {
	a := x.Target4
	if q.to.addr.Is6() {
		a = x.Target6
	}
	t.Add("publish", "%s publishes port %d there", x.Port.Label, x.ContainerPort)
	q.way, q.to, q.port = wayPublished, party{port: x.Port, addr: a}, x.ContainerPort
	return q
}
