package nat

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// wantErrors asks the kernel to queue ICMP errors about what fd sends, with
// the router that reported them; no capability is needed (ip(7), IP_RECVERR).
func (n *NAT) wantErrors(fd int, v6 bool) {
	if v6 {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		setInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}
}

// ignoreErrors lets ICMP errors be what they are to TCP once it is connected,
// a hint: with IP_RECVERR each would end the connection (net/ipv4/tcp_ipv4.c,
// tcp_v4_err).
func (n *NAT) ignoreErrors(fd int, v6 bool) {
	if v6 {
		setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 0)
	} else {
		setInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 0)
	}
}

// extendedErr is struct sock_extended_err and the offender's address behind it
// (include/uapi/linux/errqueue.h).
type extendedErr struct {
	errno     unix.Errno
	origin    uint8
	typ, code uint8
	info      uint32
	offender  netip.Addr
}

// hopLimit says whether a hop limit has ended: those are the hops of a
// traceroute.
func (e *extendedErr) hopLimit() bool {
	return e.origin == soEEOriginICMP && e.typ == 11 || e.origin == soEEOriginIC6 && e.typ == 3
}

func parseExtendedErr(b []byte) (e extendedErr, ok bool) {
	if len(b) < 16 {
		return e, false
	}
	e.errno = unix.Errno(binary.NativeEndian.Uint32(b))
	e.origin, e.typ, e.code = b[4], b[5], b[6]
	e.info = binary.NativeEndian.Uint32(b[8:])
	var sa sockaddr
	copy(sa.b[:], b[16:])
	e.offender = sa.addrPort().Addr()
	return e, true
}

// drainErrors tells the container what the error queue of a flow's socket
// holds: each hop of a traceroute, ports that are closed, packets too big. What
// is more than a turn's share waits for the next.
func (n *NAT) drainErrors(i uint32) {
	gen := n.flows[i].gen
	for range 16 {
		e, to, data, ok := n.nextError(int(n.flows[i].fd))
		if !ok {
			return
		}
		if e.errno != 0 {
			n.tellError(i, e, to, data)
		}
		if n.flows[i].gen != gen {
			return
		}
	}
	n.flows[i].set(fError) // no event tells of what is left
	n.queue(i)
}

// nextError takes one error off a socket's queue; it is empty where ok is
// false. errno is 0 for a message that is no error.
func (n *NAT) nextError(fd int) (e extendedErr, to netip.AddrPort, data []byte, ok bool) {
	m := &n.msg
	size, errno := sysRecvmsg(fd, m.receive(n.errBuf), unix.MSG_ERRQUEUE)
	if errno != 0 {
		return e, to, nil, false
	}
	m.controls(func(level, typ int32, data []byte) {
		if level == unix.IPPROTO_IP && typ == unix.IP_RECVERR || level == unix.IPPROTO_IPV6 && typ == unix.IPV6_RECVERR {
			if x, ok := parseExtendedErr(data); ok {
				e = x
			}
		}
	})
	return e, m.name.addrPort(), n.errBuf[:min(size, len(n.errBuf))], true
}

// tooBig answers a datagram that the host's kernel refused for its size with
// the MTU that fits. The kernel's own message does not name the port that it
// was for, since the socket is connected to none. Other errors on the queue are
// told as always if flow i, the socket's, is known.
func (n *NAT) tooBig(f *vswitch.Frame, fd int, i uint32) {
	mtu := uint32(0)
	for range 16 {
		e, to, data, ok := n.nextError(fd)
		if !ok {
			break
		}
		switch {
		case e.origin == soEEOriginLoc && e.errno == unix.EMSGSIZE:
			mtu = e.info
		case e.errno != 0:
			n.tellOther(i, e, to, data)
		}
	}
	if mtu == 0 {
		mtu = 1280 // what every link carries (RFC 8200, 5)
	}
	e := icmpError{typ: 3, code: 4, info: mtu}
	if f.V6 {
		e = icmpError{typ: 2, info: mtu}
	}
	n.errorFor(f, e)
}

// tellOther tells an error that was met on the socket that flow i sends from.
func (n *NAT) tellOther(i uint32, e extendedErr, to netip.AddrPort, data []byte) {
	if u := n.flows[i].udp; n.flows[i].kind == kindUDP {
		if i = u.socket; i == none {
			if p := n.pub.byID(u.listener); p != nil {
				i = n.clientFlow(p, to)
			}
		}
	}
	if i != none {
		n.tellError(i, e, to, data)
	}
}

// tellError makes an ICMP message of a queued error. to is where the datagram
// went, data its payload.
func (n *NAT) tellError(i uint32, e extendedErr, to netip.AddrPort, data []byte) {
	fl := &n.flows[i]
	msg := icmpError{typ: e.typ, code: e.code, from: e.offender}
	switch e.origin {
	case soEEOriginICMP, soEEOriginIC6:
		if (e.origin == soEEOriginIC6) != fl.v6 {
			return
		}
	default: // of the host itself: tooBig has answered it
		return
	}
	if e.errno == unix.EMSGSIZE {
		msg.typ, msg.code, msg.info = 3, 4, e.info
		if fl.v6 {
			msg.typ, msg.code = 2, 0
		}
	}
	switch fl.kind {
	case kindTCP:
		if fl.state != connecting {
			return // the host's TCP deals with it
		}
		fl.set(fRecover) // told; tcpConnectError need not
		n.flowError(fl, fl.sides[0].rport, fl.sides[0].remote, nil, msg)
		// The host's TCP has given it up (net/ipv4/tcp_ipv4.c, tcp_v4_err), and reading
		// the queue has taken the error from the socket.
		if e.hopLimit() {
			n.drop(i)
		} else if e.errno != unix.EMSGSIZE {
			n.tcpConnectError(i, e.errno)
		}
	case kindPing:
		n.told(fl, e, fl.sides[0].remote, 0)
		n.flowError(fl, 0, fl.sides[0].remote, data, msg)
	case kindUDP: // of a published port
		n.told(fl, e, fl.sides[0].remote, fl.sides[0].rport)
		n.flowError(fl, fl.sides[0].rport, fl.sides[0].remote, data, msg)
	case kindUDPSocket:
		p := n.sw.Port(fl.sides[0].port)
		seen := n.udpSeen(p, fl.v6, to)
		n.told(fl, e, toAddr(seen.Addr()), seen.Port())
		n.flowError(fl, seen.Port(), toAddr(seen.Addr()), data, msg)
	}
}
