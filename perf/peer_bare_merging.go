package main

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	bareMerged = 4              // frames in one write at most
	bareRoom   = 10 * bareFrame // and of the buffer: frames are held in its first half
)

// bareMerge is a turn of a loop that merges. It takes each long super-frame for one of
// TCP over IPv4 with time stamps, as iperf3's are, and asks no more than whether ports and
// sequence number go on. It reads the next frame to where the payload of the last
// one would go on, and puts back what its headers have overwritten there.
func bareMerge(from, to uintptr, buf []byte) (some bool) {
	const l4, head = 10 + 14 + 20, 10 + 14 + 20 + 32
	var held []byte // from its beginning to the end of buf
	var under, over [head]byte
	n, count, next := 0, 0, uint32(0)
	for range bareTurn {
		b := buf
		if count > 0 {
			b = held[n-head:]
			copy(under[:], b)
		}
		got, _, e := unix.RawSyscall(unix.SYS_READ, from, uintptr(unsafe.Pointer(&b[0])), bareFrame)
		if e != 0 {
			if count == 0 {
				break
			}
			bareWrite(to, held[:n], count)
			count = 0
			continue
		}
		some = true
		frame := b[:got]
		long := len(frame) > 16<<10 && frame[1] == unix.VIRTIO_NET_HDR_GSO_TCPV4
		if count > 0 {
			if long && count < bareMerged && bytes.Equal(frame[l4:l4+4], held[l4:l4+4]) && binary.BigEndian.Uint32(frame[l4+4:]) == next {
				copy(frame, under[:])
				n, next, count = n+len(frame)-head, next+uint32(len(frame)-head), count+1
				continue
			}
			copy(over[:], frame)
			copy(frame, under[:])
			bareWrite(to, held[:n], count)
			copy(frame, over[:])
			count = 0
		}
		if long && len(b) > bareRoom/2 {
			held, n, count = b, len(frame), 1
			next = binary.BigEndian.Uint32(frame[l4+4:]) + uint32(len(frame)-head)
			continue
		}
		bareWrite(to, frame, 1)
	}
	if count > 0 {
		bareWrite(to, held[:n], count)
	}
	return some
}

// bareWrite sends b, count frames under the headers of the first.
func bareWrite(to uintptr, b []byte, count int) {
	const l3, l4 = 10 + 14, 10 + 14 + 20
	if count > 1 {
		total, segment := uint16(len(b)-l3), len(b)-l4
		if len(b)-l3 > 0xffff {
			total = 0
		}
		binary.BigEndian.PutUint16(b[l3+2:], total)
		binary.BigEndian.PutUint16(b[l3+10:], 0)
		binary.BigEndian.PutUint16(b[l3+10:], ^ones(b[l3:l4], 0))
		binary.BigEndian.PutUint16(b[l4+16:], ones(b[l3+12:l4], uint32(unix.IPPROTO_TCP+segment>>16+segment&0xffff)))
	}
	unix.RawSyscall(unix.SYS_WRITE, to, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}

// ones is the one's-complement sum of b, of an even length, on top of sum (RFC 1071).
func ones(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
