package capture

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

func packet(src, dst string) switchtest.Packet {
	return switchtest.Packet{SrcMAC: vswitch.MAC{2, 1}, DstMAC: vswitch.MAC{2, 2}, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}
}

func bare(b []byte) []byte { return b[vswitch.VnetLen:] }

// corpus are frames by name: each kind that a filter tells apart, and such as
// are cut, too.
var corpus, inOrder = func() (map[string][]byte, []string) {
	p4, p6 := packet("172.17.0.2", "10.1.2.3"), packet("fd00:17::2", "fd00:18::3")
	back := switchtest.Packet{SrcMAC: vswitch.MAC{2, 2}, DstMAC: vswitch.MAC{2, 1}, Src: p4.Dst, Dst: p4.Src}
	group := p4
	group.DstMAC, group.Dst = vswitch.MAC{1, 0, 0x5e, 0, 0, 0xfb}, netip.MustParseAddr("224.0.0.251")
	group6 := p6
	group6.DstMAC, group6.Dst = vswitch.MAC{0x33, 0x33, 0, 0, 0, 1}, netip.MustParseAddr("ff02::1")
	arp := bare(switchtest.ARP{SrcMAC: vswitch.MAC{2, 1}, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: vswitch.MAC{2, 1},
		SenderIP: netip.MustParseAddr("172.17.0.2"), TargetIP: netip.MustParseAddr("172.17.0.3")}.Frame())
	frames := map[string][]byte{
		"syn":       bare(p4.TCP(layers.TCP{SrcPort: 4000, DstPort: 80, SYN: true, Seq: 7, Window: 64240}, nil)),
		"synack":    bare(back.TCP(layers.TCP{SrcPort: 80, DstPort: 4000, SYN: true, ACK: true, Seq: 9, Ack: 8, Window: 65160}, nil)),
		"ack":       bare(p4.TCP(layers.TCP{SrcPort: 4000, DstPort: 80, ACK: true, PSH: true, Seq: 8, Ack: 10, Window: 502}, make([]byte, 900))),
		"fin6":      bare(p6.TCP(layers.TCP{SrcPort: 443, DstPort: 50000, FIN: true, ACK: true}, nil)),
		"udp":       bare(p4.UDP(5353, 53, []byte("x"))),
		"udp6":      bare(p6.UDP(1000, 8443, []byte("x"))),
		"mdns":      bare(group.UDP(5353, 5353, []byte("hello"))),
		"ping":      bare(p4.Echo(1, 1, nil)),
		"ping6":     bare(p6.Echo(1, 1, nil)),
		"ping6all":  bare(group6.Echo(1, 2, []byte("12345678"))),
		"sctp":      bare(p4.IP(132, []byte{0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0})),
		"igmp":      bare(group.IP(2, []byte{0x16, 0, 9, 4, 224, 0, 0, 251})),
		"gre":       bare(back.IP(47, []byte{0, 0, 8, 0})),
		"arp":       arp,
		"zero":      append(append([]byte{}, arp[:12]...), make([]byte, 30)...),
		"llc":       append(append([]byte{}, arp[:12]...), 0, 3, 0x42, 0x42, 3),
		"no header": arp[:14],
	}
	change := func(name, from string, f func(b []byte) []byte) { frames[name] = f(append([]byte{}, frames[from]...)) }
	change("rarp", "arp", func(b []byte) []byte { b[12], b[13] = 0x80, 0x35; return b })
	change("first fragment", "udp", func(b []byte) []byte { b[20] = 0x20; return b })
	change("later fragment", "udp", func(b []byte) []byte { b[21] = 0x10; return b })
	change("options", "syn", func(b []byte) []byte { // 8 bytes of no operation
		b[14] = 0x47
		return append(append(append([]byte{}, b[:34]...), 1, 1, 1, 1, 1, 1, 1, 1), b[34:]...)
	})
	change("fragment6", "udp6", func(b []byte) []byte {
		b[20] = 44
		return append(append(append([]byte{}, b[:54]...), 17, 0, 0, 1, 0, 0, 0, 9), b[54:]...)
	})
	change("vlan", "syn", tag(5))
	change("vlan6", "udp6", tag(0x2007))
	change("vlan vlan", "vlan", tag(9))
	change("cut ip", "syn", func(b []byte) []byte { return b[:24] })
	change("cut tcp", "syn", func(b []byte) []byte { return b[:40] })
	change("cut ip6", "udp6", func(b []byte) []byte { return b[:30] })
	return frames, []string{"syn", "synack", "ack", "fin6", "udp", "udp6", "mdns", "ping", "ping6", "ping6all", "sctp", "igmp", "gre", "arp", "rarp", "zero", "llc", "no header",
		"first fragment", "later fragment", "options", "fragment6", "vlan", "vlan6", "vlan vlan", "cut ip", "cut tcp", "cut ip6"}
}()

