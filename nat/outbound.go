package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// A network may have an address of the host from which its containers are seen
// outside (Docker's host_ipv4 and host_ipv6). The kernel chooses the port when the
// socket connects, so that one port serves several destinations.

const ipBindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT

// outbound is the address for a container's sockets of a family, or the zero one.
func (n *NAT) outbound(p *vswitch.Port, v6 bool) netip.Addr {
	net := n.policy.Nets[p.Bridge().Name]
	if v6 {
		return net.Outbound6
	}
	return net.Outbound4
}

// bindOutbound binds a socket that is about to connect to outbound's address; the
// host's own loopback is reached from where the kernel says.
func (n *NAT) bindOutbound(fd int, p *vswitch.Port, v6, loop bool) unix.Errno {
	a := n.outbound(p, v6)
	if !a.IsValid() || loop {
		return 0
	}
	setInt(fd, unix.IPPROTO_IP, ipBindAddressNoPort, 1)
	var at sockaddr
	at.set(netip.AddrPortFrom(a, 0))
	return sysBind(fd, &at)
}
