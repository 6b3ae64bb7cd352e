package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pingEvery is how finely the time of the first answer is known at worst.
const pingEvery = 200 * time.Microsecond

// pingStats is what a ping has to tell.
type pingStats struct {
	Answered time.Duration `json:"answered_ns"` // on the machine's monotonic clock
}

// tellPing says "ready", pings an address from when it is told to by a line on
// words until the first answer, says when that came, and stays: the namespace
// that it lives in is on the network as long as it lives.
func tellPing(to netip.Addr, words <-chan struct{}) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	steady()
	sayReady()
	<-words
	at, err := awaitPing(fd, to)
	if err != nil {
		return err
	}
	fmt.Printf("{\"answered_ns\": %d}\n", at)
	select {}
}

// awaitPing sends echo requests until one is answered. There may be neither
// interface nor route yet.
func awaitPing(fd int, to netip.Addr) (time.Duration, error) {
	id := uint16(os.Getpid())
	request := echoRequest(id)
	address := &unix.SockaddrInet4{Addr: to.As4()}
	every := unix.NsecToTimespec(pingEvery.Nanoseconds())
	polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	buf := make([]byte, 2048)
	for {
		switch err := unix.Sendto(fd, request, 0, address); err {
		case nil, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.ENOBUFS, unix.EAGAIN, unix.EINTR:
		default:
			return 0, fmt.Errorf("ping %s: %w", to, err)
		}
		if _, err := unix.Ppoll(polled, &every, nil); err != nil && err != unix.EINTR {
			return 0, fmt.Errorf("poll: %w", err)
		}
		n, err := unix.Read(fd, buf)
		switch {
		case err == nil && isEchoReply(buf[:n], id):
			return monotonic(), nil
		case err != nil && err != unix.EAGAIN && err != unix.EINTR && err != unix.EHOSTUNREACH:
			return 0, fmt.Errorf("ping %s: %w", to, err)
		}
	}
}

// echoRequest is an ICMP echo request without data (RFC 792).
func echoRequest(id uint16) []byte {
	p := make([]byte, 8)
	p[0] = 8
	binary.BigEndian.PutUint16(p[4:], id)
	binary.BigEndian.PutUint16(p[6:], 1)
	sum := 8<<8 + uint32(id) + 1
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(p[2:], ^uint16(sum+sum>>16))
	return p
}

// isEchoReply says whether an IPv4 packet, as a raw socket yields it, answers the
// requests of an id.
func isEchoReply(packet []byte, id uint16) bool {
	if len(packet) < 20 {
		return false
	}
	icmp := packet[min(int(packet[0]&15)*4, len(packet)):]
	return len(icmp) >= 8 && icmp[0] == 0 && icmp[1] == 0 && binary.BigEndian.Uint16(icmp[4:]) == id
}

// monotonic is the clock that all processes of the machine share.
func monotonic() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano())
}
