// Package switchtest helps to test the datapath and what is built on it:
// devices in memory, faults, frames made and taken apart by gopacket, and a
// switch with a clock that stands still.
//
//	device.go    a device whose two ends are lists
//	cable.go     two devices whose ends are each other's
//	socket.go    a device with a descriptor, for the loop itself
//	fault.go     a device that loses, repeats, swaps and breaks frames
//	packet.go    frames of IPv4 and IPv6
//	neigh.go     frames of ARP and neighbour discovery
//	offload.go   frames with work left to do: checksums, segments
//	decode.go    frames read by gopacket, their checksums verified
//	gateway.go   a gateway that does as the test says
//	net.go       a switch, its clock, its gateway and hosts
package switchtest

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Device is a vswitch.Device in memory. What the test pushed the switch reads;
// what the switch writes the test takes. It has no descriptor: the switch is
// driven by Poll. All methods may be called from any goroutine.
type Device struct {
	t    testing.TB
	caps vswitch.Caps

	mu      sync.Mutex
	in      [][]byte
	head    int
	out     [][]byte
	written int
	fail    unix.Errno
	discard bool
	closed  bool
}

// NewDevice makes a device with the capabilities. A frame that exceeds them is
// an error of t.
func NewDevice(t testing.TB, caps vswitch.Caps) *Device {
	return &Device{t: t, caps: caps}
}

// Push queues frames, each behind a virtio header, for the switch to read. They
// are borrowed until they are read.
func (d *Device) Push(frames ...[]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head == len(d.in) {
		d.in, d.head = d.in[:0], 0
	}
	d.in = append(d.in, frames...)
}

// Pending is how many frames were pushed and not yet read.
func (d *Device) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.in) - d.head
}

// Take returns the frames that the switch wrote since the last call.
func (d *Device) Take() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.out
	d.out = nil
	return out
}

// Written is how many frames were ever accepted.
func (d *Device) Written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.written
}

// Fail lets each further write end with e; 0 heals the device.
func (d *Device) Fail(e unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = e
}

// Discard lets writes be counted and forgotten, so that they do not allocate.
func (d *Device) Discard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.discard, d.out = true, nil
}

// Closed says whether Close was called.
func (d *Device) Closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// Read gives the oldest pushed frame, cut to b.
func (d *Device) Read(b []byte) (int, unix.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head == len(d.in) {
		return 0, unix.EAGAIN
	}
	n := copy(b, d.in[d.head])
	d.in[d.head] = nil
	d.head++
	return n, 0
}

// Write keeps a copy of b.
func (d *Device) Write(b []byte) unix.Errno {
	if err := exceeds(b, d.caps); err != "" {
		d.t.Errorf("device was given a frame that it cannot take: %s", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != 0 {
		return d.fail
	}
	d.written++
	if !d.discard {
		d.out = append(d.out, append([]byte(nil), b...))
	}
	return 0
}

// FD is -1: there is nothing to wait on.
func (d *Device) FD() int { return -1 }

// Caps is what NewDevice was told.
func (d *Device) Caps() vswitch.Caps { return d.caps }

// Close notes that it was called.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// exceeds says what of frame b a device with caps cannot take, or "". It reads
// the virtio header by itself, so that it does not share a fault of the switch.
func exceeds(b []byte, caps vswitch.Caps) string {
	if len(b) < vswitch.VnetLen+vswitch.EthLen {
		return "shorter than its headers"
	}
	if b[0]&1 != 0 && caps&vswitch.CapCsum == 0 {
		return "an unfinished checksum"
	}
	if len(b) > vswitch.VnetLen+vswitch.MaxFrame && caps&vswitch.CapBig == 0 {
		return "longer than 64 KiB"
	}
	switch b[1] & 0x7f {
	case 0:
	case 1, 4:
		if caps&vswitch.CapTSO == 0 {
			return "a TCP super-frame"
		}
	case 5:
		if caps&vswitch.CapUSO == 0 {
			return "a UDP super-frame"
		}
	default:
		return "an unknown kind of super-frame"
	}
	return ""
}
