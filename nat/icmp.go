package nat

import (
	"net/netip"

	"tapswitch/switch"
)

// Errors towards the container, as the gateway or as the hop that the host's
// kernel heard of. They carry the head of the container's own packet, by which
// its kernel finds the socket (RFC 792, RFC 4443).

// unreach says what could not be reached; values are those of ICMPv4.
type unreach uint8

const (
	unreachHost       unreach = 1
	unreachPort       unreach = 3
	unreachProhibited unreach = 13
)

// v6code is the ICMPv6 code of destination unreachable.
func (u unreach) v6code() uint8 {
	switch u {
	case unreachPort:
		return 4
	case unreachProhibited:
		return 1
	}
	return 3
}

// icmpError is one error message to be built.
type icmpError struct {
	typ, code uint8
	info      uint32     // MTU of "too big"
	from      netip.Addr // who reports it
}

// unreachable answers the packet f with destination unreachable from the
// gateway.
func (n *NAT) unreachable(f *vswitch.Frame, u unreach) {
	e := icmpError{typ: 3, code: uint8(u)}
	if f.V6 {
		e = icmpError{typ: 1, code: u.v6code()}
	}
	n.errorFor(f, e)
}

func (n *NAT) timeExceeded(f *vswitch.Frame) {
	e := icmpError{typ: 11}
	if f.V6 {
		e.typ = 3
	}
	n.errorFor(f, e)
}

// errorFor answers the packet f with an error. Errors are never answered, nor
// is what came for a group (RFC 1122, 3.2.2).
func (n *NAT) errorFor(f *vswitch.Frame, e icmpError) {
	if f.Proto == vswitch.ProtoICMP || f.Proto == vswitch.ProtoICMPv6 {
		if t := f.Key.EchoType(); t != echoRequest(f.V6) {
			return
		}
	}
	if f.Dst().IsMulticast() || f.Src().IsUnspecified() {
		return
	}
	if f.In.Host {
		e.from = f.Dst() // its kernel takes nothing from its own address
	}
	quote := f.B[f.L3:min(f.End, f.L3+quoteLen(f.V6))]
	n.sendError(f.In, f.SrcMAC(), f.V6, f.SrcIP(), quote, e)
}

func quoteLen(v6 bool) int {
	if v6 {
		return 1232 - vswitch.IPv6Len - vswitch.ICMPLen
	}
	return 548 // RFC 1812, 4.3.2.3: as much as fits into 576 bytes
}

// sendError builds an ICMP error around quote, the head of the offending
// packet as the container sent it, and sends it to dst on p.
func (n *NAT) sendError(p *vswitch.Port, mac vswitch.MAC, v6 bool, dst, quote []byte, e icmpError) {
	br := p.Bridge()
	from := e.from
	if !from.IsValid() || from.Is4() == v6 {
		from = br.Gateway
		if v6 {
			from = br.Gateway6
		}
	}
	fl := flow{proto: vswitch.ProtoICMP, v6: v6}
	if v6 {
		fl.proto = vswitch.ProtoICMPv6
	}
	s := &fl.sides[0]
	copy(s.local[:], dst)
	s.remote, s.port, s.mac = toAddr(from), p.ID, mac
	hl := vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
	if v6 {
		hl += vswitch.IPv6Len - vswitch.IPv4Len
	}
	b := n.icmpBuf[:hl+vswitch.ICMPLen+len(quote)]
	clear(b[:vswitch.VnetLen])
	l4 := n.ipFrame(&fl, b, vswitch.ICMPLen+len(quote))
	icmp := b[l4:]
	icmp[0], icmp[1] = e.typ, e.code
	put16(icmp[2:], 0)
	put32(icmp[4:], e.info)
	copy(icmp[vswitch.ICMPLen:], quote)
	acc := uint64(0)
	if v6 {
		acc = n.pseudo(&fl, vswitch.ProtoICMPv6, len(icmp))
	}
	put16(icmp[2:], vswitch.Checksum(icmp, acc))
	if r := n.sw.Output(p, b); r != vswitch.Delivered {
		n.sw.CountDrop(p, r)
	}
}

// flowError tells the container of fl an error about what it sent in the flow.
// The packet is gone; its head is written again from what the record knows and
// data, the transport header's payload that the error came with.
func (n *NAT) flowError(fl *flow, rport uint16, remote addr, data []byte, e icmpError) {
	s := fl.sides[0]
	q := n.quote[:0]
	th := vswitch.UDPLen
	if fl.proto == vswitch.ProtoTCP {
		th = vswitch.TCPLen
	}
	if fl.kind == kindPing {
		th = 0
	}
	data = data[:min(len(data), 128)]
	total := th + len(data)
	if fl.v6 {
		q = q[:vswitch.IPv6Len+total]
		clear(q)
		put32(q, 6<<28)
		put16(q[4:], uint16(total))
		q[6], q[7] = fl.proto, 1
		copy(q[8:], s.local[:])
		copy(q[24:], remote[:])
	} else {
		q = q[:vswitch.IPv4Len+total]
		clear(q)
		q[0] = 0x45
		put16(q[2:], uint16(vswitch.IPv4Len+total))
		put16(q[6:], 0x4000)
		q[8], q[9] = 1, fl.proto
		copy(q[12:], s.local[:4])
		copy(q[16:], remote[:4])
		vswitch.PutIPv4Checksum(q[:vswitch.IPv4Len])
	}
	l4 := q[len(q)-total:]
	switch fl.kind {
	case kindPing:
		copy(l4, data)
		if len(data) >= vswitch.ICMPLen {
			put16(l4[4:], s.lport)
		}
	default:
		put16(l4, s.lport)
		put16(l4[2:], rport)
		if fl.proto == vswitch.ProtoTCP {
			put32(l4[4:], fl.tcp.peerISN)
			l4[12], l4[13] = vswitch.TCPLen/4<<4, vswitch.TCPSyn
		} else {
			put16(l4[4:], uint16(vswitch.UDPLen+len(data)))
			copy(l4[vswitch.UDPLen:], data)
		}
	}
	size := 4
	if fl.v6 {
		size = 16
	}
	p := n.sw.Port(s.port)
	mac := s.mac
	if mac == (vswitch.MAC{}) {
		mac = p.MAC
	}
	n.sendError(p, mac, fl.v6, s.local[:size], q, e)
}

