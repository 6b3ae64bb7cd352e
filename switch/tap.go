package vswitch

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TAP is one open queue of a TAP device. Its reads and writes are raw system
// calls on a non-blocking descriptor: through os.File each would pay for the
// netpoller, and a blocking descriptor misses the kernel's one-copy write path
// (drivers/net/tun.c, tun_build_skb).
type TAP struct {
	fd   int
	caps Caps
}

// Offloads that TUNSETOFFLOAD takes (include/uapi/linux/if_tun.h).
const (
	tunCsum   = 0x01
	tunTSO4   = 0x02
	tunTSO6   = 0x04
	tunTSOECN = 0x08
	tunUSO4   = 0x20
	tunUSO6   = 0x40
)

// NewTAP takes over fd, a TAP descriptor after TUNSETIFF; the TAP owns it from
// then on, also when an error is returned. If the device was made with
// IFF_VNET_HDR the best offload the kernel knows is switched on; otherwise the
// port works with plain frames.
func NewTAP(fd int) (*TAP, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("TAP descriptor %d: %w", fd, err)
	}
	var ifr unix.Ifreq
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, &ifr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("descriptor %d is no TAP device: %w", fd, err)
	}
	flags := ifr.Uint16()
	if flags&unix.IFF_TAP == 0 || flags&unix.IFF_NO_PI == 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("device %s has flags %#x: it must be a TAP (not TUN) with IFF_NO_PI", ifr.Name(), flags)
	}
	t := &TAP{fd: fd}
	if flags&unix.IFF_VNET_HDR == 0 {
		return t, nil // asking for offload here would have super-frames cut
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, VnetLen); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("device %s: virtio header size: %w", ifr.Name(), err)
	}
	t.caps = CapCsum
	for _, o := range []struct {
		bits int
		caps Caps
	}{
		{tunCsum | tunTSO4 | tunTSO6 | tunTSOECN | tunUSO4 | tunUSO6, CapCsum | CapTSO | CapUSO},
		{tunCsum | tunTSO4 | tunTSO6 | tunTSOECN, CapCsum | CapTSO},
		{tunCsum, CapCsum},
	} {
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, o.bits) == nil {
			t.caps = o.caps
			break
		}
	}
	if t.caps&CapTSO != 0 && bigTCP() {
		t.caps |= CapBig
	}
	t.caps |= capVnet
	return t, nil
}

// bigTCP says whether the kernel takes an IPv4 super-frame with a total length of 0
// for one as long as it is (Linux 6.3, iph_totlen in include/linux/ip.h), and has
// larger pieces of memory than pages for what a TAP is given, of which a frame has
// 17 at most (6.6, tun_alloc_skb in drivers/net/tun.c).
var bigTCP = sync.OnceValue(func() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	k, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return k == 2 && (major > 6 || major == 6 && minor >= 6)
})

// capVnet marks a TAP whose frames carry the virtio header in the kernel, too.
const capVnet Caps = 1 << 7

// FD is the descriptor.
func (t *TAP) FD() int { return t.fd }

// Caps is what the kernel accepted of the offloads.
func (t *TAP) Caps() Caps { return t.caps &^ capVnet }

// Read takes one frame from the device. On a plain TAP the virtio header is
// all zeros: every checksum is finished.
func (t *TAP) Read(b []byte) (int, unix.Errno) {
	off := 0
	if t.caps&capVnet == 0 {
		clear(b[:VnetLen])
		off = VnetLen
	}
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(t.fd), uintptr(unsafe.Pointer(&b[off])), uintptr(len(b)-off))
	if e != 0 {
		return 0, e
	}
	return int(n) + off, 0
}

// Write gives one frame to the kernel, which receives it before the call
// returns: the answer may wait in the ring already.
func (t *TAP) Write(b []byte) unix.Errno {
	if t.caps&capVnet == 0 {
		b = b[VnetLen:]
	}
	_, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(t.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return e
}

// Close closes the descriptor, which takes the device away unless it is
// persistent. It may block for 20 ms.
func (t *TAP) Close() error {
	if t.fd < 0 {
		return errors.New("TAP is closed already")
	}
	fd := t.fd
	t.fd = -1
	return unix.Close(fd)
}
