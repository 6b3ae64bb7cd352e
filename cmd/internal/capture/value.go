package capture

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"tapswitch/switch"
)

// value reads what the qualifiers are about; they begin at word start.
func (p *parser) value(q qualifiers, start int) (test, error) {
	if p.peek() == "" {
		return nil, p.wrong("a value is missing at the end")
	}
	switch q.kind {
	case "port", "portrange":
		return p.portValue(q, start)
	case "proto":
		return p.protoValue(q, start)
	}
	if q.proto == "ether" || q.proto == "link" {
		if q.kind == "net" {
			return nil, p.wrongAt(start, "ether goes with host, src, dst, proto, broadcast and multicast")
		}
		m, ok := macAddress(p.peek())
		if !ok {
			return nil, p.wrong("this is no MAC address: write it as 02:42:ac:11:00:02")
		}
		p.take()
		return p.mac(q.dir, m), nil
	}
	if a, is := abbreviations[q.proto]; is && a.ether == 0 {
		what := q.kind
		if what == "" {
			what = "host"
		}
		return nil, p.wrongAt(start, "%s has no addresses of its own: write %s and %s", q.proto, q.proto, strings.TrimSpace(q.dir+" "+what))
	}
	return p.hostValue(q, start)
}

// macAddress reads a MAC as net.ParseMAC does, and as 2:42:ac:11:0:2.
func macAddress(s string) (vswitch.MAC, bool) {
	parts := strings.Split(s, ":")
	for i, x := range parts {
		if len(x) == 1 {
			parts[i] = "0" + x
		}
	}
	m, err := net.ParseMAC(strings.Join(parts, ":"))
	if err != nil || len(m) != 6 {
		return vswitch.MAC{}, false
	}
	return vswitch.MAC(m), true
}

// hostValue reads an address, a network or a name.
func (p *parser) hostValue(q qualifiers, start int) (test, error) {
	at := p.at
	text := p.take()
	if a, err := netip.ParseAddr(text); err == nil && a.Is6() && a.Zone() == "" {
		if q.proto != "" && q.proto != "ip6" {
			return nil, p.wrongAt(at, "an IPv6 address is none of %s", q.proto)
		}
		bits := 128
		if p.is("/") {
			n, err := p.number()
			if err != nil || n > 128 {
				return nil, p.wrongAt(at, "the length of an IPv6 prefix is 0 to 128")
			}
			bits = int(n)
		}
		net := netip.PrefixFrom(a, bits)
		if net.Masked().Addr() != a {
			return nil, p.wrongAt(at, "the address has bits set behind the network's: write %s", net.Masked())
		}
		return p.host(q, net), nil
	}
	net, ok := shortAddress(text, q.kind == "net")
	if !ok {
		return p.nameValue(q, text, at)
	}
	if q.proto == "ip6" {
		return nil, p.wrongAt(at, "an IPv4 address is none of ip6")
	}
	if p.is("/") {
		n, err := p.number()
		if err != nil || n > 32 {
			return nil, p.wrongAt(at, "the length of an IPv4 prefix is 0 to 32")
		}
		net = netip.PrefixFrom(net.Addr(), int(n))
	} else if p.is("mask") {
		m, ok := shortAddress(p.peek(), false)
		bits := 0
		if ok {
			b := m.Addr().As4()
			n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
			for bits < 32 && n>>(31-bits)&1 == 1 {
				bits++
			}
			ok = uint64(n) == uint64(0xffffffff)<<(32-bits)&0xffffffff
		}
		if !ok {
			return nil, p.wrong("this is no netmask: write it as 255.255.0.0")
		}
		p.take()
		net = netip.PrefixFrom(net.Addr(), bits)
	}
	if net.Masked().Addr() != net.Addr() {
		return nil, p.wrongAt(at, "the address has bits set behind the network's: write %s", net.Masked())
	}
	return p.host(q, net), nil
}

// shortAddress reads an IPv4 address or the beginning of one, which is the
// network of that length; one number is a network only after net.
func shortAddress(s string, net bool) (netip.Prefix, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 || len(parts) == 1 && !net {
		return netip.Prefix{}, false
	}
	var a [4]byte
	for i, x := range parts {
		n, err := strconv.ParseUint(x, 10, 8)
		if err != nil {
			return netip.Prefix{}, false
		}
		a[i] = byte(n)
	}
	return netip.PrefixFrom(netip.AddrFrom4(a), 8*len(parts)), true
}

// nameValue is the addresses of a host that has a name.
func (p *parser) nameValue(q qualifiers, name string, at int) (test, error) {
	switch {
	case q.kind == "net":
		return nil, p.wrongAt(at, "this is no network: write it as 10.0.0.0/8")
	case q.kind == "" && q.dir == "" || !hostName(name):
		return nil, p.wrongAt(at, "this is no address and no word of the language")
	case p.names == nil:
		return func(*frame) bool { return false }, nil
	}
	var tests []test
	for _, a := range p.names(name) {
		if q.proto == "" || a.Is6() == (q.proto == "ip6") {
			tests = append(tests, p.host(q, netip.PrefixFrom(a, a.BitLen())))
		}
	}
	if len(tests) == 0 {
		return nil, p.wrongAt(at, "no container of that name has such an address; other hosts are named by their addresses")
	}
	return either(tests...), nil
}

func hostName(s string) bool {
	return !strings.ContainsAny(s, ":\\") && s != "" && s[0] != '.' && s != "and" && s != "or" && s != "not" && strings.IndexFunc(s, func(r rune) bool { return r > 0x7f || !letter(byte(r)) && r != '-' }) < 0
}

