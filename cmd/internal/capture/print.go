package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"tapswitch/switch"
)

// Printer writes packets as tcpdump does, a line each, with what became of them
// behind a bar. It follows connections, to count their bytes from 1.
type Printer struct {
	Ether   bool                  // -e: MAC addresses
	Verbose bool                  // -v: all of the IP header, and checksums
	Hex     int                   // -X: bytes from the network header on; 2: from the Ethernet header on
	Names   map[netip.Addr]string // nil (-n): none

	begun map[[2]netip.AddrPort][2]uint32 // first sequence numbers, by the ends
}

// Line is a packet on one line, or on two with Verbose; then its bytes.
func (w *Printer) Line(iface string, p *Packet) string {
	way := ">"
	if !p.Received {
		way = "<"
	}
	t := fmt.Sprintf("%s %s %s ", p.Time.Format("15:04:05.000000"), iface, way) + w.ethernet(p)
	if p.Comment != "" {
		t += " | " + p.Comment
	}
	if w.Hex > 0 {
		b := p.Data
		if w.Hex == 1 {
			b = b[min(len(b), vswitch.EthLen):]
		}
		t += dump(b)
	}
	return t
}

// etherNames are those of tcpdump.
var etherNames = map[uint16]string{vswitch.EtherIPv4: "IPv4", vswitch.EtherIPv6: "IPv6", vswitch.EtherARP: "ARP", vswitch.EtherVLAN: "802.1Q", 0x8035: "Reverse ARP", 0x88cc: "LLDP"}

func (w *Printer) ethernet(p *Packet) string {
	b := p.Data
	if len(b) < vswitch.EthLen {
		return "[|ether]"
	}
	kind := binary.BigEndian.Uint16(b[12:])
	t := ""
	if w.Ether {
		name := etherNames[kind]
		if name == "" {
			name = "Unknown"
		}
		t = fmt.Sprintf("%s > %s, ethertype %s (0x%04x), length %d: ", vswitch.MAC(b[6:12]), vswitch.MAC(b[:6]), name, kind, p.Length)
	}
	left := p.Length - vswitch.EthLen
	b = b[vswitch.EthLen:]
	for kind == vswitch.EtherVLAN && len(b) >= 4 {
		if w.Ether {
			tag := binary.BigEndian.Uint16(b)
			inner := binary.BigEndian.Uint16(b[2:])
			t += fmt.Sprintf("vlan %d, p %d, ethertype %s (0x%04x), ", tag&0xfff, tag>>13, etherNames[inner], inner)
		}
		kind, b, left = binary.BigEndian.Uint16(b[2:]), b[4:], left-4
	}
	switch kind {
	case vswitch.EtherIPv4:
		return t + w.ipv4(b, left)
	case vswitch.EtherIPv6:
		return t + w.ipv6(b, left)
	case vswitch.EtherARP:
		return t + w.arp(b, left)
	}
	if w.Ether {
		return strings.TrimSuffix(t, ": ")
	}
	return fmt.Sprintf("ethertype 0x%04x, length %d", kind, left)
}

// head is the protocol's name, which the EtherType says with Ether.
func (w *Printer) head(name string) string {
	if w.Ether {
		return ""
	}
	return name
}

func (w *Printer) arp(b []byte, left int) string {
	t := w.head("ARP, ")
	if w.Verbose {
		t += "Ethernet (len 6), IPv4 (len 4), "
	}
	if len(b) < vswitch.ARPLen {
		return t + "[|arp]"
	}
	from, to := w.host(netip.AddrFrom4([4]byte(b[14:]))), w.host(netip.AddrFrom4([4]byte(b[24:])))
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		if m := vswitch.MAC(b[18:24]); m != (vswitch.MAC{}) && m != vswitch.Broadcast {
			to += " (" + m.String() + ")"
		}
		return fmt.Sprintf("%sRequest who-has %s tell %s, length %d", t, to, from, left)
	case 2:
		return fmt.Sprintf("%sReply %s is-at %s, length %d", t, from, vswitch.MAC(b[8:14]), left)
	}
	return fmt.Sprintf("%sop %d, length %d", t, binary.BigEndian.Uint16(b[6:]), left)
}

var protoNames = map[uint8]string{1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 44: "Fragment", 47: "GRE", 50: "ESP", 51: "AH", 58: "ICMPv6", 132: "SCTP"}

func protoName(n uint8) string {
	if s := protoNames[n]; s != "" {
		return s
	}
	return "unknown"
}

