package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	floodTick    = 250 * time.Microsecond // datagrams are sent in bursts, this far apart
	floodBacklog = 4 * time.Millisecond   // a source that is later than this gives up what it owes
	floodIdle    = 400 * time.Millisecond // a sink that hears nothing for so long has heard all
	floodBuffer  = 1 << 20                // receive buffer asked for, in bytes; the kernel may cap it
	floodHello   = "hello"
	helloTries   = 10
)

// A flood is a stream of datagrams at a fixed rate.
type flood struct {
	Size int           // bytes of UDP payload, at least 8
	Rate int           // datagrams per second
	For  time.Duration // how long
	// Offload hands the kernel many datagrams in one call (UDP_SEGMENT), and takes
	// as many as it has merged in one (UDP_GRO; both udp(7)).
	Offload bool
}

// sourceStats is what a source has really sent.
type sourceStats struct {
	Sent    uint64   `json:"sent"`
	Seconds float64  `json:"seconds"`
	Machine busyTime `json:"machine"` // what all processors spent meanwhile
}

// sinkStats is what arrived at the receiving program: each datagram once.
type sinkStats struct {
	Received uint64 `json:"received"`
	Twice    uint64 `json:"twice"`
	Buffer   int    `json:"receive_buffer_bytes"` // as the kernel granted it
}

// send floods a connected socket.
func (f flood) send(fd int) (sourceStats, error) {
	steady()
	var stats sourceStats
	spent, err := busyDuring(func() (err error) {
		stats, err = f.burst(fd)
		return err
	})
	stats.Machine = spent
	return stats, err
}

// burst sends at the rate until the time is over. A full queue (ENOBUFS) or a
// refusal counts as sent: it is the network under test that had no room.
func (f flood) burst(fd int) (sourceStats, error) {
	train, err := f.train(fd)
	if err != nil {
		return sourceStats{}, err
	}
	packets := make([]byte, train*uint64(f.Size))
	begin := time.Now()
	var sent, skipped uint64
	for {
		elapsed := min(time.Since(begin), f.For)
		due := uint64(float64(f.Rate) * elapsed.Seconds())
		if room := max(uint64(float64(f.Rate)*floodBacklog.Seconds()), train); due-sent-skipped > room {
			skipped = due - sent - room
		}
		for due-sent-skipped >= train {
			for i := range train {
				binary.BigEndian.PutUint64(packets[i*uint64(f.Size):], sent+i)
			}
			_, err := write(fd, packets[:train*uint64(f.Size)])
			switch err {
			case nil, unix.ENOBUFS, unix.ECONNREFUSED:
				sent += train
			case unix.EINTR, unix.EAGAIN:
			case unix.EIO: // older kernels, for a device without checksum offload
				if train == 1 {
					return sourceStats{}, fmt.Errorf("send: %w", err)
				}
				train = 1
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0); err != nil {
					return sourceStats{}, fmt.Errorf("UDP_SEGMENT: %w", err)
				}
			default:
				return sourceStats{}, fmt.Errorf("send: %w", err)
			}
		}
		if elapsed >= f.For {
			return sourceStats{Sent: sent, Seconds: time.Since(begin).Seconds()}, nil
		}
		nap(floodTick)
	}
}

// receive counts datagrams until none has come for floodIdle; at most f.capacity
// different ones. The first may take as long as the socket's time limit says.
func (f flood) receive(fd int) (sinkStats, error) {
	steady()
	stats := sinkStats{}
	stats.Buffer, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	seen := make([]uint64, f.capacity()/64+1)
	buf, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
	for {
		n, each, err := f.take(fd, buf, oob)
		if err == unix.EINTR || err == unix.ECONNREFUSED {
			continue
		}
		if err == unix.EAGAIN && stats.Received > 0 {
			return stats, nil
		}
		if err != nil {
			return stats, fmt.Errorf("receive: %w", err)
		}
		if stats.Received == 0 {
			if err := limitWaits(fd, floodIdle); err != nil {
				return stats, err
			}
		}
		for packet := range slices.Chunk(buf[:n], each) {
			stats.count(seen, packet)
		}
	}
}

func (s *sinkStats) count(seen []uint64, packet []byte) {
	if len(packet) < 8 {
		return
	}
	seq := binary.BigEndian.Uint64(packet)
	word, bit := seq/64, uint64(1)<<(seq%64)
	switch {
	case word >= uint64(len(seen)):
	case seen[word]&bit != 0:
		s.Twice++
	default:
		seen[word] |= bit
		s.Received++
	}
}

// sourceTo floods an address from here.
func (f flood) sourceTo(to netip.AddrPort) (sourceStats, error) {
	fd, err := connectTo(unix.SOCK_DGRAM, to)
	if err != nil {
		return sourceStats{}, err
	}
	defer unix.Close(fd)
	return f.send(fd)
}

// sourceOn waits on a port until someone says hello and floods them.
func (f flood) sourceOn(port uint16, wait time.Duration, ready func()) (sourceStats, error) {
	fd, err := listenOn(unix.SOCK_DGRAM, port)
	if err != nil {
		return sourceStats{}, err
	}
	defer unix.Close(fd)
	if err := limitWaits(fd, wait); err != nil {
		return sourceStats{}, err
	}
	ready()
	err = again(func() error {
		_, from, err := unix.Recvfrom(fd, make([]byte, len(floodHello)), 0)
		if err != nil {
			return err
		}
		return unix.Connect(fd, from)
	})
	if err != nil {
		return sourceStats{}, fmt.Errorf("wait for a sink: %w", err)
	}
	return f.send(fd)
}

// sinkOn receives a flood on a port.
func (f flood) sinkOn(port uint16, wait time.Duration, ready func()) (sinkStats, error) {
	fd, err := listenOn(unix.SOCK_DGRAM, port)
	if err != nil {
		return sinkStats{}, err
	}
	defer unix.Close(fd)
	if err := f.prepareSink(fd, wait); err != nil {
		return sinkStats{}, err
	}
	ready()
	return f.receive(fd)
}

// sinkFrom asks a source for its flood, and asks again while nothing comes.
func (f flood) sinkFrom(from netip.AddrPort) (sinkStats, error) {
	fd, err := connectTo(unix.SOCK_DGRAM, from)
	if err != nil {
		return sinkStats{}, err
	}
	defer unix.Close(fd)
	if err := f.prepareSink(fd, 300*time.Millisecond); err != nil {
		return sinkStats{}, err
	}
	var stats sinkStats
	for range helloTries {
		if _, err = unix.Write(fd, []byte(floodHello)); err != nil && err != unix.ECONNREFUSED {
			return stats, fmt.Errorf("ask for the flood: %w", err)
		}
		if stats, err = f.receive(fd); err == nil {
			return stats, nil
		}
	}
	return stats, err
}

func (f flood) prepareSink(fd int, wait time.Duration) error {
	buffer := floodBuffer
	if f.Offload {
		buffer = trainBuffer
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1); err != nil {
			return fmt.Errorf("UDP_GRO: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	return limitWaits(fd, wait)
}

// capacity is an upper limit of the sequence numbers that a source uses.
func (f flood) capacity() uint64 {
	return uint64(float64(f.Rate)*f.For.Seconds()) + 1
}
