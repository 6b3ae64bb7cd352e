package capture

import (
	"net/netip"
	"strconv"
	"strings"

	"tapswitch/switch"
)

// view is a packet as filters see it.
type view struct {
	b         []byte // the frame
	length    int
	etherType uint16
	dstMAC    vswitch.MAC
	ip, ports bool
	proto     uint8
	src, dst  netip.Addr
	srcPort   uint16
	dstPort   uint16
	l3, l4    int
}

// Match says whether the filter takes a frame of length bytes, of which b is the
// beginning.
func (f Filter) Match(b []byte, length int) bool {
	if f.root == nil {
		return true
	}
	return f.root.match(look(b, length))
}

// look reads what there is of a frame.
func look(b []byte, length int) *view {
	v := &view{b: b, length: length}
	if len(b) < vswitch.EthLen {
		return v
	}
	v.etherType, v.dstMAC, v.l3 = uint16(b[12])<<8|uint16(b[13]), vswitch.MAC(b[:6]), vswitch.EthLen
	ip := b[v.l3:]
	first := true // has the transport header
	switch {
	case v.etherType == vswitch.EtherIPv4 && len(ip) >= vswitch.IPv4Len:
		v.ip, v.proto, v.l4 = true, ip[9], v.l3+int(ip[0]&15)*4
		v.src, v.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		first = (ip[6]&0x1f)|ip[7] == 0
	case v.etherType == vswitch.EtherIPv6 && len(ip) >= vswitch.IPv6Len:
		v.ip, v.proto, v.l4 = true, ip[6], v.l3+vswitch.IPv6Len
		v.src, v.dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	case v.etherType == vswitch.EtherARP && len(ip) >= vswitch.ARPLen:
		v.src, v.dst = netip.AddrFrom4([4]byte(ip[14:18])), netip.AddrFrom4([4]byte(ip[24:28]))
	}
	if t := v.l4; first && v.ip && (v.proto == vswitch.ProtoTCP || v.proto == vswitch.ProtoUDP || v.proto == 132) && t+4 <= len(b) {
		v.ports = true
		v.srcPort, v.dstPort = uint16(b[t])<<8|uint16(b[t+1]), uint16(b[t+2])<<8|uint16(b[t+3])
	}
	return v
}

// field is some bytes of a header: tcp[13], ip[2:2].
type field struct {
	proto    string
	at, size int
}

func (f field) value(v *view) (n uint64, ok bool) {
	base := 0
	switch f.proto {
	case "ether":
	case "ip", "ip6", "arp":
		if base = v.l3; !protocols[f.proto](v) {
			return 0, false
		}
	default:
		if base = v.l4; !protocols[f.proto](v) {
			return 0, false
		}
	}
	if base+f.at+f.size > len(v.b) {
		return 0, false
	}
	for _, x := range v.b[base+f.at : base+f.at+f.size] {
		n = n<<8 | uint64(x)
	}
	return n, true
}

// compare is FIELD [& MASK] OP NUMBER.
type compare struct {
	f     field
	mask  uint64
	op    string
	right uint64
}

func (c compare) match(v *view) bool {
	n, ok := c.f.value(v)
	if !ok {
		return false
	}
	n &= c.mask
	switch c.op {
	case "=", "==":
		return n == c.right
	case "!=":
		return n != c.right
	case "<":
		return n < c.right
	case ">":
		return n > c.right
	case "<=":
		return n <= c.right
	}
	return n >= c.right
}

// names of flags and offsets, as pcap-filter(7) has them.
var constants = map[string]uint64{"tcpflags": 13, "icmptype": 0, "icmpcode": 1, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32,
	"icmp-echo": 8, "icmp-echoreply": 0, "icmp-unreach": 3}

// comparison reads PROTO[AT[:SIZE]] [& MASK] OP NUMBER, if that stands here.
func (p *parser) comparison() (parse func() (node, error), is bool) {
	name := p.peek()
	if p.at+1 >= len(p.words) || p.words[p.at+1].text != "[" || name != "ether" && protocols[name] == nil {
		return nil, false
	}
	return func() (node, error) {
		p.take()
		p.take()
		c := compare{f: field{proto: name, size: 1}, mask: ^uint64(0)}
		at, size, sized := strings.Cut(p.peek(), ":")
		n, err := constant(at)
		if err != nil {
			return nil, p.wrong("a number of bytes is expected here")
		}
		c.f.at = int(n)
		if sized {
			if c.f.size, err = strconv.Atoi(size); err != nil || c.f.size != 1 && c.f.size != 2 && c.f.size != 4 {
				return nil, p.wrong("a size is 1, 2 or 4")
			}
		}
		p.take()
		if p.peek() != "]" {
			return nil, p.wrong("] is expected here")
		}
		p.take()
		if p.peek() == "&" {
			p.take()
			if c.mask, err = p.constants(); err != nil {
				return nil, err
			}
		}
		switch c.op = p.peek(); c.op {
		case "=", "==", "!=", "<", ">", "<=", ">=":
			p.take()
		default:
			return nil, p.wrong("a comparison is expected here: =, !=, <, >, <= or >=")
		}
		c.right, err = p.constants()
		return c, err
	}, true
}

// constants reads NUMBER, or (A|B).
func (p *parser) constants() (n uint64, err error) {
	open := p.peek() == "("
	if open {
		p.take()
	}
	for {
		x, err := constant(p.peek())
		if err != nil {
			return 0, p.wrong("a number is expected here")
		}
		p.take()
		n |= x
		if !open || p.peek() != "|" {
			break
		}
		p.take()
	}
	if open && p.take() != ")" {
		p.at--
		return 0, p.wrong(") is expected here")
	}
	return n, nil
}

func constant(s string) (uint64, error) {
	if n, ok := constants[s]; ok {
		return n, nil
	}
	return strconv.ParseUint(s, 0, 32)
}
