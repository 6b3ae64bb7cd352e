package slirp

import (
	"fmt"
	"strings"
)

// usage is what callers look for the names of options in: RootlessKit and podman
// search it for --enable-ipv6, --cidr, --netns-type and more before they use
// them.
func usage(name string) string {
	return "Usage: " + name + ` [OPTION]... PID|PATH|FD [TAPNAME]
User-mode networking for unprivileged network namespaces. This is tapswitch.

-c, --configure          bring up the interface
-e, --exit-fd=FD         specify the FD for terminating slirp4netns
-r, --ready-fd=FD        specify the FD to write to when the network is configured
-m, --mtu=MTU            specify MTU (default=1500, max=65521)
-6, --enable-ipv6        enable IPv6 (experimental)
-a, --api-socket=PATH    specify API socket path
--cidr=CIDR              specify network address CIDR (default=10.0.2.0/24)
--disable-host-loopback  prohibit connecting to 127.0.0.1:* on the host namespace
--netns-type=TYPE        specify network namespace type ([path|pid|tapfd], default=pid)
--userns-path=PATH       specify user namespace path
--enable-sandbox         contain the process that carries the traffic (it is in any case)
--enable-seccomp         limit its system calls (experimental; they are in any case)
--outbound-addr=IPv4     sets outbound ipv4 address to bound to, or an interface that has it (experimental)
--outbound-addr6=IPv6    sets outbound ipv6 address to bound to, or an interface that has it (experimental)
--disable-dns            disables 10.0.2.3 (or configured internal ip) to host dns redirect (experimental)
--macaddress=MAC         specify the MAC address of the TAP (only valid with -c)
--target-type=TYPE       specify the target type ([netns|bess], default=netns)
-h, --help               show this help and exit
-v, --version            show version and exit
`
}

// compatible is the version of slirp4netns whose ways these are; callers compare
// it, and SLIRP_CONFIG_VERSION_MAX, with what an option needs.
const compatible = "1.3.2"

func version(ours string) string {
	return "slirp4netns version " + compatible + "\ncommit: tapswitch-" + ours + "\nlibslirp: 4.8.0\nSLIRP_CONFIG_VERSION_MAX: 5\nlibseccomp: 2.5.5\n"
}

// banner is what slirp4netns says when it begins.
func banner(o *options, n network) string {
	var b strings.Builder
	line := func(name string, v any) { fmt.Fprintf(&b, "* %-16s %v\n", name+":", v) }
	b.WriteString("Starting slirp\n")
	line("MTU", o.mtu)
	line("Network", o.cidr.Addr())
	line("Netmask", n.mask)
	line("Gateway", n.gateway)
	line("DNS", n.dns)
	line("DHCP begin", n.first)
	line("DHCP end", n.last)
	line("Recommended IP", n.guest)
	if o.apiSocket != "" {
		line("API Socket", o.apiSocket)
	}
	if o.outbound4.IsValid() {
		line("Outbound IPv4", o.outbound4)
	}
	if o.outbound6.IsValid() {
		line("Outbound IPv6", o.outbound6)
	}
	if o.mac != nil {
		line("MAC address", o.mac)
	}
	if !o.noLoopback {
		fmt.Fprintf(&b, "WARNING: 127.0.0.1:* on the host is accessible as %s (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)\n", n.gateway)
	}
	return b.String()
}
