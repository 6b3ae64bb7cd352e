package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// rrSize is the length of a request and of its answer in bytes.
const rrSize = 64

// What a request/response client does.
const (
	rrTCP = "tcp" // one connection, one request at a time
	rrUDP = "udp" // the same with datagrams
	rrCRR = "crr" // connect, request, answer, close; over several ports in turn
)

// Where clients open many connections they have this range of ports, above all that are
// published. With the kernel's own, quick peers lost rounds when much of it was in
// TIME_WAIT, presumably to connect(2), which looks for a free one.
const (
	clientPorts = "net/ipv4/ip_local_port_range" // below /proc/sys
	manyPorts   = "10240 65535"
)

// rrStats is what a client has seen.
type rrStats struct {
	Count    uint64  `json:"count"`
	Lost     uint64  `json:"lost"` // UDP answers that did not come within replyLimit
	Seconds  float64 `json:"seconds"`
	P50Micro float64 `json:"p50_us"`
	P99Micro float64 `json:"p99_us"`
}

// serveRR answers requests until the process ends. ready is called once it
// listens on all ports.
func serveRR(mode string, first uint16, ports int, ready func()) error {
	kind := unix.SOCK_STREAM
	if mode == rrUDP {
		kind = unix.SOCK_DGRAM
	}
	var fds []int
	for i := range ports {
		fd, err := listenOn(kind, first+uint16(i))
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	steady()
	ready()
	if mode == rrUDP {
		return echoDatagrams(fds[0])
	}
	return echoStreams(fds)
}

func echoDatagrams(fd int) error {
	buf := make([]byte, 2048)
	var from endpoint
	for {
		n, err := receiveFrom(fd, buf, &from)
		if err == nil {
			_, err = sendTo(fd, buf[:n], &from)
		}
		// ECONNREFUSED is an earlier client that has gone.
		if err != nil && err != unix.EINTR && err != unix.ECONNREFUSED {
			return fmt.Errorf("echo: %w", err)
		}
	}
}

// echoStreams serves one connection after the other: a client of ours never has
// two, and a server that waits in read and not in epoll answers sooner.
func echoStreams(fds []int) error {
	polled := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		polled[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for {
		if err := waitFor(polled); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		for i := range polled {
			if polled[i].Revents == 0 {
				continue
			}
			conn, _, err := unix.Accept4(fds[i], unix.SOCK_CLOEXEC)
			if err != nil {
				continue // it was reset before we took it
			}
			echoStream(conn)
			unix.Close(conn)
		}
	}
}

func echoStream(fd int) {
	buf := make([]byte, rrSize)
	if limitWaits(fd, 2*replyLimit) != nil || unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) != nil {
		return
	}
	for {
		if more, err := readFull(fd, buf); err != nil || !more {
			return
		}
		if err := again(func() error { _, err := write(fd, buf); return err }); err != nil {
			return
		}
	}
}

// askRR runs a client for a time and says how fast the answers came. A TCP answer
// that does not come is an error; a UDP one is counted.
func askRR(mode string, to netip.AddrPort, ports int, d time.Duration) (rrStats, error) {
	steady()
	c := &rrClient{to: to, ports: ports, seen: new(histogram)}
	var once func() error
	switch mode {
	case rrCRR:
		once = c.connectAskClose
	case rrTCP, rrUDP:
		kind := unix.SOCK_STREAM
		if mode == rrUDP {
			kind = unix.SOCK_DGRAM
		}
		fd, err := connectTo(kind, to)
		if err != nil {
			return rrStats{}, err
		}
		defer unix.Close(fd)
		once = func() error { return c.ask(fd, mode == rrUDP) }
	default:
		return rrStats{}, fmt.Errorf("no such mode %q: tcp, udp or crr", mode)
	}
	// The first one finds the way: ARP, flow set-up, page faults.
	if err := once(); err != nil {
		return rrStats{}, err
	}
	c.lost = 0
	return c.repeat(once, d)
}

type rrClient struct {
	to    netip.AddrPort
	ports int
	next  int
	lost  uint64
	seen  *histogram
	buf   [rrSize]byte
}

func (c *rrClient) repeat(once func() error, d time.Duration) (rrStats, error) {
	begin := time.Now()
	last := begin
	for last.Sub(begin) < d {
		lost := c.lost
		if err := once(); err != nil {
			return rrStats{}, fmt.Errorf("after %d answers: %w", c.seen.total, err)
		}
		now := time.Now()
		if c.lost == lost {
			c.seen.add(uint64(now.Sub(last)))
		}
		last = now
	}
	return rrStats{
		Count:    c.seen.total,
		Lost:     c.lost,
		Seconds:  last.Sub(begin).Seconds(),
		P50Micro: float64(c.seen.percentile(0.50)) / 1e3,
		P99Micro: float64(c.seen.percentile(0.99)) / 1e3,
	}, nil
}

// ask sends one request and takes its answer.
func (c *rrClient) ask(fd int, datagram bool) error {
	if err := again(func() error { _, err := write(fd, c.buf[:]); return err }); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	more, err := readFull(fd, c.buf[:])
	if datagram && err == unix.EAGAIN {
		c.lost++
		return nil
	}
	if err == nil && !more {
		err = errors.New("the server closed the connection")
	}
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// connectAskClose takes the next port in turn. The client closes first, so the
// tuples in TIME_WAIT are its own, for a minute: hence several ports, and manyPorts.
func (c *rrClient) connectAskClose() error {
	to := netip.AddrPortFrom(c.to.Addr(), c.to.Port()+uint16(c.next%c.ports))
	c.next++
	fd, err := connectTo(unix.SOCK_STREAM, to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return c.ask(fd, false)
}
