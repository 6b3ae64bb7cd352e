package nat

import (
	"bytes"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"tapswitch/switch"
)

// The gateway answers guests that configure themselves by DHCP (RFC 2131, RFC
// 8415): with the address that their port has, and no other. There is nothing
// to lease out: addresses are the control plane's. But a bridge may have a range
// that is leased to whoever asks, by MAC (lease.go).

const (
	dhcpLease = 24 * time.Hour

	dhcpServer4, dhcpClient4 = 67, 68
	dhcpServer6, dhcpClient6 = 547, 546
)

// isDHCP says whether a datagram is for a DHCP server.
func isDHCP(f *vswitch.Frame) bool {
	return f.Proto == vswitch.ProtoUDP && f.L4 != 0 && (!f.V6 && f.DstPort() == dhcpServer4 || f.V6 && f.DstPort() == dhcpServer6)
}

// dhcp answers a client. What is not ours to answer goes to the bridge's other
// ports, where a server of somebody's own may be.
func (n *NAT) dhcp(f *vswitch.Frame) vswitch.Action {
	p := f.In
	b := datagramOf(f)
	if b == nil {
		return vswitch.Drop(vswitch.BadTransport)
	}
	gateway := p.Bridge().Gateway
	if f.V6 {
		gateway = p.Bridge().Gateway6
	}
	if f.SrcMAC() != p.MAC && !leased(p.Bridge()) || p.Bridge().NoDHCP || !gateway.IsValid() {
		if f.DstMAC().Multicast() && !p.Bridge().NoICC {
			return vswitch.Action{Kind: vswitch.ActFlood}
		}
		return vswitch.Drop(vswitch.Refused)
	}
	if f.V6 {
		return n.dhcp6(f, b[vswitch.UDPLen:])
	}
	return n.dhcp4(f, b[vswitch.UDPLen:])
}

func (n *NAT) dhcp4(f *vswitch.Frame, b []byte) vswitch.Action {
	p, br := f.In, f.In.Bridge()
	q, err := dhcpv4.FromBytes(b)
	own := sourceOf(p, false)
	if err != nil || q.OpCode != dhcpv4.OpcodeBootRequest {
		return vswitch.Drop(vswitch.BadTransport)
	}
	if leased(br) {
		own = n.lease(br, q)
	} else if !bytes.Equal(q.ClientHWAddr, p.MAC[:]) {
		own = netip.Addr{}
	}
	if !own.IsValid() {
		return vswitch.Drop(vswitch.BadTransport)
	}
	gateway := net.IP(br.Gateway.AsSlice())
	if id := q.ServerIdentifier(); id != nil && !id.Equal(gateway) {
		return consumed // it has chosen another server
	}
	kind := dhcpv4.MessageTypeAck
	switch q.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		want := q.RequestedIPAddress()
		if want == nil {
			want = q.ClientIPAddr
		}
		if !want.Equal(net.IP(own.AsSlice())) {
			kind = dhcpv4.MessageTypeNak
		}
	case dhcpv4.MessageTypeInform:
	default:
		return consumed // released or declined: the address stays the port's
	}
	r, err := dhcpv4.NewReplyFromRequest(q, dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)))
	if err != nil {
		return vswitch.Drop(vswitch.BadTransport)
	}
	if kind != dhcpv4.MessageTypeNak {
		r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(br.Subnet.Bits(), 32)))
		if dns := br.ResolverFor(false); dns.IsValid() {
			r.UpdateOption(dhcpv4.OptDNS(net.IP(dns.AsSlice())))
		}
		if !leased(br) { // else we do not know who it is
			r.UpdateOption(dhcpv4.OptHostName(p.Label))
		}
		r.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(br.MTU)})
		if !br.Internal {
			r.UpdateOption(dhcpv4.OptRouter(gateway))
		}
		if q.MessageType() != dhcpv4.MessageTypeInform {
			r.YourIPAddr = own.AsSlice()
			r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(dhcpLease))
		}
	}
	to, mac := own, vswitch.MAC(q.ClientHWAddr)
	switch c, ok := netip.AddrFromSlice(q.ClientIPAddr.To4()); {
	case ok && !c.IsUnspecified() && kind != dhcpv4.MessageTypeNak:
		to = c
	case q.IsBroadcast() || kind == dhcpv4.MessageTypeNak:
		to, mac = netip.AddrFrom4([4]byte{255, 255, 255, 255}), vswitch.Broadcast
	}
	n.serve(p, mac, netip.AddrPortFrom(to, dhcpClient4), netip.AddrPortFrom(br.Gateway, dhcpServer4), r.ToBytes())
	return consumed
}

func (n *NAT) dhcp6(f *vswitch.Frame, b []byte) vswitch.Action {
	p, br := f.In, f.In.Bridge()
	q, err := dhcpv6.MessageFromBytes(b)
	own := sourceOf(p, true)
	if err != nil || !own.IsValid() {
		return vswitch.Drop(vswitch.BadTransport)
	}
	us := &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: br.MAC[:]}
	if id := q.Options.ServerID(); id != nil && !id.Equal(us) {
		return consumed
	}
	mods := []dhcpv6.Modifier{dhcpv6.WithServerID(us)}
	if dns := br.ResolverFor(true); dns.IsValid() {
		mods = append(mods, dhcpv6.WithDNS(net.IP(dns.AsSlice())))
	}
	for _, ia := range q.Options.IANA() {
		out := &dhcpv6.OptIANA{IaId: ia.IaId, T1: dhcpLease / 2, T2: dhcpLease * 4 / 5}
		out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: own.AsSlice(), PreferredLifetime: dhcpLease, ValidLifetime: dhcpLease})
		mods = append(mods, dhcpv6.WithOption(out))
	}
	var r *dhcpv6.Message
	switch q.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if q.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			r, err = dhcpv6.NewReplyFromMessage(q, mods...)
		} else {
			r, err = dhcpv6.NewAdvertiseFromSolicit(q, mods...)
		}
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeInformationRequest:
		r, err = dhcpv6.NewReplyFromMessage(q, mods...)
	default:
		return consumed
	}
	if err != nil {
		return vswitch.Drop(vswitch.BadTransport)
	}
	n.serve(p, f.SrcMAC(), netip.AddrPortFrom(f.Src(), dhcpClient6), netip.AddrPortFrom(br.LinkLocal(), dhcpServer6), r.ToBytes())
	return consumed
}

// serve sends a datagram of the gateway's own to a container.
func (n *NAT) serve(p *vswitch.Port, mac vswitch.MAC, to, from netip.AddrPort, b []byte) {
	if len(b) > maxUDP {
		return
	}
	fl := flow{kind: kindUDP, proto: vswitch.ProtoUDP, v6: to.Addr().Is6()}
	s := &fl.sides[0]
	s.local, s.lport = toAddr(to.Addr()), to.Port()
	s.remote, s.rport = toAddr(from.Addr()), from.Port()
	s.port, s.mac = p.ID, mac
	copy(n.buf[bufData:], b)
	n.udpToTapFlow(&fl, n.buf, len(b), 0)
}
