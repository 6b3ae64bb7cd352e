package nat

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// mmsghdr is struct mmsghdr (socket.h) on 64-bit machines.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   uint32
}

const (
	batchSize = 64
	batchSlot = bufData + 65536
)

// batch is room for what recvmmsg(2) takes from a UDP socket in one call: many
// datagrams, each of which may be several of one flow that the kernel put
// together (UDP_GRO). It stays in one place for its life: the kernel's
// structures point into it. Of its memory only what datagrams reach is used.
type batch struct {
	vec  [batchSize]mmsghdr
	iov  [batchSize]unix.Iovec
	from [batchSize]sockaddr
	ctl  [batchSize][96]byte
	mem  []byte
	used int // headers that the last call has written to
}

func (b *batch) init() (err error) {
	if b.mem, err = vswitch.OffHeap(batchSize * batchSlot); err != nil {
		return err
	}
	for k := range b.vec {
		b.iov[k].Base = &b.mem[k*batchSlot+bufData]
		b.iov[k].SetLen(65536)
		b.vec[k].hdr = unix.Msghdr{Name: &b.from[k].b[0], Iov: &b.iov[k], Iovlen: 1, Control: &b.ctl[k][0]}
	}
	b.used = batchSize
	return nil
}

// receive takes what there is on fd, and returns how many datagrams.
func (b *batch) receive(fd int) (int, unix.Errno) {
	for k := range b.used {
		b.vec[k].hdr.Namelen = uint32(len(b.from[k].b))
		b.vec[k].hdr.SetControllen(len(b.ctl[k]))
	}
	r, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.vec)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if b.used = int(r); e != 0 {
		b.used = 1
		return 0, e
	}
	return b.used, 0
}

// slot is the buffer of datagram k, whose payload starts at bufData, and the
// payload's length.
func (b *batch) slot(k int) ([]byte, int) {
	return b.mem[k*batchSlot : (k+1)*batchSlot], int(b.vec[k].len)
}

// segment is the length of each datagram in the payload of k, or 0 if it is one.
func (b *batch) segment(k int) (size int) {
	b.controls(k, func(level, typ int32, data []byte) {
		if level == unix.SOL_UDP && typ == udpGRO && len(data) >= 4 {
			size = int(binary.NativeEndian.Uint32(data))
		}
	})
	return size
}

// local is the address that datagram k was sent to, where the socket asks for it.
func (b *batch) local(k int) (a addr) {
	b.controls(k, func(level, typ int32, data []byte) {
		switch {
		case level == unix.IPPROTO_IP && typ == unix.IP_PKTINFO && len(data) >= 12:
			copy(a[:], data[8:12])
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= 16:
			copy(a[:], data[:16])
		}
	})
	return a
}

func (b *batch) controls(k int, f func(level, typ int32, data []byte)) {
	eachControl(b.ctl[k][:b.vec[k].hdr.Controllen], f)
}
