package capture

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"tapswitch/switch"
)

// Line is a packet on one line, as tcpdump has it, with what became of it.
// ether puts the MACs in front.
func Line(iface string, p *Packet, ether bool) string {
	var b strings.Builder
	way := ">"
	if !p.Received {
		way = "<"
	}
	fmt.Fprintf(&b, "%s %s %s ", p.Time.Format("15:04:05.000000"), iface, way)
	if ether && len(p.Data) >= vswitch.EthLen {
		fmt.Fprintf(&b, "%s > %s, ", vswitch.MAC(p.Data[6:12]), vswitch.MAC(p.Data[:6]))
	}
	b.WriteString(summary(p))
	if p.Comment != "" {
		b.WriteString(" | " + p.Comment)
	}
	return b.String()
}

// Dump is a packet's bytes, as tcpdump -X has them.
func Dump(p *Packet) string { return strings.TrimRight(hex.Dump(p.Data), "\n") }

func summary(p *Packet) string {
	v := look(p.Data, p.Length)
	switch {
	case v.etherType == vswitch.EtherARP && v.src.IsValid():
		if p.Data[vswitch.EthLen+7] == 1 {
			return fmt.Sprintf("ARP, Request who-has %s tell %s, length %d", v.dst, v.src, p.Length-vswitch.EthLen)
		}
		return fmt.Sprintf("ARP, Reply %s is-at %s, length %d", v.src, vswitch.MAC(p.Data[vswitch.EthLen+8:vswitch.EthLen+14]), p.Length-vswitch.EthLen)
	case !v.ip:
		return fmt.Sprintf("ethertype 0x%04x, length %d", v.etherType, p.Length)
	}
	name := "IP"
	if v.src.Is6() {
		name = "IP6"
	}
	payload := p.Length - v.l4
	ends := fmt.Sprintf("%s %s > %s", name, v.src, v.dst)
	if v.ports {
		ends = fmt.Sprintf("%s %s.%d > %s.%d", name, v.src, v.srcPort, v.dst, v.dstPort)
	}
	switch {
	case v.proto == vswitch.ProtoTCP && len(p.Data) >= v.l4+vswitch.TCPLen:
		t := p.Data[v.l4:]
		seq, ack := binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:])
		text := fmt.Sprintf("%s: Flags [%s], seq %d", ends, flags(t[13]), seq)
		if t[13]&vswitch.TCPAck != 0 {
			text += fmt.Sprintf(", ack %d", ack)
		}
		return fmt.Sprintf("%s, win %d, length %d", text, int(t[14])<<8|int(t[15]), payload-int(t[12]>>4)*4)
	case v.proto == vswitch.ProtoUDP && v.ports:
		if v.srcPort == 53 || v.dstPort == 53 {
			if q := question(p.Data); q != "" {
				return ends + ": " + q
			}
		}
		return fmt.Sprintf("%s: UDP, length %d", ends, payload-vswitch.UDPLen)
	}
	g := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default)
	if l, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return fmt.Sprintf("%s: ICMP %s, id %d, seq %d, length %d", ends, l.TypeCode, l.Id, l.Seq, payload)
	}
	if l, ok := g.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return fmt.Sprintf("%s: ICMP6 %s, length %d", ends, l.TypeCode, payload)
	}
	return fmt.Sprintf("%s: ip-proto-%d, length %d", ends, v.proto, payload)
}

// question is a DNS message in a few words.
func question(b []byte) string {
	d, ok := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeDNS).(*layers.DNS)
	if !ok || len(d.Questions) == 0 {
		return ""
	}
	q := d.Questions[0]
	if !d.QR {
		return fmt.Sprintf("DNS %d %s? %s", d.ID, q.Type, q.Name)
	}
	var a []string
	for _, r := range d.Answers {
		if r.IP != nil {
			a = append(a, r.IP.String())
		}
	}
	return fmt.Sprintf("DNS %d %s %s %s", d.ID, d.ResponseCode, q.Name, strings.Join(a, " "))
}

func flags(f byte) string {
	var b strings.Builder
	for _, x := range []struct {
		bit  byte
		name string
	}{{vswitch.TCPFin, "F"}, {vswitch.TCPSyn, "S"}, {vswitch.TCPRst, "R"}, {8, "P"}, {32, "U"}, {vswitch.TCPAck, "."}} {
		if f&x.bit != 0 {
			b.WriteString(x.name)
		}
	}
	return b.String()
}
