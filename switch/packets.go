package vswitch

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packets is a connected SOCK_SEQPACKET socket each of whose packets is one
// Ethernet frame, as User Mode Linux (vector transport "bess") and gVisor's
// tools speak it. There is no offload: every frame is whole and finished.
type Packets struct{ fd int }

// NewDevice takes over fd, a TAP after TUNSETIFF or a SOCK_SEQPACKET socket; the
// device owns it from then on, also when an error is returned.
func NewDevice(fd int) (Device, error) {
	if t, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil {
		if t != unix.SOCK_SEQPACKET {
			unix.Close(fd)
			return nil, fmt.Errorf("descriptor %d is neither a TAP device nor a SOCK_SEQPACKET socket", fd)
		}
		return NewPackets(fd)
	}
	t, err := NewTAP(fd)
	if err != nil {
		return nil, err // not a nil *TAP, which would be a Device
	}
	return t, nil
}

// NewPackets takes over fd, a connected SOCK_SEQPACKET socket.
func NewPackets(fd int) (*Packets, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("socket %d: %w", fd, err)
	}
	for _, opt := range []int{unix.SO_SNDBUF, unix.SO_RCVBUF} {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1<<20)
	}
	return &Packets{fd}, nil
}

// FD is the descriptor: epoll tells of the other end's close as EPOLLHUP.
func (p *Packets) FD() int { return p.fd }

// Caps are none.
func (p *Packets) Caps() Caps { return 0 }

// Read takes one packet. An empty one is no frame.
func (p *Packets) Read(b []byte) (int, unix.Errno) {
	clear(b[:VnetLen])
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(p.fd), uintptr(unsafe.Pointer(&b[VnetLen])), uintptr(len(b)-VnetLen))
	switch {
	case e != 0:
		return 0, e
	case n == 0:
		return 0, unix.EAGAIN
	}
	return int(n) + VnetLen, 0
}

// Write sends one packet. Where the other end has gone the device is dead.
func (p *Packets) Write(b []byte) unix.Errno {
	b = b[VnetLen:]
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(p.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if e == unix.EPIPE || e == unix.ECONNRESET {
		return unix.EBADFD
	}
	return e
}

// Close closes the socket.
func (p *Packets) Close() error { return unix.Close(p.fd) }
