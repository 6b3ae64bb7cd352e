package vswitch

import "net/netip"

// arp answers a request for the gateway's address (RFC 826). ActDrop means
// that it was for somebody else.
func (s *Switch) arp(f *Frame) Action {
	a, br := f.B[f.L3:], f.In.bridge
	if be16(a) != 1 || be16(a[2:]) != EtherIPv4 || a[4] != 6 || a[5] != 4 {
		return Drop(BadIP)
	}
	sender, target := netip.AddrFrom4([4]byte(a[14:18])), netip.AddrFrom4([4]byte(a[24:28]))
	if be16(a[6:]) != 1 || !br.answersFor(f.In, sender, target) {
		return Drop(NotForGateway)
	}
	f.In.hear(sender, MAC(a[8:14]))
	b := s.scratch[:VnetLen+EthLen+ARPLen]
	clear(b[:VnetLen])
	r := b[VnetLen:]
	copy(r, f.B[VnetLen+6:VnetLen+12])
	copy(r[6:], br.MAC[:])
	put16(r[12:], EtherARP)
	copy(r[14:], []byte{0, 1, 8, 0, 6, 4, 0, 2})
	copy(r[22:], br.MAC[:])
	copy(r[28:], a[24:28])
	copy(r[32:], a[8:18])
	s.reply(f, b)
	return Action{Kind: ActConsumed}
}

// ndp answers neighbour solicitations for the gateway's addresses (RFC 4861,
// 7.2.4). Router solicitations end here, answered where the bridge advertises;
// elsewhere routes are static.
// ActDrop means that it was for somebody else.
func (s *Switch) ndp(f *Frame) Action {
	p, br := f.B[f.L4:f.End], f.In.bridge
	if f.TTL != 255 { // RFC 4861, 7.1.1: from further away than the link
		return Drop(BadIP)
	}
	if p[0] == 133 {
		if br.Advertise && br.Gateway6.IsValid() {
			s.advertise(f)
		}
		return Action{Kind: ActConsumed}
	}
	if p[0] != 135 || len(p) < 24 {
		return Drop(NotForGateway)
	}
	target := netip.AddrFrom16([16]byte(p[8:24]))
	if !br.Subnet6.IsValid() || !br.answersFor(f.In, f.Src(), target) {
		return Drop(NotForGateway)
	}
	f.In.hear(f.Src(), f.SrcMAC())
	const naLen = 32
	b := s.scratch[:VnetLen+EthLen+IPv6Len+naLen]
	clear(b)
	e := b[VnetLen:]
	ip, na := e[EthLen:], e[EthLen+IPv6Len:]
	flags := byte(0xe0) // router, solicited, override
	dst, dmac := f.SrcIP(), f.SrcMAC()
	if f.Src().IsUnspecified() { // somebody probes for our address: tell everybody
		flags, dmac = 0xa0, MAC{0x33, 0x33, 0, 0, 0, 1}
		all := netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1}).As16()
		copy(ip[24:], all[:])
	} else {
		copy(ip[24:], dst)
	}
	copy(e, dmac[:])
	copy(e[6:], br.MAC[:])
	put16(e[12:], EtherIPv6)
	ip[0], ip[6], ip[7] = 0x60, ProtoICMPv6, 255
	put16(ip[4:], naLen)
	copy(ip[8:], p[8:24])
	na[0], na[4] = 136, flags
	copy(na[8:], p[8:24])
	na[24], na[25] = 2, 1 // target link-layer address
	copy(na[26:], br.MAC[:])
	put16(na[2:], Checksum(na, PseudoSum(ip[8:24], ip[24:40], ProtoICMPv6, naLen)))
	s.reply(f, b)
	return Action{Kind: ActConsumed}
}

