package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Publish is a host listener that leads to a container's port. The client's
// address is kept where the container can answer it.
type Publish struct {
	Proto         uint8          // TCP or UDP
	Host          netip.AddrPort // where FD is bound; an unspecified address means all of the family
	FD            int            // non-blocking; owned by the NAT from then on
	Port          *vswitch.Port
	ContainerPort uint16
	Target4       netip.Addr // the container's addresses; one may be missing
	Target6       netip.Addr
}

// publication is a Publish at work.
type publication struct {
	Publish
	id      uint32
	fd      int
	gen     uint32
	queued  bool
	failed  bool // its error queue holds something
	paused  bool // out of descriptors: not asked until some are free
	opts    udpState
	accepts uint64

	accepted   int    // of them by the last look
	acceptedAt uint64 // the turn in which one was accepted last
}

// publications are few and change seldom: a slice by id, and a map for the
// slow path's question whether a port is published.
type publications struct {
	list []*publication
	gen  uint32
	byTo map[pubKey][]*publication

	elsewhere map[pubKey][]elsewhere // by other shards
}

type pubKey struct {
	proto uint8
	port  uint16
}

func (p *publications) init() {
	p.byTo, p.elsewhere = make(map[pubKey][]*publication), make(map[pubKey][]elsewhere)
}

func (p *publications) byID(id uint32) *publication {
	if int(id) < len(p.list) {
		return p.list[id]
	}
	return nil
}

// find is what is published at dst for other containers: on all addresses, or
// on dst exactly. A gateway's address only stands for "all addresses".
func (p *publications) find(proto uint8, dst netip.AddrPort, gateway bool) *publication {
	for _, x := range p.byTo[pubKey{proto, dst.Port()}] {
		if listens(x.Host, dst, gateway) {
			return x
		}
	}
	return nil
}

// udpListener is the listener of the container's own port, or none.
func (p *publications) udpListener(port *vswitch.Port, cport uint16, v6 bool) uint32 {
	for _, x := range p.list {
		if x != nil && x.Port == port && x.Proto == vswitch.ProtoUDP && x.ContainerPort == cport && x.Host.Addr().Is6() == v6 && x.Host.Addr().IsUnspecified() {
			return x.id
		}
	}
	return none
}

// target is the container's address of a family; invalid if it has none.
func (p *Publish) target(v6 bool) netip.Addr {
	if v6 {
		return p.Target6
	}
	return p.Target4
}

// reachable says whether a client that uses address a can be led to the
// container without a change of family.
func (p *Publish) reachable(a netip.Addr) bool { return p.target(a.Is6()).IsValid() }

