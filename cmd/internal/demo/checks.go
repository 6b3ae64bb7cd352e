package demo

// check is one row of the matrix: what is tried from where, and what should be
// seen.
type check struct {
	from, kind, to, expected string
	label                    string // of the destination, where the address says little
}

const (
	seen     = "seen as "
	exact    = "8 MiB exact"
	gateway1 = "172.17.0.1"
	gateway3 = "172.18.0.1"
	ip1      = "172.17.0.2"
	ip2      = "172.17.0.3"
	ip3      = "172.18.0.2"
	ip1v6    = "fd00:17::2"
	ip2v6    = "fd00:17::3"
	ip3v6    = "fd00:18::2"
	b1       = "busybox1"
	b2       = "busybox2"
	b3       = "busybox3"
	host     = "host"
	outside  = "outside"
)

// matrix is everything that the demo tries.
func matrix() []check {
	var all []check
	for _, part := range [][]check{neighbours(), isolation(), names(), gateways(), outward(), errorsBack(), published(), hostServices()} {
		all = append(all, part...)
	}
	return all
}

func neighbours() []check {
	return []check{
		{b1, "ping", ip2, "reply", b2},
		{b2, "ping", ip1, "reply", b1},
		{b1, "tcp", ip2 + ":80", seen + ip1, b2},
		{b2, "tcp", ip1 + ":80", seen + ip2, b1},
		{b1, "tcp", b2 + ":80", seen + ip1, "busybox2 by name"},
		{b1, "udp", ip2 + ":80", seen + ip1, b2},
		{b1, "big", ip2 + ":80", seen + ip1, "busybox2, 60000 bytes"},
		{b1, "up", ip2 + ":80", exact, b2},
		{b1, "down", ip2 + ":80", exact, b2},
		{b1, "ping", ip2v6, "reply", b2},
		{b1, "tcp", "[" + ip2v6 + "]:80", seen + ip1v6, b2},
	}
}

func isolation() []check {
	return []check{
		{b1, "ping", ip3, "silence", b3},
		{b1, "tcp", ip3 + ":80", "silence", b3},
		{b2, "udp", ip3 + ":80", "silence", b3},
		{b3, "ping", ip1, "silence", b1},
		{b3, "tcp", ip2 + ":80", "silence", b2},
		{b3, "ping", gateway1, "silence", "the other gateway"},
		{b3, "tcp", gateway1 + ":81", "silence", "the other gateway"},
		{b1, "ping", ip3v6, "silence", b3},
		{b3, "tcp", "[" + ip2v6 + "]:80", "silence", b2},
	}
}

func names() []check {
	return []check{
		{b1, "name", b2, ip2 + " " + ip2v6, ""},
		{b2, "name", "BUSYBOX1.bridge", ip1 + " " + ip1v6, ""},
		{b1, "name", b3, "no such name", "busybox3, of the other bridge"},
		{b3, "name", "outside.test", outsideIP + " " + outsideIP6, ""},
	}
}

func gateways() []check {
	return []check{
		{b1, "ping", gateway1, "reply", "its gateway"},
		{b3, "ping", gateway3, "reply", "its gateway"},
		{b1, "ping", "fd00:17::1", "reply", "its gateway"},
		{b1, "tcp", gateway1 + ":81", "refused", "its gateway, nothing there"},
		{b1, "udp", gateway1 + ":81", "refused", "its gateway, nothing there"},
	}
}

func outward() []check {
	var out []check
	for _, from := range []string{b1, b2, b3} {
		out = append(out,
			check{from, "ping", outsideIP, "reply", outside},
			check{from, "tcp", outsideIP + ":7000", seen + hostIP, outside},
			check{from, "udp", outsideIP + ":7000", seen + hostIP, outside},
		)
	}
	return append(out,
		check{b1, "up", outsideIP + ":7000", exact, outside},
		check{b1, "down", outsideIP + ":7000", exact, outside},
		check{b1, "big", outsideIP + ":7000", seen + hostIP, "outside, 60000 bytes"},
		check{b1, "ping", outsideIP6, "reply", outside},
		check{b1, "tcp", "[" + outsideIP6 + "]:7000", seen + hostIP6, outside},
		check{b3, "udp", "[" + outsideIP6 + "]:7000", seen + hostIP6, outside},
		check{b3, "down", "[" + outsideIP6 + "]:7000", exact, outside},
	)
}

func errorsBack() []check {
	return []check{
		{b1, "tcp", outsideIP + ":7001", "refused", "outside, nothing there"},
		{b1, "udp", outsideIP + ":7001", "refused", "outside, nothing there"},
		{b1, "tcp", "203.0.113.9:80", "unreachable", "a network that is not there"},
		{b1, "tcp", "169.254.169.254:80", "unreachable", "cloud metadata"},
		{b1, "trace", outsideIP, gateway1 + " " + routerIP + " " + outsideIP, outside},
		{b3, "trace", outsideIP6, "fd00:18::1 " + routerIP6 + " " + outsideIP6, outside},
		{b1, "mtu", outsideIP + ":7000", "mtu 1400", outside},
	}
}

func published() []check {
	h, h6 := hostIP+":8080", "["+hostIP6+"]:8080"
	return []check{
		{host, "tcp", "127.0.0.1:8080", seen + gateway1, "busybox2 by localhost"},
		{host, "udp", "127.0.0.1:8080", seen + gateway1, "busybox2 by localhost"},
		{host, "tcp", "[::1]:8080", seen + "fd00:17::1", "busybox2 by localhost"},
		{host, "tcp", h, seen + hostIP, "busybox2 by the host's address"},
		{host, "udp", h, seen + hostIP, "busybox2 by the host's address"},
		{outside, "tcp", h, seen + outsideIP, "busybox2, published"},
		{outside, "udp", h, seen + outsideIP, "busybox2, published"},
		{outside, "up", h, exact, "busybox2, published"},
		{outside, "down", h, exact, "busybox2, published"},
		{outside, "tcp", h6, seen + outsideIP6, "busybox2, published"},
		{outside, "udp", h6, seen + outsideIP6, "busybox2, published"},
		{outside, "tcp", hostIP + ":8081", "refused", "a port that is not published"},
		{b3, "tcp", h, seen + gateway1, "busybox2 by the host's address"},
		{b3, "udp", h, seen + gateway1, "busybox2 by the host's address"},
		{b3, "tcp", gateway1 + ":8080", seen + gateway1, "busybox2 by its gateway"},
		{b3, "tcp", gateway3 + ":8080", seen + gateway1, "busybox2 by the own gateway"},
		{b1, "tcp", h, seen + gateway1, "busybox2 by the host's address"},
		{b2, "tcp", h, seen + gateway1, "itself by the host's address"},
		{b3, "down", h, exact, "busybox2 by the host's address"},
		{b3, "tcp", h6, seen + "fd00:17::1", "busybox2 by the host's address"},
	}
}

func hostServices() []check {
	return []check{
		{b1, "tcp", hostIP + ":7100", seen + hostIP, "a service of the host"},
		{b1, "tcp", gateway1 + ":7200", "refused", "the host's loopback"},
		{host, "tcp", "127.0.0.1:7200", seen + "127.0.0.1", "its own loopback"},
	}
}
