package nat

import (
	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// tcpPump moves bytes from the socket to the container for one turn's share.
// It returns true if more may be waiting.
func (n *NAT) tcpPump(i uint32) bool {
	const share = 192 << 10 // bytes of a turn: one frame of 256 KiB, or the fourth of 64 KiB, exceeds it
	for begin := n.flows[i].tcp.sndNxt; n.flows[i].tcp.sndNxt-begin < share; {
		if n.sw.Blocked(n.sw.Port(n.flows[i].sides[0].port), n.token(i)) {
			return false // it is queued again when the port has room
		}
		ended := n.flows[i].has(fEOF)
		more, ok := n.tcpPumpOne(i)
		if !ok {
			return false
		}
		if f := &n.flows[i]; !ended && f.has(fEOF) && f.has(fFinIn) {
			return true // our FIN goes after what else is new: the container has finished, too
		}
		if !more {
			n.flows[i].unset(fReady)
			return false
		}
	}
	return true
}

// tcpBurst is the payload of the longest frame to send now. Beyond 64 KiB an
// IPv4 frame has a total length of 0 and the kernel takes the frame's own (BIG
// TCP; Port.Big): one write of 256 KiB costs a third less than four. After a
// loss it would be 256 KiB that are repeated, so the window then decides.
func tcpBurst(fl *flow, p *vswitch.Port) int {
	const longest = 256 << 10
	if fl.v6 || fl.has(fSmall) || !p.Big() {
		return maxPayload
	}
	return max(min(longest, int(fl.tcp.cwnd)/8), maxPayload)
}

// tcpPumpOne peeks at the socket behind what is in flight and sends one frame.
// more says that another may follow at once; ok is false if the connection
// ended.
func (n *NAT) tcpPumpOne(i uint32) (more, ok bool) {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fEOF) && t.sndNxt == t.sndMax {
		n.tcpSendFIN(i)
		return false, true
	}
	flight := t.sndNxt - t.sndUna
	room := int64(min(t.wnd, t.cwnd)) - int64(flight)
	if fl.has(fNoPeek) {
		room = min(room, int64(len(n.discard))-int64(flight))
	}
	if room <= 0 || room < int64(t.mss) && flight > 0 && room < int64(t.wnd)/2 {
		if t.sndMax == t.sndUna { // nothing will be acknowledged: look again later
			t.probe = true
			n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
		}
		return false, true // an acknowledgement queues the flow
	}
	p := n.sw.Port(fl.sides[0].port)
	want := int(min(room, int64(tcpBurst(fl, p))))
	if want > int(t.mss) {
		want -= want % int(t.mss)
	}
	hl := vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len + vswitch.TCPLen
	if fl.v6 {
		hl += vswitch.IPv6Len - vswitch.IPv4Len
	}
	got, e := n.tcpPeek(fl, n.buf[bufData:bufData+want], int(flight))
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		tcpDrained(fl)
		return false, true
	case e != 0:
		n.tcpAbort(i, true)
		return false, false
	case got == 0 && fl.has(fGone): // the error was told once, now it looks like an end
		n.tcpAbort(i, true)
		return false, false
	case got == 0:
		fl.set(fEOF)
		if !fl.has(fFinIn) {
			n.tcpSendFIN(i)
		}
		return false, true
	}
	b := n.buf[bufData-hl : bufData+got]
	flags := uint8(vswitch.TCPAck)
	if got < want || room <= int64(got) {
		flags |= vswitch.TCPPsh
	}
	n.tcpOfferWindow(i)
	n.tcpHeader(fl, b, got, flags, t.sndNxt, nil)
	if r := n.sw.Output(p, b); r != vswitch.Delivered {
		// Not in flight: the bytes are still in the socket. The timer repeats.
		n.lostOn(fl, 1, r)
		n.tcpRewindTo(fl, t.sndNxt)
		n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
		return false, true
	}
	fl.packets[1]++
	fl.used = n.sw.Now()
	fl.unset(fListed | fLazy) // the frame carried the acknowledgement
	t.hasty = 0
	t.sndNxt += uint32(got)
	if seqLess(t.sndMax, t.sndNxt) {
		t.sndMax = t.sndNxt
		if t.sentAt == 0 {
			t.sentAt = n.sw.Now()
		}
	} else {
		n.Stats.TCPRetransmits++
		t.again += min(1, ^t.again)
		t.sentAt = 0 // Karn: an acknowledgement now says nothing about time
	}
	if fl.due == 0 || t.probe {
		t.probe = false
		n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
	}
	if got < want {
		tcpDrained(fl)
	}
	return got == want, true
}