// tag puts a VLAN tag in front of the EtherType.
func tag(id uint16) func([]byte) []byte {
	return func(b []byte) []byte {
		return append(append(append([]byte{}, b[:12]...), 0x81, 0, byte(id>>8), byte(id)), b[12:]...)
	}
}

// takes are the names of the frames that a filter takes.
func takes(f Filter) string {
	var got []string
	for _, name := range inOrder {
		if b := corpus[name]; f.Match(b, len(b), true) {
			got = append(got, name)
		}
	}
	return strings.Join(got, ", ")
}

// filters lead to the names of the frames that they take, or to "!" if they are
// refused.
var filters = map[string]string{
	"tcp":                                       "syn, synack, ack, fin6, options, cut ip, cut tcp",
	"ip6":                                       "fin6, udp6, ping6, ping6all, fragment6, cut ip6",
	"arp or icmp":                               "ping, arp, no header",
	"port 53":                                   "udp, first fragment",
	"tcp port 80":                               "syn, synack, ack, options, cut tcp",
	"udp port 80":                               "",
	"sctp port 80":                              "sctp",
	"port 53 or 80":                             "syn, synack, ack, udp, sctp, first fragment, options, cut tcp",
	"port (53 or 443)":                          "fin6, udp, first fragment",
	"tcp port 443 or 4000":                      "syn, synack, ack, fin6, options, cut tcp",
	"src port 53":                               "",
	"src or dst port 53":                        "udp, first fragment",
	"src and dst port 5353":                     "mdns",
	"dst port 53":                               "udp, first fragment",
	"portrange 8000-9000":                       "udp6",
	"tcp dst portrange 79-81":                   "syn, ack, options, cut tcp",
	"src host 10.1.2.3":                         "synack, gre",
	"dst net 10.0.0.0/8 and tcp":                "syn, ack, options, cut tcp",
	"net 172.17 and arp":                        "arp",
	"net 10 and greater 900":                    "ack",
	"net 10.0.0.0 mask 255.0.0.0 and sctp":      "sctp",
	"ip src host 172.17.0.2 and less 42":        "ping, igmp, cut tcp",
	"arp host 172.17.0.3":                       "arp",
	"net fd00:18::/32":                          "fin6, udp6, ping6, fragment6",
	"dst host fd00:18::3 and udp":               "udp6, fragment6",
	"icmp6 or (udp and ip)":                     "udp, mdns, ping6, ping6all, first fragment, later fragment",
	"! (ip || ip6)":                             "arp, rarp, zero, llc, no header, vlan, vlan6, vlan vlan",
	"greater 500":                               "ack",
	"tcp[13] & 2 != 0":                          "syn, synack, options",
	"(tcp[13] & 2 != 0)":                        "syn, synack, options",
	"tcp[tcpflags]&(tcp-syn|tcp-rst) != 0":      "syn, synack, options",
	"tcp[tcpflags] == tcp-syn or tcp-ack=0":     "syn, options",
	"ip[0] & 0xf > 5":                           "options",
	"ip[0] & 0xf ^ 0xd = 2":                     "options", // as libpcap: 0xf ^ 0xd comes first
	"ip[0] % 16 - 9 < 2":                        "options",
	"ip[2:2] > 500":                             "ack",
	"ether[12:2] = 0x0806":                      "arp, no header",
	"icmp[icmptype] == icmp-echo":               "ping",
	"icmp6[icmp6type] = icmp6-echo":             "ping6, ping6all",
	"ip[6:2] & 0x1fff != 0":                     "later fragment",
	"ip proto 17":                               "udp, mdns, first fragment, later fragment",
	"ip proto \\tcp":                            "syn, synack, ack, options, cut ip, cut tcp",
	"proto 47":                                  "gre",
	"ether proto 0x8035":                        "rarp",
	"ether proto \\arp":                         "arp, no header",
	"ether proto 0x42":                          "llc",
	"broadcast":                                 "arp, rarp, zero, llc, no header",
	"ether multicast and not broadcast":         "mdns, ping6all, igmp",
	"ip multicast":                              "mdns, igmp",
	"ip6 multicast":                             "ping6all",
	"ether host 02:01:00:00:00:00 and sctp":     "sctp",
	"ether src 2:2:0:0:0:0":                     "synack, gre",
	"port domain and sctp or port http and udp": "",
	"ether src 02:02:00:00:00:00":               "synack, gre",
	"vlan":                                      "vlan, vlan6, vlan vlan",
	"vlan 5":                                    "vlan",
	"vlan and ip6":                              "vlan6",
	"vlan 9 and vlan 5 and tcp":                 "vlan vlan",
	"vlan and tcp port 80":                      "vlan",
	"len > 500":                                 "ack",
	"len - 14 = ip[2:2] and udp":                "udp, mdns, first fragment, later fragment",
	"(ip[0] * 4 / 2) % 7 = 5":                   "syn, synack, ack, udp, mdns, ping, sctp, igmp, gre, first fragment, later fragment, cut ip, cut tcp",
	"-1 = 0xffffffff and arp":                   "arp, no header",
	"not tcp[40] = 1 and tcp":                   "ack, fin6",
	"igmp":                                      "igmp",
	"not (port 80 or arp) and ether[0] = 2 and not ip6": "udp, ping, gre, first fragment, later fragment, vlan, vlan6, vlan vlan",
	"ip and not net 10.0.0.0/8":                         "mdns, igmp",

	"":                           strings.Join(inOrder, ", "),
	"172.17.0.2 and ip6":         "",
	"host web and icmp":          "ping",
	"src web or dst web and udp": "udp, mdns, first fragment, later fragment",
	"src host web and dst host 10.1.2.3 and udp": "udp, first fragment, later fragment",
	"proto udp and ip6":                          "udp6, fragment6, cut ip6",
	"inbound and arp":                            "arp, no header",
	"outbound":                                   "",
	"tcp port http and src net 172.17.0.0/16":    "syn, ack, options, cut tcp",

	"(tcp":                          "!",
	"port":                          "!",
	"port x":                        "!",
	"port 80-90":                    "!",
	"icmp port 1":                   "!",
	"host":                          "!",
	"host nosuch":                   "!",
	"tcp host 10.0.0.1":             "!",
	"ip host fd00::1":               "!",
	"tcp and":                       "!",
	"and tcp":                       "!",
	"ether host 02:01":              "!",
	"net 10.0.0.1/8":                "!",
	"net 10.0.0.0/33":               "!",
	"net 10.0.0.0 mask 255.0.255.0": "!",
	"tcp[13 & 2":                    "!",
	"tcp[13] & 2":                   "!",
	"tcp[13:3] = 1":                 "!",
	"tcp[0]/0 = 1":                  "!",
	"1 << 32 = 1":                   "!",
	"frobnicate":                    "!",
	"frobnicate[1] = 2":             "!",
	"tcp tcp":                       "!",
	"tcp or 80":                     "!",
	"ip broadcast":                  "!",
	"ether":                         "!",
	"mpls":                          "!",
	"vlan 4096":                     "!",
	"tcp)":                          "!",
}

