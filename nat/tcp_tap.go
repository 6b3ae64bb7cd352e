package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// tcpFromTap handles a segment of the container on a known connection.
func (n *NAT) tcpFromTap(i uint32, f *vswitch.Frame) {
	fl := &n.flows[i]
	t := &fl.tcp
	b := f.B[f.L4:f.End]
	seq, ack := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	flags := b[13]
	data := b[int(b[12]>>4)*4:]
	fl.used = n.sw.Now()

	if flags&vswitch.TCPRst != 0 {
		n.tcpRstFromTap(i, seq, ack, flags)
		return
	}
	if flags&vswitch.TCPSyn != 0 {
		n.tcpSynFromTap(i, f, seq, ack, flags)
		return
	}
	if (fl.state == synSent || fl.state == synReceived) && flags&vswitch.TCPAck != 0 && ack != t.isn+1 {
		n.resetFrame(f) // of an older connection that is in the way (RFC 9293, 3.10.7.3)
		n.sw.DropFrame(f, vswitch.NoFlow, 0)
		return
	}
	if flags&vswitch.TCPAck == 0 || fl.state == connecting || fl.state == synSent {
		n.sw.CountDrop(f.In, vswitch.OutOfWindow)
		return
	}
	if fl.state == synReceived {
		t.sndUna, t.sndNxt, t.sndMax = ack, ack, ack
		n.tcpEstablished(i)
	}
	if fl.state == lingers {
		n.owe(i)
		return
	}
	if !n.tcpTakeACK(i, ack, uint32(binary.BigEndian.Uint16(b[14:]))<<t.scale, len(data) > 0 || flags&vswitch.TCPFin != 0) {
		return
	}
	if len(data) > 0 || flags&vswitch.TCPFin != 0 {
		n.tcpTakeData(i, f, seq, data, flags&vswitch.TCPFin != 0)
	} else if seqLess(seq, t.rcvNxt) {
		n.owe(i) // a keepalive probe, or a probe of our window (RFC 9293, 3.8.4)
	}
}

// tcpRstFromTap passes the container's reset on. A blind reset must hit the
// next sequence number (RFC 5961, 3.2).
func (n *NAT) tcpRstFromTap(i uint32, seq, ack uint32, flags uint8) {
	fl := &n.flows[i]
	switch fl.state {
	case synSent:
		if flags&vswitch.TCPAck == 0 || ack != fl.tcp.isn+1 {
			return
		}
		n.lost(fl, vswitch.Refused, vswitch.StepContainer, fl.rule)
	case connecting, lingers:
	default:
		if seqLess(seq, fl.tcp.acked) || seqLess(fl.tcp.edge, seq) && seqLess(fl.tcp.rcvNxt, seq) {
			n.owe(i)
			return
		}
	}
	n.tcpAbort(i, false)
}

// tcpSynFromTap handles SYN|ACK of a container that a client is waiting for,
// and repeated SYNs.
func (n *NAT) tcpSynFromTap(i uint32, f *vswitch.Frame, seq, ack uint32, flags uint8) {
	fl := &n.flows[i]
	t := &fl.tcp
	switch {
	case fl.state == synSent && flags&vswitch.TCPAck != 0:
		if ack != t.isn+1 {
			n.resetFrame(f)
			return
		}
		n.tcpTakeSYN(fl, f)
		t.sndUna, t.sndNxt, t.sndMax = ack, ack, ack
		t.edge, t.space = t.rcvNxt+firstWindow, firstWindow
		n.tcpEstablished(i)
		n.owe(i)
		n.dialled(i, nil)
		fl.set(fReady) // a client has mostly said something by now: it carries the acknowledgement
		if n.tcpPump(i) {
			n.queue(i)
		}
		if fl.kind == kindTCP && fl.fd >= 0 {
			tcpSendable(fl)
		}
	case fl.state == synReceived:
		if seq != t.peerISN {
			n.tcpTakeSYN(fl, f)
			t.edge = t.rcvNxt + firstWindow
		}
		n.tcpSendSYN(i)
	case fl.state == connecting:
		if seq != t.peerISN { // it gave up in silence and uses its port again
			n.tcpTakeSYN(fl, f)
		}
	default:
		n.owe(i) // challenge (RFC 5961, 4.2)
	}
}

