package vswitch

import "net/netip"

// guard checks that a frame from p claims nothing but p's own addresses: the
// sender's MAC, the sender of ARP, the IP source, the target of a neighbour
// advertisement. A container is no router and no DHCP server.
func (p *Port) guard(f *Frame) Reason {
	if f.SrcMAC() != p.MAC {
		return SpoofedMAC
	}
	switch f.EtherType {
	case EtherARP:
		return p.guardARP(f)
	case EtherIPv4:
		return p.guardIPv4(f)
	case EtherIPv6:
		return p.guardIPv6(f)
	}
	return Delivered
}

func (p *Port) guardIPv4(f *Frame) Reason {
	src := f.Src()
	if src.IsUnspecified() && f.Proto == ProtoUDP && f.SrcPort() == 68 && f.DstPort() == 67 {
		return Delivered // a DHCP client without an address
	}
	if src.IsUnspecified() && f.Proto == ProtoIGMP {
		return Delivered // reports of a host without an address (RFC 3376, 4.2.13)
	}
	if !p.owns(src) {
		return SpoofedIP
	}
	if f.Proto == ProtoUDP && f.SrcPort() == 67 && f.DstPort() == 68 {
		return RogueRouter
	}
	return Delivered
}

func (p *Port) guardARP(f *Frame) Reason {
	a := f.B[f.L3:]
	if MAC(a[8:14]) != p.MAC {
		return SpoofedNeighbour
	}
	sender := netip.AddrFrom4([4]byte(a[14:18]))
	if sender.IsUnspecified() || p.owns(sender) { // unspecified: a probe (RFC 5227)
		return Delivered
	}
	return SpoofedNeighbour
}

func (p *Port) guardIPv6(f *Frame) Reason {
	src := f.Src()
	if f.Class&ClassFragment != 0 && f.Proto == ProtoICMPv6 && f.L4 != 0 && f.End-f.L4 < ICMPLen {
		return RogueRouter // a first fragment that hides what it is (RFC 7113)
	}
	if f.Class&ClassNeighbour != 0 {
		b := f.B[f.L4:f.End]
		switch b[0] {
		case 134, 137: // router advertisement, redirect
			return RogueRouter
		case 136:
			if len(b) < 24 || !p.owns(netip.AddrFrom16([16]byte(b[8:24]))) {
				return SpoofedNeighbour
			}
		}
	}
	if src.IsUnspecified() {
		if f.Class&(ClassNeighbour|ClassControl) != 0 {
			return Delivered // duplicate address detection, MLD (RFC 4862, RFC 3590)
		}
		return SpoofedIP
	}
	if !p.owns(src) {
		return SpoofedIP
	}
	if f.Proto == ProtoUDP && f.SrcPort() == 547 && f.DstPort() == 546 {
		return RogueRouter
	}
	return Delivered
}