// portValue reads a port, a range or a service's name.
func (p *parser) portValue(q qualifiers, start int) (test, error) {
	switch q.proto {
	case "", "tcp", "udp", "sctp":
	default:
		return nil, p.wrongAt(start, "%s has no ports: they go with tcp, udp and sctp", q.proto)
	}
	first, last, wrong := portRange(&q, p.peek())
	if wrong != "" {
		return nil, p.wrong("%s", wrong)
	}
	p.take()
	return p.ports(q, first, last), nil
}

// portRange reads a port or a range. A service's name is a port of the protocols
// that /etc/services has it for.
func portRange(q *qualifiers, s string) (first, last uint16, wrong string) {
	a, b, is := strings.Cut(s, "-")
	x, err := strconv.ParseUint(a, 10, 16)
	if err == nil && !is {
		return uint16(x), uint16(x), ""
	}
	if y, err2 := strconv.ParseUint(b, 10, 16); err == nil && err2 == nil {
		if q.kind == "port" {
			return 0, 0, "this is a range: write portrange " + s
		}
		return uint16(min(x, y)), uint16(max(x, y)), ""
	}
	wrong = "this is no port, nor a range of them"
	if !hostName(s) || q.kind != "port" {
		return 0, 0, wrong
	}
	tcp, errTCP := net.LookupPort("tcp", s)
	udp, errUDP := net.LookupPort("udp", s)
	switch {
	case errTCP == nil && (q.proto == "tcp" || q.proto == "" && (errUDP != nil || udp == tcp)):
		if q.proto == "" && errUDP != nil {
			q.proto = "tcp"
		}
		return uint16(tcp), uint16(tcp), ""
	case errUDP == nil && (q.proto == "udp" || q.proto == "" && errTCP != nil):
		q.proto = "udp"
		return uint16(udp), uint16(udp), ""
	}
	return 0, 0, wrong
}

// protocolNames are those that may follow proto, beside the words of the
// language.
var protocolNames = map[string]uint32{"ipip": 4, "egp": 8, "igp": 9, "ipv6": 41, "gre": 47, "ipv6-icmp": 58, "ospf": 89}

// protoValue reads a protocol's number or name; a backslash in front of it, which
// libpcap wants, is taken.
func (p *parser) protoValue(q qualifiers, start int) (test, error) {
	if q.dir != "" {
		return nil, p.wrongAt(start, "a protocol has no direction")
	}
	name := strings.TrimPrefix(p.peek(), "\\")
	a, known := abbreviations[name]
	if q.proto == "ether" || q.proto == "link" {
		n, err := strconv.ParseUint(name, 0, 16)
		if known && a.ether != 0 {
			n, err = uint64(a.ether), nil
		}
		if err != nil {
			return nil, p.wrong("this is no EtherType: write ip, ip6, arp, rarp or a number")
		}
		p.take()
		return p.linkType(uint32(n)), nil
	}
	n, err := strconv.ParseUint(name, 0, 8)
	if m, is := protocolNames[name]; is {
		n, err = uint64(m), nil
	}
	if known && a.proto != 0 {
		n, err = uint64(a.proto), nil
	}
	if err != nil {
		return nil, p.wrong("this is no protocol over IP: write a name, as tcp, or a number")
	}
	p.take()
	switch q.proto {
	case "":
		return either(p.ipProto(uint32(n)), p.ip6Proto(uint32(n))), nil
	case "ip":
		return p.ipProto(uint32(n)), nil
	case "ip6":
		return p.ip6Proto(uint32(n)), nil
	}
	return nil, p.wrongAt(start, "proto goes with ip, ip6 and ether")
}

// alone reads what follows a word that needs no qualifier.
func (p *parser) alone(w string) (test, error) {
	switch w {
	case "less", "greater":
		n, err := p.number()
		if err != nil {
			return nil, err
		}
		if w == "less" {
			return func(v *frame) bool { return uint32(v.length) <= n }, nil
		}
		return func(v *frame) bool { return uint32(v.length) >= n }, nil
	case "inbound":
		return func(v *frame) bool { return v.received }, nil
	case "outbound":
		return func(v *frame) bool { return !v.received }, nil
	case "vlan":
		at := p.payload() - 2
		t := either(p.equals(at, 2, 0xffff, 0x8100), p.equals(at, 2, 0xffff, 0x88a8), p.equals(at, 2, 0xffff, 0x9100))
		if n, err := strconv.ParseUint(p.peek(), 0, 32); err == nil {
			if n > 4095 {
				return nil, p.wrong("a VLAN has a number up to 4095")
			}
			p.take()
			t = both(t, p.equals(at+2, 2, 0xfff, uint32(n)))
		}
		p.tags++
		return t, nil
	}
	return p.group("ether", w)
}

// group tests whether a frame or packet is for more than one.
func (p *parser) group(proto, w string) (test, error) {
	switch {
	case w == "broadcast" && (proto == "ether" || proto == "link"):
		return p.mac("dst", vswitch.Broadcast), nil
	case w == "broadcast" && proto == "ip":
		return nil, p.wrongAt(p.at-1, "networks have different masks here: write ether broadcast")
	case w == "multicast" && (proto == "ether" || proto == "link"):
		return p.equals(0, 1, 1, 1), nil
	case w == "multicast" && proto == "ip":
		at := p.payload() + 16
		p.needs = max(p.needs, at+1)
		return both(p.ip(), func(v *frame) bool { return v.load(uint64(at), 1) >= 224 }), nil
	case w == "multicast" && proto == "ip6":
		return both(p.ip6(), p.equals(p.payload()+24, 1, 0xff, 255)), nil
	}
	return nil, p.wrongAt(p.at-1, "%s goes with ether and ip", w)
}
