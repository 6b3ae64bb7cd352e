package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Listener is a bound host socket of a published port: non-blocking, and
// listening if it is TCP. Whoever takes it closes it.
type Listener struct {
	Proto Proto
	Addr  netip.AddrPort
	FD    int
}

const (
	backlog      = 4096
	dynamicTries = 10 // as Docker tries
)

// Listen binds the host's sockets for a specification: one, or one for each
// address family where no address is named. It returns the specification with
// the port that was chosen, if the choice was ours. Either all sockets are
// bound or none.
func Listen(s Spec) ([]Listener, Spec, error) {
	if s.HostPort == 0 {
		var err error
		for range dynamicTries {
			var ls []Listener
			if ls, err = bindAll(s, 0); err == nil {
				s.HostPort, s.HostPortEnd = ls[0].Addr.Port(), ls[0].Addr.Port()
				return ls, s, nil
			}
			if !errors.Is(err, unix.EADDRINUSE) {
				break
			}
		}
		return nil, s, err
	}
	last := max(s.HostPort, s.HostPortEnd)
	for port := uint32(s.HostPort); ; port++ {
		ls, err := bindAll(s, uint16(port))
		if err == nil {
			s.HostPort, s.HostPortEnd = uint16(port), uint16(port)
			return ls, s, nil
		}
		if port >= uint32(last) || !errors.Is(err, unix.EADDRINUSE) {
			return nil, s, err
		}
	}
}

// CloseAll closes listeners that nobody took.
func CloseAll(ls []Listener) {
	for _, l := range ls {
		unix.Close(l.FD)
	}
}

// bindAll binds port on the specification's address, or on all of both
// families; a kernel without IPv6 is no error.
func bindAll(s Spec, port uint16) ([]Listener, error) {
	addrs := []netip.Addr{s.HostIP}
	if !s.HostIP.IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var ls []Listener
	for i, a := range addrs {
		l, err := bind(s.Proto, netip.AddrPortFrom(a, port))
		if err != nil {
			if i > 0 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
				continue
			}
			CloseAll(ls)
			return nil, err
		}
		port = l.Addr.Port()
		ls = append(ls, l)
	}
	return ls, nil
}

func bind(proto Proto, at netip.AddrPort) (Listener, error) {
	domain, typ := unix.AF_INET, unix.SOCK_STREAM
	if at.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if proto == UDP {
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Listener{}, fmt.Errorf("failed to bind host port %s/%s: %w", at, proto, err)
	}
	fail := func(err error) (Listener, error) {
		unix.Close(fd)
		return Listener{}, fmt.Errorf("failed to bind host port %s/%s: %w%s", at, proto, err, bindHint(err, at))
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fail(err)
		}
	}
	if proto == TCP {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fail(err)
		}
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return fail(err)
	}
	if proto == TCP {
		if err := unix.Listen(fd, backlog); err != nil {
			return fail(err)
		}
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return fail(err)
	}
	return Listener{Proto: proto, Addr: netip.AddrPortFrom(at.Addr(), portOf(got)), FD: fd}, nil
}

func bindHint(err error, at netip.AddrPort) string {
	switch {
	case errors.Is(err, unix.EACCES) && at.Port() < 1024:
		start := "1024"
		if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
			start = strings.TrimSpace(string(b))
		}
		return fmt.Sprintf(": ports under %s are for root; publish a higher one, or sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", start, at.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return ": the host has no such address"
	}
	return ""
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func portOf(sa unix.Sockaddr) uint16 {
	switch x := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(x.Port)
	case *unix.SockaddrInet6:
		return uint16(x.Port)
	}
	return 0
}