// tcpDrained notes that the socket has nothing beyond what was peeked: an
// acknowledgement is no reason to look again, an event is. Not so where a peek stops
// before that.
func tcpDrained(fl *flow) {
	if !fl.has(fTail) {
		fl.set(fDrained)
	}
}

// tcpPeek reads without consuming, behind flight bytes that were peeked before.
func (n *NAT) tcpPeek(fl *flow, b []byte, flight int) (int, unix.Errno) {
	if !fl.has(fNoPeek) || flight == 0 {
		return sysPeek(int(fl.fd), b)
	}
	m := &n.msg
	m.iov[0].Base, m.iov[1].Base = &n.discard[0], &b[0]
	m.iov[0].SetLen(flight)
	m.iov[1].SetLen(len(b))
	m.hdr = unix.Msghdr{Iov: &m.iov[0], Iovlen: 2}
	got, e := sysRecvmsg(int(fl.fd), &m.hdr, unix.MSG_PEEK)
	switch {
	case e != 0:
		return 0, e
	case got > flight:
		return got - flight, 0
	}
	// Nothing new, or an urgent byte that ends the call. The end of the stream is
	// seen when nothing is in flight any more, which is soon enough.
	return 0, unix.EAGAIN
}

// tcpRewind goes back to the oldest unacknowledged byte.
func (n *NAT) tcpRewind(fl *flow) { n.tcpRewindTo(fl, fl.tcp.sndUna) }

// tcpRewindTo sets the next byte to send and the socket's peek offset to match.
func (n *NAT) tcpRewindTo(fl *flow, seq uint32) {
	t := &fl.tcp
	t.sndNxt = seq
	if !fl.has(fNoPeek) && fl.fd >= 0 {
		setInt(int(fl.fd), unix.SOL_SOCKET, unix.SO_PEEK_OFF, int32(seq-t.sndUna))
	}
}

// tcpGoBack answers a loss: all that is in flight is sent again from the
// socket's buffer, with less in flight for a while.
func (n *NAT) tcpGoBack(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	fl.set(fRecover)
	t.recover = t.sndMax
	t.cwnd = max((t.sndMax-t.sndUna)/2, minCwnd)
	t.dups = 0
	if fl.has(fFinOut) {
		n.tcpSendControl(fl, vswitch.TCPFin|vswitch.TCPAck, t.sndMax-1)
		return
	}
	n.tcpRewind(fl)
	fl.set(fReady)
	n.queue(i)
}

// tcpSendFIN tells the container that the outside has finished, once all its
// bytes are acknowledged: the socket is needed until then.
func (n *NAT) tcpSendFIN(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fFinOut) || t.sndUna != t.sndMax || t.sndNxt != t.sndMax {
		return
	}
	fl.set(fFinOut)
	n.tcpOfferWindow(i)
	n.tcpSendControl(fl, vswitch.TCPFin|vswitch.TCPAck, t.sndMax)
	t.sndMax++
	t.sndNxt = t.sndMax
	fl.unset(fListed | fLazy)
	n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
}

// tcpHeader writes all headers of a frame to the container in front of payload
// bytes, which end b. The checksum is left to the receiving kernel.
func (n *NAT) tcpHeader(fl *flow, b []byte, payload int, flags uint8, seq uint32, options []byte) {
	t := &fl.tcp
	ackSeq := n.taken(fl)
	wnd := uint32(max(int32(t.edge-ackSeq), 0)) // a FIN lies beyond the edge
	if fl.has(fScale) {
		wnd >>= ourScale
	}
	t.acked = ackSeq
	n.tcpFrame(fl, b, tcpSegment{flags: flags, seq: seq, ack: ackSeq, wnd: uint16(min(wnd, 65535)), options: options, payload: payload, mss: int(t.mss)})
}

