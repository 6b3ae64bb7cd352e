package main

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

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
	b.fails(1, []string{"172.20.0.1"}, "run", "--rm", "--net", "closed", "--ip", "172.20.0.1", "--", prog, "hold")
}
