package main

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	trainMost   = 64      // datagrams that one call may hold (UDP_MAX_SEGMENTS of older kernels)
	trainBytes  = 65_507  // what a datagram over IPv4 may hold, and so a train
	trainBuffer = 4 << 20 // receive buffer asked for: a train takes 64 KiB of it
)

// train prepares a source's socket and returns how many datagrams go into one
// call.
func (f flood) train(fd int) (uint64, error) {
	if !f.Offload {
		return 1, nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, f.Size); err != nil {
		return 0, fmt.Errorf("UDP_SEGMENT: %w", err)
	}
	return uint64(min(trainMost, trainBytes/f.Size)), nil
}

// take reads what the kernel has merged into buf: n bytes of datagrams that are
// each bytes long, the last one perhaps less.
func (f flood) take(fd int, buf, oob []byte) (n, each int, err error) {
	if !f.Offload {
		n, err = read(fd, buf)
		return n, max(n, 1), err
	}
	n, control, err := receiveMessage(fd, buf, oob)
	if err != nil {
		return 0, 1, err
	}
	if each = mergedSize(oob[:control]); each <= 0 {
		each = max(n, 1)
	}
	return n, each, nil
}

// mergedSize finds the length of merged datagrams in control data; 0 if there was
// but one.
func mergedSize(oob []byte) int {
	for len(oob) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(binary.NativeEndian.Uint32(data))
		}
		oob = rest
	}
	return 0
}
