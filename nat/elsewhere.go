package nat

import (
	"net/netip"
	"slices"

	"tapswitch/switch"
)

// Where the switch runs on several threads, a published port belongs to the NAT
// of its container's shard, and so do flows to it: frames of containers that
// other shards read are handed over to it (vswitch.ActHandOver).

// elsewhere is what another shard has published.
type elsewhere struct {
	Publish
	shard int
}

// PublishElsewhere notes what another shard has published.
func (n *NAT) PublishElsewhere(c Publish, shard int) {
	k := pubKey{c.Proto, c.Host.Port()}
	n.pub.elsewhere[k] = append(n.pub.elsewhere[k], elsewhere{c, shard})
	n.sw.PolicyChanged()
}

// UnpublishElsewhere takes back what PublishElsewhere noted.
func (n *NAT) UnpublishElsewhere(c Publish) {
	k := pubKey{c.Proto, c.Host.Port()}
	left := slices.DeleteFunc(n.pub.elsewhere[k], func(x elsewhere) bool { return x.Host == c.Host })
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
		return n.ruled(n.toPublished(q, &x.Publish, t), verdict{kind: verdictPair, target: &x.Publish}, t), true
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
	if x := n.pub.findElsewhere(q.proto, dst, gateway); x != nil {
		return n.ruled(n.toPublished(q, &x.Publish, t), verdict{kind: verdictElsewhere, target: &x.Publish, shard: x.shard}, t), true
	}
	return verdict{}, false
}

// findElsewhere is find for what other shards have published.
func (p *publications) findElsewhere(proto uint8, dst netip.AddrPort, gateway bool) *elsewhere {
	list := p.elsewhere[pubKey{proto, dst.Port()}]
	for i := range list {
		if x := &list[i]; listens(x.Host, dst, gateway) && x.reachable(dst.Addr()) {
			return x
		}
	}
	return nil
}

// elsewhereOf is the shard to which an ICMP error belongs because it is about a
// flow to something published there. Only that shard knows the flow.
func (n *NAT) elsewhereOf(f *vswitch.Frame) (shard int, is bool) {
	q, ok := quoteOf(f)
	if !ok {
		return 0, false
	}
	for _, gateway := range [2]bool{true, false} {
		if x := n.pub.findElsewhere(q.proto, netip.AddrPortFrom(q.remote.netip(f.V6), q.rport), gateway); x != nil {
			return x.shard, true
		}
	}
	return 0, false
}

// toPublished makes q a packet to the container that publishes x, as rules see
// it: behind the translation.
func (n *NAT) toPublished(q *packet, x *Publish, t *Trace) *packet {
	t.Add("publish", "%s publishes port %d there", x.Port.Label, x.ContainerPort)
	q.way, q.to, q.port = wayPublished, party{port: x.Port, addr: x.target(q.to.addr.Is6())}, x.ContainerPort
	return q
}
