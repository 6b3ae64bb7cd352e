package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// problems are the lines of err; each must be a Problem.
func problems(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var lines []string
	for _, e := range all {
		var p *Problem
		if !errors.As(e, &p) || p.Text == "" {
			t.Errorf("%v is no Problem", e)
		}
		lines = append(lines, e.Error())
	}
	return lines
}

func compare(t *testing.T, about string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got  %s\n want %s", about, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}

// TestProblems are files that are wrong, with all that is said of them. x: stands for the file's name.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		// keys
		{"network: []", []string{`x.yaml:1: network: unknown key; did you mean networks?`}},
		{"\nNetworks: []", []string{`x.yaml:2: Networks: unknown key; did you mean networks?`}},
		{"colour: red", []string{`x.yaml:1: colour: unknown key; known here: networks, containers, rules, routes, egress, host, ip_forward, dns, socks, limits, threads, capture_ring, sandbox, log, metrics, metrics_public, api, pprof, state_file`}},
		{"log:\n  levle: info", []string{`x.yaml:2: log.levle: unknown key; did you mean level?`}},
		{"limits: {half-open: 3, tcp: 1}", []string{
			`x.yaml:1: limits.half-open: unknown key; did you mean half_open?`,
			`x.yaml:1: limits.tcp: unknown key; known here: flows, half_open, fdb, fragments`}},
		{"state-file: /x", []string{`x.yaml:1: state-file: unknown key; did you mean state_file?`}},
		{"containers: [{name: c, ports: [80], environment: {}, image: x}]", []string{
			`x.yaml:1: containers[0].ports: unknown key; did you mean publish?`,
			`x.yaml:1: containers[0].environment: unknown key; did you mean env?`,
			`x.yaml:1: containers[0].image: unknown key; known here: name, networks, ip, ip6, mac, aliases, publish, command, env, workdir, hostname, links, expose, egress, shape, offload, spoof, pid, netns, ifname`}},
		{`"a\nb": 1`, []string{`x.yaml:1: a\nb: unknown key; known here: networks, containers, rules, routes, egress, host, ip_forward, dns, socks, limits, threads, capture_ring, sandbox, log, metrics, metrics_public, api, pprof, state_file`}},
		{"networks: [{name: a, subnt: 10.0.0.0/8}]", []string{`x.yaml:1: networks[0].subnt: unknown key; did you mean subnet?`}},

		// kinds
		{"[a]", []string{`x.yaml:1: a list stands where the keys should; write networks, containers, rules, routes, egress, host, ip_forward, dns, socks, limits, threads, capture_ring, sandbox, log, metrics, metrics_public, api, pprof, state_file as keys`}},
		{"networks: {bridge: {}}", []string{`x.yaml:1: networks: a map stands where a list should; write networks: [{name: bridge, subnet: 172.17.0.0/16}]`}},
		{`rules: [{form: any}, {action: deny}, {to: "!", action: drop}, {to: web, action: drop}, {proto: icmp, ports: [80], action: drop}, {ports: [0], action: drop}, {from: "network:x", action: drop}]`, []string{
			`x.yaml:1: rules[0].form: unknown key; did you mean from?`,
			`x.yaml:1: rules[0].action: "" is not known here; write accept, drop or reject`,
			`x.yaml:1: rules[1].action: "deny" is not known here; write accept, drop or reject`,
			`x.yaml:1: rules[2].to: "!" is nobody; write whom the ! excludes, as !192.0.2.0/24`,
			`x.yaml:1: rules[3].to: "web" is nobody; write an address or CIDR, container:NAME, network:NAME, outside, host or any`,
			`x.yaml:1: rules[4].ports: icmp has none`,
			`x.yaml:1: rules[5].ports: "0" is no port; write one, or a range, as 80 or 8000-9000`,
			`x.yaml:1: rules[6].from: no network "x"; write one of those there are, or add it under networks`}},
		{"routes: [{from: bridge, to: bridge}, {from: bridge}]", []string{
			`x.yaml:1: routes[0].from: a route leads from one network to another: write two networks`,
			`x.yaml:1: routes[1].from: a route leads from one network to another: write two networks`}},
		{`egress: [{name: all}, {name: x, allow: ["a:b", "1.2.3", "[::1"]}]`, []string{
			`x.yaml:1: egress[0].name: "all" cannot be a policy's name; write letters, digits, _ . and -, but not all, internet or none`,
			`x.yaml:1: egress[1].allow: "a:b": not a port; write it as example.org:443, *.example.org, 192.0.2.0/24:5432/tcp or [2001:db8::/32]:443`}},
		{"containers: [{name: c, links: [d, '-'], expose: [x], egress: web}]", []string{
			`x.yaml:1: containers[0].egress: "web" is not known here; write all, internet or none`,
			`x.yaml:1: containers[0].links[0]: there is no container d; write one of those there are`,
			`x.yaml:1: containers[0].links[1]: "-" is no link; write CONTAINER or CONTAINER:ALIAS`,
			`x.yaml:1: containers[0].expose[0]: "x" exposes nothing; write a port or a range, and /udp where it is that, as 80 or 5000-5010/udp`}},
		{"networks: [{name: n, subnet: 172.17.0.0/16, gateway_mode: bridged}]", []string{
			`x.yaml:1: networks[0].gateway_mode: "bridged" is not known here; write nat, routed, nat-unprotected or isolated`}},
		{"networks: [{name: n, subnet: 172.17.0.0/16, gateway_mode: isolated}]", []string{
			`x.yaml:1: networks[0].gateway_mode: isolated leaves the network without a gateway; write internal: true, too`}},
		{"containers: [{name: c, shape: {rate_in: fast, speed: 1}}, {name: d, shape: {loss: 5}}]", []string{
			`x.yaml:1: containers[0].shape.speed: unknown key; known here: rate_in, rate_out, burst, delay, jitter, loss, flows`,
			`x.yaml:1: containers[0].shape.rate_in: "fast" is no rate; write one from 8kbit up, as 50mbit or 1gbit`,
			`x.yaml:1: containers[1].shape.loss: "5" is no part of a hundred; write one, as 1%`}},
		{"metrics: localhost:9475", []string{`x.yaml:1: metrics: "localhost:9475" is neither an address with a port nor unix:PATH; write 127.0.0.1:9475, or unix:/run/user/1000/tapswitch/metrics.sock`}},
		{"metrics: unix:m.sock", []string{`x.yaml:1: metrics: "m.sock" is no absolute path; write one, as unix:/run/user/1000/tapswitch/metrics.sock`}},
		{"metrics: 0.0.0.0:9475", []string{`x.yaml:1: metrics: 0.0.0.0:9475 is no loopback address: whoever reaches it could read the names of containers and networks; write 127.0.0.1:9475 or unix:PATH, or set metrics_public: true`}},
		{"api: {readonly: r.sock}", []string{`x.yaml:1: api.readonly: "r.sock" is no absolute path; write one, as /run/user/1000/tapswitch/readonly.sock`}},
		{"api: {readonly: /r, mode: rw}", []string{`x.yaml:1: api.mode: "rw" is no mode; write it as chmod takes it, as "0660"`}},
		{"socks: '1080'", []string{`x.yaml:1: socks: "1080" is no address with a port; write one, as 127.0.0.1:1080`}},
		{"networks: [bridge]", []string{`x.yaml:1: networks[0]: "bridge" stands where a map should; write name, subnet, gateway, subnet6, gateway6, mtu, internal, icc, gateway_mode, gateway_mode6, masquerade, host_binding, interface_prefix, range, range6, dhcp, advertise, egress, multicast_snooping, ipv4, inhibit_ipv4, mirror, mirror_ports, host_interface, outbound, outbound6 as keys`}},
		{"containers:\n  -\n  - {name: c}", []string{`x.yaml:2: containers[0]: is empty; write a value or take the line out`}},
		{"containers: [{name: [c]}]", []string{`x.yaml:1: containers[0].name: a list stands where one value should; write name: VALUE`}},
		{"containers: [{name: c, command: nginx -g x}]", []string{`x.yaml:1: containers[0].command: "nginx -g x" stands where a list should; write command: [nginx, -g, x]`}},
		{"containers: [{name: c, env: {A: b}}]", []string{`x.yaml:1: containers[0].env: a map stands where a list should; write env: [NAME=VALUE]`}},
		{"containers:\n- name: c\n  publish:\n  - 80:80\n  - {a: b}\n", []string{`x.yaml:5: containers[0].publish[1]: a map stands where one value should; write publish: VALUE`}},
		{"host: none", []string{`x.yaml:1: host: "none" stands where a map should; write loopback, address as keys`}},
		{`containers: [{name: c, workdir: "/a\0b"}]`, []string{`x.yaml:1: containers[0].workdir: "/a\x00b" holds a zero byte, which nothing in the system takes; leave it out`}},
		{"dns: {upstream: 192.0.2.1}", []string{`x.yaml:1: dns.upstream: "192.0.2.1" stands where a list should; write upstream: ["192.0.2.53"]`}},

		// numbers and words
		{"limits: {flows: many}", []string{`x.yaml:1: limits.flows: "many" is not a whole number; write one from 1 to 1048576`}},
		{"limits: {flows: 1.5}", []string{`x.yaml:1: limits.flows: "1.5" is not a whole number; write one from 1 to 1048576`}},
		{"limits: {flows: 010}", []string{`x.yaml:1: limits.flows: "010" is not a whole number; write one from 1 to 1048576`}},
		{"limits: {flows: '10'}", []string{`x.yaml:1: limits.flows: "10" is text; write the number without quotes: 10`}},
		{"limits: {flows: 0, fdb: -1, fragments: 99999999999999999999}", []string{
			`x.yaml:1: limits.flows: 0 is out of range; write 1 to 1048576`,
			`x.yaml:1: limits.fdb: -1 is out of range; write 1 to 1048576`,
			`x.yaml:1: limits.fragments: 99999999999999999999 is out of range; write 1 to 1048576`}},
		{"log: {level: verbose, format: xml}", []string{
			`x.yaml:1: log.level: "verbose" is not known here; write debug, info, warn or error`,
			`x.yaml:1: log.format: "xml" is not known here; write text or json`}},
		{"log: {level: INFO}", []string{`x.yaml:1: log.level: "INFO" is not known here; did you mean info? write debug, info, warn or error`}},
		{"host: {address: yes, loopback: 8080}", []string{
			`x.yaml:1: host.loopback: "8080" is neither none, all nor a list; write a list of ports, as [8080, 5432]`,
			`x.yaml:1: host.address: "yes" is not known here; write deny or allow`}},
		{"host:\n  loopback:\n    - 80\n    - 65536\n", []string{`x.yaml:4: host.loopback[1]: 65536 is out of range; write 1 to 65535`}},
		{"containers: [{name: c, offload: true, spoof: off, pid: 0}]", []string{
			`x.yaml:1: containers[0].offload: "true" is not known here; write on or off`,
			`x.yaml:1: containers[0].spoof: "off" is not known here; write deny or allow`,
			`x.yaml:1: containers[0].pid: 0 is out of range; write 1 to 4194304`}},
		{"dns: {upstream: [dns.example, '192.0.2.1:dns', 0.0.0.0, '192.0.2.1:0']}", []string{
			`x.yaml:1: dns.upstream[0]: "dns.example" is not a name server's address; write one, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::1]:5353`,
			`x.yaml:1: dns.upstream[1]: "192.0.2.1:dns" is not a name server's address; write one, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::1]:5353`}},
		{"dns: {upstream:\n  [0.0.0.0,\n  '192.0.2.1:0']}", []string{
			`x.yaml:2: dns.upstream[0]: 0.0.0.0 is no name server's address; write one, as 192.0.2.53`,
			`x.yaml:3: dns.upstream[1]: 192.0.2.1:0 has port 0; write another, or 192.0.2.1 for port 53`}},

		// what is missing is not said twice, and not for what could not be read
		{"networks: [{subnet: 10.0.0.0}]", []string{
			`x.yaml:1: networks[0].subnet: "10.0.0.0" is not a subnet; write an address, a slash and a length, as 10.0.0.0/24`,
			`x.yaml:1: networks[0].name: is missing; write one, as name: bridge`}},
		{"networks: [{name: [a], subnet: 10.0.0.0/8}]\ncontainers: [{name: c, networks: [a]}]", []string{
			`x.yaml:1: networks[0].name: a list stands where one value should; write name: VALUE`}},
		{"networks: [{name: a, subnet: 10.0.0.0/8, mtu: x}]\ncontainers: [{name: c, networks: [b]}]", []string{
			`x.yaml:1: networks[0].mtu: "x" is not a whole number; write one from 1280 to 65520`,
			`x.yaml:2: containers[0].networks[0]: no network "b"; write one of those there are, a, or add it under networks`}},
	} {
		_, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(tt.text))
		compare(t, tt.text, problems(t, err), tt.want...)
	}
}

