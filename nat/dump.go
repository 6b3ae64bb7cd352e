package nat

import (
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Flow is one flow, for people: its container's side and the host's.
type Flow struct {
	Proto         uint8
	Kind          string // tcp, udp, ping, pair
	State         string
	Port          vswitch.PortID
	Local, Remote netip.AddrPort // as the container sees it
	Host, Peer    netip.AddrPort // as the host sees it; of a pair, as the other container does
	Inbound       bool
	Age           int64 // ns
	Packets       [2]uint64
	Bytes         [2]uint64 // sent by the container, sent to it
	Rule          uint32    // that let it pass, or 0

	RTT, HostRTT         int64  // ns, of TCP: to the container, and to the peer as the host's kernel has it
	Retrans, HostRetrans uint32 // of TCP: sent again to the container, and to the peer
}

var stateNames = [...]string{"connecting", "syn_received", "syn_sent", "established", "lingering"}

// FlowStates are the states that a flow may be in.
func FlowStates() []string { return append(stateNames[:], "closing", "assured", "unreplied") }

// Flows lists all flows. It runs on the switch's thread.
func (n *NAT) Flows() []Flow {
	out := make([]Flow, 0, n.used)
	for i := uint32(0); i < n.top; i++ {
		f := &n.flows[i]
		if f.kind == kindFree || f.kind == kindUDPSocket {
			continue
		}
		out = append(out, n.describe(f))
	}
	return out
}

// FlowOf is the flow that an action of the gateway's names, if it is still open.
func (n *NAT) FlowOf(ref, gen uint32) (Flow, bool) {
	i := ref >> 1
	if int(i) >= len(n.flows) || n.flows[i].gen != gen || n.flows[i].kind == kindFree {
		return Flow{}, false
	}
	return n.describe(&n.flows[i]), true
}

func (n *NAT) describe(f *flow) Flow {
	a, b := &f.sides[0], &f.sides[1]
	d := Flow{Proto: f.proto, Port: a.port, Rule: f.rule, Inbound: f.has(fInbound), Age: n.sw.Now() - f.created, Packets: f.packets, Bytes: f.bytes,
		Local: netip.AddrPortFrom(a.local.netip(f.v6), a.lport), Remote: netip.AddrPortFrom(a.remote.netip(f.v6), a.rport)}
	fd := f.fd
	ks := f.kindState()
	d.Kind, d.State = ks.Kind, ks.State
	switch f.kind {
	case kindUDP:
		if s := f.udp.socket; s != none {
			fd = n.flows[s].fd
		} else if l := n.pub.byID(f.udp.listener); l != nil {
			fd = int32(l.fd)
		}
	case kindPair:
		d.Host = netip.AddrPortFrom(b.remote.netip(f.v6), b.rport)
		d.Peer = netip.AddrPortFrom(b.local.netip(f.v6), b.lport)
		return d
	}
	if fd >= 0 {
		d.Host = sysSockname(int(fd))
	}
	v6 := d.Host.IsValid() && d.Host.Addr().Is6()
	d.Peer = netip.AddrPortFrom(b.remote.netip(v6), b.rport)
	return d
}

// measure adds what the host's kernel knows of a TCP connection, which takes a
// system call (tcp(7), TCP_INFO).
func (n *NAT) measure(f *flow, d *Flow) {
	if f.kind != kindTCP {
		return
	}
	d.RTT, d.Retrans = int64(f.tcp.srtt)*1000, uint32(f.tcp.again)
	if f.fd >= 0 && !f.has(fLocal) {
		if i, err := unix.GetsockoptTCPInfo(int(f.fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			d.HostRTT, d.HostRetrans = int64(i.Rtt)*1000, i.Total_retrans
		}
	}
}

func replied(f *flow) string {
	if f.udp.replied {
		return "assured"
	}
	return "unreplied"
}

// KindState is a kind of flow in a state, as Flow has them.
type KindState struct{ Kind, State string }

// States are the flows in use by kind and state; unlike Flows it asks no socket.
func (n *NAT) States() map[KindState]int {
	out := make(map[KindState]int)
	for i := uint32(0); i < n.top; i++ {
		if f := &n.flows[i]; f.kind != kindFree && f.kind != kindUDPSocket {
			out[f.kindState()]++
		}
	}
	return out
}

func (f *flow) kindState() KindState {
	switch f.kind {
	case kindTCP:
		if f.state == established && f.has(fFinIn|fFinOut) {
			return KindState{"tcp", "closing"}
		}
		return KindState{"tcp", stateNames[f.state]}
	case kindUDP:
		return KindState{"udp", replied(f)}
	case kindPing:
		return KindState{"ping", replied(f)}
	}
	return KindState{"pair", replied(f)}
}

// Counts are the flows in use by kind.
func (n *NAT) Counts() map[string]int {
	out := map[string]int{"tcp": 0, "udp": 0, "ping": 0, "pair": 0}
	for i := uint32(0); i < n.top; i++ {
		switch n.flows[i].kind {
		case kindTCP:
			out["tcp"]++
		case kindUDP:
			out["udp"]++
		case kindPing:
			out["ping"]++
		case kindPair:
			out["pair"]++
		}
	}
	return out
}

// FlowAt is the flow of what the container on port sees as local and remote, if
// it is open; of echoes the identifier is local's port.
func (n *NAT) FlowAt(port vswitch.PortID, proto uint8, local, remote netip.AddrPort) (Flow, bool) {
	l, r := toAddr(local.Addr()), toAddr(remote.Addr())
	i, _ := n.find(port, proto, &l, &r, local.Port(), remote.Port())
	if i == none || n.flows[i].kind == kindUDPSocket || n.flows[i].kind == kindFree {
		return Flow{}, false
	}
	return n.describe(&n.flows[i]), true
}
