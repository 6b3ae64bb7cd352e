package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// source is the address that sockets to the outside are bound to for a port's
// container: its network's (Docker's host_ipv4 and host_ipv6), else everybody's,
// unspecified where the kernel may choose.
func (n *NAT) source(p *vswitch.Port, v6 bool) netip.Addr {
	net := n.policy.Nets[p.Bridge().Name]
	switch {
	case v6 && net.Outbound6.IsValid():
		return net.Outbound6
	case v6 && n.cfg.Source6.IsValid():
		return n.cfg.Source6
	case v6:
		return netip.IPv6Unspecified()
	case net.Outbound4.IsValid():
		return net.Outbound4
	case n.cfg.Source4.IsValid():
		return n.cfg.Source4
	}
	return netip.IPv4Unspecified()
}

// leaveFrom binds a socket that is about to connect or to ping, if its address
// is not the kernel's to choose. The port is chosen when the other end is known
// (ip(7), IP_BIND_ADDRESS_NO_PORT), or each would take one of the host's alone.
func (n *NAT) leaveFrom(fd int, p *vswitch.Port, v6 bool) unix.Errno {
	a := n.source(p, v6)
	if a.IsUnspecified() {
		return 0
	}
	setInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // IPv6's, too
	var at sockaddr
	at.set(netip.AddrPortFrom(a, 0))
	return sysBind(fd, &at)
}