func TestNetworkProblems(t *testing.T) {
	for _, tt := range []struct{ network, want string }{
		{"name: none, subnet: 10.0.0.0/8", `name: none is reserved (none, host, container); write another`},
		{"name: host, subnet: 10.0.0.0/8", `name: host is reserved (none, host, container); write another`},
		{"name: container, subnet: 10.0.0.0/8", `name: container is reserved (none, host, container); write another`},
		{"name: bridge, subnet: 10.0.0.0/8", `name: bridge is the name of networks[0] too; write another`},
		{"name: -a, subnet: 10.0.0.0/8", `name: "-a" is not a name; write letters, digits, _ . and -, a letter or digit first`},
		{"name: 'a b', subnet: 10.0.0.0/8", `name: "a b" is not a name; write letters, digits, _ . and -, a letter or digit first`},
		{"name: aé, subnet: 10.0.0.0/8", `name: "aé" is not a name; write letters, digits, _ . and -, a letter or digit first`},
		{"name: ~, subnet: 10.0.0.0/8", `name: is missing; write one, as name: bridge`},
		{"name: a", `subnet: is missing; write a free one, as subnet: 172.18.0.0/16`},
		{"name: a, subnet: 172.18.0.5/16", `subnet: 172.18.0.5/16 has bits set behind its prefix; write 172.18.0.0/16`},
		{"name: a, subnet: 172.17.0.5/16", `subnet: 172.17.0.5/16 has bits set behind its prefix; write 172.17.0.0/16`},
		{"name: a, subnet: 0.0.0.0/0", `subnet: 0.0.0.0/0 has a prefix length of 0; write one from /1 to /30`},
		{"name: a, subnet: 10.0.0.0/31", `subnet: 10.0.0.0/31 has a prefix length of 31; write one from /1 to /30`},
		{"name: a, subnet: 10.0.0.0/33", `subnet: "10.0.0.0/33" is not a subnet; write an address, a slash and a length, as 172.17.0.0/16`},
		{"name: a, subnet: 10.0.0/8", `subnet: "10.0.0/8" is not a subnet; write an address, a slash and a length, as 172.17.0.0/16`},
		{"name: a, subnet: 'fd00::/64'", `subnet: fd00::/64 is not IPv4; write it as subnet6, and here one as 172.18.0.0/16`},
		{"name: a, subnet: '::ffff:10.0.0.0/104'", `subnet: ::ffff:10.0.0.0/104 is not IPv4; write it as subnet6, and here one as 172.18.0.0/16`},
		{"name: a, subnet: 127.1.0.0/16", `subnet: 127.1.0.0/16 is in 127.0.0.0/8 (loopback); write a free one, as 172.18.0.0/16`},
		{"name: a, subnet: 169.254.0.0/16", `subnet: 169.254.0.0/16 is in 169.254.0.0/16 (link-local); write a free one, as 172.18.0.0/16`},
		{"name: a, subnet: 239.0.0.0/8", `subnet: 239.0.0.0/8 is in 224.0.0.0/4 (multicast); write a free one, as 172.18.0.0/16`},
		{"name: a, subnet: 172.16.0.0/12", `subnet: 172.16.0.0/12 overlaps 172.17.0.0/16 of network bridge; write a free one, as 10.15.0.0/16`},
		{"name: a, subnet: 172.17.3.0/24", `subnet: 172.17.3.0/24 overlaps 172.17.0.0/16 of network bridge; write a free one, as 172.18.0.0/16`},
		{"name: a, subnet: 10.0.0.0/8, gateway: 11.0.0.1", `gateway: 11.0.0.1 is outside 10.0.0.0/8; write an address of the subnet, as 10.0.0.1`},
		{"name: a, subnet: 10.0.0.0/8, gateway: 10.0.0.0", `gateway: 10.0.0.0 is the network address of 10.0.0.0/8; write an address of the subnet, as 10.0.0.1`},
		{"name: a, subnet: 10.0.0.0/8, gateway: 10.255.255.255", `gateway: 10.255.255.255 is the broadcast address of 10.0.0.0/8; write an address of the subnet, as 10.0.0.1`},
		{"name: a, subnet: 10.0.0.0/8, gateway: 10.0.0.1/8", `gateway: "10.0.0.1/8" has a prefix length, which is the subnet's; write the address alone, as 172.17.0.2`},
		{"name: a, subnet: 10.0.0.0/8, gateway: first", `gateway: "first" is not an IPv4 address; write one, as 172.17.0.2`},
		{"name: a, subnet: 10.0.0.0/8, gateway: 'fd00::1'", `gateway: "fd00::1" is not an IPv4 address; IPv6 goes to gateway6`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00::/48'", `subnet6: fd00::/48 has a prefix length of 48; write one from /64 to /126`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00::/127'", `subnet6: fd00::/127 has a prefix length of 127; write one from /64 to /126`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00::1/64'", `subnet6: fd00::1/64 has bits set behind its prefix; write fd00::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fe80::/64'", `subnet6: fe80::/64 is neither unique local (fc00::/7) nor global (2000::/3); write one, as fd00:17::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'ff02::/64'", `subnet6: ff02::/64 is neither unique local (fc00::/7) nor global (2000::/3); write one, as fd00:17::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: '::ffff:0.0.0.0/96'", `subnet6: ::ffff:0.0.0.0/96 is neither unique local (fc00::/7) nor global (2000::/3); write one, as fd00:17::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 10.0.0.0/8", `subnet6: 10.0.0.0/8 is not IPv6; write it as subnet, and here one as fd00:17::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00:17::/96'", `subnet6: fd00:17::/96 overlaps fd00:17::/64 of network bridge; write a free one`},
		{"name: a, subnet: 10.0.0.0/8, gateway6: 'fd00:1::1'", `gateway6: fd00:1::1 stands without subnet6; write that too, as subnet6: fd00:1::/64`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00:1::/64', gateway6: 'fd00:1::'", `gateway6: fd00:1:: is the subnet-router anycast address of fd00:1::/64; write an address of the subnet, as fd00:1::1`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00:1::/64', gateway6: 'fd00:2::1'", `gateway6: fd00:2::1 is outside fd00:1::/64; write an address of the subnet, as fd00:1::1`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00:1::/64', gateway6: 'fd00:1::1%x'", `gateway6: "fd00:1::1%x" names an interface, which has no meaning here; write the address alone: fd00:1::1`},
		{"name: a, subnet: 10.0.0.0/8, subnet6: 'fd00:1::/64', gateway6: 10.0.0.1", `gateway6: "10.0.0.1" is not an IPv6 address; IPv4 goes to gateway`},
		{"name: a, subnet: 10.0.0.0/8, mtu: 1279", `mtu: 1279 is out of range; write 1280 to 65520`},
		{"name: a, subnet: 10.0.0.0/8, mtu: 65521", `mtu: 65521 is out of range; write 1280 to 65520`},
		{"name: a, subnet: 10.0.0.0/8, mtu: 0", `mtu: 0 is out of range; write 1280 to 65520`},

		{"name: a, subnet: 0.0.0.0/1", ""},
		{"name: a, subnet: 10.0.0.0/30, gateway: 10.0.0.2", ""},
		{"name: a, subnet: 10.0.0.0/8, gateway: 10.9.9.0, mtu: 1280", ""},
		{"name: a, subnet: 10.0.0.0/8, mtu: 65520, subnet6: 'fd00:1::/126'", ""},
		{"name: a, subnet: 10.0.0.0/8, subnet6: '2001:db8:1::/64', gateway6: '2001:db8:1::ffff'", ""},
	} {
		text := "networks:\n  - {name: bridge, subnet: 172.17.0.0/16, subnet6: 'fd00:17::/64'}\n  - {" + tt.network + "}\n"
		_, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(text))
		if tt.want != "" {
			compare(t, tt.network, problems(t, err), "x.yaml:3: networks[1]."+tt.want)
		} else {
			compare(t, tt.network, problems(t, err))
		}
	}
}

