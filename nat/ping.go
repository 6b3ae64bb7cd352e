package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

const pingShare = 32 // answers of one turn

// ICMP echo leaves by a ping socket of the kernel (SOCK_DGRAM, IPPROTO_ICMP),
// which needs no capability where net.ipv4.ping_group_range covers our group.
// The kernel chooses the identifier; the container's comes back in the answer.

func echoRequest(v6 bool) uint8 {
	if v6 {
		return 128
	}
	return 8
}

// pingOpen starts an echo flow and sends the request.
func (n *NAT) pingOpen(f *vswitch.Frame, v verdict) vswitch.Action {
	if r := forbidden(v.to.Addr()); r != vswitch.Delivered {
		return vswitch.Drop(r)
	}
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if f.V6 {
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, e := n.out.Socket(domain, unix.SOCK_DGRAM, proto)
	if e != 0 {
		n.Stats.Errors++
		if e == unix.EACCES || e == unix.EPERM {
			n.refuse(f, replyProhibited)
			return vswitch.Drop(vswitch.PingDenied)
		}
		return vswitch.Drop(vswitch.SocketFailed)
	}
	n.wantErrors(fd, f.V6)
	if e := n.leaveFrom(fd, f.In, f.V6); e != 0 {
		sysClose(fd)
		return vswitch.Drop(vswitch.SocketFailed)
	}
	i := n.alloc(kindPing, f.In.ID)
	if i == none {
		sysClose(fd)
		return vswitch.Drop(vswitch.FlowLimit)
	}
	fl := &n.flows[i]
	fl.proto, fl.v6, fl.fd = f.Proto, f.V6, int32(fd)
	n.admit(fl, v)
	fl.created, fl.used = n.sw.Now(), n.sw.Now()
	s := &fl.sides[0]
	copy(s.local[:], f.SrcIP())
	copy(s.remote[:], f.DstIP())
	s.lport, s.mac = f.SrcPort(), f.SrcMAC()
	fl.sides[1].remote = toAddr(v.to.Addr())
	n.index(i, 0)
	if err := n.sw.Watch(fd, unix.EPOLLIN|1<<31, n.token(i)); err != nil {
		n.drop(i)
		return vswitch.Drop(vswitch.SocketFailed)
	}
	n.arm(i, fl.used+pingFor)
	n.Stats.PingFlows++
	n.opened(i)
	n.Deliver(f, i<<1, fl.gen)
	return consumed
}

// pingFromTap sends the container's echo request.
func (n *NAT) pingFromTap(i uint32, f *vswitch.Frame) {
	fl := &n.flows[i]
	fl.used = n.sw.Now()
	if f.Key.EchoType() != echoRequest(f.V6) {
		n.sw.DropFrame(f, vswitch.Unsolicited, 0) // an answer that nobody asked for
		return
	}
	n.udpOptions(int(fl.fd), &fl.udp, f)
	m := &n.msg
	m.name.set(netip.AddrPortFrom(n.out.Address(netip.AddrPortFrom(fl.sides[1].remote.netip(fl.v6), 0)).Addr(), 0))
	b := f.B[f.L4:f.End]
	_, e := sysSendmsg(int(fl.fd), m.send(b, 0))
	if e != 0 && e != unix.EAGAIN {
		_, e = sysSendmsg(int(fl.fd), m.send(b, 0))
	}
	switch e {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS:
		n.sw.DropFrame(f, vswitch.SocketFull, 0)
	case unix.EMSGSIZE:
		n.sw.DropFrame(f, vswitch.TooBig, 0)
		n.tooBig(f, int(fl.fd), i)
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EADDRNOTAVAIL:
		n.sw.DropFrame(f, vswitch.NoRoute, 0)
		n.unreachable(f, unreachHost)
	case unix.EACCES, unix.EPERM:
		n.refusedByHost(f)
		n.unreachable(f, unreachProhibited)
	default:
		n.sw.DropFrame(f, vswitch.SocketFailed, 0)
	}
}

// pingRun takes echo replies.
func (n *NAT) pingRun(i uint32) bool {
	fl := &n.flows[i]
	if fl.has(fError) {
		fl.unset(fError)
		n.drainErrors(i)
	}
	for range pingShare {
		m := &n.msg
		size, e := sysRecvmsg(int(fl.fd), m.receive(n.buf[bufData:bufData+65536]), 0)
		if e == unix.EAGAIN {
			fl.unset(fReady)
			return false
		}
		if e != 0 || size < vswitch.ICMPLen {
			continue
		}
		fl.udp.replied = true
		fl.used = n.sw.Now()
		n.echoToTap(fl, size)
	}
	return true
}

// echoToTap sends the echo reply of size bytes at buf[bufData:] to the
// container, under the identifier that it chose.
func (n *NAT) echoToTap(fl *flow, size int) {
	hl := vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
	if fl.v6 {
		hl += vswitch.IPv6Len - vswitch.IPv4Len
	}
	b := n.buf[bufData-hl : bufData+size]
	vswitch.Vnet{}.Put(b)
	l4 := n.ipFrame(fl, b, size)
	icmp := b[l4:]
	put16(icmp[4:], fl.sides[0].lport)
	put16(icmp[2:], 0)
	acc := uint64(0)
	if fl.v6 {
		acc = n.pseudo(fl, vswitch.ProtoICMPv6, size)
	}
	put16(icmp[2:], vswitch.Checksum(icmp, acc))
	fl.bytes[1] += uint64(size)
	n.toPort(fl, b)
}
