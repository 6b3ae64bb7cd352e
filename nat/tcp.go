package nat

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// A translated TCP connection: a half-connection to the container, which we
// speak in frames, and a half-connection to the outside, which the host's
// kernel speaks for a socket. Bytes from the outside stay in the socket's
// receive buffer until the container has acknowledged them: they are peeked,
// sent, and discarded on acknowledgement. Bytes from the container are
// acknowledged when the socket has taken them.
//
// Invariants:
//   - nothing is acknowledged to the container that the socket has not taken;
//   - the right edge of the window offered to the container never moves left, but for
//     less than a step of a scaled window;
//   - nothing is sent beyond the right edge the container offered;
//   - the socket's peek offset is sndNxt - sndUna, less a FIN.
//
// States (flow.state):
//
//	connecting  the container's SYN started connect(2). Operations: none but a
//	            reset. Caveat: its SYN comes again each second and is ignored.
//	synReceived the socket is connected, SYN|ACK sent. Operations: data from the
//	            container is taken; its acknowledgement establishes.
//	synSent     a client was accepted on a published port, SYN sent to the
//	            container. Operations: none. Caveat: bytes of the client wait in
//	            the socket; it believes to be connected already.
//	established both directions. Flags say what each has finished: fFinIn and
//	            fShut (container to socket), fEOF, fFinOut, fFinAcked (the other).
//	lingers     both have finished and the socket is closed, or about to be; the record stays to
//	            answer a repeated FIN. Caveat: a new SYN replaces it.
type state uint8

const (
	connecting state = iota
	synReceived
	synSent
	established
	lingers
)

// tcpState is the translation of one connection. Sequence numbers are those
// the container sees.
type tcpState struct {
	rcvNxt  uint32 // next byte expected from the container, spilled ones included
	edge    uint32 // right edge of the window offered to the container
	acked   uint32 // last acknowledgement sent
	sndUna  uint32 // oldest byte the container has not acknowledged
	sndNxt  uint32 // next byte to send
	sndMax  uint32 // highest sent; above sndNxt after going back
	wnd     uint32 // window the container offered, bytes from sndUna
	recover uint32 // sndMax when a loss was noticed
	isn     uint32 // ours
	peerISN uint32 // the container's
	cwnd    uint32 // bytes in flight we allow ourselves after a loss
	space   uint32 // window computed last, to know when to look again
	mss     uint16 // largest payload of a segment to the container
	asked   uint16 // and of one from it
	scale   uint8  // of windows the container offers
	dups    uint8
	hasty   uint8 // acknowledgements to be sent at once
	retries uint8
	probe   bool  // the timer is for a closed window
	rto     int32 // ms
	spill   uint32
	spillAt uint32 // bytes of the spill the socket took
	early   uint32 // first block of segments that came before their turn
	recent  uint32 // sequence number of the latest of them
	earlies uint8  // blocks of them
	again   uint16 // frames that were sent again, up to what fits; for people
	srtt    int32  // us, of the container; for people
	sentAt  int64
	lazyDue int64 // when the acknowledgement that waits is sent at the latest
}

const (
	ourScale    = 8 // windows up to 16 MiB
	maxInflight = 4 << 20
	// maxMSS is the longest segment we ask for where frames are 64 KiB whatever
	// the segment: a sender waits until a whole segment fits into our window.
	maxMSS = 8960
	// maxPlainMSS is the same for other ports. It stays below the room that
	// tcpSpace gives if it gives any.
	maxPlainMSS  = 32 << 10
	minCwnd      = 64 << 10
	rtoFirst     = 200 // ms
	rtoMax       = 8000
	synRTO       = 1000
	maxRetries   = 12
	lingerFor    = 2e9
	firstWindow  = min(spillSize, 65535)                                                  // bytes; what the socket does not take is spilled
	connectLimit = 135e9                                                                  // the kernel gives up by itself before
	tcpEvents    = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | 1<<31 /* EPOLLET */
)

func seqLess(a, b uint32) bool { return int32(a-b) < 0 }

