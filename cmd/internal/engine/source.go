package engine

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// dialUpstream opens a socket to a name server, from the address that all else
// leaves from.
func (e *Engine) dialUpstream(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: leavesFrom(network, address, e.start.Source4, e.start.Source6)}
	return d.DialContext(ctx, network, address)
}

// leavesFrom is the address to bind for a server; nil for any. A server on the
// host's own loopback is asked from there.
func leavesFrom(network, address string, v4, v6 netip.Addr) net.Addr {
	to, err := netip.ParseAddrPort(address)
	if err != nil || to.Addr().IsLoopback() {
		return nil
	}
	from := v4
	if to.Addr().Unmap().Is6() {
		from = v6
	}
	switch {
	case !from.IsValid():
		return nil
	case strings.HasPrefix(network, "udp"):
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
}
