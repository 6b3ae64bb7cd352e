package nat

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// UDP: one unconnected host socket per container address and port, whatever
// the destinations (endpoint-independent mapping, RFC 4787 REQ-1), with the
// same host port if it is free. Datagrams come in only from addresses and
// ports that were written to (port-dependent filtering, REQ-8): a container
// that wants more publishes the port. A container port that is published sends
// through its listener, so that the mapping is one.

const (
	udpOnce    = 30e9  // ns, as nf_conntrack_udp_timeout
	udpStream  = 120e9 // nf_conntrack_udp_timeout_stream
	pingFor    = 30e9
	udpSegment = 103
	udpGRO     = 104
	maxUDP     = 65535 - vswitch.IPv4Len - vswitch.UDPLen
)

// lifetime is how long the flow may be silent, in ns.
func (f *flow) lifetime() int64 {
	switch f.kind {
	case kindPing:
		return pingFor
	case kindPair:
		if f.proto == vswitch.ProtoTCP {
			return f.pairLifetime()
		}
	}
	if f.udp.replied {
		return udpStream
	}
	return udpOnce
}

// udpOpen starts a flow for a datagram to the outside and sends it.
func (n *NAT) udpOpen(f *vswitch.Frame, v verdict) vswitch.Action {
	if r := forbidden(v.to.Addr()); r != vswitch.Delivered && !v.loop {
		return vswitch.Drop(r)
	}
	var sock, listener = none, none
	if !v.loop {
		listener = n.pub.udpListener(f.In, f.SrcPort(), f.V6)
	}
	if listener == none {
		var e unix.Errno
		if sock, e = n.udpSocket(f); sock == none {
			n.Stats.Errors++
			n.cfg.Logf("udp socket for %s: %v", f.In.Name, e)
			n.refuse(f, replyProhibited)
			return vswitch.Drop(vswitch.SocketFailed)
		}
	}
	i := n.udpFlow(f.In, f.V6, netip.AddrPortFrom(f.Src(), f.SrcPort()), netip.AddrPortFrom(f.Dst(), f.DstPort()), v.to)
	if i == none {
		if sock != none && n.flows[sock].udp.refs == 0 {
			n.drop(sock)
		}
		return vswitch.Drop(vswitch.FlowLimit)
	}
	fl := &n.flows[i]
	n.admit(fl, v)
	fl.sides[0].mac = f.SrcMAC()
	fl.udp.listener, fl.udp.socket = listener, sock
	if sock != none {
		n.flows[sock].udp.refs++
	}
	if v.loop {
		fl.set(fHostLoop)
	}
	n.Stats.UDPFlows++
	n.opened(i)
	if f.Class != 0 {
		n.Deliver(f, i<<1, fl.gen)
		return consumed
	}
	return vswitch.Action{Kind: vswitch.ActGateway, Flow: i << 1, FlowGen: fl.gen}
}

// udpFlow makes a record for datagrams between the container's address and
// remote as the container sees it; real is where the outside has it.
func (n *NAT) udpFlow(p *vswitch.Port, v6 bool, local, remote, real netip.AddrPort) uint32 {
	i := n.alloc(kindUDP, p.ID)
	if i == none {
		return none
	}
	fl := &n.flows[i]
	fl.proto, fl.v6 = vswitch.ProtoUDP, v6
	fl.created, fl.used = n.sw.Now(), n.sw.Now()
	s := &fl.sides[0]
	s.local, s.lport = toAddr(local.Addr()), local.Port()
	s.remote, s.rport = toAddr(remote.Addr()), remote.Port()
	s.mac = p.MACOf(local.Addr())
	fl.sides[1].remote, fl.sides[1].rport = toAddr(real.Addr()), real.Port()
	n.index(i, 0)
	n.arm(i, fl.used+fl.lifetime())
	return i
}

