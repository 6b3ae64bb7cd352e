package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func init() { programs["gateway"] = progGateway }

// progGateway prints by which address its IPv4 default routes lead.
func progGateway([]string) int {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fail(err)
	}
	for _, r := range routes {
		if r.Gw != nil {
			fmt.Println(r.Gw)
		}
	}
	return 0
}

// address gives the lab's host one more address.
func (l *lab) address(cidr string) {
	l.t.Helper()
	up, err := netlink.LinkByName("up0")
	if err != nil {
		l.t.Fatal(err)
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		l.t.Fatal(err)
	}
	a.Flags = 2 // IFA_F_NODAD
	if err := netlink.AddrAdd(up, a); err != nil {
		l.t.Fatal(err)
	}
}

// Outside, a network's containers are seen at the host's address that it names,
// also after a restart; those of others are not.
func TestOutboundAddress(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	l.address("192.0.2.9/24")
	l.address("2001:db8::9/64")
	file := l.write("c.yaml", "networks: [{name: bridge, subnet: 172.17.0.0/16, subnet6: \"fd00:17::/64\"}]\n")
	l.up("-c", file)
	l.ok("network", "create", "--ipv6", "-o", "com.docker.network.host_ipv4=192.0.2.9", "-o", "com.docker.network.host_ipv6=2001:db8::9", "named")
	far := startProc(t, l.far("serve", "80"))
	far.expect("listening")
	check := func() {
		for _, x := range []struct{ network, proto, to, from string }{
			{"named", "tcp", "192.0.2.2:80", "from 192.0.2.9:"}, {"named", "udp", "192.0.2.2:80", "from 192.0.2.9:"},
			{"named", "tcp", "[2001:db8::2]:80", "from [2001:db8::9]:"}, {"named", "udp", "[2001:db8::2]:80", "from [2001:db8::9]:"},
			{"bridge", "tcp", "192.0.2.2:80", "from 192.0.2.1:"}, {"bridge", "udp", "192.0.2.2:80", "from 192.0.2.1:"},
		} {
			if got := l.ok("run", "--rm", "--net", x.network, "--", prog, "ask", x.proto, x.to, "hello"); !strings.HasPrefix(got, x.from) {
				t.Errorf("%s %s to %s: %q, not %q", x.network, x.proto, x.to, got, x.from)
			}
		}
		l.ok("run", "--rm", "--net", "named", "--", prog, "ping", "192.0.2.2")
		l.ok("run", "--rm", "--net", "named", "--", prog, "ping", "2001:db8::2")
	}
	check()
	if got := l.network("named").Options; got["com.docker.network.host_ipv4"] != "192.0.2.9" {
		t.Errorf("inspect shows %v", got)
	}
	l.ok("down")
	l.up("-c", file)
	check()
}

// On a network whose IPv4 address is inhibited nobody answers at the gateway's
// address, which is nobody's; neighbours reach each other.
func TestInhibitedGateway(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", "networks: [{name: bridge, subnet: 172.17.0.0/16}]\n"))
	b.ok("network", "create", "--subnet", "172.20.0.0/16", "-o", "com.docker.network.bridge.inhibit_ipv4=true", "closed")
	b.serve("web", "--net", "closed")
	if c := b.inspect("web"); c.Networks[0].IP != "172.20.0.2" {
		t.Errorf("web has %s: the gateway's address is kept", c.Networks[0].IP)
	}
	b.ok("run", "--rm", "--net", "closed", "--", prog, "ask", "tcp", "172.20.0.2:80")
	if r := b.try("run", "--rm", "--net", "closed", "--", prog, "ping", "172.20.0.1", "1s"); r.code != askUnreachable && r.code != askSilence {
		t.Errorf("somebody answers at the gateway's address: %d %s%s", r.code, r.out, r.err)
	}
	b.fails(125, []string{"172.20.0.1"}, "run", "--rm", "--net", "closed", "--ip", "172.20.0.1", "--", prog, "hold")
}