// flowUnreachable tells the container that its connection came to nothing.
func (n *NAT) flowUnreachable(fl *flow, u unreach) {
	e := icmpError{typ: 3, code: uint8(u)}
	if fl.v6 {
		e = icmpError{typ: 1, code: u.v6code()}
	}
	n.flowError(fl, fl.sides[0].rport, fl.sides[0].remote, nil, e)
}

// echoReply answers an echo request to the gateway in place.
func (n *NAT) echoReply(f *vswitch.Frame) {
	eth := f.B[vswitch.VnetLen:]
	br := f.In.Bridge()
	copy(eth, eth[6:12])
	copy(eth[6:], br.MAC[:])
	var t [16]byte
	src, dst := f.SrcIP(), f.DstIP()
	copy(t[:], src)
	copy(src, dst)
	copy(dst, t[:len(dst)])
	icmp := f.B[f.L4:f.End]
	old := [2]byte{icmp[0], icmp[1]}
	if f.V6 {
		icmp[0] = 129
		f.B[f.L3+7] = 64
	} else {
		icmp[0] = 0
		f.B[f.L3+8] = 64
		ihl := int(f.B[f.L3]&15) * 4
		vswitch.PutIPv4Checksum(f.B[f.L3 : f.L3+ihl])
	}
	if f.B[0]&vswitch.VnetNeedsCsum == 0 { // else it is summed by the receiver
		vswitch.AdjustSum(icmp[2:], old[:], icmp[:2], false)
	}
	if r := n.sw.Output(f.In, f.B[:f.End]); r != vswitch.Delivered {
		n.sw.DropFrame(f, r, 0)
	}
}

// icmpFromTap takes an error that a container's kernel sent: about a datagram
// of a published port, or of another container's flow to it.
func (n *NAT) icmpFromTap(f *vswitch.Frame) vswitch.Action {
	i, s := n.quoted(f)
	if i == none {
		if shard, is := n.elsewhereOf(f); is {
			return vswitch.Action{Kind: vswitch.ActHandOver, Flow: uint32(shard)}
		}
		return vswitch.Drop(vswitch.Reason(s))
	}
	fl := &n.flows[i]
	b := f.B[f.L4:f.End]
	switch {
	case fl.kind == kindPair && fl.way == wayRouted:
		if other := fl.sides[1-s].local; f.Dst() != other.netip(fl.v6) || f.Class&vswitch.ClassTTL != 0 || !n.stands(i) {
			return vswitch.Drop(vswitch.Isolated)
		}
		p := n.sw.Port(fl.sides[1-s].port)
		hop(f, &fl.sides[1-s], p.Bridge().MAC)
		if r := n.sw.Output(p, f.B); r != vswitch.Delivered {
			return vswitch.Drop(r)
		}
		return consumed
	case fl.kind == kindPair && fl.way == wayHostPort:
		return n.errorToHost(f, i, 1-s)
	case fl.kind == kindPair:
		n.pairError(fl, 1-s, icmpError{typ: b[0], code: b[1], info: get32(b[4:])})
		return consumed
	}
	return vswitch.Drop(vswitch.Refused) // an unprivileged socket cannot send it on
}

// quoted finds the flow that an ICMP error of a container is about, and the
// container's side; or none, with the reason in the side's place.
func (n *NAT) quoted(f *vswitch.Frame) (uint32, int) {
	q, ok := quoteOf(f)
	if !ok {
		return none, int(vswitch.NoProtocol)
	}
	i, s := n.find(f.In.ID, q.proto, &q.local, &q.remote, q.lport, q.rport)
	if i == none {
		return none, int(vswitch.NoFlow)
	}
	return i, s
}

// quoteOf is the packet that an ICMP error is about, as its receiver, who
// complains, would answer it. It is false for what is no such error.
func quoteOf(f *vswitch.Frame) (x expected, ok bool) {
	b := f.B[f.L4:f.End]
	if (f.Proto == vswitch.ProtoICMPv6) != f.V6 || len(b) < vswitch.ICMPLen+vswitch.IPv4Len+vswitch.UDPLen {
		return x, false
	}
	isError := b[0] == 3 || b[0] == 11
	if f.V6 {
		isError = b[0] >= 1 && b[0] <= 3
	}
	if !isError {
		return x, false
	}
	q := b[vswitch.ICMPLen:]
	var l4 int
	if f.V6 {
		if len(q) < vswitch.IPv6Len+vswitch.UDPLen {
			return x, false
		}
		x.proto, l4 = q[6], vswitch.IPv6Len
		copy(x.remote[:], q[8:24])
		copy(x.local[:], q[24:40])
	} else {
		x.proto, l4 = q[9], int(q[0]&15)*4
		if l4 < vswitch.IPv4Len || len(q) < l4+vswitch.UDPLen {
			return x, false
		}
		copy(x.remote[:4], q[12:16])
		copy(x.local[:4], q[16:20])
	}
	x.lport, x.rport = get16(q[l4+2:]), get16(q[l4:])
	return x, true
}
