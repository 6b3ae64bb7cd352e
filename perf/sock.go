package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// The traffic programs use blocking system calls on a locked thread and not
// package net: its poller adds two thread switches to each answer, more than the
// peers differ by.

// replyLimit is how long a client waits for one answer.
const replyLimit = 2 * time.Second

// listenOn opens an IPv4 socket bound to every address. A TCP one listens.
func listenOn(kind int, port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return fd, nil
}

// connectTo opens an IPv4 socket to an address, with a limit on every wait.
func connectTo(kind int, to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = limitWaits(fd, replyLimit)
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = again(func() error {
			return connectV4(fd, to.Port(), to.Addr().As4())
		})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, nil
}

// limitWaits lets reads, writes and connects on a socket end with EAGAIN or
// EINPROGRESS after d.
func limitWaits(fd int, d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv),
	)
}

// readFull fills buf from a stream; false means the other side closed first.
func readFull(fd int, buf []byte) (bool, error) {
	for len(buf) > 0 {
		n, err := read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, err
		case n == 0:
			return false, nil
		default:
			buf = buf[n:]
		}
	}
	return true, nil
}

// again repeats a call that a signal interrupted: Go's scheduler sends some, and
// calls on a socket with a time limit are not restarted by the kernel.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// steady prepares the calling goroutine for measuring: a thread of its own, with
// timers that fire when they should.
func steady() {
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
}