// tcpOpen starts a connection that the container asked for.
func (n *NAT) tcpOpen(f *vswitch.Frame, v verdict) vswitch.Action {
	if r := forbidden(v.to.Addr()); r != vswitch.Delivered && !v.loop {
		return vswitch.Drop(r)
	}
	to := n.out.Address(v.to)
	domain := unix.AF_INET
	if to.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, e := n.out.Socket(domain, unix.SOCK_STREAM, 0)
	if e != 0 {
		n.Stats.Errors++
		n.refuse(f, replyProhibited)
		return vswitch.Drop(vswitch.SocketFailed)
	}
	n.wantErrors(fd, domain == unix.AF_INET6)
	if ttl := f.TTL - 1; ttl < 32 {
		setTTL(fd, domain == unix.AF_INET6, ttl) // a traceroute: let the SYN end where it should
	}
	var sa sockaddr
	sa.set(to)
	if e = n.leaveFrom(fd, f.In, domain == unix.AF_INET6); e == 0 {
		e = sysConnect(fd, &sa)
	}
	if e != 0 && e != unix.EINPROGRESS {
		sysClose(fd)
		return n.connectFailed(f, e)
	}
	i := n.tcpNew(f.In, fd)
	if i == none {
		sysClose(fd)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	fl := &n.flows[i]
	fl.v6 = f.V6
	s := &fl.sides[0]
	copy(s.local[:], f.SrcIP())
	copy(s.remote[:], f.DstIP())
	s.lport, s.rport = f.SrcPort(), f.DstPort()
	s.mac = f.SrcMAC()
	fl.sides[1].remote, fl.sides[1].rport = toAddr(v.to.Addr()), v.to.Port()
	if v.loop {
		fl.set(fHostLoop)
	}
	n.admit(fl, v)
	if v.named {
		fl.set(fInspect)
	}
	n.index(i, 0)
	n.tcpTakeSYN(fl, f)
	fl.state = connecting
	n.perPort[f.In.ID].halfOpen++
	n.arm(i, n.sw.Now()+connectLimit)
	n.Stats.TCPOpened++
	n.opened(i)
	if e == 0 || sysConnected(fd) { // a server on this host: it has answered within the call
		fl.set(fWritable)
		n.tcpConnected(i)
	}
	n.tcpWatch(i)
	return consumed
}

// connectFailed answers a SYN whose connect(2) failed at once.
func (n *NAT) connectFailed(f *vswitch.Frame, e unix.Errno) vswitch.Action {
	switch e {
	case unix.ECONNREFUSED:
		n.refuse(f, replyRefused)
		return vswitch.DropAt(vswitch.Refused, vswitch.StepOutside)
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EAFNOSUPPORT, unix.EADDRNOTAVAIL:
		n.refuse(f, replyNoRoute)
		return vswitch.Drop(vswitch.NoRoute)
	case unix.EACCES, unix.EPERM: // the host's own firewall
		n.refuse(f, replyProhibited)
		return vswitch.DropAt(vswitch.Refused, vswitch.StepHost)
	}
	n.Stats.Errors++
	n.refuse(f, replyProhibited)
	return vswitch.Drop(vswitch.SocketFailed)
}

// tcpNew takes a record for a connection over fd.
func (n *NAT) tcpNew(p *vswitch.Port, fd int) uint32 {
	i := n.alloc(kindTCP, p.ID)
	if i == none {
		return none
	}
	fl := &n.flows[i]
	fl.proto = vswitch.ProtoTCP
	fl.fd = int32(fd)
	fl.created, fl.used = n.sw.Now(), n.sw.Now()
	fl.tcp.cwnd = maxInflight
	fl.tcp.rto = rtoFirst
	fl.tcp.spill, fl.tcp.early = none, none
	return i
}

// tcpWatch registers the socket once, edge-triggered: peeked but
// unacknowledged bytes would keep a level-triggered one ready for ever.
func (n *NAT) tcpWatch(i uint32) {
	if err := n.sw.Watch(int(n.flows[i].fd), tcpEvents, n.token(i)); err != nil {
		n.cfg.Logf("%v", err)
	}
}

// tcpPeekable readies a connected socket for peeking.
func (n *NAT) tcpPeekable(fl *flow) {
	if n.noPeekOffset || setInt(int(fl.fd), unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0) != 0 {
		fl.set(fNoPeek) // Linux before 6.9, or 6.10 for IPv6
	}
	// Urgent bytes are bytes to us: a peek skips them otherwise, but not its offset.
	setInt(int(fl.fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	if !fl.has(fReady) {
		tcpDrained(fl)
	}
}

// tcpSendable readies a connected socket for what the container will say.
func tcpSendable(fl *flow) {
	setInt(int(fl.fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	setInt(int(fl.fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // the container's own probes end here
}

// tcpTakeSYN reads what a SYN or SYN|ACK of the container says.
func (n *NAT) tcpTakeSYN(fl *flow, f *vswitch.Frame) {
	b := f.B[f.L4:f.End]
	t := &fl.tcp
	t.peerISN = binary.BigEndian.Uint32(b[4:])
	t.rcvNxt = t.peerISN + 1
	t.acked = t.rcvNxt
	t.edge = t.rcvNxt
	t.wnd = uint32(binary.BigEndian.Uint16(b[14:])) // never scaled in a SYN
	if !fl.has(fInbound) {
		t.isn = n.tcpISN(fl)
		t.sndUna, t.sndNxt, t.sndMax = t.isn, t.isn, t.isn
	}
	mss, scale, scaled, sack := tcpOptions(b)
	limit := n.mtu(f.In) - vswitch.IPv4Len - vswitch.TCPLen
	if fl.v6 {
		limit = n.mtu(f.In) - vswitch.IPv6Len - vswitch.TCPLen
	}
	t.mss = uint16(min(int(mss), limit))
	if scaled {
		t.scale = scale
		fl.set(fScale)
	} else {
		t.scale = 0
		fl.unset(fScale)
	}
	if fl.unset(fSack); sack {
		fl.set(fSack)
	}
}

// tcpOptions reads MSS, window scale and whether selective acknowledgements are
// permitted from a SYN (RFC 9293 3.7.1, RFC 7323, RFC 2018).
func tcpOptions(b []byte) (mss uint16, scale uint8, scaled, sack bool) {
	mss = 536
	end := min(int(b[12]>>4)*4, len(b))
	for o := vswitch.TCPLen; o < end; {
		switch b[o] {
		case 0:
			return
		case 1:
			o++
			continue
		}
		if o+1 >= end || b[o+1] < 2 || o+int(b[o+1]) > end {
			return
		}
		switch {
		case b[o] == 2 && b[o+1] == 4:
			mss = max(binary.BigEndian.Uint16(b[o+2:]), 64)
		case b[o] == 3 && b[o+1] == 3:
			scale, scaled = min(b[o+2], 14), true
		case b[o] == 4 && b[o+1] == 2:
			sack = true
		}
		o += int(b[o+1])
	}
	return
}

func (n *NAT) mtu(p *vswitch.Port) int {
	if m := p.Bridge().MTU; m > 0 {
		return m
	}
	return 1500
}

// tcpISN is an initial sequence number after RFC 6528: a clock and a keyed
// hash of the tuple, so that the container's TIME_WAIT takes a reused tuple.
func (n *NAT) tcpISN(fl *flow) uint32 {
	s := &fl.sides[0]
	h := binary.LittleEndian.Uint64(n.secret[8:])
	for k := 0; k < 16; k += 8 {
		h = (h ^ binary.LittleEndian.Uint64(s.local[k:])) * 0x9e3779b97f4a7c15
		h ^= h >> 29
		h = (h ^ binary.LittleEndian.Uint64(s.remote[k:])) * 0xd6e8feb86659fd93
		h ^= h >> 32
	}
	h = (h ^ uint64(s.lport)<<16 ^ uint64(s.rport)) * 0xe7037ed1a0b428db
	return uint32(h>>32) + uint32(n.sw.Now()/4000)
}

// tcpAccept starts a connection towards the container on p for a client that
// was accepted on fd, and reports success; on failure fd is still the caller's.
// client is the address that the container is to see.
func (n *NAT) tcpAccept(p *vswitch.Port, fd int, client, server, real netip.AddrPort, v verdict) bool {
	pp := &n.perPort[p.ID]
	if n.full(p.ID) || pp.halfOpen >= n.cfg.HalfOpen {
		return false
	}
	i := n.tcpNew(p, fd)
	if i == none {
		return false
	}
	fl := &n.flows[i]
	fl.v6 = server.Addr().Is6()
	fl.set(fInbound)
	n.admit(fl, v)
	if real.Addr().Is6() != fl.v6 {
		fl.set(fOtherFamily)
	}
	s := &fl.sides[0]
	s.local, s.lport = toAddr(server.Addr()), server.Port()
	s.remote, s.rport = toAddr(client.Addr()), client.Port()
	s.mac = p.MACOf(s.local.netip(fl.v6))
	fl.sides[1].remote, fl.sides[1].rport = toAddr(real.Addr()), real.Port()
	n.index(i, 0)
	t := &fl.tcp
	t.isn = n.tcpISN(fl)
	t.sndUna, t.sndNxt, t.sndMax = t.isn, t.isn, t.isn
	t.mss = 536
	fl.state = synSent
	pp.halfOpen++
	t.rto = synRTO
	n.tcpSendSYN(i)
	n.tcpPeekable(fl)
	n.tcpWatch(i)
	n.Stats.TCPAccepted++
	n.opened(i)
	return true
}

// tcpEstablished notes that the handshake with the container is complete.
func (n *NAT) tcpEstablished(i uint32) {
	fl := &n.flows[i]
	fl.state = established
	n.perPort[fl.sides[0].port].halfOpen--
	fl.tcp.retries, fl.tcp.rto = 0, rtoFirst
	n.disarm(i)
	if fl.has(fReady) {
		n.queue(i)
	}
}

// tcpRun does the work that events left: connect's outcome, a spill, the
// container's end, then bytes for the container.
func (n *NAT) tcpRun(i uint32) bool {
	fl := &n.flows[i]
	if fl.state == connecting {
		n.tcpConnected(i)
		return false
	}
	if fl.state == lingers || fl.fd < 0 {
		return false
	}
	if fl.has(fError) {
		fl.unset(fError)
		if e, _ := getInt(int(fl.fd), unix.SOL_SOCKET, unix.SO_ERROR); e != 0 && !n.tcpGone(i) {
			return false
		}
	}
	if fl.has(fWritable) {
		fl.unset(fWritable)
		if fl.tcp.spill != none || fl.has(fWantOut) {
			n.tcpWritable(i)
			if fl.kind != kindTCP || fl.fd < 0 {
				return false
			}
		}
	}
	if fl.has(fFinIn) && fl.tcp.spill == none && !n.tcpEnd(i) {
		return false
	}
	if fl.has(fReady) && fl.state == established {
		return n.tcpPump(i)
	}
	return false
}

// tcpConnected looks at what became of connect(2).
func (n *NAT) tcpConnected(i uint32) {
	fl := &n.flows[i]
	fd := int(fl.fd)
	if fd < 0 {
		return
	}
	if fl.has(fError) || fl.has(fReady) {
		n.drainErrors(i) // an ICMP error has the hop that sent it
		if fl.kind != kindTCP {
			return
		}
		if e, _ := getInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); e != 0 {
			n.tcpConnectError(i, unix.Errno(e))
			return
		}
		fl.unset(fError)
	}
	if !fl.has(fWritable) {
		return
	}
	fl.unset(fWritable)
	fl.state = synReceived
	fl.tcp.rto = synRTO
	fl.tcp.edge = fl.tcp.rcvNxt + firstWindow
	fl.tcp.space = firstWindow
	n.tcpSendSYN(i) // what follows takes time in which the container does what it waits with
	n.ignoreErrors(fd, fl.v6)
	n.tcpPeekable(fl)
	tcpSendable(fl)
}

// tcpConnectError tells the container why the connection did not come about:
// refused is a reset, unreachable is ICMP, a timeout stays one.
func (n *NAT) tcpConnectError(i uint32, e unix.Errno) {
	fl := &n.flows[i]
	switch e {
	case unix.ECONNREFUSED, unix.ECONNRESET:
		n.lost(fl, vswitch.Refused, vswitch.StepOutside, fl.rule)
		n.tcpReset(fl)
	case unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET:
		n.lost(fl, vswitch.NoRoute, vswitch.StepOutside, fl.rule)
		if !fl.has(fRecover) { // nothing on the error queue told it better
			n.flowUnreachable(fl, unreachHost)
		}
	case unix.EACCES, unix.EPERM:
		n.lost(fl, vswitch.Refused, vswitch.StepHost, fl.rule)
		n.flowUnreachable(fl, unreachProhibited)
	case unix.ETIMEDOUT:
		n.Stats.TCPTimeouts++
		n.lost(fl, vswitch.NoAnswer, vswitch.StepOutside, fl.rule)
	default:
		n.lost(fl, vswitch.SocketFailed, vswitch.StepHost, fl.rule)
		n.tcpReset(fl)
	}
	n.drop(i)
}
