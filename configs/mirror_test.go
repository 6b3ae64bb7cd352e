package configs

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMirrorOf(t *testing.T) {
	for _, x := range []struct{ subnet, mirror, a, want string }{
		{"172.17.0.0/16", "127.17.0.0/16", "172.17.0.3", "127.17.0.3"},
		{"10.1.2.0/24", "127.9.8.0/24", "10.1.2.200", "127.9.8.200"},
		{"10.1.16.0/20", "127.1.16.0/20", "10.1.31.254", "127.1.31.254"},
		{"10.1.2.64/26", "127.1.2.128/26", "10.1.2.65", "127.1.2.129"},
	} {
		n := Network{Subnet: netip.MustParsePrefix(x.subnet), Mirror: netip.MustParsePrefix(x.mirror)}
		if got := n.MirrorOf(netip.MustParseAddr(x.a)).String(); got != x.want {
			t.Errorf("%s in %s is %s in %s, not %s", x.a, x.subnet, got, x.mirror, x.want)
		}
	}
	if a := (Network{}).MirrorOf(netip.MustParseAddr("10.0.0.1")); a.IsValid() {
		t.Errorf("without a mirror: %s", a)
	}
}

func TestMirrorPorts(t *testing.T) {
	for text, want := range map[string]int{"": 0, "auto": 0, "22": 1, "22,80,5000-5010,53/udp": 4, "1-1024": 1} {
		if got, err := MirrorPorts(text).Spans(); err != nil || len(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "80-70", "70000", "80/sctp", "web", "1-2000", ","} {
		if got, err := MirrorPorts(text).Spans(); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestMirrorProblems(t *testing.T) {
	const net = "networks: [{name: a, subnet: 172.17.0.0/16, "
	for text, want := range map[string]string{
		net + "mirror: 172.18.0.0/16}]":                      "127.17.0.0/16",
		net + "mirror: 127.17.0.0/24}]":                      "length of 172.17.0.0/16",
		net + "mirror: 127.0.0.0/16}]":                       "127.0.0.1",
		net + "mirror: 127.17.0.1/16}]":                      "write 127.17.0.0/16",
		net + "mirror_ports: [22]}]":                         "without mirror",
		net + "mirror: 127.17.0.0/16, mirror_ports: [web]}]": "no port",
		net + "mirror: 127.17.0.0/16, inhibit_ipv4: true}]":  "inhibit_ipv4",
		"networks: [{name: a, ipv4: false}]":                 "subnet6",
		net + "ipv4: false, subnet6: \"fd00::/64\"}]":        "ipv4: false",
		"networks: [{name: a, ipv4: false, subnet6: \"fd00::/64\"}]\ncontainers: [{name: c, networks: [{name: a, ip: 10.0.0.2}]}]": "no IPv4",
		net + "outbound: 127.0.0.1}]":  "outside",
		net + "outbound6: 192.0.2.1}]": "IPv6",
		net + "mirror: 127.17.0.0/16}, {name: b, subnet: 172.18.0.0/16, mirror: 127.17.0.0/16}]":               "network a",
		net + "multicast_snooping: perhaps}]":                                                                  "multicast_snooping",
		net + "mirror: 127.17.0.0/16}, {name: b, internal: true, subnet: 172.18.0.0/16, mirror: 127.0.0.0/8}]": "length",
	} {
		if _, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v says nothing of %q", text, err, want)
		}
	}
}
