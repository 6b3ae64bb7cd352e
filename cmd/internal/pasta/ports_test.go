package pasta

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestPorts(t *testing.T) {
	for _, x := range []struct{ in, want string }{
		{"none", "none"},
		{"auto", "auto"},
		{"22", "22>22"},
		{"22:23", "22>23"},
		{"22-24", "22>22 23>23 24>24"},
		{"22-24:1022-1024", "22>1022 23>1023 24>1024"},
		{"8080-8080:80-80", "8080>80"},
		{"22,80:8080", "22>22 80>8080"},
		{"127.0.0.1/20-23,~21-22", "127.0.0.1/20>20 127.0.0.1/23>23"},
		{"[::1]/20", "::1/20>20"},
		{"192.0.2.1%eth0/22", "192.0.2.1%eth0/22>22"},
		{"%eth0/22", "%eth0/22>22"},
		{"0", "0: \"0\" is no port"},
		{"x", "is no port"},
		{"5-3", "ends before it begins"},
		{"1-3:1-2", "ranges of 3 and 2 ports"},
		{"65530-65535:65535", "above 65535"},
		{"a.b/22", `"a.b" is no address`},
		{"65536", "is no port"},
		{"", "is no port"},
	} {
		var f forwards
		err := f.add("-t", x.in)
		got := ""
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("-t %s: %v, want %q", x.in, err, x.want)
			}
			continue
		case f.mode == portsNone:
			got = "none"
		case f.mode == portsAuto:
			got = "auto"
		}
		for _, p := range f.list {
			at := ""
			if p.addr.IsValid() {
				at = p.addr.String()
			}
			if p.ifname != "" {
				at += "%" + p.ifname
			}
			if at != "" {
				at += "/"
			}
			got += fmt.Sprintf(" %s%d>%d", at, p.port, p.to)
		}
		if strings.TrimSpace(got) != x.want {
			t.Errorf("-t %s: %q, want %q", x.in, got, x.want)
		}
	}
	var f forwards
	if err := f.add("-t", "~22"); err != nil || len(f.list) != lastOrdinary-1 || !f.list[0].weak {
		t.Errorf("~22: %v, %d ports", err, len(f.list))
	}
	for _, order := range [][]string{{"22", "none"}, {"none", "22"}, {"auto", "22"}, {"all", "auto"}} {
		var f forwards
		if f.add("-t", order[0]) != nil || f.add("-t", order[1]) == nil {
			t.Errorf("-t %s -t %s passes", order[0], order[1])
		}
	}
}

func TestTableAddr(t *testing.T) {
	if !little {
		t.Skip("written for little-endian machines")
	}
	for in, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:0016":                         "0.0.0.0:22",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000200A8C0:0035": "192.168.0.2:53",
	} {
		if got, ok := tableAddr(in); !ok || got != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %v %v, want %s", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "0100007F", "0100007F:10000", "01:50", "zz00007F:1F90"} {
		if got, ok := tableAddr(in); ok {
			t.Errorf("%q is %v", in, got)
		}
	}
}

func TestGatewayIn(t *testing.T) {
	for _, x := range []struct{ prefix, gw, want string }{
		{"192.0.2.5/24", "192.0.2.1", "192.0.2.1"},
		{"192.0.2.5/24", "", "192.0.2.254"},
		{"192.0.2.5/24", "198.51.100.1", "192.0.2.254"},
		{"192.0.2.254/24", "", "192.0.2.253"},
		{"192.0.2.5/30", "", "192.0.2.6"},
		{"2001:db8::5/64", "fe80::1", "2001:db8::ffff:ffff:ffff:fffe"},
	} {
		gw, _ := netip.ParseAddr(x.gw)
		if got := gatewayIn(netip.MustParsePrefix(x.prefix), gw); got.String() != x.want {
			t.Errorf("%s by %s: %s, want %s", x.prefix, x.gw, got, x.want)
		}
	}
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"none", "auto", "all", "1-3:5-7,~2", "127.0.0.1%lo/22,~1-9", "[::1]/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var x forwards
		if x.add("-t", s) != nil {
			return
		}
		for _, p := range x.list {
			if p.port == 0 || p.to == 0 {
				t.Fatalf("%q leads port %d to %d", s, p.port, p.to)
			}
		}
	})
}