func TestContainerProblems(t *testing.T) {
	long := strings.Repeat("a", 129)
	for _, tt := range []struct{ container, want string }{
		{"name: first", `name: first is the name of containers[0] too; write another`},
		{"name: a/b", `name: "a/b" is not a name; write letters, digits, _ . and -, a letter or digit first`},
		{"name: " + long, `name: "` + long[:60] + `"... is longer than 128 letters; write a shorter one`},
		{"networks: [bridge]", `name: is missing; write one, as name: web`},
		{"name: c, networks: [Bridge]", `networks[0]: no network "Bridge"; did you mean bridge?`},
		{"name: c, networks: [bridge, lan]", `networks[1]: no network "lan"; write one of those there are, bridge or v4only, or add it under networks`},
		{"name: c, networks: [{ip: 172.17.0.9}]", `networks[0].name: is missing; write a network's name`},
		{"name: c, networks: [host]", `networks[0]: "host" is not a network here; write networks: [] for none, ["container:NAME"] for another container's, and pid or netns to join another namespace`},
		{"name: c, networks: ['container:x']", `networks[0]: there is no other container "x"; write one of those there are`},
		{"name: c, networks: ['container:c']", `networks[0]: there is no other container "c"; write one of those there are`},
		{"name: c, networks: [bridge, {name: bridge}]", `networks[1].name: bridge is listed twice; keep one of the two`},
		{"name: c, networks: bridge", `networks: "bridge" stands where a list should; write networks: [bridge]`},
		{"name: c, networks: [{name: bridge, address: 172.17.0.9}]", `networks[0].address: unknown key; did you mean ip?`},
		{"name: c, ip: 172.18.0.9", `ip: 172.18.0.9 is outside 172.17.0.0/16 of network bridge; write a free one, as 172.17.0.3`},
		{"name: c, ip: 172.17.0.1", `ip: 172.17.0.1 is the gateway of network bridge; write a free one, as 172.17.0.3`},
		{"name: c, ip: 172.17.0.0", `ip: 172.17.0.0 is the network address of 172.17.0.0/16; write a free one, as 172.17.0.3`},
		{"name: c, ip: 172.17.255.255", `ip: 172.17.255.255 is the broadcast address of 172.17.0.0/16; write a free one, as 172.17.0.3`},
		{"name: c, ip: 172.17.0.2", `ip: 172.17.0.2 is taken by first on network bridge; write a free one, as 172.17.0.3`},
		{"name: c, networks: [{name: bridge, ip: 172.17.0.2}]", `networks[0].ip: 172.17.0.2 is taken by first on network bridge; write a free one, as 172.17.0.3`},
		{"name: c, ip: 'fd00:17::5'", `ip: "fd00:17::5" is not an IPv4 address; IPv6 goes to ip6`},
		{"name: c, ip6: 172.17.0.5", `ip6: "172.17.0.5" is not an IPv6 address; IPv4 goes to ip`},
		{"name: c, ip6: '::ffff:172.17.0.5'", `ip6: "::ffff:172.17.0.5" is not an IPv6 address; IPv4 goes to ip`},
		{"name: c, ip6: 'fd00:17::1'", `ip6: fd00:17::1 is the gateway of network bridge; write a free one, as fd00:17::3`},
		{"name: c, ip6: 'fd00:17::'", `ip6: fd00:17:: is the subnet-router anycast address of fd00:17::/64; write a free one, as fd00:17::3`},
		{"name: c, ip6: 'fd00:17::2'", `ip6: fd00:17::2 is taken by first on network bridge; write a free one, as fd00:17::3`},
		{"name: c, networks: [v4only], ip6: 'fd00:18::2'", `ip6: fd00:18::2 is given, but network v4only has no subnet6; add one there, or take ip6 out`},
		{"name: c, networks: [bridge, v4only], ip: 172.17.0.9", `ip: stands at a container with 2 networks; write it where it belongs: networks: [{name: bridge, ip: ...}]`},
		{"name: c, networks: [], mac: '02:00:00:00:00:09'", `mac: stands at a container with 0 networks; write it where it belongs: networks: [{name: bridge, mac: ...}]`},
		{"name: c, networks: [{name: bridge, ip: 172.17.0.8}], ip: 172.17.0.9", `ip: is given twice, here and under networks; keep one of the two`},
		{"name: c, mac: '02:00:00:00:00:01'", `mac: 02:00:00:00:00:01 is taken by first on network bridge; write another`},
		{"name: c, mac: '02:00:00:00:00'", `mac: "02:00:00:00:00" is not a MAC address; write six bytes, as 02:42:ac:11:00:02`},
		{"name: c, mac: '03:00:00:00:00:01'", `mac: 03:00:00:00:00:01 is a group's address; write one whose first byte is even, as 02:42:ac:11:00:02`},
		{"name: c, mac: '00:00:00:00:00:00'", `mac: 00:00:00:00:00:00 is no address; write one, as 02:42:ac:11:00:02`},
		{"name: c, aliases: [ok, 'not ok']", `aliases[1]: "not ok" is not a name; write letters, digits, _ . and -, a letter or digit first`},
		{"name: c, publish: ['80:80', ' ']", `publish[1]: is empty; write HOSTPORT:PORT, as "8080:80"`},
		{"name: c, publish: ['bad']", `publish[0]: "bad": no such port`},
		{"name: c, networks: [], publish: ['80:80']", `publish: is given, but the container is on no network; write networks: [bridge]`},
		{"name: c, command: ['']", `command[0]: is empty; write the program's name or path`},
		{"name: c, env: [A=, B]", `env[1]: "B" is not NAME=VALUE; write it so, as LANG=C`},
		{"name: c, env: ['=x']", `env[0]: "=x" is not NAME=VALUE; write it so, as LANG=C`},
		{"name: c, workdir: tmp", `workdir: "tmp" is relative, to nothing in particular; write it from /`},
		{"name: c, hostname: 'a b'", `hostname: "a b" is not a host's name; write letters, digits, . and -`},
		{"name: c, hostname: " + long[:65], `hostname: "` + long[:60] + `"... is longer than the kernel's 64 letters; write a shorter one`},
		{"name: c, pid: 1, netns: /run/netns/x", `netns: stands beside pid; keep one of the two, either names the namespace`},
		{"name: c, pid: 1, command: [x]", "command: stands beside pid or netns, whose namespace someone else runs; take it out, `tapswitch exec` runs a program there"},
		{"name: c, netns: /run/netns/x, command: [x]", "command: stands beside pid or netns, whose namespace someone else runs; take it out, `tapswitch exec` runs a program there"},
		{"name: c, pid: -4", `pid: -4 is out of range; write 1 to 4194304`},
		{"name: c, netns: blue", `netns: "blue" is not a path from /; write it so, as /run/netns/blue`},
		{"name: c, netns: ./blue", `netns: "./blue" is not a path from /; write it so, as /run/netns/NAME or /proc/PID/ns/net`},
		{"name: c, ifname: sixteen-letters-", `ifname: "sixteen-letters-" is not an interface's name; write at most 15 letters without space, / and :, as eth0`},
		{"name: c, ifname: lo", `ifname: "lo" is not an interface's name; write at most 15 letters without space, / and :, as eth0`},

		{"name: c, ip: 172.17.0.254, ip6: 'fd00:17::ffff:ffff', mac: '02:00:00:00:00:09', aliases: [www, a.b]", ""},
		{"name: c, networks: [bridge, v4only]", ""},
		{"name: c, networks: [], command: [x]", ""},
		{"name: First", ""},
	} {
		CheckPublish = func(spec string) error {
			if spec == "bad" {
				return errors.New("no such port")
			}
			return nil
		}
		t.Cleanup(func() { CheckPublish = nil })
		text := "networks: [{name: bridge, subnet: 172.17.0.0/16, subnet6: 'fd00:17::/64'}, {name: v4only, subnet: 172.18.0.0/16}]\n" +
			"containers:\n  - {name: first, ip: 172.17.0.2, ip6: 'fd00:17::2', mac: '02:00:00:00:00:01', networks: [bridge]}\n  - {" + tt.container + "}\n"
		_, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(text))
		if tt.want != "" {
			compare(t, tt.container, problems(t, err), "x.yaml:4: containers[1]."+tt.want)
		} else {
			compare(t, tt.container, problems(t, err))
		}
	}
}

