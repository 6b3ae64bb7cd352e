package ns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"github.com/songgao/water"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Interface is how a container's interface is set up.
type Interface struct {
	Name     string
	MAC      net.HardwareAddr
	MTU      int
	Addrs    []netip.Prefix // with the subnet's length
	Gateway  netip.Addr     // default route; invalid for none
	Gateway6 netip.Addr
	Offload  bool // virtio header, segmentation and checksum offload
	Replace  bool // default routes of other interfaces
}

// txQueueLen is how many frames the kernel keeps for us per TAP: each may have
// 64 KiB, so the default of 1000 is 64 MiB, and a deeper queue only adds cache
// misses.
const txQueueLen = 500

// CreateTAP makes the descriptor in.Tun a TAP device of the name; it is then
// the caller's.
func (in *Inside) CreateTAP(name string, offload bool) (int, error) {
	if len(name) >= unix.IFNAMSIZ || name == "" {
		return -1, fmt.Errorf("interface name %q: 1 to %d characters", name, unix.IFNAMSIZ-1)
	}
	var ifr [40]byte
	copy(ifr[:], name)
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if offload {
		flags |= unix.IFF_VNET_HDR
	}
	binary.NativeEndian.PutUint16(ifr[unix.IFNAMSIZ:], flags)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(in.Tun), unix.TUNSETIFF, uintptr(unsafe.Pointer(&ifr[0]))); e != 0 {
		if e == unix.EBUSY || e == unix.EEXIST {
			return -1, fmt.Errorf("interface %s is there already: choose another name with --ifname", name)
		}
		return -1, fmt.Errorf("create TAP %s: %w", name, e)
	}
	fd := in.Tun
	in.Tun = -1
	return fd, nil
}

// PlainTAP opens a TAP without offload in the caller's own namespace, through
// songgao/water; its descriptor is then the caller's.
func PlainTAP(name string) (int, error) {
	ifce, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}})
	if err != nil {
		return -1, fmt.Errorf("create TAP %s: %w", name, err)
	}
	defer ifce.Close()
	conn, err := ifce.ReadWriteCloser.(*os.File).SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("TAP %s: %w", name, err)
	}
	fd := -1
	if cerr := conn.Control(func(raw uintptr) {
		fd, err = unix.FcntlInt(raw, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, fmt.Errorf("TAP %s: %w", name, err)
	}
	return fd, nil
}

// Configure sets up lo and the interface through the netlink socket.
func (in *Inside) Configure(c Interface) error {
	if err := in.setUp(1); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return in.ConfigureLink(c)
}

// ConfigureLink sets up the interface alone.
func (in *Inside) ConfigureLink(c Interface) error {
	idx, err := in.index(c.Name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", c.Name, err)
	}
	if err := in.setLink(idx, c); err != nil {
		return fmt.Errorf("interface %s: %w", c.Name, err)
	}
	v6 := false
	for _, a := range c.Addrs {
		v6 = v6 || a.Addr().Is6()
	}
	if v6 {
		m := c.MAC
		ll := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
		if err := in.addAddr(idx, netip.PrefixFrom(ll, 64)); err != nil {
			return fmt.Errorf("interface %s: address %s: %w", c.Name, ll, err)
		}
	}
	for _, a := range c.Addrs {
		if err := in.addAddr(idx, a); err != nil {
			return fmt.Errorf("interface %s: address %s: %w", c.Name, a, err)
		}
	}
	return in.defaultRoutes(idx, c)
}

// DefaultRoute adds the default routes of an interface that is there.
func (in *Inside) DefaultRoute(c Interface) error {
	idx, err := in.index(c.Name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", c.Name, err)
	}
	return in.defaultRoutes(idx, c)
}

func (in *Inside) defaultRoutes(idx int, c Interface) error {
	for _, gw := range []netip.Addr{c.Gateway, c.Gateway6} {
		if !gw.IsValid() {
			continue
		}
		if err := in.addDefault(idx, gw, c.Replace); err != nil {
			if errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("interface %s: a default route is there already: leave it with --no-default-route", c.Name)
			}
			return fmt.Errorf("interface %s: default route via %s: %w", c.Name, gw, err)
		}
	}
	return nil
}

// MoveTo gives the interface name to the namespace net (a descriptor).
func (in *Inside) MoveTo(name string, net int) error {
	idx, err := in.index(name)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.AddData(linkMsg(idx, 0))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(net))))
	_, err = in.call(req)
	return err
}

