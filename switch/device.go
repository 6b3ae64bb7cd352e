package vswitch

import "golang.org/x/sys/unix"

// Caps is what a device takes in one write beyond a plain finished frame.
type Caps uint8

// The capabilities, in the order in which kernels learnt them.
const (
	CapCsum Caps = 1 << iota // unfinished checksums
	CapTSO                   // TCP super-frames, IPv4 and IPv6
	CapUSO                   // UDP super-frames (Linux 6.2)
	CapBig                   // TCP super-frames of IPv4 beyond 64 KiB, with a total length of 0 (Linux 6.6)
)

// Device is a source and sink of Ethernet frames, each behind a virtio header
// of VnetLen bytes. The loop's thread alone calls Read; any may call Write.
type Device interface {
	// Read puts one frame into b and returns its length with the virtio header,
	// or EAGAIN. A frame longer than b is cut, as the kernel does.
	Read(b []byte) (int, unix.Errno)
	// Write sends one frame; b is borrowed until it returns. Devices without an
	// offload are never given a frame that needs it.
	Write(b []byte) unix.Errno
	// FD is what epoll waits on, or -1 where Poll is called by hand.
	FD() int
	Caps() Caps
	// Close frees the device. It may block for 20 ms (the kernel's rtnl lock), so
	// it is never called on the loop.
	Close() error
}
