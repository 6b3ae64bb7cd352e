package slirp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"tapswitch/configs"
)

// network holds the addresses that slirp4netns gives the places of its network.
type network struct {
	mask                netip.Addr
	gateway, dns, guest netip.Addr
	first, last         netip.Addr // of DHCP
	prefix6             netip.Prefix
	gateway6, dns6      netip.Addr
}

// leases is how many addresses libslirp's DHCP has.
const leases = 16

func networkOf(cidr netip.Prefix) network {
	base := binary.BigEndian.Uint32(cidr.Addr().AsSlice())
	at := func(n uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], base+n)
		return netip.AddrFrom4(b)
	}
	mask, _ := netip.AddrFromSlice(net.CIDRMask(cidr.Bits(), 32))
	return network{mask: mask, gateway: at(2), dns: at(3), guest: at(100), first: at(15), last: at(15 + leases - 1),
		prefix6: netip.MustParsePrefix("fd00::/64"), gateway6: netip.MustParseAddr("fd00::2"), dns6: netip.MustParseAddr("fd00::3")}
}

// config is the network as a switch of ours has it.
func (n network) config(o *options) configs.Network {
	c := configs.Network{Name: "slirp", Subnet: o.cidr, Gateway: n.gateway, MTU: o.mtu,
		Resolver: n.dns, NoDNS: o.noDNS, LeaseFirst: n.first, LeaseLast: n.last}
	if o.ipv6 {
		c.Subnet6, c.Gateway6, c.Resolver6 = n.prefix6, n.gateway6, n.dns6
		c.Advertise, c.Autoconf = true, true
	}
	return c
}
