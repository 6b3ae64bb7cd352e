package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// What came to nothing without a frame at hand: a connection that the outside
// refuses, an answer that the container's interface does not take. It is counted
// on the container's port and noted for those who ask why (vswitch.Failure).

// lost counts flow fl itself as ended under r at step.
func (n *NAT) lost(fl *flow, r vswitch.Reason, step vswitch.Step, rule uint32) {
	p := n.sw.Port(fl.sides[0].port)
	n.sw.CountDrop(p, r)
	k := vswitch.FailureKey{Reason: r, Step: step, Rule: rule}
	n.sw.Fail(p, &k, fill(&k, fl, 0, fl.has(fInbound)))
}

// lostOn counts a frame of fl that came from side s, 1 being the outside where
// there is no second container.
func (n *NAT) lostOn(fl *flow, s int, r vswitch.Reason) {
	inbound := s == 1 && fl.kind != kindPair
	if inbound {
		s = 0
	}
	p := n.sw.Port(fl.sides[s].port)
	n.sw.CountDrop(p, r)
	k := vswitch.FailureKey{Reason: r, Rule: fl.rule}
	n.sw.Fail(p, &k, fill(&k, fl, s, inbound))
}

// fill writes the addresses that side s of a flow sees into k, and returns the
// source's port.
func fill(k *vswitch.FailureKey, fl *flow, s int, inbound bool) (srcPort uint16) {
	sd := &fl.sides[s]
	k.IP, k.V6, k.Proto, k.Inbound = true, fl.v6, fl.proto, inbound
	if inbound {
		k.Src, k.Dst, k.DstPort, srcPort = sd.remote, sd.local, sd.lport, sd.rport
		if fl.has(fInbound) && !fl.has(fOtherFamily) { // who it really is, not whom the container sees
			k.Src, srcPort = fl.sides[1].remote, fl.sides[1].rport
		}
		return srcPort
	}
	k.Src, k.Dst, k.DstPort = sd.local, sd.remote, sd.rport
	return sd.lport
}

// told notes an error that the outside has sent about a datagram of fl, which had
// been sent as it should: it is counted nowhere. remote is where it went, as the
// container has it.
func (n *NAT) told(fl *flow, e extendedErr, remote addr, rport uint16) {
	k := vswitch.FailureKey{Step: vswitch.StepOutside, Rule: fl.rule}
	switch e.errno {
	case unix.ECONNREFUSED, unix.EACCES, unix.EPERM:
		k.Reason = vswitch.Refused
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET:
		if e.hopLimit() {
			return // no failure
		}
		k.Reason = vswitch.NoRoute
	default:
		return
	}
	src := fill(&k, fl, 0, false)
	k.Dst, k.DstPort = remote, rport
	n.sw.Fail(n.sw.Port(fl.sides[0].port), &k, src)
}

// refusedByHost counts a frame that the host's kernel would not send.
func (n *NAT) refusedByHost(f *vswitch.Frame) {
	n.sw.DropFrameAt(f, vswitch.Refused, vswitch.StepHost, 0)
}

// turnedAway counts a client of a published port that does not get to the
// container.
func (n *NAT) turnedAway(p *publication, client netip.AddrPort, r vswitch.Reason, rule uint32) {
	n.sw.CountDrop(p.Port, r)
	c := client.Addr().Unmap().WithZone("")
	k := vswitch.FailureKey{Reason: r, Rule: rule, IP: true, V6: c.Is6(), Inbound: true, Proto: p.Proto, Src: toAddr(c), DstPort: p.ContainerPort}
	if t := p.target(c.Is6()); t.IsValid() {
		k.Dst = toAddr(t)
	}
	n.sw.Fail(p.Port, &k, client.Port())
}

// unsolicited counts a datagram for the socket s from somebody whom the container
// has not written to.
func (n *NAT) unsolicited(s *flow, from netip.AddrPort) {
	p := n.sw.Port(s.sides[0].port)
	n.sw.CountDrop(p, vswitch.Unsolicited)
	k := vswitch.FailureKey{Reason: vswitch.Unsolicited}
	fill(&k, s, 0, true)
	k.Src = toAddr(from.Addr())
	n.sw.Fail(p, &k, from.Port())
}