func TestNoUsualNetwork(t *testing.T) {
	_, err := load(Options{Getenv: environ{}.get}, "x.yaml",
		[]byte("networks: [{name: a, subnet: 10.1.0.0/16}, {name: b, subnet: 10.2.0.0/16}]\ncontainers: [{name: c}]"))
	compare(t, "two networks, none called bridge", problems(t, err),
		`x.yaml:2: containers[0].networks: is missing, and no network is called bridge; write networks: [a]`)
}

func TestFullSubnet(t *testing.T) {
	_, err := load(Options{Getenv: environ{}.get}, "x.yaml",
		[]byte("networks: [{name: a, subnet: 10.1.0.0/30}]\ncontainers: [{name: c, ip: 10.1.0.2}, {name: d, ip: 10.1.0.2}]"))
	compare(t, "a full subnet", problems(t, err),
		`x.yaml:2: containers[1].ip: 10.1.0.2 is taken by c on network a; 10.1.0.0/30 is full, write a wider one`)
}

// TestSyntaxProblems are files that are not of their format.
func TestSyntaxProblems(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"x.yaml", "networks:\n\t- a", []string{`x.yaml:2: not valid YAML: found character that cannot start any token; indent with spaces, not tabs, and quote values that start with @, ` + "`" + ` or %`}},
		{"x.yaml", "log: {level: info", []string{`x.yaml:1: not valid YAML: did not find expected ',' or '}'; look for a missing quote, bracket, colon or indentation on this line or the one before`}},
		{"x.yaml", "log:\n  level: info\nlog:\n  format: text", []string{`x.yaml:3: not valid YAML: mapping key "log" already defined at line 1; keep one of the two`}},
		{"x.yaml", "log: {level: info}\n---\nlog: {level: warn}\n", []string{`x.yaml:2: a second document starts here and would be ignored; keep one document, without a further ---`}},
		{"x.yaml", "log: {}\nnetworks: &a [*a]", []string{`x.yaml:2: not valid YAML: anchor 'a' value contains itself; write the value out`}},
		{"x.yaml", "log: {}\nnetworks: *a", []string{`x.yaml:2: not valid YAML: unknown anchor 'a' referenced; write the value out`}},
		{"x.json", "{\n\"log\": {},\n}", []string{`x.json:3: not valid JSON: invalid character '}' looking for beginning of object key string; look for a missing or extra comma, quote or bracket here or just before`}},
		{"x.json", "{\n\"log\": {}", []string{`x.json:2: not valid JSON: unexpected end of JSON input; look for a missing or extra comma, quote or bracket here or just before`}},
		{"x.json", "{} {}", []string{`x.json:1: not valid JSON: invalid character '{' after top-level value; look for a missing or extra comma, quote or bracket here or just before`}},
		{"x.json", "{\"log\": {},\n\"log\": {}}", []string{`x.json:2: key "log" is given twice; keep one of the two`}},
		{"x.json", "[]", []string{`x.json:1: a list stands where the keys should; write networks, containers, rules, routes, egress, host, ip_forward, dns, socks, limits, threads, capture_ring, sandbox, log, metrics, metrics_public, api, pprof, state_file as keys`}},
		{"x.json", "{\"limits\": {\n\"flows\": 8e3}}", []string{`x.json:2: limits.flows: "8e3" is not a whole number; write one from 1 to 1048576`}},
		{"x.toml", "\nlog = {level = info}", []string{`x.toml:2: not valid TOML: expected character ,; look for a missing quote, bracket or = on this line`}},
		{"x.toml", "[log]\nlevel = 'info'\n\n[log]\n", []string{`x.toml:4: not valid TOML: table log already exists; keep one of the two`}},
		{"x.toml", "[log]\nlevel = 'info'\nlevle = 'info'\n", []string{`x.toml:3: log.levle: unknown key; did you mean level?`}},
		{"x.toml", "[[networks]]\nname = 'a'\n\n[networks.b]\nc = 1", []string{
			`x.toml:1: networks[0].subnet: is missing; write a free one, as subnet: 172.17.0.0/16`,
			`x.toml:4: networks[0].b: unknown key; known here: name, subnet, gateway, subnet6, gateway6, mtu, internal, icc, gateway_mode, gateway_mode6, masquerade, host_binding, interface_prefix, range, range6, dhcp, advertise, egress, multicast_snooping, ipv4, inhibit_ipv4, mirror, mirror_ports, host_interface, outbound, outbound6`}},
		{"x.toml", "limits = {flows = true, fdb = 1979-05-27}", []string{
			`x.toml:1: limits.flows: "true" is not a whole number; write one from 1 to 1048576`,
			`x.toml:1: limits.fdb: "1979-05-27" is not a whole number; write one from 1 to 1048576`}},
		{"x.toml", "a = " + strings.Repeat("[", 1<<19), []string{`x.toml:1: not valid TOML: brackets nest deeper than 100; look for one that is not closed`}},
	} {
		_, err := load(Options{Getenv: environ{}.get}, tt.name, []byte(tt.text))
		if len(tt.text) > 100 {
			tt.text = tt.text[:100] + "..."
		}
		compare(t, tt.text, problems(t, err), tt.want...)
	}
}