// tcpTakeACK applies an acknowledgement and a window. It returns false if the
// connection ended.
func (n *NAT) tcpTakeACK(i uint32, ack, wnd uint32, carries bool) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	if seqLess(t.sndMax, ack) {
		n.owe(i) // of something never sent
		return true
	}
	if seqLess(ack, t.sndUna) {
		return true
	}
	flight := t.sndMax - t.sndUna
	moved := ack - t.sndUna
	grew := wnd > t.wnd
	switch {
	case moved > 0:
		if !n.tcpAcked(i, ack, moved) {
			return false
		}
	case flight > 0 && !carries && wnd == t.wnd:
		// What went twice in the last recovery is acknowledged twice: these are no
		// sign of another loss (RFC 6582, 3.2).
		if t.dups = min(t.dups+1, 4); t.dups == 3 && !fl.has(fRecover) && ack != t.recover {
			n.tcpGoBack(i)
		}
	}
	if wnd == 0 && t.sndMax != t.sndUna && !fl.has(fFinOut) {
		// The container's buffer is full and what is in flight may have been
		// dropped in silence (kernel e2142825c120): begin again when it opens.
		n.tcpRewind(fl)
	}
	if t.wnd == 0 && grew {
		t.retries, t.rto = 0, rtoFirst // probes of a closed window are no sign of loss
	}
	t.wnd = wnd
	if (moved > 0 || grew || fl.has(fRecover)) && (!fl.has(fDrained) || fl.has(fEOF) || t.sndNxt != t.sndMax) {
		fl.set(fReady)
		n.queue(i)
	}
	return true
}

// tcpAcked takes acknowledged bytes off the socket's queue.
func (n *NAT) tcpAcked(i uint32, ack, moved uint32) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fFinOut) && ack == t.sndMax {
		fl.set(fFinAcked)
		moved--
	}
	for left := int(moved); left > 0; {
		got, e := sysDiscard(int(fl.fd), left) // stops at an urgent byte
		if e != 0 || got == 0 {
			n.tcpAbort(i, true) // the socket does not have what was peeked
			return false
		}
		left -= got
	}
	fl.bytes[1] += uint64(moved)
	t.sndUna = ack
	if seqLess(t.sndNxt, ack) {
		t.sndNxt = ack // we had gone back, but it was there already
	}
	t.dups, t.retries, t.probe = 0, 0, false
	t.cwnd = min(t.cwnd+moved, maxInflight)
	if t.sentAt != 0 {
		us := int32((n.sw.Now() - t.sentAt) / 1000)
		t.srtt += (us - t.srtt) / 8
		t.sentAt = 0
	}
	t.rto = min(max(rtoFirst, 2*t.srtt/1000), rtoMax) // a slow container's answers are no losses
	if fl.has(fRecover) && !seqLess(ack, t.recover) {
		fl.unset(fRecover)
	}
	if t.sndUna == t.sndMax {
		n.disarm(i)
	} else {
		n.arm(i, n.sw.Now()+int64(t.rto)*1e6)
	}
	if fl.has(fFinIn) && fl.has(fFinAcked) && fl.tcp.spill == none {
		if t.acked != t.rcvNxt {
			n.owe(i)
		}
		n.tcpFinish(i)
		return false
	}
	return true
}

// tcpTakeData gives payload to the socket, in order, and notes a FIN.
func (n *NAT) tcpTakeData(i uint32, f *vswitch.Frame, seq uint32, data []byte, fin bool) {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fGone) {
		return // nobody takes it any more
	}
	if off := int32(seq - t.rcvNxt); off != 0 {
		if off > 0 {
			if !n.tcpKeep(fl, seq, data) {
				n.sw.CountDrop(f.In, vswitch.OutOfWindow)
			}
			n.tcpAcknowledge(i) // a hole: the sender counts these
			return
		}
		known := -int(off)
		if known > len(data) || known == len(data) && !fin || fl.has(fFinIn) {
			n.owe(i) // all of it known
			return
		}
		data = data[known:]
	}
	if fl.has(fFinIn) {
		n.owe(i)
		return
	}
	if next := t.rcvNxt; len(data) > 0 && !n.tcpToSocket(i, data) {
		if fl.kind == kindTCP && !fl.has(fGone) && !n.tcpKeep(fl, t.rcvNxt, data[t.rcvNxt-next:]) {
			fl.set(fMissed)
			n.sw.CountDrop(f.In, vswitch.SocketFull)
		}
		return
	}
	if !n.tcpTurn(i) {
		return
	}
	if fin && fl.has(fInspect) && t.spill != none && !n.tcpHeard(i, true) {
		return // it will never say
	}
	if fin {
		t.rcvNxt++
		fl.set(fFinIn)
		if t.spill == none {
			n.tcpEnd(i)
		}
	}
	n.owe(i)
}

// tcpToSocket sends data, which is next in order, and keeps what the socket
// does not take in the connection's spill. It returns false if there is no room
// for what is behind rcvNxt, or if the connection ended.
func (n *NAT) tcpToSocket(i uint32, data []byte) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fInspect) {
		return n.tcpInspect(i, data)
	}
	if t.spill != none {
		if n.spills.more(t.spill, data) {
			t.rcvNxt += uint32(len(data))
			n.Stats.SpillBytes += uint64(len(data))
			return true
		}
		return false
	}
	took, e := sysSend(int(fl.fd), data)
	switch e {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		took = 0
	default: // EPIPE, ECONNRESET
		n.tcpGone(i)
		return false
	}
	t.rcvNxt += uint32(took)
	if took == len(data) {
		return true
	}
	fl.set(fWantOut)
	if t.spill = n.spills.get(data[took:]); t.spill == none {
		n.owe(i)
		return false
	}
	t.spillAt = 0
	t.rcvNxt += uint32(len(data) - took)
	n.Stats.SpillBytes += uint64(len(data) - took)
	return true
}

