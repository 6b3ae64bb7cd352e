package capture

import (
	"net/netip"

	"tapswitch/switch"
)

// test is a part of a filter. What it says of a frame that turned out short does
// not matter: that frame is not taken.
type test func(v *frame) bool

// frame is a frame as filters see it.
type frame struct {
	b        []byte
	length   int
	received bool
	short    bool // less is there than was asked about
}

// load is a number of size bytes, in network order.
func (v *frame) load(at uint64, size int) (n uint32) {
	if at+uint64(size) > uint64(len(v.b)) {
		v.short = true
		return 0
	}
	for _, x := range v.b[at : at+uint64(size)] {
		n = n<<8 | uint32(x)
	}
	return n
}

func both(tests ...test) test {
	return func(v *frame) bool {
		for _, t := range tests {
			if !t(v) {
				return false
			}
		}
		return true
	}
}

func either(tests ...test) test {
	return func(v *frame) bool {
		for _, t := range tests {
			if t(v) {
				return true
			}
		}
		return false
	}
}

// equals tests bytes of the frame. p notes how far they reach.
func (p *parser) equals(at, size int, mask, n uint32) test {
	p.needs = max(p.needs, at+size)
	return func(v *frame) bool { return v.load(uint64(at), size)&mask == n }
}

// payload is where the network header begins.
func (p *parser) payload() int { return vswitch.EthLen + 4*p.tags }

// linkType tests the EtherType; up to 1500 it is a length, and an LLC header with
// the protocol follows (IEEE 802.3).
func (p *parser) linkType(t uint32) test {
	at := p.payload() - 2
	if t > 1500 {
		return p.equals(at, 2, 0xffff, t)
	}
	sap := p.equals(at+2, 1, 0xff, t)
	return func(v *frame) bool { return v.load(uint64(at), 2) <= 1500 && sap(v) }
}

func (p *parser) ip() test  { return p.linkType(vswitch.EtherIPv4) }
func (p *parser) ip6() test { return p.linkType(vswitch.EtherIPv6) }

// fragment0 says that an IPv4 packet is no later fragment.
func (p *parser) fragment0() test { return p.equals(p.payload()+6, 2, 0x1fff, 0) }

// ipHeader is the length of the IPv4 header.
func (v *frame) ipHeader(at int) uint32 { return v.load(uint64(at), 1) & 0xf * 4 }

// ipProto tests the protocol of an IPv4 packet.
func (p *parser) ipProto(n uint32) test { return both(p.ip(), p.equals(p.payload()+9, 1, 0xff, n)) }

// ip6Proto tests that of an IPv6 packet, behind a fragment header, too. Other
// extension headers are not followed.
func (p *parser) ip6Proto(n uint32) test {
	l3 := p.payload()
	return both(p.ip6(), either(p.equals(l3+6, 1, 0xff, n), both(p.equals(l3+6, 1, 0xff, vswitch.ProtoFragment), p.equals(l3+40, 1, 0xff, n))))
}

// abbreviation is a protocol's word: an EtherType, or a protocol over IP of one
// version or of both.
type abbreviation struct {
	ether  uint32
	proto  uint32
	v4, v6 bool
}

var abbreviations = map[string]abbreviation{"ether": {}, "link": {},
	"ip": {ether: vswitch.EtherIPv4}, "ip6": {ether: vswitch.EtherIPv6}, "arp": {ether: vswitch.EtherARP}, "rarp": {ether: 0x8035},
	"tcp": {proto: 6, v4: true, v6: true}, "udp": {proto: 17, v4: true, v6: true}, "sctp": {proto: 132, v4: true, v6: true}, "pim": {proto: 103, v4: true, v6: true},
	"ah": {proto: 51, v4: true, v6: true}, "esp": {proto: 50, v4: true, v6: true}, "icmp": {proto: 1, v4: true}, "igmp": {proto: 2, v4: true}, "igrp": {proto: 9, v4: true},
	"vrrp": {proto: 112, v4: true}, "carp": {proto: 112, v4: true}, "icmp6": {proto: 58, v6: true}}

