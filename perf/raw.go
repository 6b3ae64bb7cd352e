package main

import (
	"encoding/binary"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A system call that blocks for more than 20 us is noticed by Go's scheduler: a
// thread of its own looks for such, and hands what the blocked one had to another
// thread. In a program that asks and waits all the time threads that have nothing
// to do wake more than once for each answer, on processors that the network under
// test needs. A process that does nothing else makes its waits unseen.

// quiet is whether this process' waits are hidden from Go's scheduler.
var quiet bool

// hush makes it so, for a program whose only work is that of the calling
// goroutine. There must be another processor for what else there is; nothing may
// stop the world, which would wait for the end of a wait, so the garbage collector
// must be off (runTool); and the signal by which
// the scheduler wants the thread back, each 10 ms, must not end the waits.
func hush() {
	runtime.LockOSThread()
	urgent := unix.Sigset_t{}
	urgent.Val[0] = 1 << (unix.SIGURG - 1)
	unix.PthreadSigmask(unix.SIG_BLOCK, &urgent, nil)
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	quiet = true
}

// systemCall makes one that may block.
//
//go:uintptrescapes
func systemCall(number, a, b, c, d, e, f uintptr) (int, error) {
	var r uintptr
	var errno unix.Errno
	if quiet {
		r, _, errno = unix.RawSyscall6(number, a, b, c, d, e, f)
	} else {
		r, _, errno = unix.Syscall6(number, a, b, c, d, e, f)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func read(fd int, b []byte) (int, error) {
	return systemCall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
}

func write(fd int, b []byte) (int, error) {
	return systemCall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
}

// endpoint is a socket address as the kernel has it, whatever its family.
type endpoint struct {
	b    [unix.SizeofSockaddrAny]byte
	size uint32
}

func receiveFrom(fd int, b []byte, from *endpoint) (int, error) {
	from.size = uint32(len(from.b))
	return systemCall(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&from.b)), uintptr(unsafe.Pointer(&from.size)))
}

func sendTo(fd int, b []byte, to *endpoint) (int, error) {
	return systemCall(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&to.b)), uintptr(to.size))
}

// receiveMessage is recvmsg(2) without an address; it returns the lengths of the
// data and of the control data.
func receiveMessage(fd int, b, oob []byte) (n, control int, err error) {
	vec := unix.Iovec{Base: &b[0]}
	vec.SetLen(len(b))
	m := unix.Msghdr{Iov: &vec, Iovlen: 1, Control: &oob[0]}
	m.SetControllen(len(oob))
	n, err = systemCall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), 0, 0, 0, 0)
	return n, int(m.Controllen), err
}

// connectV4 is connect(2) with an IPv4 address.
func connectV4(fd int, port uint16, address [4]byte) error {
	to := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: address}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], port)
	_, err := systemCall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unix.SizeofSockaddrInet4, 0, 0, 0)
	return err
}

// nap is nanosleep(2), which a signal may end early.
func nap(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	systemCall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0, 0, 0, 0)
}

// waitFor is ppoll(2) without an end.
func waitFor(fds []unix.PollFd) error {
	_, err := systemCall(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), 0, 0, 0, 0)
	return err
}
