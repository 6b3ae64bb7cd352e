package nat

import "tapswitch/switch"

// The host's own interface on a bridge (vswitch.PortConfig.Host). What its
// kernel opens to a container is a pair without any translation, as between
// neighbours; the container's answers go to the gateway's MAC and address, so
// that they are found among its flows before the gateway's own services are
// asked. Whatever opens a flow from there is the gateway's, as without the
// interface.
//
// The policy judges such a flow as one of the host's that comes in; icc and
// isolation are for containers. Where the numbers of a flow are those of one that
// the gateway itself has with the container, the newer is dropped: rewriting it
// is what the interface is to avoid.

// hostPacket is a packet of the host's to a container, for the policy.
func hostPacket(f *vswitch.Frame, out *vswitch.Port, port uint16) packet {
	return packet{from: party{host: true, addr: f.Src()}, to: party{port: out, addr: f.Dst()}, way: wayHostPort, proto: f.Proto, port: port}
}

// hostPacketOf is the same of an open flow's first packet.
func (n *NAT) hostPacketOf(fl *flow) packet {
	client, server := &fl.sides[0], &fl.sides[1]
	if fl.has(fReverse) {
		client, server = server, client
	}
	return packet{from: party{host: true, addr: client.local.netip(fl.v6)}, to: party{port: n.sw.Port(server.port), addr: server.local.netip(fl.v6)},
		way: wayHostPort, proto: fl.proto, port: server.lport}
}

// answersHost opens the record of a flow whose opening was read by another shard,
// the home of the host's interface, and that expects this answer.
func (n *NAT) answersHost(f *vswitch.Frame) (vswitch.Action, bool) {
	host := f.In.Bridge().Host()
	if host == nil || !host.Mirror() || !tracked(f) || echo(f) == 1 || f.Proto == vswitch.ProtoTCP && !stray(f) || !n.cfg.Expect.has(frameOf(f)) {
		return vswitch.Action{}, false
	}
	q := packet{from: party{host: true, addr: f.Dst()}, to: party{port: f.In, addr: f.Src()}, way: wayHostPort, proto: f.Proto, port: f.SrcPort()}
	r := n.judge(&q, n.sw.Trace())
	if !r.ok {
		return vswitch.DropBy(r.reason, r.rule), true
	}
	return n.openDirect(f, verdict{kind: verdictBridged, way: wayHostPort, rule: r.rule, out: host, reverse: true}), true
}

// errorToHost passes on what a container's kernel says of flow i, whose host side
// is s: as it came, since the host knows the container by its own address.
func (n *NAT) errorToHost(f *vswitch.Frame, i uint32, s int) vswitch.Action {
	to := &n.flows[i].sides[s]
	if f.Dst() != to.local.netip(f.V6) || !n.stands(i) {
		return vswitch.Drop(vswitch.NoFlow)
	}
	if r := n.sw.Output(n.sw.Port(to.port), f.B); r != vswitch.Delivered {
		return vswitch.Drop(r)
	}
	return consumed
}

// ExplainHost is Explain for the host, by its own interface on p's bridge.
func (n *NAT) ExplainHost(p *vswitch.Port, proto uint8, port uint16, v6 bool) Explanation {
	t := new(Trace)
	gw := p.Bridge().Gateway
	if v6 {
		gw = p.Bridge().Gateway6
	}
	q := packet{from: party{host: true, addr: gw}, to: party{port: p, addr: sourceOf(p, v6)}, way: wayHostPort, proto: proto, port: port}
	switch r := n.judge(&q, t); {
	case r.ok:
		t.Add("output", "switched to %s, which sees %s", p.Name, gw)
		return Explanation{t.Steps, Accepted, vswitch.Delivered, r.rule, p.Name}
	case r.reply == silence:
		return Explanation{t.Steps, Dropped, r.reason, r.rule, ""}
	default:
		return Explanation{t.Steps, Rejected, r.reason, r.rule, ""}
	}
}