// advertise answers a router solicitation (RFC 4861, 4.2): the gateway is the
// router unless the bridge is internal, addresses come by DHCPv6 or are the
// guest's own to make (RFC 4862), names are asked of the gateway (RFC 8106).
func (s *Switch) advertise(f *Frame) {
	br := f.In.bridge
	const raLen = 16 + 8 + 8 + 32 + 24
	b := s.scratch[:VnetLen+EthLen+IPv6Len+raLen]
	clear(b)
	e := b[VnetLen:]
	ip, ra := e[EthLen:], e[EthLen+IPv6Len:]
	dst := f.SrcIP()
	dmac := f.SrcMAC()
	if f.Src().IsUnspecified() {
		all := netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1}).As16()
		dst, dmac = all[:], MAC{0x33, 0x33, 0, 0, 0, 1}
	}
	copy(e, dmac[:])
	copy(e[6:], br.MAC[:])
	put16(e[12:], EtherIPv6)
	ip[0], ip[6], ip[7] = 0x60, ProtoICMPv6, 255
	put16(ip[4:], raLen)
	own, resolver, prefix := br.LinkLocal().As16(), br.ResolverFor(true), br.Subnet6.Addr().As16()
	copy(ip[8:], own[:])
	copy(ip[24:], dst)
	ra[0], ra[4], ra[5] = 134, 64, 0xc0 // hop limit; managed addresses and other configuration
	onLink := byte(0x80)
	if br.Service.Autoconf {
		ra[5], onLink = 0x40, 0xc0 // other configuration only; the prefix is for addresses, too
	}
	const lifetime = 1800
	if !br.Internal {
		put16(ra[6:], lifetime)
	}
	o := ra[16:]
	o[0], o[1] = 1, 1 // source link-layer address
	copy(o[2:], br.MAC[:])
	o = o[8:]
	o[0], o[1] = 5, 1 // MTU
	put16(o[6:], uint16(br.MTU))
	o = o[8:]
	o[0], o[1], o[2], o[3] = 3, 4, byte(br.Subnet6.Bits()), onLink // prefix, on the link
	put32(o[4:], 86400)
	put32(o[8:], 14400)
	copy(o[16:], prefix[:])
	o = o[32:]
	o[0], o[1] = 25, 3 // recursive DNS server
	if resolver.IsValid() {
		put32(o[4:], lifetime)
	} else { // lifetime 0: nobody is to be asked there
		resolver = br.Gateway6
	}
	server := resolver.As16()
	copy(o[8:], server[:])
	put16(ra[2:], Checksum(ra, PseudoSum(ip[8:24], ip[24:40], ProtoICMPv6, raLen)))
	s.reply(f, b)
}

// Announce tells the bridge of a port's addresses (gratuitous ARP, RFC 5227, 3;
// unsolicited neighbour advertisement, RFC 4861, 7.2.6): whoever had them before
// may have had another MAC.
func (s *Switch) Announce(p *Port) {
	for _, a := range p.Addrs {
		b := s.announcement(p, a)
		for _, q := range p.bridge.ports {
			if q != p {
				if r := s.Output(q, b); r != Delivered && r != PortDown {
					s.count(p, r)
				}
			}
		}
	}
	s.settle()
}

func (s *Switch) announcement(p *Port, a netip.Addr) []byte {
	if a.Is4() {
		b := s.scratch[:VnetLen+EthLen+ARPLen]
		clear(b)
		e, ip := b[VnetLen:], a.As4()
		copy(e, Broadcast[:])
		copy(e[6:], p.MAC[:])
		put16(e[12:], EtherARP)
		copy(e[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
		copy(e[22:], p.MAC[:])
		copy(e[28:], ip[:])
		copy(e[38:], ip[:])
		return b
	}
	const naLen = 32
	b := s.scratch[:VnetLen+EthLen+IPv6Len+naLen]
	clear(b)
	e := b[VnetLen:]
	ip, na := e[EthLen:], e[EthLen+IPv6Len:]
	own, all := a.As16(), netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1}).As16()
	copy(e, []byte{0x33, 0x33, 0, 0, 0, 1})
	copy(e[6:], p.MAC[:])
	put16(e[12:], EtherIPv6)
	ip[0], ip[6], ip[7] = 0x60, ProtoICMPv6, 255
	put16(ip[4:], naLen)
	copy(ip[8:], own[:])
	copy(ip[24:], all[:])
	na[0], na[4] = 136, 0x20 // override
	copy(na[8:], own[:])
	na[24], na[25] = 2, 1
	copy(na[26:], p.MAC[:])
	put16(na[2:], Checksum(na, PseudoSum(ip[8:24], ip[24:40], ProtoICMPv6, naLen)))
	return b
}

// reply sends b back through the port f came from.
func (s *Switch) reply(f *Frame, b []byte) {
	if r := s.Output(f.In, b); r != Delivered {
		s.DropFrame(f, r, 0)
	}
}
