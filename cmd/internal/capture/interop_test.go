//go:build interop

package capture

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// corpusFile has the corpus, a frame a second from 0 on.
func corpusFile(t *testing.T, snap int) string {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file, "test", snap)
	w.Interface(Interface{Name: "web:eth0", Description: "web on bridge"})
	w.Interface(Interface{Name: "db:eth0"})
	for i, name := range inOrder {
		b := corpus[name]
		w.Packet(&Packet{Interface: i % 2, Time: time.Unix(int64(i), 0), Length: len(b), Data: b[:min(len(b), snap)], Comment: name})
	}
	w.Missed(0, 1, time.Unix(9, 0))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tcpdump's choice of the corpus. It compiles without its optimizer, whose code
// reads less of a frame than was asked about.
func tcpdumpTakes(path, filter string) (string, error) {
	var errs strings.Builder
	cmd := exec.Command("tcpdump", "-O", "-n", "-tt", "-q", "-r", path, "--", filter)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, &errs)
	}
	var got []string
	for _, l := range strings.Split(string(out), "\n") {
		at, rest, is := strings.Cut(l, ".000000 ")
		if i, err := strconv.Atoi(at); is && rest != "" && err == nil && i < len(inOrder) {
			got = append(got, inOrder[i])
		}
	}
	return strings.Join(got, ", "), nil
}

// beyondTcpdump are filters that we take and libpcap does not: names of
// containers, directions, addresses and protocols' names as they are.
func beyondTcpdump(filter string) bool {
	return filter == "172.17.0.2 and ip6" || strings.HasPrefix(filter, "proto udp") || strings.Contains(filter, "web") || strings.Contains(filter, "bound")
}

// short of what tcpdump takes: what is not on this switch, or has no one meaning
// on it.
var short = map[string]bool{"mpls": true, "ip broadcast": true, "net 10.0.0.0 mask 255.0.255.0": true}