// The network of the highest priority has the default route, and what is
// published; it takes them over when it comes and gives them back when it goes.
func TestGatewayPriority(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", `networks:
  - {name: a, subnet: 172.17.0.0/16}
  - {name: b, subnet: 172.18.0.0/16}
  - {name: inner, subnet: 172.19.0.0/16, internal: true}
containers:
  - {name: both, networks: [a, {name: b, gw_priority: 5}]}
`)
	b.up("-c", file)
	via := func(name, gateway string) {
		t.Helper()
		if got := b.ok("exec", name, prog, "gateway"); got != gateway {
			t.Errorf("the default route of %s is %q, not by %s", name, got, gateway)
		}
	}
	via("both", "172.18.0.1")
	b.ok("run", "-d", "--name", "web", "--net", "a", "--network", "name=inner,gw-priority=9", "-p", "127.0.0.1::80", "--", prog, "serve", "80")
	via("web", "172.17.0.1")
	port := b.port("web", "tcp", 80)
	reach := func() {
		t.Helper()
		if _, err := ask("tcp", fmt.Sprintf("127.0.0.1:%d", port), "hello", silence); err != nil {
			t.Error(err)
		}
	}
	b.ok("network", "connect", "--gw-priority", "1", "--driver-opt", "com.docker.network.endpoint.ifname=up1",
		"--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1", "b", "web")
	via("web", "172.18.0.1")
	if got := b.ok("exec", "web", "cat", "/proc/sys/net/ipv4/conf/up1/log_martians"); got != "1" {
		t.Errorf("log_martians of up1 is %s", got)
	}
	if p := b.port("web", "tcp", 80); p != port {
		t.Errorf("the port was %d and is %d", port, p)
	}
	reach()
	b.ok("down")
	b.up("-c", file)
	via("web", "172.18.0.1")
	via("both", "172.18.0.1")
	if n := b.inspect("web").Networks[2]; n.IfName != "up1" || n.Priority != 1 || len(n.Sysctls) != 1 {
		t.Errorf("after a restart: %+v", n)
	}
	if got := b.ok("exec", "web", "cat", "/proc/sys/net/ipv4/conf/up1/log_martians"); got != "1" {
		t.Errorf("after a restart log_martians of up1 is %s", got)
	}
	b.ok("network", "disconnect", "b", "web")
	via("web", "172.17.0.1")
	reach()
	for _, x := range [][]string{
		{"IFNAME", "network", "connect", "--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1", "b", "web"},
		{"IFNAME", "network", "connect", "--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME./../all=1", "b", "web"},
		{"not known", "network", "connect", "--driver-opt", "com.docker.network.endpoint.color=red", "b", "web"},
	} {
		b.fails(1, x[:1], x[1:]...)
	}
	b.fails(125, []string{"nosuch"}, "run", "--rm", "--network", "name=b,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nosuch=1", "--", prog, "hold")
	if got := b.ok("run", "--rm", "--net", "b", "--ip", "172.18.0.99", "--mac-address", "02:00:00:00:00:99", "--network-alias", "nine", "--", prog, "show"); !strings.Contains(got, "172.18.0.99") || !strings.Contains(got, "02:00:00:00:00:99") {
		t.Errorf("a container shows %s", got)
	}
	b.fails(2, []string{"--ip", "172.18.0.9"}, "run", "--net", "b:ip=172.18.0.9", "--ip", "172.18.0.8", "--", prog, "hold")
}

// A network of IPv6 alone: names, the outside, published ports and a restart.
func TestWithoutIPv4(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	file := l.write("c.yaml", `networks:
  - {name: bridge, subnet: 172.17.0.0/16}
  - {name: six, ipv4: false, subnet6: "fd00:66::/64"}
containers:
  - {name: c6, networks: [six]}
`)
	l.up("-c", file)
	l.ok("network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd00:77::/64", "more")
	l.ok("run", "-d", "--name", "web", "--net", "more", "-p", "8080:80", "--", prog, "serve", "80")
	l.start("logs", "-f", "web").expect("listening")
	startProc(t, l.far("serve", "80")).expect("listening")
	check := func() {
		t.Helper()
		web := l.inspect("web").Networks[0]
		if web.IP != "" || web.IP6 != "fd00:77::2" || web.Gateway != "" || web.Gateway6 != "fd00:77::1" {
			t.Errorf("web is %+v", web)
		}
		if n := l.network("more"); len(n.Subnets) != 1 || n.Subnets[0].Subnet.String() != "fd00:77::/64" || n.Options["com.docker.network.enable_ipv4"] != "false" {
			t.Errorf("more is %+v", n)
		}
		l.asks("c6", "tcp", "[2001:db8::2]:80", "from [2001:db8::1]:")
		l.asks("c6", "tcp", "[2001:db8::1]:8080", "from [fd00:77::1]:")
		l.asks("c6", "tcp", "[fd00:77::2]:80", silent)
		for _, host := range []string{"127.0.0.1:8080", "[::1]:8080"} {
			if got, err := ask("tcp", host, "hello", silence); err != nil || !strings.HasPrefix(got, "from [fd00:77::1]:") {
				t.Errorf("%s: %q, %v", host, got, err)
			}
		}
		if got := l.ok("exec", "c6", prog, "lookup", "c6"); got != "fd00:66::2" {
			t.Errorf("c6 is %s", got)
		}
	}
	check()
	l.ok("down")
	l.up("-c", file)
	check()
	l.fails(1, []string{"--ipv6"}, "network", "create", "--ipv4=false", "none6")
	l.fails(125, []string{"no IPv4"}, "run", "--rm", "--net", "six", "--ip", "10.0.0.2", "--", prog, "hold")
}