// tcpSegment is what tcpFrame writes into a TCP header.
type tcpSegment struct {
	flags    uint8
	seq, ack uint32
	wnd      uint16
	options  []byte
	payload  int
	mss      int // for splitting; 0 where nothing is split
}

// tcpFrame writes virtio, Ethernet, IP and TCP headers into b, which ends with
// the payload.
func (n *NAT) tcpFrame(fl *flow, b []byte, s tcpSegment) {
	th := vswitch.TCPLen + len(s.options)
	l4 := n.ipFrame(fl, b, th+s.payload)
	tcp := b[l4:]
	sd := &fl.sides[0]
	put16(tcp, sd.rport)
	put16(tcp[2:], sd.lport)
	put32(tcp[4:], s.seq)
	put32(tcp[8:], s.ack)
	tcp[12], tcp[13] = byte(th/4)<<4, s.flags
	put16(tcp[14:], s.wnd)
	put32(tcp[16:], 0)
	copy(tcp[vswitch.TCPLen:], s.options)
	v := vswitch.Vnet{Flags: vswitch.VnetNeedsCsum, HdrLen: uint16(l4 - vswitch.VnetLen + th), CsumStart: uint16(l4 - vswitch.VnetLen), CsumOff: 16}
	if s.payload > s.mss && s.mss > 0 {
		v.GSOType, v.GSOSize = vswitch.GSOTCPv4, uint16(s.mss)
		if fl.v6 {
			v.GSOType = vswitch.GSOTCPv6
		}
	}
	v.Put(b)
	put16(tcp[16:], vswitch.Fold(n.pseudo(fl, vswitch.ProtoTCP, th+s.payload)))
}

// pseudo is the pseudo header's sum of a frame to the container.
func (n *NAT) pseudo(fl *flow, proto uint8, length int) uint64 {
	sd := &fl.sides[0]
	size := 4
	if fl.v6 {
		size = 16
	}
	return vswitch.PseudoSum(sd.remote[:size], sd.local[:size], proto, length)
}

// ipFrame writes Ethernet and IP headers for length bytes of transport to the
// container of fl, and returns where the transport header starts in b.
func (n *NAT) ipFrame(fl *flow, b []byte, length int) int {
	sd := &fl.sides[0]
	p := n.sw.Port(sd.port)
	e := b[vswitch.VnetLen:]
	copy(e, sd.mac[:])
	copy(e[6:], p.Bridge().MAC[:])
	ip := e[vswitch.EthLen:]
	if fl.v6 {
		put16(e[12:], vswitch.EtherIPv6)
		put32(ip, 6<<28)
		put16(ip[4:], uint16(length))
		ip[6], ip[7] = fl.proto, 64
		copy(ip[8:], sd.remote[:])
		copy(ip[24:], sd.local[:])
		return vswitch.VnetLen + vswitch.EthLen + vswitch.IPv6Len
	}
	put16(e[12:], vswitch.EtherIPv4)
	ip[0], ip[1] = 0x45, 0
	total := vswitch.IPv4Len + length
	if total > 65535 {
		total = 0 // the kernel takes the length of the frame (BIG TCP, Linux 6.3)
	}
	put16(ip[2:], uint16(total))
	put32(ip[4:], 0x4000) // DF, so that the identification may be 0 (RFC 6864)
	ip[8], ip[9] = 64, fl.proto
	copy(ip[12:], sd.remote[:4])
	copy(ip[16:], sd.local[:4])
	vswitch.PutIPv4Checksum(ip[:vswitch.IPv4Len])
	return vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
}

// tcpSendControl sends a segment without payload.
func (n *NAT) tcpSendControl(fl *flow, flags uint8, seq uint32) {
	hl := vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len + vswitch.TCPLen
	if fl.v6 {
		hl += vswitch.IPv6Len - vswitch.IPv4Len
	}
	options := n.tcpSack(fl)
	b := n.ctlBuf[:hl+len(options)]
	n.tcpHeader(fl, b, 0, flags, seq, options)
	n.toPort(fl, b)
}