// TestInteropFilter: of one file tcpdump takes the same packets by the same
// filters, and reads what we write.
func TestInteropFilter(t *testing.T) {
	tools(t, "tcpdump")
	path := corpusFile(t, 2000)
	for text, want := range filters {
		if beyondTcpdump(text) {
			continue
		}
		got, err := tcpdumpTakes(path, text)
		if want == "!" {
			if err == nil && !short[text] {
				t.Errorf("tcpdump takes %q", text)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: tcpdump takes %q, we %q: %v", text, got, want, err)
		}
	}
}

// TestInteropGenerated: so it is with filters that nobody has thought of, made of
// a grammar. TAPSWITCH_SEED makes those of another run again.
func TestInteropGenerated(t *testing.T) {
	tools(t, "tcpdump")
	seed := uint64(1) // the same everywhere; TAPSWITCH_SEED looks further
	if s, err := strconv.ParseUint(os.Getenv("TAPSWITCH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("TAPSWITCH_SEED=%d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	path := corpusFile(t, 2000)
	count := 400
	if testing.Short() {
		count = 100
	}
	some := 0
	for range count {
		text := g.expression(3)
		want, err := tcpdumpTakes(path, text)
		if err != nil && strings.Contains(err.Error(), "by zero") {
			continue // it has found that an operand is always 0
		}
		if err != nil {
			t.Fatalf("tcpdump refuses %q, which is no test: %v", text, err)
		}
		f, err := ParseFilter(text, nil)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := takes(f); got != want {
			t.Errorf("%q:\ntcpdump takes %q,\nwe           %q", text, want, got)
		}
		if want != "" && want != strings.Join(inOrder, ", ") {
			some++
		}
	}
	if some < count/3 {
		t.Errorf("of %d filters %d tell frames apart", count, some)
	}
}

// generator writes filters: the language of pcap-filter(7), as far as it is about
// Ethernet and IP.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) expression(depth int) string {
	if depth == 0 {
		return g.primitive()
	}
	switch g.IntN(6) {
	case 0:
		return g.one("not ", "! ", "!") + g.operand(depth-1)
	case 1:
		return "(" + g.expression(depth-1) + ")"
	case 2, 3:
		return g.operand(depth-1) + g.one(" and ", " && ", " or ", " || ", " or not ") + g.expression(depth-1)
	case 4:
		return g.implied()
	}
	return g.primitive()
}

// operand is what may stand in front of and: with less than that a number after
// it would be taken for one that is meant by what came before.
func (g generator) operand(depth int) string {
	if g.IntN(2) == 0 {
		return g.primitive()
	}
	return "(" + g.expression(depth) + ")"
}

func (g generator) address4() string {
	return g.one("172.17.0.2", "10.1.2.3", "172.17.0.3", "224.0.0.251", "192.0.2.1")
}
func (g generator) address6() string { return g.one("fd00:17::2", "fd00:18::3", "ff02::1", "::1") }
func (g generator) dir() string {
	return g.one("", "", "src ", "dst ", "src or dst ", "src and dst ", "dst or src ")
}
func (g generator) port() string {
	return g.one("80", "53", "4000", "443", "5353", "8443", "0", "65535", "domain", "http")
}

func (g generator) implied() string {
	switch g.IntN(3) {
	case 0:
		return "port " + g.port() + " or " + g.one("80", "443", "5353")
	case 1:
		return g.dir() + "host " + g.address4() + g.one(" or ", " and ") + g.one("10.1.2.3", "172.17.0.2")
	}
	return "tcp " + g.dir() + "port " + g.one("(80 or 443)", "(80 or 4000 or 53)")
}

func (g generator) primitive() string {
	switch g.IntN(14) {
	case 0:
		return g.one("tcp", "udp", "icmp", "icmp6", "arp", "rarp", "ip", "ip6", "sctp", "igmp", "ah", "esp", "pim")
	case 1:
		return g.one("", "ip ", "arp ", "rarp ") + g.dir() + "host " + g.address4()
	case 2:
		return g.one("", "ip6 ") + g.dir() + "host " + g.address6()
	case 3:
		return g.one("", "ip ", "arp ") + g.dir() + "net " + g.one("172.17.0.0/16", "172.17", "10", "10.1.2", "0.0.0.0/0", "224.0.0.0/4", "10.0.0.0 mask 255.0.0.0", "172.17.0.2/32")
	case 4:
		return g.one("", "ip6 ") + g.dir() + "net " + g.one("fd00::/8", "fd00:17::/32", "ff02::/16", "::/0", "fd00:18::3/128", "fd00:10::/28")
	case 5:
		return g.one("", "tcp ", "udp ", "sctp ") + g.dir() + "port " + g.one("80", "53", "4000", "443", "5353", "8443", "65535")
	case 6:
		return g.one("", "tcp ", "udp ") + g.dir() + "portrange " + g.one("1-100", "8000-9000", "80-80", "5353-53", "0-65535", "443")
	case 7:
		return g.one("ip proto ", "ip6 proto ", "proto ") + g.one("6", "17", "1", "58", "47", "0x84", "\\tcp", "\\udp")
	case 8:
		return "ether " + g.one("proto "+g.one("0x0800", "0x86dd", "0x42", "2054", "\\arp", "\\ip6", "1500"), "multicast", "broadcast",
			g.one("host ", "src ", "dst ", "src host ", "dst host ")+g.one("02:01:00:00:00:00", "02:02:00:00:00:00", "ff:ff:ff:ff:ff:ff"))
	case 9:
		return g.one("broadcast", "multicast", "ip multicast", "ip6 multicast")
	case 10:
		return g.one("less ", "greater ") + g.one("42", "43", "54", "60", "500", "954")
	case 11:
		return g.one("vlan", "vlan 5", "vlan 9 and vlan", "(vlan and ip)", "(vlan 7 and udp)")
	}
	return g.relation()
}

func (g generator) relation() string {
	proto := g.one("ether", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp")
	return g.count(proto, 2) + g.one(" = ", " == ", " != ", " > ", " < ", " >= ", " <= ") + g.one(g.constant(), g.constant(), g.count(proto, 1))
}

func (g generator) constant() string {
	return g.one("0", "1", "2", "0x10", "64", "0xff", "017", "255", "tcp-syn", "tcp-ack", "icmp-echo", "icmp6-echo", strconv.Itoa(g.IntN(70000)))
}

// count is an expression of one protocol's bytes: libpcap forgets which protocol
// the right side of an operator has asked for.
func (g generator) count(proto string, depth int) string {
	if depth == 0 {
		return g.bytes(proto)
	}
	a := g.count(proto, depth-1)
	switch g.IntN(8) {
	case 0:
		return a + g.one(" & ", " + ", " - ", " * ", " | ") + g.constant()
	case 1:
		return "(" + a + g.one(" % ", " ^ ", " / ", " & ") + g.one("2", "3", "0xf0", "7") + ")"
	case 2:
		return a + g.one(" << ", " >> ") + g.one("0", "1", "4", "31")
	case 3:
		return "(" + a + ")" + g.one("+", " & ", "*", " | ", " / ") + "(" + g.count(proto, depth-1) + ")"
	case 4:
		return "-(" + a + ")"
	case 5:
		return "(" + a + " - len)"
	}
	return a
}

func (g generator) bytes(proto string) string {
	at := g.one("0", "1", "2", "4", "8", "12", "13", "20", "30", "200", "tcpflags", "icmptype", "1 + 1", "2 * 3 - 1", strconv.Itoa(g.IntN(60)))
	if g.IntN(6) == 0 {
		at = fmt.Sprintf("(%s[%s] & 0xf) * 4", proto, g.one("0", "2", "12"))
	}
	return fmt.Sprintf("%s[%s%s]", proto, at, g.one("", "", ":1", ":2", ":4"))
}
