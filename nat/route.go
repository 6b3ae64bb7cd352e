package nat

import (
	"net/netip"
	"slices"

	"tapswitch/switch"
)

// verdict is what route decided: what becomes of a new flow.
type verdict struct {
	kind   verdictKind
	reason vswitch.Reason // verdictDrop, and what a refusal is counted under
	reply  reply          // what the sender hears of a drop
	to     netip.AddrPort // verdictOutside: where the socket connects
	target *publication   // verdictPair
	loop   bool           // verdictOutside: the host's loopback, on purpose
}

type verdictKind uint8

const (
	verdictDrop verdictKind = iota
	verdictEcho
	verdictDNS
	verdictPair
	verdictOutside
)

// reply is how a refusal is told.
type reply uint8

const (
	silence      reply = iota
	replyRefused       // TCP: reset; else port unreachable
	replyNoRoute
	replyProhibited
)

// route decides where a new flow of proto from the container on p to dst may
// go. It changes nothing, so that it also explains.
func (n *NAT) route(p *vswitch.Port, proto uint8, dst netip.AddrPort) verdict {
	br, ip := p.Bridge(), dst.Addr()
	switch proto {
	case vswitch.ProtoTCP, vswitch.ProtoUDP, vswitch.ProtoICMP, vswitch.ProtoICMPv6:
	default:
		return verdict{reason: vswitch.NoProtocol, reply: replyProhibited}
	}
	if br.IsGateway(ip) {
		return n.routeGateway(p, proto, dst)
	}
	if br.Contains(ip) {
		return verdict{reason: vswitch.NotForGateway}
	}
	if br.Internal {
		return verdict{reason: vswitch.Internal, reply: replyNoRoute}
	}
	if other := n.sw.BridgeOf(func(b *vswitch.Bridge) bool { return b != br && b.Contains(ip) }); other != nil && isolate {
		if other.IsGateway(ip) {
			if v, is := n.published(proto, dst, true); is {
				return v
			}
		}
		return verdict{reason: vswitch.Isolated}
	}
	if r := forbidden(ip); r != vswitch.Delivered {
		return verdict{reason: r, reply: refusal(r)}
	}
	if _, own := n.policy.HostAddrs[ip]; own {
		if v, is := n.published(proto, dst, false); is {
			return v
		}
		if !n.policy.HostAddress {
			return verdict{reason: vswitch.HostAddress, reply: replyProhibited}
		}
	}
	return verdict{kind: verdictOutside, to: dst}
}

// routeGateway decides about traffic to the bridge's own gateway address: echo,
// DNS, published ports, the host's loopback if it is open, else refused.
func (n *NAT) routeGateway(p *vswitch.Port, proto uint8, dst netip.AddrPort) verdict {
	switch {
	case proto == vswitch.ProtoICMP || proto == vswitch.ProtoICMPv6:
		return verdict{kind: verdictEcho}
	case dst.Port() == 53 && n.cfg.Local != nil:
		return verdict{kind: verdictDNS}
	}
	if v, is := n.published(proto, dst, true); is && !p.Bridge().Internal {
		return v
	}
	if n.policy.LoopbackAll || slices.Contains(n.policy.LoopbackPorts, dst.Port()) {
		to := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if dst.Addr().Is6() {
			to = netip.IPv6Loopback()
		}
		return verdict{kind: verdictOutside, to: netip.AddrPortFrom(to, dst.Port()), loop: true}
	}
	return verdict{reason: vswitch.Refused, reply: replyRefused}
}

// refusal says whether a forbidden destination is answered: what would be the
// host's loopback is, so that programs fail at once.
func refusal(r vswitch.Reason) reply {
	if r == vswitch.MulticastRouted {
		return silence
	}
	return replyProhibited
}

var (
	metadata6 = netip.MustParseAddr("fd00:ec2::254")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	compat    = netip.MustParsePrefix("::/96")
)

// forbidden says why a destination is never connected to: what the kernel
// treats as its own loopback in any of its spellings, link-local and cloud
// metadata addresses, groups. It is asked again right before each connect.
func forbidden(a netip.Addr) vswitch.Reason {
	if a.Is4In6() {
		if r := forbidden(a.Unmap()); r != vswitch.Delivered {
			return r
		}
		return vswitch.HostLoopback // no v4-mapped address belongs on the wire
	}
	switch {
	case a.IsUnspecified(), a.IsLoopback():
		return vswitch.HostLoopback
	case a.IsMulticast():
		return vswitch.MulticastRouted
	case a.IsLinkLocalUnicast(), a == metadata6:
		return vswitch.LinkLocalOnly
	}
	if a.Is4() {
		b := a.As4()
		if b[0] == 0 {
			return vswitch.HostLoopback // 0.0.0.0/8: "this host on this network"
		}
		if b[0] >= 240 {
			return vswitch.MulticastRouted // reserved, and limited broadcast
		}
		return vswitch.Delivered
	}
	if nat64.Contains(a) || compat.Contains(a) {
		b := a.As16()
		return forbidden(netip.AddrFrom4([4]byte(b[12:])))
	}
	return vswitch.Delivered
}

// open starts a flow for a frame that belongs to none, or says why not.
func (n *NAT) open(f *vswitch.Frame) vswitch.Action {
	if f.Proto == vswitch.ProtoTCP && f.TCPFlags&(vswitch.TCPSyn|vswitch.TCPAck|vswitch.TCPRst|vswitch.TCPFin) != vswitch.TCPSyn {
		return n.strayTCP(f)
	}
	if (f.Proto == vswitch.ProtoICMP || f.Proto == vswitch.ProtoICMPv6) && f.Key.EchoType() != echoRequest(f.V6) {
		return n.icmpFromTap(f)
	}
	dst := netip.AddrPortFrom(f.Dst(), f.DstPort())
	v := n.route(f.In, f.Proto, dst)
	if f.Class&vswitch.ClassTTL != 0 && v.kind != verdictEcho && v.kind != verdictDNS && v.kind != verdictDrop && !f.In.Bridge().IsGateway(dst.Addr()) {
		n.timeExceeded(f)
		return vswitch.Drop(vswitch.TTLExceeded)
	}
	switch v.kind {
	case verdictEcho:
		n.echoReply(f)
		return consumed
	case verdictDNS:
		return n.openLocal(f)
	case verdictPair:
		return n.openPair(f, v.target)
	case verdictOutside:
		return n.openOutside(f, v)
	}
	n.refuse(f, v.reply)
	return vswitch.Drop(v.reason)
}

var consumed = vswitch.Action{Kind: vswitch.ActConsumed}

func (n *NAT) openOutside(f *vswitch.Frame, v verdict) vswitch.Action {
	if n.full(f.In.ID) {
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	switch f.Proto {
	case vswitch.ProtoTCP:
		if n.perPort[f.In.ID].halfOpen >= n.cfg.HalfOpen {
			return vswitch.Drop(vswitch.HalfOpenLimit)
		}
		return n.tcpOpen(f, v)
	case vswitch.ProtoUDP:
		return n.udpOpen(f, v)
	}
	return n.pingOpen(f, v)
}

// refuse tells the sender of f that it got nowhere.
func (n *NAT) refuse(f *vswitch.Frame, r reply) {
	switch r {
	case replyRefused:
		if f.Proto == vswitch.ProtoTCP {
			n.resetFrame(f)
		} else {
			n.unreachable(f, unreachPort)
		}
	case replyNoRoute:
		n.unreachable(f, unreachHost)
	case replyProhibited:
		n.unreachable(f, unreachProhibited)
	}
}
