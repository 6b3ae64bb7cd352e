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

func frame(b []byte) []byte { return b[vswitch.VnetLen:] }

// inOrder are the names of the frames.
var inOrder = []string{"ack", "arp", "ping", "ping6", "syn", "udp", "udp6"}

func frames() map[string][]byte {
	p4, p6 := packet("172.17.0.2", "10.1.2.3"), packet("fd00:17::2", "fd00:18::3")
	return map[string][]byte{
		"syn":   frame(p4.TCP(layers.TCP{SrcPort: 4000, DstPort: 80, SYN: true}, nil)),
		"ack":   frame(p4.TCP(layers.TCP{SrcPort: 4000, DstPort: 80, ACK: true}, make([]byte, 900))),
		"udp":   frame(p4.UDP(5353, 53, []byte("x"))),
		"udp6":  frame(p6.UDP(1000, 8443, []byte("x"))),
		"ping":  frame(p4.Echo(1, 1, nil)),
		"ping6": frame(p6.Echo(1, 1, nil)),
		"arp": frame(switchtest.ARP{SrcMAC: vswitch.MAC{2, 1}, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: vswitch.MAC{2, 1},
			SenderIP: netip.MustParseAddr("172.17.0.2"), TargetIP: netip.MustParseAddr("172.17.0.3")}.Frame()),
	}
}

// filters lead to the names of the frames that they take, or to "!" if they are
// refused.
var filters = map[string]string{
	"":                                     "ack arp ping ping6 syn udp udp6",
	"tcp":                                  "ack syn",
	"ip6":                                  "ping6 udp6",
	"arp or icmp":                          "arp ping",
	"not tcp and not udp":                  "arp ping ping6",
	"port 53":                              "udp",
	"tcp port 80":                          "ack syn",
	"udp port 80":                          "",
	"port 53 or 80":                        "ack syn udp",
	"src port 53":                          "",
	"dst port 53":                          "udp",
	"src or dst port 53":                   "!",
	"portrange 8000-9000":                  "udp6",
	"host 172.17.0.2":                      "ack arp ping syn udp",
	"172.17.0.2":                           "ack arp ping syn udp",
	"src host 10.1.2.3":                    "",
	"dst net 10.0.0.0/8":                   "ack ping syn udp",
	"net fd00:18::/32":                     "ping6 udp6",
	"dst host fd00:18::3":                  "ping6 udp6",
	"icmp6 or (udp and ip)":                "ping6 udp",
	"! (tcp || udp)":                       "arp ping ping6",
	"greater 500":                          "ack",
	"less 60":                              "arp ping syn udp",
	"tcp[13] & 2 != 0":                     "syn",
	"tcp[tcpflags]&(tcp-syn|tcp-rst) != 0": "syn",
	"ip[8] = 64":                           "ack ping syn udp",
	"icmp[icmptype] == icmp-echo":          "ping",
	"ether[12:2] = 0x0806":                 "arp",
	"ip proto 17":                          "udp",
	"proto udp":                            "udp udp6",
	"broadcast":                            "arp",
	"vlan":                                 "",
	"tcp port http and src net 172.17.0.0/16": "ack syn",
	"(tcp":                         "!",
	"port":                         "!",
	"port x":                       "!",
	"host":                         "!",
	"tcp and":                      "!",
	"ether host 02:01:00:00:00:00": "!",
	"net 10.0.0":                   "!",
	"tcp[13 & 2":                   "!",
	"tcp[13] & 2":                  "!",
	"frobnicate":                   "!",
	"tcp tcp":                      "!",
}

func TestFilter(t *testing.T) {
	frames := frames()
	for text, want := range filters {
		f, err := ParseFilter(text)
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
		var got []string
		for _, name := range inOrder {
			if b := frames[name]; f.Match(b[:min(len(b), 256)], len(b)) {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q takes %q, want %q", text, s, want)
		}
	}
}

// TestErrorPoints: the mark stands under the word.
func TestErrorPoints(t *testing.T) {
	_, err := ParseFilter("tcp and port http80")
	if want := "filter: this is no port, nor a range of them\n  tcp and port http80\n               ^"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"tcp port 80 or 443", "tcp[13] & (2|4) != 0", "not (host 10.0.0.1 and udp)", "ip[2:2] > 500", "src net fd00::/8"} {
		f.Add(s, []byte(nil))
	}
	f.Add("tcp[0:4] = 1", frame(packet("10.0.0.1", "10.0.0.2").TCP(layers.TCP{SrcPort: 1, DstPort: 2}, nil)))
	f.Fuzz(func(t *testing.T, text string, b []byte) {
		if len(text) > 200 {
			return
		}
		x, err := ParseFilter(text)
		if err == nil {
			x.Match(b, len(b))
			Line("x", &Packet{Data: b, Length: len(b)}, true)
		}
	})
}
