package configs

import (
	"strings"
	"testing"
)

func TestHostInterfaceProblems(t *testing.T) {
	const net = "networks: [{name: a, subnet: 172.17.0.0/16, host_interface: "
	for text, want := range map[string]string{
		net + "lo}]":               "no name for an interface",
		net + "a/b}]":              "no name for an interface",
		net + "lab%d}]":            "no name for an interface",
		net + "sixteen-letters0}]": "no name for an interface",
		net + "[lab0]}]":           "host_interface",
		net + "lab0, internal: true, gateway_mode: isolated}]":                          "gateway has none",
		net + "lab0, inhibit_ipv4: true}]":                                              "gateway has none",
		net + "lab0}, {name: b, subnet: 172.18.0.0/16, host_interface: lab0}]":          "network a already",
		net + "lab0, inhibit_ipv4: true, subnet6: \"fd00::/64\"}]":                      "",
		"networks: [{name: a, ipv4: false, subnet6: \"fd00::/64\", host_interface: x}]": "",
	} {
		c, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(text))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v says nothing of %q", text, err, want)
		case want == "" && c.Networks[0].HostInterface == "":
			t.Errorf("%s: no interface", text)
		}
	}
}