// TestDeepNesting: no format lets brackets overflow the stack.
func TestDeepNesting(t *testing.T) {
	const n = 1 << 19
	for _, name := range []string{"x.yaml", "x.json", "x.toml"} {
		for _, open := range []string{"[", `{"a":`, "{a=", "- ", "? "} {
			text := strings.Repeat(open, n/len(open))
			if strings.HasSuffix(name, "toml") {
				text = "a = " + text
			}
			if c, err := load(Options{Getenv: environ{}.get}, name, []byte(text)); err == nil {
				t.Errorf("%s of %q is %+v", name, open, c)
			}
		}
	}
}

// TestTooDeep: brackets in strings and comments do not count.
func TestTooDeep(t *testing.T) {
	many := strings.Repeat("[", maxDepth+1)
	for _, tt := range []struct {
		text string
		want int
	}{
		{strings.Repeat("[", maxDepth), 0},
		{"\n" + many, 2},
		{strings.Repeat("[]", maxDepth), 0},
		{"# " + many + "\n", 0},
		{"# x\n" + many, 2},
		{"a = \"\\\"" + many + "\"", 0},
		{"a = '" + many + "'", 0},
		{"a = '\\'\n" + many, 2},
		{"a = \"\"\"\n\"" + many + "\\\"\"\"\"", 0},
		{"a = '''\n'" + many + "'''\nb = " + many, 3},
		{"a = \"\" # " + many, 0},
		{"a = \"open\n" + many, 2},
	} {
		if got := tooDeep([]byte(tt.text)); got != tt.want {
			t.Errorf("tooDeep(%q) = %d, want %d", tt.text, got, tt.want)
		}
	}
}