// Publish starts to serve a listener and returns its id. On error FD is still
// the caller's.
func (n *NAT) Publish(c Publish) (uint32, error) {
	p := &publication{Publish: c, fd: c.FD}
	id := uint32(len(n.pub.list))
	for i, x := range n.pub.list {
		if x == nil {
			id = uint32(i)
			break
		}
	}
	n.pub.gen++
	p.id, p.gen = id, n.pub.gen&0xffffff
	if c.Proto == vswitch.ProtoUDP {
		setInt(c.FD, unix.SOL_UDP, udpGRO, 1)
		n.wantErrors(c.FD, c.Host.Addr().Is6())
		if c.Host.Addr().Is4() {
			setInt(c.FD, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			setInt(c.FD, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	}
	if err := n.sw.Watch(c.FD, unix.EPOLLIN, p.token()); err != nil {
		return 0, err
	}
	if int(id) == len(n.pub.list) {
		n.pub.list = append(n.pub.list, p)
	} else {
		n.pub.list[id] = p
	}
	k := pubKey{c.Proto, c.Host.Port()}
	n.pub.byTo[k] = append(n.pub.byTo[k], p)
	n.sw.PolicyChanged()
	return id, nil
}

func (p *publication) token() vswitch.Token { return vswitch.MakeToken(kindListenToken, p.gen, p.id) }

// Unpublish closes a listener. Connections that came through it go on;
// datagram flows end, since their socket is gone.
func (n *NAT) Unpublish(id uint32) {
	p := n.pub.byID(id)
	if p == nil {
		return
	}
	n.pub.list[id] = nil
	k := pubKey{p.Proto, p.Host.Port()}
	for i, x := range n.pub.byTo[k] {
		if x == p {
			n.pub.byTo[k] = append(n.pub.byTo[k][:i], n.pub.byTo[k][i+1:]...)
			break
		}
	}
	if len(n.pub.byTo[k]) == 0 {
		delete(n.pub.byTo, k)
	}
	if p.Proto == vswitch.ProtoUDP {
		for i := n.perPort[p.Port.ID].first; i != none; {
			next := n.flows[i].nextPort
			if n.flows[i].kind == kindUDP && n.flows[i].udp.listener == id {
				n.drop(i)
			}
			i = next
		}
	}
	n.sw.Unwatch(p.fd)
	sysClose(p.fd)
	n.sw.PolicyChanged()
}

func (n *NAT) unpublishPort(port *vswitch.Port) {
	for id, x := range n.pub.list {
		if x != nil && x.Port == port {
			n.Unpublish(uint32(id))
		}
	}
}

func (n *NAT) listenerReady(t vswitch.Token, events uint32) {
	p := n.pub.byID(t.Index())
	if p == nil || p.gen != t.Gen() {
		return
	}
	p.failed = p.failed || events&unix.EPOLLERR != 0
	if !p.queued {
		p.queued = true
		n.sw.Enqueue(t)
	}
}

// listenerRun accepts connections or takes datagrams for one turn's share.
func (n *NAT) listenerRun(t vswitch.Token) bool {
	p := n.pub.byID(t.Index())
	if p == nil || p.gen != t.Gen() {
		return false
	}
	p.queued = false
	if p.Proto == vswitch.ProtoUDP {
		n.publishedDatagrams(p)
	} else {
		n.publishedConnections(p)
	}
	return false // level-triggered: epoll says if there is more
}

const acceptShare = 32 // connections at a time at most

// publishedConnections accepts one connection, or more where one has come in this turn
// or the last. To look for a second one in vain takes longer than to be told of it, and
// the container has answered the first by then.
func (n *NAT) publishedConnections(p *publication) {
	share := 1
	if n.sw.Turns()-p.acceptedAt <= 1 {
		share = min(max(2*p.accepted, 1), acceptShare)
	}
	p.accepted = 0
	var from sockaddr
	for range share {
		fd, e := sysAccept(p.fd, &from)
		switch e {
		case 0:
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			if p.accepted == 0 { // else there may be nobody: the kernel takes a descriptor first
				n.pause(p)
			}
			return
		default:
			continue // the client gave up (accept(2))
		}
		p.accepts++
		p.accepted++
		p.acceptedAt = n.sw.Turns()
		if !n.accepted(p, fd, from.addrPort()) {
			abort(fd)
			sysClose(fd)
			n.turnedAway(p, from.addrPort(), vswitch.HalfOpenLimit, 0)
		}
	}
}

// pause stops asking a listener while no descriptor is free: a level-triggered
// one would spin. The next turn of the timer asks again.
func (n *NAT) pause(p *publication) {
	if p.paused {
		return
	}
	p.paused = true
	n.Stats.Errors++
	n.sw.Unwatch(p.fd)
	n.paused = append(n.paused, p.id)
	n.resumeAt = n.sw.Now() + 100e6
	n.sw.Schedule(n.resumeAt)
}

func (n *NAT) resume(now int64) int64 {
	if n.resumeAt == 0 || now < n.resumeAt {
		return n.resumeAt
	}
	n.resumeAt = 0
	for _, id := range n.paused {
		if p := n.pub.byID(id); p != nil && p.paused {
			p.paused = false
			if err := n.sw.Watch(p.fd, unix.EPOLLIN, p.token()); err != nil {
				n.cfg.Logf("%v", err)
			}
		}
	}
	n.paused = n.paused[:0]
	return 0
}

// accepted leads a client's connection to the container.
func (n *NAT) accepted(p *publication, fd int, client netip.AddrPort) bool {
	server, seen, ok := n.inbound(p, client)
	if !ok {
		return false
	}
	v, ok := n.letIn(p.Port, p.Proto, client, netip.AddrPortFrom(server, p.ContainerPort))
	if !ok {
		abort(fd)
		sysClose(fd)
		n.turnedAway(p, client, v.reason, v.rule)
		return true
	}
	return n.tcpAccept(p.Port, fd, seen, netip.AddrPortFrom(server, p.ContainerPort), client, v)
}

// letIn judges a client of a published port. One that is denied has been
// accepted by the host's kernel already: a connection is reset, whether the rule
// says drop or reject; a datagram is never answered.
func (n *NAT) letIn(p *vswitch.Port, proto uint8, client, server netip.AddrPort) (verdict, bool) {
	q := packet{from: n.client(n.out.Origin(client).Addr().WithZone("")), to: party{port: p, addr: server.Addr()}, way: wayInbound, proto: proto, port: server.Port()}
	r := n.judge(&q, nil)
	if !r.ok && r.rule != noRule {
		h := n.hit(r.rule)
		h.Flows++
		h.Packets++
	}
	return verdict{reason: r.reason, way: wayInbound, rule: r.rule}, r.ok
}

// inbound chooses the addresses under which the container sees a client: the
// client's own, unless the container could not answer it.
func (n *NAT) inbound(p *publication, client netip.AddrPort) (server netip.Addr, seen netip.AddrPort, ok bool) {
	c := n.out.Origin(client).Addr().WithZone("")
	server = p.target(c.Is6())
	if !server.IsValid() {
		server = p.target(!c.Is6())
	}
	if !server.IsValid() {
		return server, seen, false
	}
	br := p.Port.Bridge()
	if !keepsAddress(p.Port, c, server) {
		c = br.Gateway
		if server.Is6() {
			c = br.Gateway6
		}
	}
	if !c.IsValid() {
		return server, seen, false
	}
	local, remote := toAddr(server), toAddr(c)
	rport, ok := n.freePort(p.Port.ID, p.Proto, &local, &remote, p.ContainerPort, client.Port())
	return server, netip.AddrPortFrom(c, rport), ok
}

// keepsAddress says whether a container can answer the client's own address:
// not one of the host's loopback, link-local or a group's, not on a link of
// its own (it would ask there by ARP), and of the family it is reached by.
func keepsAddress(p *vswitch.Port, c, server netip.Addr) bool {
	return c.Is4() == server.Is4() && !c.IsLoopback() && !c.IsUnspecified() && !c.IsLinkLocalUnicast() &&
		!c.IsMulticast() && !p.Bridge().Contains(c)
}

// publishedDatagrams takes datagrams of clients for one turn's share.
func (n *NAT) publishedDatagrams(p *publication) {
	if p.failed {
		p.failed = false
		n.publishedErrors(p)
	}
	count, _ := n.rx.receive(p.fd)
	for k := range count {
		i := n.publishedFlow(p, &n.rx.from[k], n.rx.local(k))
		if i == none {
			continue
		}
		b, size := n.rx.slot(k)
		n.udpToTap(i, b, size, n.rx.segment(k))
	}
}

// publishedErrors tells the container what its answers met. What is more than a
// turn's share waits: epoll tells of it again.
func (n *NAT) publishedErrors(p *publication) {
	for range 16 {
		e, to, data, ok := n.nextError(p.fd)
		if !ok {
			return
		}
		if i := n.clientFlow(p, to); i != none && e.errno != 0 {
			n.tellError(i, e, to, data)
		}
	}
}

// publishedFlow finds or makes the flow of a client of a published UDP port. It
// counts a datagram that gets none.
func (n *NAT) publishedFlow(p *publication, from *sockaddr, local addr) uint32 {
	client := from.addrPort()
	if i := n.clientFlow(p, client); i != none && n.stands(i) {
		n.flows[i].sides[1].local = local
		return i
	}
	server, seen, ok := n.inbound(p, client)
	if !ok || n.full(p.Port.ID) {
		n.turnedAway(p, client, vswitch.FlowLimit, 0)
		return none
	}
	v, ok := n.letIn(p.Port, p.Proto, client, netip.AddrPortFrom(server, p.ContainerPort))
	if !ok {
		n.turnedAway(p, client, v.reason, v.rule)
		return none
	}
	i := n.udpFlow(p.Port, server.Is6(), netip.AddrPortFrom(server, p.ContainerPort), seen, client)
	if i == none {
		n.turnedAway(p, client, vswitch.FlowLimit, 0)
		return none
	}
	fl := &n.flows[i]
	fl.set(fInbound)
	n.admit(fl, v)
	if client.Addr().Is6() != fl.v6 {
		fl.set(fOtherFamily)
	}
	fl.sides[1].local = local
	fl.udp.listener = p.id
	fl.udp.scope = from.scope()
	n.Stats.UDPFlows++
	n.opened(i)
	return i
}

// clientFlow finds a client's flow: by its own tuple, which holds for most, or
// in the port's list where the container sees another.
func (n *NAT) clientFlow(p *publication, client netip.AddrPort) uint32 {
	real := toAddr(client.Addr())
	match := func(i uint32) bool {
		fl := &n.flows[i]
		return fl.kind == kindUDP && fl.udp.listener == p.id && fl.sides[1].rport == client.Port() && fl.sides[1].remote == real
	}
	if t := p.target(client.Addr().Is6()); t.IsValid() {
		local := toAddr(t)
		if i, _ := n.find(p.Port.ID, vswitch.ProtoUDP, &local, &real, p.ContainerPort, client.Port()); i != none && match(i) {
			return i
		}
	}
	for _, v6 := range [2]bool{false, true} {
		t, gw := p.target(v6), p.Port.Bridge().Gateway
		if v6 {
			gw = p.Port.Bridge().Gateway6
		}
		if !t.IsValid() || !gw.IsValid() {
			continue
		}
		local, remote := toAddr(t), toAddr(gw)
		if i, _ := n.find(p.Port.ID, vswitch.ProtoUDP, &local, &remote, p.ContainerPort, client.Port()); i != none && match(i) {
			return i
		}
	}
	for i := n.perPort[p.Port.ID].first; i != none; i = n.flows[i].nextPort {
		if match(i) {
			return i
		}
	}
	return none
}