func linkMsg(idx int, up uint32) *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(idx)
	m.Change, m.Flags = up, up
	return m
}

func (in *Inside) setUp(idx int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.AddData(linkMsg(idx, unix.IFF_UP))
	_, err := in.call(req)
	return err
}

// setLink sets MAC, MTU and queue length, keeps the kernel from making up a
// link-local address, and sets the link up.
func (in *Inside) setLink(idx int, c Interface) error {
	if err := in.shapeLink(idx, c); err != nil {
		return err
	}
	// Fails where IPv6 is off, which is fine.
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.AddData(linkMsg(idx, 0))
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(1)) // IN6_ADDR_GEN_MODE_NONE
	req.AddData(spec)
	_, _ = in.call(req)
	return in.setUp(idx)
}

// shapeLink sets MAC, MTU and queue length.
func (in *Inside) shapeLink(idx int, c Interface) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.AddData(linkMsg(idx, 0))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(c.MTU))))
	req.AddData(nl.NewRtAttr(unix.IFLA_TXQLEN, nl.Uint32Attr(txQueueLen)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, []byte(c.MAC)))
	_, err := in.call(req)
	return err
}

// Prepare sets MAC, MTU and queue length of an interface that somebody else
// will move to where it belongs, name and set up: it stays down, without an
// address.
func (in *Inside) Prepare(c Interface) error {
	idx, err := in.index(c.Name)
	if err == nil {
		err = in.shapeLink(idx, c)
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", c.Name, err)
	}
	return nil
}

// addAddr adds an address without duplicate address detection: the switch
// knows who has which.
func (in *Inside) addAddr(idx int, a netip.Prefix) error {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	m := nl.NewIfAddrmsg(family)
	m.Index, m.Prefixlen = uint32(idx), uint8(a.Bits())
	if a.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD | unix.IFA_F_PERMANENT
	}
	if a.Addr().IsLinkLocalUnicast() {
		m.Scope = unix.RT_SCOPE_LINK
	}
	req.AddData(m)
	ip := a.Addr().AsSlice()
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, ip))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, ip))
	if a.Addr().Is4() && a.Bits() < 31 {
		bc := a.Masked().Addr().As4()
		host := ^uint32(0) >> a.Bits()
		binary.BigEndian.PutUint32(bc[:], binary.BigEndian.Uint32(bc[:])|host)
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, bc[:]))
	}
	_, err := in.call(req)
	return err
}

func (in *Inside) addDefault(idx int, gw netip.Addr, replace bool) error {
	how := unix.NLM_F_EXCL
	if replace {
		how = unix.NLM_F_REPLACE
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|how|unix.NLM_F_ACK)
	m := nl.NewRtMsg()
	m.Family = unix.AF_INET
	if gw.Is6() {
		m.Family = unix.AF_INET6
	}
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gw.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(idx))))
	_, err := in.call(req)
	return err
}

// index finds an interface by name.
func (in *Inside) index(name string) (int, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	msgs, err := in.call(req)
	if err != nil {
		return 0, err
	}
	for _, m := range msgs {
		if len(m) >= unix.SizeofIfInfomsg {
			return int(nl.DeserializeIfInfomsg(m).Index), nil
		}
	}
	return 0, unix.ENODEV
}

// call sends a request and collects the answers up to its acknowledgement. The
// library's own Execute opens a socket in the caller's namespace; this one was
// opened where it is needed.
func (in *Inside) call(req *nl.NetlinkRequest) ([][]byte, error) {
	if err := unix.Sendto(in.Netlink, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var out [][]byte
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(in.Netlink, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			l := int(binary.NativeEndian.Uint32(b))
			if l < unix.NLMSG_HDRLEN || l > len(b) {
				return nil, unix.EBADMSG
			}
			seq := binary.NativeEndian.Uint32(b[8:])
			if typ := binary.NativeEndian.Uint16(b[4:]); seq == req.Seq {
				if typ == unix.NLMSG_ERROR {
					if e := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); e != 0 {
						return nil, unix.Errno(-e)
					}
					return out, nil
				}
				out = append(out, append([]byte(nil), b[unix.NLMSG_HDRLEN:l]...))
			}
			b = b[min((l+3)&^3, len(b)):]
		}
	}
}

// Loopback sets lo up.
func (in *Inside) Loopback() error { return in.setUp(1) }

// Has says whether the namespace has an interface of that name.
func (in *Inside) Has(name string) bool {
	_, err := in.index(name)
	return err == nil
}
