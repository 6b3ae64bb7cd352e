package nat

import (
	"errors"
	"net/netip"

	"tapswitch/switch"
)

// Why a container was not reached by Dial.
var (
	ErrNoAnswer = errors.New("the container refuses, or does not answer")
	ErrDenied   = errors.New("a rule forbids it")
	ErrTooMany  = errors.New("the container has as many connections as it may")
)

// Dial leads a connected TCP socket of the host to a container that need not
// have published anything: from the gateway's address, as what comes from the
// host's loopback. fd is non-blocking and the NAT's from then on. ready is
// called once, on the switch's thread: with nil when the container has
// answered.
func (n *NAT) Dial(p *vswitch.Port, fd int, server netip.AddrPort, ready func(error)) {
	fail := func(err error) {
		abort(fd)
		sysClose(fd)
		ready(err)
	}
	me, gw := netip.IPv6Loopback(), p.Bridge().Gateway6
	if server.Addr().Is4() {
		me, gw = netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Bridge().Gateway
	}
	client := netip.AddrPortFrom(me, sysSockname(fd).Port())
	v, ok := n.letIn(p, vswitch.ProtoTCP, client, server)
	if !ok {
		fail(ErrDenied)
		return
	}
	local, remote := toAddr(server.Addr()), toAddr(gw)
	port, ok := n.freePort(p.ID, vswitch.ProtoTCP, &local, &remote, server.Port(), client.Port())
	if !ok || n.full(p.ID) || n.perPort[p.ID].halfOpen >= n.cfg.HalfOpen {
		fail(ErrTooMany)
		return
	}
	if !n.tcpAccept(p, fd, netip.AddrPortFrom(gw, port), server, client, v) {
		fail(ErrTooMany)
		return
	}
	i, _ := n.find(p.ID, vswitch.ProtoTCP, &local, &remote, server.Port(), port)
	n.dials[i] = ready
}

// dialled tells whoever has dialled a flow what came of it.
func (n *NAT) dialled(i uint32, err error) {
	if ready, is := n.dials[i]; is {
		delete(n.dials, i)
		ready(err)
	}
}