// tcpWritable empties the spill into the socket and offers the container new
// room.
func (n *NAT) tcpWritable(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	if t.spill != none && fl.has(fInspect) {
		return // kept back until tcpHeard lets it go
	}
	if t.spill != none {
		b := n.spills.bytes(t.spill)[t.spillAt:]
		took, e := sysSend(int(fl.fd), b)
		switch e {
		case 0:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return
		default:
			n.tcpGone(i)
			return
		}
		t.spillAt += uint32(took)
		if took < len(b) {
			n.tcpAcknowledge(i)
			return
		}
		n.spills.put(t.spill)
		t.spill = none
	}
	fl.unset(fWantOut)
	if !n.tcpTurn(i) {
		return
	}
	if fl.has(fWantOut) {
		n.tcpAcknowledge(i)
		return
	}
	n.tcpAcknowledge(i)
	if fl.has(fMissed) {
		// Something in flight was dropped: three repeated acknowledgements have it
		// sent again now, and not by the container's timer.
		fl.unset(fMissed)
		for range 3 {
			n.tcpSendControl(fl, vswitch.TCPAck, fl.tcp.sndMax)
		}
	}
}

// taken is the sequence number up to which the socket has all bytes.
func (n *NAT) taken(fl *flow) uint32 {
	t := &fl.tcp
	if t.spill == none {
		return t.rcvNxt
	}
	left := uint32(len(n.spills.bytes(t.spill))) - t.spillAt
	if fl.has(fFinIn) {
		left++
	}
	return t.rcvNxt - left
}

// tcpSpace is how many bytes the socket may take now: its free send buffer,
// less room for the kernel's own bookkeeping, and half of a spill, so that the
// buffer runs full now and then and the kernel lets it grow.
func (n *NAT) tcpSpace(fl *flow) uint32 {
	if fl.fd < 0 {
		return 0
	}
	var m [9]uint32
	if !memInfo(int(fl.fd), &m) {
		return spillSize
	}
	free := int64(m[memSndbuf]) - int64(m[memWmemQueued])
	if free < int64(m[memSndbuf])/8 || free < min(4096, int64(m[memSndbuf])/4) {
		return 0 // less than what makes the socket writable: an event will come
	}
	return uint32(min(free*7/8+spillSize/2, 16<<20-1))
}

// owe notes that the container is to get an acknowledgement when the batch is
// done.
func (n *NAT) owe(i uint32) {
	fl := &n.flows[i]
	if !fl.has(fListed) {
		fl.set(fListed)
		n.acks = append(n.acks, i)
	}
}

// tcpAcknowledge sends an acknowledgement with the window as it is.
func (n *NAT) tcpAcknowledge(i uint32) {
	fl := &n.flows[i]
	if fl.state == connecting || fl.state == synSent {
		return
	}
	fl.unset(fLazy)
	n.tcpOfferWindow(i)
	n.tcpSendControl(fl, vswitch.TCPAck, fl.tcp.sndMax)
}

// room is how much the container may send, in bytes, as it sees that: its window comes in
// steps. To count up to the edge would find room for a segment where it has none, and
// tell it of no more.
func (f *flow) room() int32 {
	left := int32(f.tcp.edge - f.tcp.rcvNxt)
	if f.has(fScale) {
		left &^= 1<<ourScale - 1
	}
	return left
}

// tcpOfferWindow moves the right edge of the window, never to the left. The
// socket is asked only when the container has used up a good part of the room
// that was computed last.
func (n *NAT) tcpOfferWindow(i uint32) {
	fl := &n.flows[i]
	t := &fl.tcp
	if fl.has(fFinIn) || fl.fd < 0 {
		return
	}
	left, segment := fl.room(), int32(t.asked)
	if t.space > 0 && left >= max(segment, int32(t.space/2)) {
		return
	}
	if t.spill != none {
		return
	}
	t.space = n.tcpSpace(fl)
	edge := t.rcvNxt + t.space
	if !fl.has(fScale) {
		edge = t.rcvNxt + min(t.space, 65535)
	}
	// Silly window avoidance (RFC 9293, 3.8.6.2.2): by a segment, or to where one
	// fits.
	if grown := int32(edge - t.edge); grown >= segment || grown > 0 && left < segment {
		t.edge = edge
	}
	if fl.room() < segment && !fl.has(fWantOut) {
		// The window is shut. Arming the socket anew sets SOCK_NOSPACE, without which
		// the kernel would not report that room came free.
		fl.set(fWantOut)
		n.sw.Rewatch(int(fl.fd), tcpEvents, n.token(i))
	}
}