// udpSocket finds or makes the host socket of the container's address and
// port.
func (n *NAT) udpSocket(f *vswitch.Frame) (uint32, unix.Errno) {
	var local, zero addr
	copy(local[:], f.SrcIP())
	if i, _ := n.find(f.In.ID, vswitch.ProtoUDP, &local, &zero, f.SrcPort(), 0); i != none {
		return i, 0
	}
	domain, any := unix.AF_INET, n.source(f.In, f.V6)
	if f.V6 {
		domain = unix.AF_INET6
	}
	fd, e := n.out.Socket(domain, unix.SOCK_DGRAM, 0)
	if e != 0 {
		return none, e
	}
	if f.V6 {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	n.wantErrors(fd, f.V6)
	setInt(fd, unix.SOL_UDP, udpGRO, 1)
	setInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	var at sockaddr
	at.set(netip.AddrPortFrom(any, f.SrcPort()))
	if f.SrcPort() < 1024 || sysBind(fd, &at) != 0 {
		at.set(netip.AddrPortFrom(any, 0))
		if e := sysBind(fd, &at); e != 0 {
			sysClose(fd)
			return none, e
		}
	}
	i := n.alloc(kindUDPSocket, f.In.ID)
	if i == none {
		sysClose(fd)
		return none, unix.ENFILE
	}
	s := &n.flows[i]
	s.proto, s.v6, s.fd = vswitch.ProtoUDP, f.V6, int32(fd)
	s.sides[0].local, s.sides[0].lport = local, f.SrcPort()
	s.created, s.used = n.sw.Now(), n.sw.Now()
	n.index(i, 0)
	if err := n.sw.Watch(fd, unix.EPOLLIN|1<<31, n.token(i)); err != nil {
		n.drop(i)
		return none, unix.ENOSPC
	}
	return i, 0
}

// datagramOf is the UDP header and payload of f, or nil if its length is wrong.
// The parser does not judge it where the virtio header speaks of segments.
func datagramOf(f *vswitch.Frame) []byte {
	b := f.B[f.L4:f.End]
	if size := int(get16(b[4:])); size >= vswitch.UDPLen && size <= len(b) {
		return b[:size]
	}
	return nil
}

// udpFromTap sends the container's datagram from its host socket, perhaps
// together with the next ones. A super-frame leaves as one call, which the
// kernel splits (UDP_SEGMENT).
func (n *NAT) udpFromTap(i uint32, f *vswitch.Frame) {
	b := f.B[f.L4:f.End]
	v := vswitch.ReadVnet(f.B)
	n.flows[i].used = n.sw.Now()
	if v.GSOType&^vswitch.GSOECN == vswitch.GSOUDPL4 {
		n.udpDepart()
		n.udpSend(i, f, b[vswitch.UDPLen:], int(v.GSOSize))
		return
	}
	if b = datagramOf(f); b == nil {
		n.sw.DropFrame(f, vswitch.BadTransport, 0)
		return
	}
	if !n.udpBoard(i, f, b[vswitch.UDPLen:]) {
		n.udpSend(i, f, b[vswitch.UDPLen:], 0)
	}
}

// udpSend sends data, the payload of f or several of segment bytes each if that
// is not 0, and answers and counts what fails.
func (n *NAT) udpSend(i uint32, f *vswitch.Frame, data []byte, segment int) {
	fd, e := n.udpTry(i, f, data, segment)
	switch e {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS:
		n.sw.DropFrame(f, vswitch.SocketFull, 0)
	case unix.EMSGSIZE:
		n.sw.DropFrame(f, vswitch.TooBig, 0)
		n.tooBig(f, fd, i)
	case unix.EACCES, unix.EPERM:
		n.refusedByHost(f)
		n.unreachable(f, unreachProhibited)
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EADDRNOTAVAIL:
		n.sw.DropFrame(f, vswitch.NoRoute, 0)
		n.unreachable(f, unreachHost)
	case unix.ENOTCONN:
		n.sw.DropFrame(f, vswitch.NoContainer, 0)
		n.drop(i)
	default:
		n.sw.DropFrame(f, vswitch.SocketFailed, 0)
	}
}

// udpTry sends and returns the socket and what the kernel said; ENOTCONN means
// that the published port the flow uses is gone.
func (n *NAT) udpTry(i uint32, f *vswitch.Frame, data []byte, segment int) (int, unix.Errno) {
	fl := &n.flows[i]
	m := &n.msg
	to := netip.AddrPortFrom(fl.sides[1].remote.netip(fl.v6), fl.sides[1].rport)
	ctl, fd := 0, -1
	var opts *udpState
	switch {
	case fl.udp.socket != none:
		s := &n.flows[fl.udp.socket]
		fd, opts = int(s.fd), &s.udp
		to = n.out.Address(to)
	default:
		l := n.pub.byID(fl.udp.listener)
		if l == nil {
			return -1, unix.ENOTCONN
		}
		v6 := l.Host.Addr().Is6() // the client's family, which need not be the container's
		to = netip.AddrPortFrom(fl.sides[1].remote.netip(v6), fl.sides[1].rport)
		fd, opts = l.fd, &l.opts
		ctl = m.packetInfo(fl.sides[1].local, v6)
	}
	m.name.set(to)
	if fl.udp.scope != 0 {
		m.name.setScope(fl.udp.scope)
	}
	n.udpOptions(fd, opts, f)
	if segment > 0 {
		var size [2]byte
		binary.NativeEndian.PutUint16(size[:], uint16(segment))
		ctl = m.control(ctl, unix.SOL_UDP, udpSegment, size[:])
	}
	_, e := sysSendmsg(fd, m.send(data, ctl))
	if e != 0 && e != unix.EAGAIN {
		// The error of an earlier datagram: it is on the queue; this one was not sent.
		_, e = sysSendmsg(fd, m.send(data, ctl))
	}
	return fd, e
}

// udpOptions gives the socket the datagram's TTL, less the hop we are, its
// class and its DF bit, where they differ from the last.
func (n *NAT) udpOptions(fd int, o *udpState, f *vswitch.Frame) {
	ttl := f.TTL - 1
	tos, df := f.B[f.L3+1], uint8(1)
	if f.V6 {
		tos = f.B[f.L3]<<4 | f.B[f.L3+1]>>4
		if !n.refragment { // IPv6 senders fragment by themselves or not at all
			df = 2
		}
	} else if f.B[f.L3+6]&0x40 != 0 {
		df = 2
	}
	if o.ttl != ttl {
		o.ttl = ttl
		setTTL(fd, f.V6, ttl)
	}
	if o.tos != tos {
		o.tos = tos
		if f.V6 {
			setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int32(tos))
		} else {
			setInt(fd, unix.IPPROTO_IP, unix.IP_TOS, int32(tos))
		}
	}
	if o.df != df {
		o.df = df
		mode := int32(unix.IP_PMTUDISC_DONT)
		if df == 2 {
			mode = unix.IP_PMTUDISC_DO
		}
		if f.V6 {
			setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, mode) // the same numbers
		} else {
			setInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
		}
	}
}