// TestSourceProblems: what is wrong in a variable or flag names it; what is wrong below it is said all the same.
func TestSourceProblems(t *testing.T) {
	env := environ{"TAPSWITCH_LOG_LEVEL": "loud", "TAPSWITCH_HOST_LOOPBACK": "80,0", "TAPSWITCH_HOST_ADDRESS": "no", "TAPSWITCH_LOG_FORMAT": "xml",
		"TAPSWITCH_DNS_UPSTREAM": "192.0.2.1,dns", "TAPSWITCH_LIMITS_FLOWS": "many", "TAPSWITCH_LIMITS_HALF_OPEN": "0",
		"TAPSWITCH_LIMITS_FDB": "1.5", "TAPSWITCH_LIMITS_FRAGMENTS": "-1", "TAPSWITCH_STATE_FILE": "/a\x00b"}
	_, err := load(Options{Getenv: env.get}, "x.yaml", []byte("log:\n  level: verbose\n"))
	compare(t, "environment", problems(t, err),
		`x.yaml:2: log.level: "verbose" is not known here; write debug, info, warn or error`,
		`TAPSWITCH_HOST_LOOPBACK: 0 is out of range; write 1 to 65535`,
		`TAPSWITCH_HOST_ADDRESS: "no" is not known here; write deny or allow`,
		`TAPSWITCH_DNS_UPSTREAM: "dns" is not a name server's address; write one, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::1]:5353`,
		`TAPSWITCH_LIMITS_FLOWS: "many" is not a whole number; write one from 1 to 1048576`,
		`TAPSWITCH_LIMITS_HALF_OPEN: 0 is out of range; write 1 to 1048576`,
		`TAPSWITCH_LIMITS_FDB: "1.5" is not a whole number; write one from 1 to 1048576`,
		`TAPSWITCH_LIMITS_FRAGMENTS: -1 is out of range; write 1 to 1048576`,
		`TAPSWITCH_LOG_LEVEL: "loud" is not known here; write debug, info, warn or error`,
		`TAPSWITCH_LOG_FORMAT: "xml" is not known here; write text or json`,
		`TAPSWITCH_STATE_FILE: "/a\x00b" holds a zero byte, which nothing in the system takes; leave it out`)

	fs := newFlags(t, "--limits-flows=x", "--host-loopback=some", "--dns-upstream=0.0.0.0")
	_, err = load(Options{Flags: fs, Getenv: environ{}.get}, "", nil)
	compare(t, "flags", problems(t, err),
		`--host-loopback: "some" is neither none, all nor a list; write a list of ports, as 8080,5432`,
		`--limits-flows: "x" is not a whole number; write one from 1 to 1048576`,
		`--dns-upstream: 0.0.0.0 is no name server's address; write one, as 192.0.2.53`)
}

// TestManyProblems: a file of nothing but mistakes does not scroll forever.
func TestManyProblems(t *testing.T) {
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, err := load(Options{Getenv: environ{}.get}, "x.yaml", []byte(text.String()))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 101 || !strings.HasPrefix(lines[0], "x.yaml:1: key0: ") || lines[100] != "150 more problems; mend those above first" {
		t.Errorf("%d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"subnet", "subnet"}, {"Subnet", "subnet"}, {"sbunet", "subnet"}, {"subnets", "subnet"}, {"subnet_6", "subnet6"}, {"mtuu", "mtu"},
		{"cidr", "subnet"}, {"CIDR", "subnet"}, {"x", ""}, {"", ""}, {"ports", ""}, {strings.Repeat("subnet", 20), ""},
	} {
		if got := nearest(tt.word, []string{"subnet", "subnet6", "gateway", "mtu"}); got != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
