package forward

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	anyIP  = netip.Addr{}
	zero4  = netip.MustParseAddr("0.0.0.0")
	zero6  = netip.MustParseAddr("::")
	local4 = netip.MustParseAddr("127.0.0.1")
	local6 = netip.MustParseAddr("::1")
)

func TestParseSpec(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []Spec
	}{
		{"80", []Spec{{TCP, anyIP, 0, 0, 80}}},
		{":80", []Spec{{TCP, anyIP, 0, 0, 80}}},
		{"::80", []Spec{{TCP, anyIP, 0, 0, 80}}},
		{"0:80", []Spec{{TCP, anyIP, 0, 0, 80}}},
		{"80/", []Spec{{TCP, anyIP, 0, 0, 80}}},
		{"80/udp", []Spec{{UDP, anyIP, 0, 0, 80}}},
		{"8080:80", []Spec{{TCP, anyIP, 8080, 8080, 80}}},
		{":8080:80", []Spec{{TCP, anyIP, 8080, 8080, 80}}},
		{"8080:80/tcp", []Spec{{TCP, anyIP, 8080, 8080, 80}}},
		{"5353:53/UDP", []Spec{{UDP, anyIP, 5353, 5353, 53}}},
		{"65535:65535", []Spec{{TCP, anyIP, 65535, 65535, 65535}}},
		{"127.0.0.1:8080:80", []Spec{{TCP, local4, 8080, 8080, 80}}},
		{"127.0.0.1::80/udp", []Spec{{UDP, local4, 0, 0, 80}}},
		{"0.0.0.0:8080:80", []Spec{{TCP, zero4, 8080, 8080, 80}}},
		{"[::]:8080:80", []Spec{{TCP, zero6, 8080, 8080, 80}}},
		{"[::1]:8080:80", []Spec{{TCP, local6, 8080, 8080, 80}}},
		{"[::1]::80", []Spec{{TCP, local6, 0, 0, 80}}},
		{"[::ffff:127.0.0.1]:8080:80", []Spec{{TCP, local4, 8080, 8080, 80}}},
		{"[127.0.0.1]:8080:80", []Spec{{TCP, local4, 8080, 8080, 80}}},
		{"8080-8082:80-82", []Spec{{TCP, anyIP, 8080, 8080, 80}, {TCP, anyIP, 8081, 8081, 81}, {TCP, anyIP, 8082, 8082, 82}}},
		{"[::1]:65534-65535:65534-65535/udp", []Spec{{UDP, local6, 65534, 65534, 65534}, {UDP, local6, 65535, 65535, 65535}}},
		{"80-81", []Spec{{TCP, anyIP, 0, 0, 80}, {TCP, anyIP, 0, 0, 81}}},
		{"127.0.0.1::80-81", []Spec{{TCP, local4, 0, 0, 80}, {TCP, local4, 0, 0, 81}}},
		{"8080-8090:80", []Spec{{TCP, anyIP, 8080, 8090, 80}}},
		{"127.0.0.1:8080-8090:80-80", []Spec{{TCP, local4, 8080, 8090, 80}}},
		{"8080-8080:80", []Spec{{TCP, anyIP, 8080, 8080, 80}}},
	} {
		got, err := ParseSpec(tt.in)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("ParseSpec(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
	if all, err := ParseSpec("1-65535:1-65535"); err != nil || len(all) != 65535 || all[65534] != (Spec{TCP, anyIP, 65535, 65535, 65535}) {
		t.Errorf("all ports: %d specs, %v", len(all), err)
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for _, tt := range []struct {
		in   string
		says []string
	}{
		{"", []string{"no container port", "8080:80"}},
		{"8080:", []string{"no container port"}},
		{"127.0.0.1:8080:", []string{"no container port"}},
		{"/tcp", []string{"no container port"}},
		{"http", []string{`container port "http"`, "1 to 65535"}},
		{"8080:http", []string{`container port "http"`}},
		{"web:80", []string{`host port "web"`, "8080-8090"}},
		{"0", []string{`container port "0"`}},
		{"8080:65536", []string{`container port "65536"`}},
		{"99999:80", []string{`host port "99999"`}},
		{"-1:80", []string{`host port "-1"`}},
		{"+80:80", []string{`host port "+80"`}},
		{" 8080:80", []string{`host port " 8080"`}},
		{"0-10:80", []string{`host port "0-10"`}},
		{"1-2-3:80", []string{`host port "1-2-3"`}},
		{"8090-8080:80", []string{`host port range "8090-8080"`, "write 8080-8090"}},
		{"8080:81-80", []string{`container port range "81-80"`, "write 80-81"}},
		{"8080-8081:80-82", []string{"invalid ranges", "80-82 has 3", "8080-8081 has 2", "8080-8081:80-81"}},
		{"8080:80-81", []string{"invalid ranges"}},
		{"8080:80/sctp", []string{"sctp is not supported", "tcp or udp"}},
		{"8080:80/icmp", []string{`protocol "icmp"`, "8080:80/udp"}},
		{"8080:80/tcp/udp", []string{`protocol "tcp/udp"`}},
		{"8080/tcp:80", []string{`host port "8080/tcp"`}},
		{"localhost:8080:80", []string{`host address "localhost"`, "127.0.0.1:8080:80"}},
		{"127.0.0.256:8080:80", []string{`host address "127.0.0.256"`}},
		{"::1:8080:80", []string{"brackets", "[::1]:8080:80"}},
		{"[::1]:8080:80:90", []string{"too many colons"}},
		{"[::1:8080:80", []string{`no "]:"`}},
		{"[::1]8080:80", []string{`no "]:"`}},
		{"[::1]:80", []string{"no host port", "[::1]::80"}},
		{"[::1]", []string{`no "]:"`}},
		{"[]:8080:80", []string{`host address "[]"`}},
		{"[fe80::1%eth0]:8080:80", []string{"zone"}},
	} {
		got, err := ParseSpec(tt.in)
		if err == nil || got != nil {
			t.Errorf("ParseSpec(%q) = %v, %v, want an error", tt.in, got, err)
			continue
		}
		for _, s := range append(tt.says, tt.in) {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("ParseSpec(%q): error %q does not say %q", tt.in, err, s)
			}
		}
	}
}

func TestSpecPrints(t *testing.T) {
	for _, tt := range []struct {
		spec        Spec
		String, Arg string
	}{
		{Spec{TCP, zero4, 8080, 8080, 80}, "0.0.0.0:8080->80/tcp", "0.0.0.0:8080:80/tcp"},
		{Spec{TCP, zero6, 8080, 8080, 80}, "[::]:8080->80/tcp", "[::]:8080:80/tcp"},
		{Spec{TCP, anyIP, 8080, 8080, 80}, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp", "8080:80/tcp"},
		{Spec{UDP, local6, 8080, 8090, 53}, "[::1]:8080-8090->53/udp", "[::1]:8080-8090:53/udp"},
		{Spec{UDP, local4, 0, 0, 53}, "127.0.0.1:0->53/udp", "127.0.0.1::53/udp"},
		{Spec{TCP, anyIP, 0, 0, 80}, "0.0.0.0:0->80/tcp, [::]:0->80/tcp", "80/tcp"},
	} {
		if got := tt.spec.String(); got != tt.String {
			t.Errorf("String = %q, want %q", got, tt.String)
		}
		if got := tt.spec.Arg(); got != tt.Arg {
			t.Errorf("Arg = %q, want %q", got, tt.Arg)
		}
	}
	if got := Proto(132).String(); got != "proto 132" {
		t.Errorf("Proto(132) = %q", got)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		"80", "8080:80/tcp", "127.0.0.1:8080:80/udp", "[::1]::80", "8080-8081:80-81", "8000-9000:80",
		"[::ffff:1.2.3.4]:1:1", "[::1%a]:1:1", "::1:80:80", "0:0", "[]:1:1", "]:[:1", "8080:80/sctp",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		specs, err := ParseSpec(in)
		if err != nil {
			if specs != nil {
				t.Fatalf("ParseSpec(%q) = %v with error %v", in, specs, err)
			}
			return
		}
		if len(specs) == 0 {
			t.Fatalf("ParseSpec(%q) = nothing, without an error", in)
		}
		for i, s := range specs {
			if s.ContainerPort != specs[0].ContainerPort+uint16(i) || s.HostPortEnd < s.HostPort || s.HostPortEnd != s.HostPort && len(specs) > 1 {
				t.Fatalf("ParseSpec(%q)[%d] = %+v", in, i, s)
			}
			again, err := ParseSpec(s.Arg())
			if err != nil || len(again) != 1 || again[0] != s {
				t.Fatalf("ParseSpec(%q) = %+v prints %q, which parses to %+v, %v", in, s, s.Arg(), again, err)
			}
			if !strings.Contains(s.String(), "->") {
				t.Fatalf("%+v prints %q", s, s)
			}
		}
	})
}
