package pasta

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is what the guest is given of the host: of the interface that leads
// outside.
type host struct {
	ifname       string
	addr4, addr6 netip.Prefix
	gw4, gw6     netip.Addr
}

// lookAt reads the addresses and default routes of the host's interface, by
// default the one that its default route leads through.
func lookAt(ifname string) (host, error) {
	h := host{ifname: ifname}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return h, fmt.Errorf("the host's routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.Gw == nil {
				continue
			}
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil || h.ifname != "" && link.Attrs().Name != h.ifname {
				continue
			}
			h.ifname = link.Attrs().Name
			gw, _ := netip.AddrFromSlice(r.Gw)
			if gw = gw.Unmap(); gw.Is4() && !h.gw4.IsValid() {
				h.gw4 = gw
			} else if gw.Is6() && !h.gw6.IsValid() {
				h.gw6 = gw
			}
		}
	}
	if h.ifname == "" {
		return h, nil
	}
	link, err := netlink.LinkByName(h.ifname)
	if err != nil {
		return h, fmt.Errorf("interface %s: %w", h.ifname, err)
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return h, fmt.Errorf("interface %s: %w", h.ifname, err)
	}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || ip.IsLinkLocalUnicast() || ip.IsLoopback() {
			continue
		}
		bits, _ := a.Mask.Size()
		if ip = ip.Unmap(); ip.Is4() && !h.addr4.IsValid() {
			h.addr4 = netip.PrefixFrom(ip, bits)
		} else if ip.Is6() && !h.addr6.IsValid() {
			h.addr6 = netip.PrefixFrom(ip, bits)
		}
	}
	return h, nil
}

// over puts what the command line says over what the host has. A host without
// anything gets what pasta gives it, too: addresses of the link.
func (h host) over(o *options) (host, error) {
	if o.addr4.IsValid() {
		h.addr4 = o.addr4
	}
	if o.addr6.IsValid() {
		h.addr6 = o.addr6
	}
	if o.gw4.IsValid() {
		h.gw4 = o.gw4
	}
	if o.gw6.IsValid() {
		h.gw6 = o.gw6
	}
	switch {
	case o.only4:
		h.addr6 = netip.Prefix{}
	case o.only6:
		return h, errors.New("--ipv6-only: not yet, the guest has an IPv4 address besides; leave it out")
	}
	if !h.addr4.IsValid() {
		h.addr4 = netip.MustParsePrefix("169.254.2.1/16")
		if !h.gw4.IsValid() {
			h.gw4 = netip.MustParseAddr("169.254.2.2")
		}
	}
	// A network has room for its gateway and its guest.
	h.addr4 = netip.PrefixFrom(h.addr4.Addr(), min(h.addr4.Bits(), 30))
	if h.addr6.IsValid() {
		h.addr6 = netip.PrefixFrom(h.addr6.Addr(), min(h.addr6.Bits(), 126))
	}
	h.gw4, h.gw6 = gatewayIn(h.addr4, h.gw4), gatewayIn(h.addr6, h.gw6)
	if h.ifname == "" {
		h.ifname = "tap0"
	}
	return h, nil
}

// gatewayIn is the gateway of a guest with that address: the host's own, or, where
// that is of no use on our link (link-local, of another subnet), the last
// address of the subnet, which is the least likely to be anybody's.
func gatewayIn(p netip.Prefix, gw netip.Addr) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	if gw.IsValid() && p.Masked().Contains(gw) && gw != p.Addr() && !gw.IsLinkLocalUnicast() {
		return gw
	}
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		for bit := range 8 {
			if i*8+bit >= p.Bits() {
				b[i] |= 0x80 >> bit
			}
		}
	}
	b[len(b)-1]-- // not the broadcast address
	last, _ := netip.AddrFromSlice(b)
	if last == p.Addr() {
		last = last.Prev()
	}
	return last
}

// addressesOf are an interface's addresses.
func addressesOf(ifname string) (out []netip.Addr, err error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	all, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}
