package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"tapswitch/switch"
)

// sum says whether a transport checksum, at an offset, is right, if all of the
// packet is there; ok: it could be told.
func sum(e ends, b []byte, length, at int) (want uint16, right, ok bool) {
	if len(b) != length || at+2 > len(b) {
		return 0, false, false
	}
	have := binary.BigEndian.Uint16(b[at:])
	rest := vswitch.PseudoSum(e.rawSrc, e.rawDst, e.proto, length)
	rest = vswitch.Sum(b, rest)
	if vswitch.Fold(rest) == 0xffff {
		return have, true, true
	}
	copied := append([]byte{}, b...)
	copied[at], copied[at+1] = 0, 0
	return vswitch.Checksum(copied, vswitch.PseudoSum(e.rawSrc, e.rawDst, e.proto, length)), false, true
}

func (w *Printer) tcp(e ends, b []byte, length int) string {
	if len(b) < vswitch.TCPLen {
		return "[|tcp]"
	}
	hl := int(b[12]>>4) * 4
	if hl < vswitch.TCPLen || hl > length {
		return fmt.Sprintf("tcp %d [bad hdr length %d]", length-hl, hl)
	}
	payload := length - hl
	seq, ack, set := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), b[13]
	if set&vswitch.TCPAck != 0 {
		seq, ack = w.relative(e, b, seq, ack)
	}
	var t strings.Builder
	fmt.Fprintf(&t, "Flags [%s]", flags(set))
	if w.Verbose {
		if want, right, ok := sum(e, b, length, 16); right {
			fmt.Fprintf(&t, ", cksum 0x%04x (correct)", want)
		} else if ok {
			fmt.Fprintf(&t, ", cksum 0x%04x (incorrect -> 0x%04x)", binary.BigEndian.Uint16(b[16:]), want)
		}
	}
	if payload > 0 || set&(vswitch.TCPSyn|vswitch.TCPFin|vswitch.TCPRst) != 0 {
		fmt.Fprintf(&t, ", seq %d", seq)
		if payload > 0 {
			fmt.Fprintf(&t, ":%d", seq+uint32(payload))
		}
	}
	if set&vswitch.TCPAck != 0 {
		fmt.Fprintf(&t, ", ack %d", ack)
	}
	fmt.Fprintf(&t, ", win %d", binary.BigEndian.Uint16(b[14:]))
	if set&32 != 0 {
		fmt.Fprintf(&t, ", urg %d", binary.BigEndian.Uint16(b[18:]))
	}
	if hl > vswitch.TCPLen {
		fmt.Fprintf(&t, ", options [%s]", tcpOptions(b[vswitch.TCPLen:min(hl, len(b))]))
	}
	fmt.Fprintf(&t, ", length %d", payload)
	if payload > 0 {
		t.WriteString(http(b, b[min(hl, len(b)):]))
	}
	return t.String()
}

// maxBegun bounds the connections that are followed.
const maxBegun = 1 << 14