func named2(name string) []netip.Addr {
	if name == "web" {
		return []netip.Addr{netip.MustParseAddr("172.17.0.2")}
	}
	return nil
}

func TestFilter(t *testing.T) {
	for text, want := range filters {
		f, err := ParseFilter(text, named2)
		if want == "!" {
			var s *SyntaxError
			if !errors.As(err, &s) || s.At > len(text) || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if s := takes(f); s != want {
			t.Errorf("%q takes %q, want %q", text, s, want)
		}
	}
}

// TestErrorPoints: the mark stands under the word.
func TestErrorPoints(t *testing.T) {
	for text, want := range map[string]string{
		"tcp and port http80":  "filter: this is no port, nor a range of them\n  tcp and port http80\n               ^",
		"tcp host 10.0.0.1":    "filter: tcp has no addresses of its own: write tcp and host\n  tcp host 10.0.0.1\n  ^",
		"port 80 or (udp and":  "filter: something is missing at the end\n  port 80 or (udp and\n                     ^",
		"tcp[13] & 2 and udp":  "filter: a comparison is expected here: =, !=, <, >, <= or >=\n  tcp[13] & 2 and udp\n              ^",
		"ip[0] / (3 - 3) = 1":  "filter: this divides by zero\n  ip[0] / (3 - 3) = 1\n        ^",
		"net 10.1.0.0/8":       "filter: the address has bits set behind the network's: write 10.0.0.0/8\n  net 10.1.0.0/8\n      ^",
		"host web and port 80": "",
		"host web or host wab": "filter: no container of that name has such an address; other hosts are named by their addresses\n  host web or host wab\n                   ^",
	} {
		_, err := ParseFilter(text, named2)
		if got := ""; err != nil && err.Error() != want || err == nil && got != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	if _, err := ParseFilter("host anything", nil); err != nil {
		t.Errorf("names that are not looked up: %v", err)
	}
}

// TestNeeds: how much of a frame must be there is known beforehand.
func TestNeeds(t *testing.T) {
	for text, want := range map[string]int{"": 0, "arp": 14, "ip": 14, "icmp": 24, "host 10.0.0.1": 42, "ether[99:4] = 1": 103, "ip[100] = 1": 115, "vlan and ip[100] = 1": 119,
		"tcp[100:2] = 1": 176, "ip[ip[0] & 15] = 1": MaxSnap, "tcp port 80": 78, "vlan and tcp port 80": 82} {
		f, err := ParseFilter(text, nil)
		if err != nil || f.Needs() != want {
			t.Errorf("%q needs %d bytes, want %d: %v", text, f.Needs(), want, err)
		}
	}
}

// What a filter takes of a whole frame it takes of the beginning that it needs.
func FuzzFilter(f *testing.F) {
	for text := range filters {
		f.Add(text, corpus["syn"])
	}
	for _, name := range inOrder {
		f.Add("tcp port 80 or 443 and ip[2:2] > 40 or host fd00:17::2 or vlan 5 and udp", corpus[name])
	}
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		x, err := ParseFilter(text, named2)
		if err != nil {
			var s *SyntaxError
			if !errors.As(err, &s) || s.At > len(s.Text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		whole := x.Match(b, len(b), true)
		if part := x.Match(b[:min(len(b), x.Needs())], len(b), true); part != whole {
			t.Errorf("%q says %v of a frame and %v of the %d bytes it needs of it: %x", text, whole, part, x.Needs(), b)
		}
	})
}
