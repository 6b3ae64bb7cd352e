package engine

import (
	"net/netip"
	"testing"
)

func TestLeavesFrom(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")
	for _, c := range []struct {
		network, to string
		v4, v6      netip.Addr
		want        string
	}{
		{"udp", "192.0.2.53:53", v4, v6, "udp 192.0.2.9:0"},
		{"tcp", "192.0.2.53:53", v4, v6, "tcp 192.0.2.9:0"},
		{"udp", "[2001:db8::53]:53", v4, v6, "udp [2001:db8::9]:0"},
		{"udp", "[2001:db8::53]:53", v4, netip.Addr{}, ""},
		{"udp", "192.0.2.53:53", netip.Addr{}, v6, ""},
		{"udp", "127.0.0.53:53", v4, v6, ""},
		{"udp", "[::1]:53", v4, v6, ""},
	} {
		got := ""
		if a := leavesFrom(c.network, c.to, c.v4, c.v6); a != nil {
			got = a.Network() + " " + a.String()
		}
		if got != c.want {
			t.Errorf("%s %s: from %q, want %q", c.network, c.to, got, c.want)
		}
	}
}
