package engine

import (
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// hostAddrs are the host's own addresses without its loopback.
func hostAddrs() map[netip.Addr]struct{} {
	out := make(map[netip.Addr]struct{})
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return out
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				if ip = ip.Unmap(); !ip.IsLoopback() {
					out[ip] = struct{}{}
				}
			}
		}
	}
	return out
}

// watchHost follows the host's addresses: a VPN, a new lease, a cable. Changes
// come in bursts; the last one counts.
func (e *Engine) watchHost() {
	done := e.ctx.Done()
	changes := make(chan netlink.AddrUpdate, 64)
	stop := make(chan struct{})
	defer close(stop)
	if err := netlink.AddrSubscribe(changes, stop); err != nil {
		e.log.Warn("the host's addresses are not followed", "err", err)
		return
	}
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	for {
		select {
		case <-done:
			return
		case _, ok := <-changes:
			if !ok {
				return
			}
			settle.Reset(100 * time.Millisecond)
		case <-settle.C:
			e.refreshPolicy()
		}
	}
}
