package nat

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw system calls on non-blocking sockets. They never enter the scheduler: a
// call that cannot block needs no hand-over, which costs 40 ns each.

// sockaddr is a struct sockaddr_in or sockaddr_in6 ready for the kernel.
type sockaddr struct {
	b [28]byte
	n uint32
}

func (s *sockaddr) set(a netip.AddrPort) {
	ip := a.Addr()
	clear(s.b[:])
	binary.BigEndian.PutUint16(s.b[2:], a.Port())
	if ip.Is4() {
		binary.NativeEndian.PutUint16(s.b[:], unix.AF_INET)
		x := ip.As4()
		copy(s.b[4:], x[:])
		s.n = 16
		return
	}
	binary.NativeEndian.PutUint16(s.b[:], unix.AF_INET6)
	x := ip.As16()
	copy(s.b[8:], x[:])
	s.n = 28
}

func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s.b[2:])
	switch binary.NativeEndian.Uint16(s.b[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s.b[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s.b[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// scope is the interface index of a link-local IPv6 address, else 0.
func (s *sockaddr) scope() uint32 {
	if binary.NativeEndian.Uint16(s.b[:]) != unix.AF_INET6 {
		return 0
	}
	return binary.NativeEndian.Uint32(s.b[24:])
}

func (s *sockaddr) setScope(id uint32) { binary.NativeEndian.PutUint32(s.b[24:], id) }

func sysSocket(domain, typ, proto int) (int, unix.Errno) {
	r, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(domain), uintptr(typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), uintptr(proto))
	return int(r), e
}

func sysConnect(fd int, to *sockaddr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to.b)), uintptr(to.n))
	return e
}

// sysConnected says whether the connection that fd began is established, or was
// (net/ipv4/af_inet.c, inet_getname).
func sysConnected(fd int) bool {
	var to sockaddr
	to.n = uint32(len(to.b))
	_, _, e := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&to.b)), uintptr(unsafe.Pointer(&to.n)))
	return e == 0
}

func sysBind(fd int, at *sockaddr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&at.b)), uintptr(at.n))
	return e
}

func sysClose(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sysShutdownWrite(fd int) {
	unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

func setInt(fd, level, opt int, v int32) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&v)), 4, 0)
	return e
}

func getInt(fd, level, opt int) (int32, unix.Errno) {
	var v int32
	n := uint32(4)
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&n)), 0)
	return v, e
}

// abort makes the next close send a reset.
func abort(fd int) {
	l := unix.Linger{Onoff: 1}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
}

// memInfo reads SO_MEMINFO (include/uapi/linux/sock_diag.h, SK_MEMINFO_*).
func memInfo(fd int, v *[9]uint32) bool {
	n := uint32(unsafe.Sizeof(*v))
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(v)), uintptr(unsafe.Pointer(&n)), 0)
	return e == 0
}

const (
	memSndbuf      = 3
	memWmemQueued  = 5
	flagsSend      = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	flagsPeek      = unix.MSG_DONTWAIT | unix.MSG_PEEK
	flagsDiscard   = unix.MSG_DONTWAIT | unix.MSG_TRUNC
	soEEOriginLoc  = 1
	soEEOriginICMP = 2
	soEEOriginIC6  = 3
)

func sysSend(fd int, b []byte) (int, unix.Errno) {
	r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flagsSend, 0, 0)
	return int(r), e
}

func sysPeek(fd int, b []byte) (int, unix.Errno) {
	r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flagsPeek, 0, 0)
	return int(r), e
}

// sysDiscard takes n bytes off a TCP socket's queue without copying them.
func sysDiscard(fd, n int) (int, unix.Errno) {
	r, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), flagsDiscard, 0, 0)
	return int(r), e
}

func sysSendmsg(fd int, m *unix.Msghdr) (int, unix.Errno) {
	r, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), flagsSend)
	return int(r), e
}

func sysRecvmsg(fd int, m *unix.Msghdr, flags int) (int, unix.Errno) {
	r, _, e := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), uintptr(flags|unix.MSG_DONTWAIT))
	return int(r), e
}

func sysAccept(fd int, from *sockaddr) (int, unix.Errno) {
	from.n = uint32(len(from.b))
	r, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&from.b)), uintptr(unsafe.Pointer(&from.n)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(r), e
}

func sysSockname(fd int) netip.AddrPort {
	var s sockaddr
	s.n = uint32(len(s.b))
	if _, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&s.b)), uintptr(unsafe.Pointer(&s.n))); e != 0 {
		return netip.AddrPort{}
	}
	return s.addrPort()
}

// message is a reusable struct msghdr with one buffer, an address and room for
// control data. It stays in one place for its life: the kernel's structure
// points into it.
type message struct {
	hdr  unix.Msghdr
	iov  [2]unix.Iovec
	name sockaddr
	ctl  [512]byte
}

// receive prepares for recvmsg into b.
func (m *message) receive(b []byte) *unix.Msghdr {
	m.iov[0].Base = &b[0]
	m.iov[0].SetLen(len(b))
	m.hdr = unix.Msghdr{Name: &m.name.b[0], Namelen: uint32(len(m.name.b)), Iov: &m.iov[0], Iovlen: 1, Control: &m.ctl[0]}
	m.hdr.SetControllen(len(m.ctl))
	return &m.hdr
}

// send prepares for sendmsg of b to m.name with ctl bytes of control data.
func (m *message) send(b []byte, ctl int) *unix.Msghdr {
	m.hdr = unix.Msghdr{Name: &m.name.b[0], Namelen: m.name.n}
	if len(b) > 0 {
		m.iov[0].Base = &b[0]
		m.iov[0].SetLen(len(b))
		m.hdr.Iov, m.hdr.Iovlen = &m.iov[0], 1
	}
	if ctl > 0 {
		m.hdr.Control = &m.ctl[0]
		m.hdr.SetControllen(ctl)
	}
	return &m.hdr
}

// control appends a control message with data and returns the new length.
func (m *message) control(at int, level, typ int32, data []byte) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&m.ctl[at]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(len(data)))
	copy(m.ctl[at+unix.CmsgLen(0):], data)
	return at + unix.CmsgSpace(len(data))
}

// controls calls f for each control message received.
func (m *message) controls(f func(level, typ int32, data []byte)) {
	eachControl(m.ctl[:m.hdr.Controllen], f)
}

func eachControl(b []byte, f func(level, typ int32, data []byte)) {
	for len(b) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > len(b) {
			return
		}
		f(h.Level, h.Type, b[unix.CmsgLen(0):n])
		if next := unix.CmsgSpace(n - unix.CmsgLen(0)); next < len(b) {
			b = b[next:]
		} else {
			return
		}
	}
}