func (w *Printer) ipv4(b []byte, left int) string {
	t := w.head("IP ")
	if len(b) < vswitch.IPv4Len || int(b[0]&15)*4 < vswitch.IPv4Len || len(b) < int(b[0]&15)*4 {
		return t + "[|ip]"
	}
	hl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case total == 0:
		total = left // a super-frame whose length the header cannot say
	case total > left:
		t += fmt.Sprintf("truncated-ip - %d bytes missing! ", total-left)
	}
	frag := binary.BigEndian.Uint16(b[6:])
	if w.Verbose {
		set := "none"
		switch frag & 0x6000 {
		case 0x4000:
			set = "DF"
		case 0x2000:
			set = "+"
		case 0x6000:
			set = "+, DF"
		}
		t += fmt.Sprintf("(tos 0x%x, ttl %d, id %d, offset %d, flags [%s], proto %s (%d), length %d", b[1], b[8], binary.BigEndian.Uint16(b[4:]), int(frag&0x1fff)*8, set, protoName(b[9]), b[9], total)
		if vswitch.Checksum(b[:hl], 0) != 0 {
			t += ", bad cksum"
		}
		t += ")\n    "
	}
	e := ends{src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), proto: b[9], rawSrc: b[12:16], rawDst: b[16:20]}
	if frag&0x1fff != 0 {
		return fmt.Sprintf("%s%s > %s: ip-proto-%d", t, w.host(e.src), w.host(e.dst), b[9])
	}
	return t + w.transport(e, b[hl:min(len(b), max(total, hl))], total-hl)
}

func (w *Printer) ipv6(b []byte, left int) string {
	t := w.head("IP6 ")
	if len(b) < vswitch.IPv6Len {
		return t + "[|ip6]"
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length == 0 {
		length = left - vswitch.IPv6Len
	}
	if w.Verbose {
		t += "("
		if class := binary.BigEndian.Uint16(b) >> 4 & 0xff; class != 0 {
			t += fmt.Sprintf("class 0x%02x, ", class)
		}
		if flow := binary.BigEndian.Uint32(b) & 0xfffff; flow != 0 {
			t += fmt.Sprintf("flowlabel 0x%05x, ", flow)
		}
		t += fmt.Sprintf("hlim %d, next-header %s (%d) payload length: %d) ", b[7], protoName(b[6]), b[6], length)
	}
	e := ends{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), proto: b[6], rawSrc: b[8:24], rawDst: b[24:40]}
	return t + w.transport(e, b[vswitch.IPv6Len:min(len(b), vswitch.IPv6Len+length)], length)
}

// ends are a packet's.
type ends struct {
	src, dst       netip.Addr
	rawSrc, rawDst []byte
	proto          uint8
}

// transport is what follows the IP header: b of length bytes.
func (w *Printer) transport(e ends, b []byte, length int) string {
	hosts := fmt.Sprintf("%s > %s: ", w.host(e.src), w.host(e.dst))
	if len(b) < 4 && (e.proto == vswitch.ProtoTCP || e.proto == vswitch.ProtoUDP) {
		return hosts + "[|" + strings.ToLower(protoName(e.proto)) + "]"
	}
	switch e.proto {
	case vswitch.ProtoTCP:
		return w.ports(e, b) + w.tcp(e, b, length)
	case vswitch.ProtoUDP:
		return w.ports(e, b) + w.udp(e, b, length)
	case vswitch.ProtoICMP:
		return hosts + w.icmp(b, length)
	case vswitch.ProtoICMPv6:
		return hosts + w.icmp6(e, b, length)
	}
	return fmt.Sprintf("%sip-proto-%d, length %d", hosts, e.proto, length)
}

func (w *Printer) ports(e ends, b []byte) string {
	return fmt.Sprintf("%s.%d > %s.%d: ", w.host(e.src), binary.BigEndian.Uint16(b), w.host(e.dst), binary.BigEndian.Uint16(b[2:]))
}

// host is an address or its name.
func (w *Printer) host(a netip.Addr) string {
	if name := w.Names[a]; name != "" {
		return name
	}
	return a.String()
}

// dump is bytes as tcpdump has them: sixteen a line, in twos and as text.
func dump(b []byte) string {
	var t strings.Builder
	for at := 0; at < len(b); at += 16 {
		var hex, text strings.Builder
		for i, x := range b[at:min(at+16, len(b))] {
			if i > 0 && i%2 == 0 {
				hex.WriteByte(' ')
			}
			fmt.Fprintf(&hex, "%02x", x)
			if x <= ' ' || x > '~' {
				x = '.'
			}
			text.WriteByte(x)
		}
		fmt.Fprintf(&t, "\n\t0x%04x:  %-39s  %s", at, hex.String(), text.String())
	}
	return t.String()
}
