package pasta

import "fmt"

func usage(name string) string {
	return "Usage: " + name + ` [OPTION]... [COMMAND] [ARGS]...
       ` + name + ` [OPTION]... PID
       ` + name + ` [OPTION]... --netns [PATH|NAME]

Without PID or --netns, run the given command or a default shell in a new
network and user namespace, and connect it. This is tapswitch.

Options:
  -d, --debug              Be verbose, and don't run in background
  -q, --quiet              Don't print informational messages
  -f, --foreground         Don't run in background
  -l, --log-file PATH      Log (only) to given file
  -P, --pid FILE           Write own PID to the given file
  -p, --pcap FILE          Log packets of the namespace to FILE (pcapng)
  -m, --mtu MTU            MTU of the namespace's interface (default 65520)
  -a, --address ADDR[/LEN] Address of the namespace (default: the host's), IPv4 and IPv6 once each
  -n, --netmask MASK       IPv4 netmask or its length (default: the host's)
  -M, --mac-addr ADDR      Accepted; the gateway's MAC address follows from its address
  -g, --gateway ADDR       Gateway address (default: the host's)
  -i, --interface NAME     Interface of the host for addresses and routes
  -o, --outbound ADDR      Source address of connections to the outside
  --outbound-if4 NAME      The same, an interface's address
  --outbound-if6 NAME
  -D, --dns ADDR           Accepted: DHCP tells of the address of --dns-forward
  --dns-forward ADDR       Questions to ADDR go to the host's name servers
  --dns-host ADDR          Name server that they go to
  -S, --search LIST        Accepted
  --no-tcp, --no-udp, --no-icmp, --no-dhcp, --no-dhcpv6, --no-ndp, --no-ra
                           Without that protocol
  --map-host-loopback ADDR Connections to ADDR reach the host's loopback (default: the gateway)
  --no-map-gw              None does
  --map-guest-addr ADDR    Connections to ADDR reach the host's own address
  -4, --ipv4-only; -6, --ipv6-only
  -H, --hostname NAME; --fqdn NAME  Accepted
  -t, --tcp-ports SPEC     Ports of the host that lead into the namespace (default auto)
  -u, --udp-ports SPEC     The same for UDP
  -T, --tcp-ns SPEC        Ports of the namespace's loopback that lead to the host's (default auto)
  -U, --udp-ns SPEC        The same for UDP
    SPEC: none | auto | all | [ADDR[%IF]/]PORT[-PORT][:TO[-TO]][,...][,~EXCLUDED[-EXCLUDED]]
  -I, --ns-ifname NAME     Interface in the namespace (default: as the host's)
  --ns-mac-addr ADDR       Its MAC address
  --userns NSPATH          User namespace to join (default: the one that owns the network namespace)
  --netns PATH|NAME        Network namespace to join
  --netns-only             Accepted
  --no-netns-quit          Stay when the namespace is gone
  --config-net             Set the interface up: addresses and routes
  --no-copy-routes, --no-copy-addrs  Accepted
  -h, --help; --version
`
}

func version(ours string) string {
	return fmt.Sprintf("pasta of tapswitch %s\n", ours)
}