// relative counts a connection's bytes from where it began, or from where it was
// seen first.
func (w *Printer) relative(e ends, b []byte, seq, ack uint32) (uint32, uint32) {
	src, dst := netip.AddrPortFrom(e.src, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(e.dst, binary.BigEndian.Uint16(b[2:]))
	key, back := [2]netip.AddrPort{src, dst}, src.Compare(dst) > 0
	if back {
		key = [2]netip.AddrPort{dst, src}
	}
	first, known := w.begun[key]
	if known && b[13]&vswitch.TCPSyn == 0 {
		if back {
			first[0], first[1] = first[1], first[0]
		}
		return seq - first[0], ack - first[1]
	}
	if w.begun == nil || len(w.begun) > maxBegun {
		w.begun = make(map[[2]netip.AddrPort][2]uint32)
	}
	if first = [2]uint32{seq, ack - 1}; back {
		first = [2]uint32{ack - 1, seq}
	}
	w.begun[key] = first
	return seq, ack
}

func flags(f byte) string {
	var b strings.Builder
	for _, x := range []struct {
		bit  byte
		name string
	}{{vswitch.TCPFin, "F"}, {vswitch.TCPSyn, "S"}, {vswitch.TCPRst, "R"}, {8, "P"}, {vswitch.TCPAck, "."}, {32, "U"}, {64, "E"}, {128, "W"}} {
		if f&x.bit != 0 {
			b.WriteString(x.name)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// tcpOptions are a TCP header's.
func tcpOptions(b []byte) string {
	var all []string
	for len(b) > 0 {
		kind := b[0]
		if kind == 0 {
			all = append(all, "eol")
			break
		}
		if kind == 1 {
			all, b = append(all, "nop"), b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			all = append(all, "|tcp")
			break
		}
		v := b[2:b[1]]
		b = b[b[1]:]
		switch {
		case kind == 2 && len(v) == 2:
			all = append(all, fmt.Sprintf("mss %d", binary.BigEndian.Uint16(v)))
		case kind == 3 && len(v) == 1:
			all = append(all, fmt.Sprintf("wscale %d", v[0]))
		case kind == 4:
			all = append(all, "sackOK")
		case kind == 5:
			all = append(all, fmt.Sprintf("sack %d", len(v)/8))
		case kind == 8 && len(v) == 8:
			all = append(all, fmt.Sprintf("TS val %d ecr %d", binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])))
		default:
			all = append(all, fmt.Sprintf("unknown-%d 0x%x", kind, v))
		}
	}
	return strings.Join(all, ",")
}

// http is the first line of a request or an answer, on the ports where one is
// looked for.
func http(head, b []byte) string {
	is := false
	for _, p := range []uint16{80, 3128, 8080} {
		is = is || binary.BigEndian.Uint16(head) == p || binary.BigEndian.Uint16(head[2:]) == p
	}
	if !is {
		return ""
	}
	line, _, _ := strings.Cut(string(b[:min(len(b), 200)]), "\n")
	line = strings.TrimRight(line, "\r")
	word, _, _ := strings.Cut(line, " ")
	switch word {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "HTTP/1.0", "HTTP/1.1":
		return ": HTTP: " + strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '.'
			}
			return r
		}, line)
	}
	return ": HTTP"
}

func (w *Printer) udp(e ends, b []byte, length int) string {
	if len(b) < vswitch.UDPLen {
		return "[|udp]"
	}
	t := ""
	if w.Verbose && e.src.Is6() { // of IPv4 tcpdump says that with -vv
		if want, right, ok := sum(e, b, length, 6); right {
			t = "[udp sum ok] "
		} else if ok {
			t = fmt.Sprintf("[bad udp cksum 0x%04x -> 0x%04x!] ", binary.BigEndian.Uint16(b[6:]), want)
		}
	}
	payload := length - vswitch.UDPLen
	for _, p := range []uint16{53, 5353} {
		if binary.BigEndian.Uint16(b) == p || binary.BigEndian.Uint16(b[2:]) == p {
			if q := question(b[vswitch.UDPLen:]); q != "" {
				return fmt.Sprintf("%s%s (%d)", t, q, payload)
			}
		}
	}
	return fmt.Sprintf("%sUDP, length %d", t, payload)
}

// question is a DNS message in a few words, "" if it is not all there.
func question(b []byte) string {
	var m dns.Msg
	if m.Unpack(b) != nil {
		return ""
	}
	var t strings.Builder
	fmt.Fprintf(&t, "%d", m.Id)
	counts := func(list []int, names ...string) {
		for i, n := range list {
			if n != 0 {
				fmt.Fprintf(&t, " [%d%s]", n, names[i])
			}
		}
	}
	if !m.Response {
		if m.RecursionDesired {
			t.WriteByte('+')
		}
		counts([]int{len(m.Answer), len(m.Ns), len(m.Extra)}, "a", "n", "au")
		for _, q := range m.Question {
			fmt.Fprintf(&t, " %s? %s", dns.TypeToString[q.Qtype], q.Name)
		}
		return t.String()
	}
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		t.WriteString(" NXDomain")
	case dns.RcodeServerFailure:
		t.WriteString(" ServFail")
	case dns.RcodeRefused:
		t.WriteString(" Refused")
	default:
		t.WriteString(" " + dns.RcodeToString[m.Rcode])
	}
	for _, x := range []struct {
		is   bool
		sign string
	}{{m.Authoritative, "*"}, {!m.RecursionAvailable, "-"}, {m.Truncated, "|"}} {
		if x.is {
			t.WriteString(x.sign)
		}
	}
	fmt.Fprintf(&t, " %d/%d/%d", len(m.Answer), len(m.Ns), len(m.Extra))
	for i, r := range m.Answer {
		if i > 0 {
			t.WriteByte(',')
		}
		h := r.Header()
		value := strings.TrimPrefix(r.String(), h.String())
		fmt.Fprintf(&t, " %s %s", dns.TypeToString[h.Rrtype], value)
	}
	return t.String()
}