func setTTL(fd int, v6 bool, ttl uint8) {
	if v6 {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int32(ttl))
	} else {
		setInt(fd, unix.IPPROTO_IP, unix.IP_TTL, int32(ttl))
	}
}

// packetInfo writes a control message that makes a published port answer from
// the address it was asked at.
func (m *message) packetInfo(a addr, v6 bool) int {
	if a == (addr{}) {
		return 0
	}
	if v6 {
		var info [20]byte
		copy(info[:16], a[:])
		return m.control(0, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
	}
	var info [12]byte
	copy(info[4:8], a[:4]) // ipi_spec_dst
	return m.control(0, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:])
}

// udpRun takes datagrams from a container's host socket.
func (n *NAT) udpRun(sock uint32) bool {
	s := &n.flows[sock]
	if s.has(fError) {
		s.unset(fError)
		n.drainErrors(sock)
	}
	if !s.has(fReady) {
		return false
	}
	p := n.sw.Port(s.sides[0].port)
	count, e := n.rx.receive(int(s.fd))
	// An error but EAGAIN is one of an earlier send, told through the queue.
	more := count == batchSize || e != 0 && e != unix.EAGAIN
	if !more {
		s.unset(fReady) // the call has seen the end: what comes now is a new event
	}
	s.udp.refs++ // a changed policy may end its last flow meanwhile
	for k := range count {
		from := n.udpSeen(p, s.v6, n.rx.from[k].addrPort())
		remote := toAddr(from.Addr())
		i, _ := n.find(s.sides[0].port, vswitch.ProtoUDP, &s.sides[0].local, &remote, s.sides[0].lport, from.Port())
		if real := n.rx.from[k].addrPort(); i == none && real.Addr().IsLoopback() {
			i = n.flowTo(sock, real)
		}
		if i == none || !n.stands(i) {
			n.unsolicited(s, from)
			continue
		}
		b, size := n.rx.slot(k)
		n.udpToTap(i, b, size, n.rx.segment(k))
	}
	if s.udp.refs--; s.udp.refs == 0 {
		n.drop(sock)
		return false
	}
	return more
}