// tcpSendSYN sends SYN, or SYN|ACK where the container asked.
func (n *NAT) tcpSendSYN(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	p := n.sw.Port(fl.sides[0].port)
	ip := vswitch.IPv4Len
	if fl.v6 {
		ip = vswitch.IPv6Len
	}
	mss := n.mtu(p) - ip - vswitch.TCPLen
	if p.Super() {
		mss = min(mss, maxMSS)
	}
	t.asked = uint16(min(mss, maxPlainMSS))
	mss = int(t.asked)
	opt := n.synOpt[:4]
	opt[0], opt[1] = 2, 4
	put16(opt[2:], uint16(mss))
	flags := uint8(vswitch.TCPSyn)
	if fl.state != synSent {
		flags |= vswitch.TCPAck
	}
	if fl.state == synSent || fl.has(fScale) {
		opt = n.synOpt[:8]
		opt[4], opt[5], opt[6], opt[7] = 1, 3, 3, ourScale
	}
	if fl.state == synSent || fl.has(fSack) {
		opt = append(opt, 1, 1, 4, 2)
	}
	b := n.ctlBuf[:vswitch.VnetLen+vswitch.EthLen+ip+vswitch.TCPLen+len(opt)]
	ack := t.rcvNxt
	if fl.state == synSent {
		ack = 0
	}
	wnd := min(t.edge-t.rcvNxt, 65535)
	if fl.state == synSent {
		wnd = 65535
	}
	n.tcpFrame(fl, b, tcpSegment{flags: flags, seq: t.isn, ack: ack, wnd: uint16(wnd), options: opt})
	n.toPort(fl, b)
	t.sndMax = t.isn + 1
	n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
}

// tcpReset sends the container a reset of the connection.
func (n *NAT) tcpReset(fl *flow) {
	t := &fl.tcp
	switch fl.state {
	case connecting: // refuses the SYN
		ip := vswitch.IPv4Len
		if fl.v6 {
			ip = vswitch.IPv6Len
		}
		b := n.ctlBuf[:vswitch.VnetLen+vswitch.EthLen+ip+vswitch.TCPLen]
		n.tcpFrame(fl, b, tcpSegment{flags: vswitch.TCPRst | vswitch.TCPAck, ack: t.rcvNxt})
		n.toPort(fl, b)
	default:
		n.tcpSendControl(fl, vswitch.TCPRst|vswitch.TCPAck, t.sndMax)
	}
}

// toPort sends a frame of the flow to its container.
func (n *NAT) toPort(fl *flow, b []byte) {
	p := n.sw.Port(fl.sides[0].port)
	fl.packets[1]++
	if r := n.sw.Output(p, b); r != vswitch.Delivered {
		n.lostOn(fl, 1, r)
	}
}

// strayTCP answers a segment that belongs to no connection with a reset (RFC
// 9293, 3.10.7.1).
func (n *NAT) strayTCP(f *vswitch.Frame) vswitch.Action {
	if f.TCPFlags&vswitch.TCPRst == 0 {
		n.resetFrame(f)
	}
	return vswitch.Drop(vswitch.NoFlow)
}

// resetFrame answers the segment f with a reset.
func (n *NAT) resetFrame(f *vswitch.Frame) {
	fl := flow{proto: vswitch.ProtoTCP, v6: f.V6}
	s := &fl.sides[0]
	copy(s.local[:], f.SrcIP())
	copy(s.remote[:], f.DstIP())
	s.lport, s.rport, s.port, s.mac = f.SrcPort(), f.DstPort(), f.In.ID, f.SrcMAC()
	b := f.B[f.L4:f.End]
	seg := tcpSegment{flags: vswitch.TCPRst}
	if f.TCPFlags&vswitch.TCPAck != 0 {
		seg.seq = get32(b[8:])
	} else {
		seg.flags |= vswitch.TCPAck
		seg.ack = get32(b[4:]) + uint32(len(b)-int(b[12]>>4)*4)
		if f.TCPFlags&vswitch.TCPSyn != 0 {
			seg.ack++
		}
		if f.TCPFlags&vswitch.TCPFin != 0 {
			seg.ack++
		}
	}
	ip := vswitch.IPv4Len
	if f.V6 {
		ip = vswitch.IPv6Len
	}
	out := n.ctlBuf[:vswitch.VnetLen+vswitch.EthLen+ip+vswitch.TCPLen]
	n.tcpFrame(&fl, out, seg)
	n.toPort(&fl, out)
}