func (w *Printer) icmp(b []byte, length int) string {
	if len(b) < 8 {
		return "[|icmp]"
	}
	end := fmt.Sprintf(", length %d", length)
	id, seq := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	about := "" // the packet that an error is about
	if len(b) >= 8+vswitch.IPv4Len {
		about = w.host(netip.AddrFrom4([4]byte(b[8+16:]))) + " "
	}
	switch b[0] {
	case 0:
		return fmt.Sprintf("ICMP echo reply, id %d, seq %d%s", id, seq, end)
	case 8:
		return fmt.Sprintf("ICMP echo request, id %d, seq %d%s", id, seq, end)
	case 3:
		switch b[1] {
		case 0:
			return "ICMP net " + about + "unreachable" + end
		case 1:
			return "ICMP host " + about + "unreachable" + end
		case 2:
			return fmt.Sprintf("ICMP %sprotocol %d unreachable%s", about, b[min(17, len(b)-1)], end)
		case 3:
			if inner := b[8:]; len(inner) >= int(inner[0]&15)*4+4 && len(inner) > 9 {
				l4 := inner[int(inner[0]&15)*4:]
				return fmt.Sprintf("ICMP %s%s port %d unreachable%s", about, strings.ToLower(protoName(inner[9])), binary.BigEndian.Uint16(l4[2:]), end)
			}
		case 4:
			return fmt.Sprintf("ICMP %sunreachable - need to frag (mtu %d)%s", about, seq, end)
		case 10:
			return "ICMP host " + about + "unreachable - admin prohibited" + end
		case 13:
			return "ICMP host " + about + "unreachable - admin prohibited filter" + end
		}
		return fmt.Sprintf("ICMP %sunreachable - #%d%s", about, b[1], end)
	case 11:
		if b[1] == 0 {
			return "ICMP time exceeded in-transit" + end
		}
		return "ICMP ip reassembly time exceeded" + end
	}
	return fmt.Sprintf("ICMP type-#%d%s", b[0], end)
}

func (w *Printer) icmp6(e ends, b []byte, length int) string {
	if len(b) < 8 {
		return "[|icmp6]"
	}
	t := "ICMP6, "
	if w.Verbose {
		if _, right, ok := sum(e, b, length, 2); right {
			t = "[icmp6 sum ok] " + t
		} else if ok {
			t = "[bad icmp6 cksum] " + t
		}
	}
	end := fmt.Sprintf(", length %d", length)
	id, seq := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	target := ""
	if len(b) >= 24 {
		target = w.host(netip.AddrFrom16([16]byte(b[8:24])))
	}
	switch b[0] {
	case 1:
		if len(b) >= 8+vswitch.IPv6Len {
			target = " " + w.host(netip.AddrFrom16([16]byte(b[8+24:])))
		}
		if b[1] == 4 && len(b) >= 8+vswitch.IPv6Len+4 {
			inner := b[8:]
			return fmt.Sprintf("%sdestination unreachable, unreachable port,%s %s port %d%s", t, target, strings.ToLower(protoName(inner[6])), binary.BigEndian.Uint16(inner[vswitch.IPv6Len+2:]), end)
		}
		return fmt.Sprintf("%sdestination unreachable, code %d,%s%s", t, b[1], target, end)
	case 2:
		return fmt.Sprintf("%spacket too big, mtu %d%s", t, binary.BigEndian.Uint32(b[4:]), end)
	case 3:
		return t + "time exceeded in-transit" + end
	case 128:
		return fmt.Sprintf("%secho request, id %d, seq %d%s", t, id, seq, end)
	case 129:
		return fmt.Sprintf("%secho reply, id %d, seq %d%s", t, id, seq, end)
	case 133:
		return t + "router solicitation" + end
	case 134:
		return t + "router advertisement" + end
	case 135:
		return t + "neighbor solicitation, who has " + target + end
	case 136:
		return t + "neighbor advertisement, tgt is " + target + end
	case 143:
		return t + "multicast listener report v2" + end
	}
	return fmt.Sprintf("%stype-#%d%s", t, b[0], end)
}