// protocol is a protocol's word alone.
func (p *parser) protocol(name string) test {
	a := abbreviations[name]
	switch {
	case a.ether != 0:
		return p.linkType(a.ether)
	case a.proto == 0:
		return func(*frame) bool { return true }
	case !a.v6:
		return p.ipProto(a.proto)
	case !a.v4:
		return p.ip6Proto(a.proto)
	}
	return either(p.ipProto(a.proto), p.ip6Proto(a.proto))
}

// ways joins a test of the source and one of the destination.
func ways(dir string, src, dst test) test {
	switch dir {
	case "src":
		return src
	case "dst":
		return dst
	case "and":
		return both(src, dst)
	}
	return either(src, dst)
}

// host tests the addresses of IP, ARP and RARP packets.
func (p *parser) host(q qualifiers, net netip.Prefix) test {
	l3 := p.payload()
	if net.Addr().Is6() {
		at := func(off int) test { return p.address(l3+off, net) }
		return both(p.ip6(), ways(q.dir, at(8), at(24)))
	}
	at := func(off int) test { return p.address(l3+off, net) }
	kinds := map[string]test{"ip": both(p.ip(), ways(q.dir, at(12), at(16)))}
	for name, t := range map[string]uint32{"arp": vswitch.EtherARP, "rarp": abbreviations["rarp"].ether} {
		kinds[name] = both(p.linkType(t), ways(q.dir, at(14), at(24)))
	}
	if q.proto != "" {
		return kinds[q.proto]
	}
	return either(kinds["ip"], kinds["arp"], kinds["rarp"])
}

// address tests the address at an offset, word by word.
func (p *parser) address(at int, net netip.Prefix) test {
	var words []test
	raw := net.Masked().Addr().AsSlice()
	for i := 0; i < len(raw); i += 4 {
		bits := min(max(net.Bits()-8*i, 0), 32)
		mask := uint32(uint64(0xffffffff) << (32 - bits))
		n := uint32(raw[i])<<24 | uint32(raw[i+1])<<16 | uint32(raw[i+2])<<8 | uint32(raw[i+3])
		words = append(words, p.equals(at+i, 4, mask, n))
	}
	return both(words...)
}

// ports tests the ports of TCP, UDP and SCTP; of later fragments there are none.
func (p *parser) ports(q qualifiers, first, last uint16) test {
	l3 := p.payload()
	p.needs = max(p.needs, l3+60+4, l3+40+4)
	in := func(n uint32) bool { return uint32(first) <= n && n <= uint32(last) }
	at4 := func(off uint64) test {
		return func(v *frame) bool { return in(v.load(uint64(l3)+uint64(v.ipHeader(l3))+off, 2)) }
	}
	at6 := func(off uint64) test { return func(v *frame) bool { return in(v.load(uint64(l3)+40+off, 2)) } }
	protos := []uint32{vswitch.ProtoTCP, vswitch.ProtoUDP, 132}
	if q.proto != "" {
		protos = []uint32{abbreviations[q.proto].proto}
	}
	var v4, v6 []test
	for _, n := range protos {
		v4 = append(v4, both(p.equals(l3+9, 1, 0xff, n), p.fragment0(), ways(q.dir, at4(0), at4(2))))
		v6 = append(v6, both(p.equals(l3+6, 1, 0xff, n), ways(q.dir, at6(0), at6(2))))
	}
	return either(both(p.ip6(), either(v6...)), both(p.ip(), either(v4...)))
}

// mac tests the addresses of the Ethernet header.
func (p *parser) mac(dir string, m vswitch.MAC) test {
	at := func(off int) test {
		return both(p.equals(off, 2, 0xffff, uint32(m[0])<<8|uint32(m[1])), p.equals(off+2, 4, 0xffffffff, uint32(m[2])<<24|uint32(m[3])<<16|uint32(m[4])<<8|uint32(m[5])))
	}
	return ways(dir, at(6), at(0))
}
