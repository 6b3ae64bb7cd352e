package configs

import (
	"net"
	"net/netip"
	"testing"
)

// TestValidateByHand: a Config that no file made has names for lines.
func TestValidateByHand(t *testing.T) {
	c := Default()
	c.Networks = append(c.Networks, Network{Name: "lab", Subnet: netip.MustParsePrefix("10.0.0.1/8")}, Network{})
	c.Containers = []Container{
		{Name: "web", Networks: []Attachment{{Network: "bridge", IP: netip.MustParseAddr("10.0.0.1"), MAC: net.HardwareAddr{1}}, {Network: "bridge"}}, Pid: -1},
		{Networks: []Attachment{{}}, Publish: []string{""}},
	}
	c.Host.Loopback.List = []uint16{0}
	c.DNS.Upstream = []netip.AddrPort{{}}
	c.Limits = Limits{Flows: -1}
	c.LogLevel, c.LogFormat = "", "xml"
	compare(t, "by hand", problems(t, c.Validate()),
		`networks[lab].subnet: 10.0.0.1/8 has bits set behind its prefix; write 10.0.0.0/8`,
		`networks[lab].mtu: 0 is out of range; write 1280 to 65520`,
		`networks[2].name: is missing; write one, as name: bridge`,
		`networks[2].subnet: is missing; write a free one, as subnet: 172.18.0.0/16`,
		`networks[2].mtu: 0 is out of range; write 1280 to 65520`,
		`containers[web].networks[0].ip: 10.0.0.1 is outside 172.17.0.0/16 of network bridge; write a free one, as 172.17.0.2`,
		`containers[web].networks[0].mac: 01 is not a MAC address; write six bytes, as 02:42:ac:11:00:02`,
		`containers[web].networks[1].name: bridge is listed twice; keep one of the two`,
		`containers[web].pid: -1 is no process; write the number that ps shows`,
		`containers[1].name: is missing; write one, as name: web`,
		`containers[1].networks[0].name: is missing; write a network's name`,
		`containers[1].publish[0]: is empty; write HOSTPORT:PORT, as "8080:80"`,
		`host.loopback: 0 is not a port; write 1 to 65535`,
		`dns.upstream[0]: invalid IP is no name server's address; write one, as 192.0.2.53`,
		`limits.flows: -1 is out of range; write 1 to 1048576`,
		`limits.half_open: 0 is out of range; write 1 to 1048576`,
		`limits.fdb: 0 is out of range; write 1 to 1048576`,
		`limits.fragments: 0 is out of range; write 1 to 1048576`,
		`log.level: "" is not known here; write debug, info, warn or error`,
		`log.format: "xml" is not known here; write text or json`)
}

func TestValidateMissingGateway(t *testing.T) {
	c := Default()
	n := Network{Name: "lab", Subnet: netip.MustParsePrefix("10.0.0.0/8"), Subnet6: netip.MustParsePrefix("fd00::/64")}
	c.Networks = append(c.Networks, n.WithDefaults())
	compare(t, "with defaults", problems(t, c.Validate()))
	n.MTU = 1500
	c.Networks[1] = n
	compare(t, "without", problems(t, c.Validate()),
		`networks[lab].gateway: is missing; write an address of the subnet, as 10.0.0.1`,
		`networks[lab].gateway6: is missing; write an address of the subnet, as fd00::1`)
}

// TestValidateMoved: who adds to a loaded Config or takes from it still gets the lines of what is left.
func TestValidateMoved(t *testing.T) {
	text := "containers:\n  - name: a\n    env: [A=1]\n  - name: b\n    env:\n      - B=1\n"
	c := loadText(t, "x.yaml", text)
	c.Containers[1].Env[0] = "B"
	compare(t, "in its place", problems(t, c.Validate()), `x.yaml:6: containers[1].env[0]: "B" is not NAME=VALUE; write it so, as LANG=C`)

	c.Containers = c.Containers[1:]
	compare(t, "moved up", problems(t, c.Validate()), `x.yaml:4: containers[0].env[0]: "B" is not NAME=VALUE; write it so, as LANG=C`)

	c.Containers = []Container{{Name: "api", Env: []string{"A"}}}
	compare(t, "another", problems(t, c.Validate()), `containers[api].env[0]: "A" is not NAME=VALUE; write it so, as LANG=C`)
}
