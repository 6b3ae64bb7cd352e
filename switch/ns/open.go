package ns

import (
	"encoding/binary"
	"fmt"
	"net"
	"unsafe"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Through lets h be entered by way of the user namespace at path instead of the
// one that owns it: that one, or one around it.
func (h *Handle) Through(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("user namespace %s: %w", path, err)
	}
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWUSER {
		unix.Close(fd)
		return fmt.Errorf("%s is not a user namespace", path)
	}
	if h.User.IsOpen() {
		h.User.Close()
	}
	h.User = netns.None()
	if sameNamespace(fd, "/proc/self/ns/user") {
		unix.Close(fd)
		return nil
	}
	h.User = netns.NsHandle(fd)
	return nil
}

// OpenTAP makes the descriptor in.Tun the TAP of the name, which may be there
// already, made persistent by somebody else (ip tuntap add); it is then the
// caller's.
func (in *Inside) OpenTAP(name string) (int, error) {
	if len(name) >= unix.IFNAMSIZ || name == "" {
		return -1, fmt.Errorf("interface name %q: 1 to %d characters", name, unix.IFNAMSIZ-1)
	}
	e := in.setIff(name, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	if e == unix.EINVAL { // made with several queues, of which this is one
		e = in.setIff(name, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR|unix.IFF_MULTI_QUEUE)
	}
	switch {
	case e == unix.EBUSY:
		return -1, fmt.Errorf("TAP %s: %w: another program has it open", name, e)
	case e == unix.EINVAL:
		return -1, fmt.Errorf("TAP %s: %w: an interface of that name is there, but it is no TAP", name, e)
	case e != 0:
		return -1, fmt.Errorf("TAP %s: %w", name, e)
	}
	fd := in.Tun
	in.Tun = -1
	return fd, nil
}

func (in *Inside) setIff(name string, flags uint16) unix.Errno {
	var ifr [40]byte
	copy(ifr[:], name)
	binary.NativeEndian.PutUint16(ifr[unix.IFNAMSIZ:], flags)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(in.Tun), unix.TUNSETIFF, uintptr(unsafe.Pointer(&ifr[0])))
	return e
}

// MACOf is the hardware address of a TAP's interface, wherever that is.
func MACOf(tap int) (net.HardwareAddr, error) {
	var ifr [40]byte
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(tap), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&ifr[0]))); e != 0 {
		return nil, fmt.Errorf("hardware address of a TAP: %w", e)
	}
	return net.HardwareAddr(append([]byte(nil), ifr[unix.IFNAMSIZ+2:unix.IFNAMSIZ+8]...)), nil
}

// Up sets an interface up, and nothing else of it.
func (in *Inside) Up(name string) error {
	idx, err := in.index(name)
	if err == nil {
		err = in.setUp(idx)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}