// flowTo finds the flow of a socket that leads to real, where the container
// knows that by another address than the gateway's (elsewhere.go).
func (n *NAT) flowTo(sock uint32, real netip.AddrPort) uint32 {
	remote := toAddr(real.Addr())
	for i := n.perPort[n.flows[sock].sides[0].port].first; i != none; i = n.flows[i].nextPort {
		if fl := &n.flows[i]; fl.kind == kindUDP && fl.udp.socket == sock && fl.sides[1].rport == real.Port() && fl.sides[1].remote == remote {
			return i
		}
	}
	return none
}

// udpSeen is the address that the container knows the sender by.
func (n *NAT) udpSeen(p *vswitch.Port, v6 bool, from netip.AddrPort) netip.AddrPort {
	from = n.out.Origin(from)
	if from.Addr().IsLoopback() {
		if v6 {
			return netip.AddrPortFrom(p.Bridge().Gateway6, from.Port())
		}
		return netip.AddrPortFrom(p.Bridge().Gateway, from.Port())
	}
	return from
}

// udpToTap sends size bytes at b[bufData:] to the container of flow i: one
// datagram, or several of gso bytes each if that is not 0.
func (n *NAT) udpToTap(i uint32, b []byte, size, gso int) {
	fl := &n.flows[i]
	fl.used = n.sw.Now()
	fl.udp.replied = true
	n.udpToTapFlow(fl, b, size, gso)
}

func (n *NAT) udpToTapFlow(fl *flow, b []byte, size, gso int) {
	hl := vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len + vswitch.UDPLen
	if fl.v6 {
		hl += vswitch.IPv6Len - vswitch.IPv4Len
	}
	b = b[bufData-hl : bufData+size]
	n.udpFrame(fl, b, size, gso)
	fl.bytes[1] += uint64(size)
	n.toPort(fl, b)
}

// udpFrame writes all headers in front of size bytes of payload that end b.
func (n *NAT) udpFrame(fl *flow, b []byte, size, gso int) {
	s := &fl.sides[0]
	l4 := n.ipFrame(fl, b, vswitch.UDPLen+size)
	u := b[l4:]
	put16(u, s.rport)
	put16(u[2:], s.lport)
	put16(u[4:], uint16(vswitch.UDPLen+size))
	v := vswitch.Vnet{Flags: vswitch.VnetNeedsCsum, HdrLen: uint16(l4 - vswitch.VnetLen + vswitch.UDPLen), CsumStart: uint16(l4 - vswitch.VnetLen), CsumOff: 6}
	if gso > 0 && size > gso {
		v.GSOType, v.GSOSize = vswitch.GSOUDPL4, uint16(gso)
	}
	v.Put(b)
	put16(u[6:], vswitch.Fold(n.pseudo(fl, vswitch.ProtoUDP, vswitch.UDPLen+size)))
}
