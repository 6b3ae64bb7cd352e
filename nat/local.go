package nat

import (
	"net/netip"

	"tapswitch/switch"
)

// openLocal leads a question to the gateway's own service: a datagram is
// handed over, a TCP connection becomes a flow to a socket of the service.
func (n *NAT) openLocal(f *vswitch.Frame) vswitch.Action {
	q := Query{
		Bridge:  f.In.Bridge().Name,
		Client:  netip.AddrPortFrom(f.Src(), f.SrcPort()),
		Gateway: netip.AddrPortFrom(f.Dst(), f.DstPort()),
		port:    f.In.ID,
		mac:     f.SrcMAC(),
		in:      f.In,
		nat:     n,
	}
	switch f.Proto {
	case vswitch.ProtoUDP:
		b := datagramOf(f)
		if b == nil {
			return vswitch.Drop(vswitch.BadTransport)
		}
		if !n.cfg.Local.Datagram(q, b[vswitch.UDPLen:]) {
			return vswitch.Drop(vswitch.LocalBusy)
		}
		return consumed
	case vswitch.ProtoTCP:
		return n.openStream(f, q)
	}
	return vswitch.Drop(vswitch.NoProtocol)
}

func (n *NAT) openStream(f *vswitch.Frame, q Query) vswitch.Action {
	pp := &n.perPort[f.In.ID]
	if pp.halfOpen >= n.cfg.HalfOpen || n.full(f.In.ID) {
		return vswitch.Drop(vswitch.HalfOpenLimit)
	}
	i := n.tcpNew(f.In, -1)
	if i == none {
		return vswitch.Drop(vswitch.FlowLimit)
	}
	fl := &n.flows[i]
	fl.v6 = f.V6
	fl.set(fLocal)
	s := &fl.sides[0]
	copy(s.local[:], f.SrcIP())
	copy(s.remote[:], f.DstIP())
	s.lport, s.rport, s.mac = f.SrcPort(), f.DstPort(), f.SrcMAC()
	n.index(i, 0)
	n.tcpTakeSYN(fl, f)
	fl.state = connecting
	pp.halfOpen++
	n.arm(i, n.sw.Now()+connectLimit)
	gen := fl.gen
	n.cfg.Local.Stream(q, func(fd int) {
		if !n.sw.Post(func() { n.streamReady(i, gen, fd) }) && fd >= 0 {
			sysClose(fd)
		}
	})
	return consumed
}

// streamReady connects a flow with the service's socket.
func (n *NAT) streamReady(i, gen uint32, fd int) {
	fl := &n.flows[i]
	if fl.gen != gen || fl.kind != kindTCP || fl.state != connecting {
		if fd >= 0 {
			sysClose(fd)
		}
		return
	}
	if fd < 0 {
		n.tcpReset(fl)
		n.drop(i)
		return
	}
	fl.fd = int32(fd)
	n.tcpWatch(i)
	n.opened(i)
}

// Reply sends a datagram of the gateway's service to the client that asked. It
// may be called from any goroutine; b is the NAT's from then on.
func (q Query) Reply(b []byte) {
	n := q.nat
	n.sw.Post(func() {
		if p := n.sw.Port(q.port); p == nil || p != q.in {
			return
		}
		n.serve(q.in, q.mac, q.Client, q.Gateway, b)
	})
}
