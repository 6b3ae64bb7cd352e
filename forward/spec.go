package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Proto is an IP protocol number, of those that can be published.
type Proto uint8

const (
	TCP Proto = 6
	UDP Proto = 17
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "proto " + strconv.Itoa(int(p))
}

// Spec is one published port: what arrives at the host's address and port goes
// to the container's port.
type Spec struct {
	Proto         Proto
	HostIP        netip.Addr // zero: all addresses, IPv4 and IPv6
	HostPort      uint16     // 0: an ephemeral one
	HostPortEnd   uint16     // above HostPort: pick one free of HostPort to HostPortEnd; else equal to it
	ContainerPort uint16     // never 0
}

// ParseSpec reads Docker's publish grammar (docker run -p),
//
//	[hostip:][hostport[-end]]:ctrport[-end][/tcp|udp]
//
// where an IPv6 host address stands in brackets and ctrport may stand alone.
// An empty host port, or 0, is an ephemeral one. A range of container ports
// gives one Spec for each, on ephemeral ports or on a range of host ports of
// the same length; a range of host ports with a single container port gives
// one Spec that picks from the range. Errors name the part that is wrong and
// show what is right.
func ParseSpec(s string) ([]Spec, error) {
	specs, err := parseSpec(s)
	if err != nil {
		return nil, fmt.Errorf("invalid port mapping %q: %w", s, err)
	}
	return specs, nil
}

func parseSpec(s string) ([]Spec, error) {
	ipPart, hostPart, ctrPart, err := splitSpec(s)
	if err != nil {
		return nil, err
	}
	ip, err := parseHostIP(ipPart)
	if err != nil {
		return nil, err
	}
	ctrPart, protoPart, _ := strings.Cut(ctrPart, "/")
	proto, err := parseProto(protoPart)
	if err != nil {
		return nil, err
	}
	if ctrPart == "" {
		return nil, errors.New("no container port: write it last, for example 8080:80")
	}
	ctr, err := parsePorts("container", ctrPart)
	if err != nil {
		return nil, err
	}
	var host portRange
	if hostPart != "" && hostPart != "0" {
		if host, err = parsePorts("host", hostPart); err != nil {
			return nil, err
		}
	}

	if ctr.len() == 1 {
		return []Spec{{proto, ip, host.first, host.last, ctr.first}}, nil
	}
	ephemeral := host == portRange{}
	if !ephemeral && host.len() != ctr.len() {
		return nil, fmt.Errorf("invalid ranges specified for container and host ports: %s has %d and %s has %d: use as many of each, for example 8080-8081:80-81",
			ctrPart, ctr.len(), hostPart, host.len())
	}
	specs := make([]Spec, ctr.len())
	for i := range specs {
		spec := Spec{Proto: proto, HostIP: ip, ContainerPort: ctr.first + uint16(i)}
		if !ephemeral {
			spec.HostPort = host.first + uint16(i)
			spec.HostPortEnd = spec.HostPort
		}
		specs[i] = spec
	}
	return specs, nil
}

// splitSpec cuts s at the colons outside of brackets, from the right.
func splitSpec(s string) (ip, host, ctr string, err error) {
	rest := s
	if strings.HasPrefix(s, "[") {
		end := strings.Index(s, "]:")
		if end < 0 {
			return "", "", "", errors.New("no \"]:\" after the host address: write it like [::1]:8080:80")
		}
		ip, rest = s[:end+1], s[end+2:]
		if !strings.Contains(rest, ":") {
			return "", "", "", fmt.Errorf("no host port after the host address: write %s:8080:80, or %s::80 for an ephemeral port", ip, ip)
		}
	}
	parts := strings.Split(rest, ":")
	switch n := len(parts); {
	case n == 1:
		return "", "", parts[0], nil
	case n == 2:
		return ip, parts[0], parts[1], nil
	case n == 3 && ip == "":
		return parts[0], parts[1], parts[2], nil
	}
	return "", "", "", errors.New("too many colons: put an IPv6 host address in brackets, for example [::1]:8080:80")
}

func parseHostIP(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	bare := s
	if s[0] == '[' {
		bare = s[1 : len(s)-1]
	}
	ip, err := netip.ParseAddr(bare)
	if err != nil {
		return ip, fmt.Errorf("invalid host address %q: use an IP address of this host, for example 127.0.0.1:8080:80 or [::1]:8080:80", s)
	}
	if ip.Zone() != "" {
		return ip, fmt.Errorf("invalid host address %q: a zone is not supported: write it without, for example [::1]:8080:80", s)
	}
	return ip.Unmap(), nil
}

func parseProto(s string) (Proto, error) {
	switch strings.ToLower(s) {
	case "", "tcp":
		return TCP, nil
	case "udp":
		return UDP, nil
	case "sctp":
		return 0, errors.New("protocol sctp is not supported: use tcp or udp, for example 8080:80/udp")
	}
	return 0, fmt.Errorf("invalid protocol %q: use tcp or udp, for example 8080:80/udp", s)
}

// portRange holds both ends; zero: ephemeral.
type portRange struct{ first, last uint16 }

func (r portRange) len() int { return int(r.last) - int(r.first) + 1 }

func parsePorts(whose, s string) (portRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, errA := parsePort(first)
	b, errB := parsePort(last)
	if errA != nil || errB != nil {
		return portRange{}, fmt.Errorf("invalid %s port %q: use 1 to 65535 or a range, for example 8080 or 8080-8090", whose, s)
	}
	if b < a {
		return portRange{}, fmt.Errorf("invalid %s port range %q: it ends before it begins: write %d-%d", whose, s, b, a)
	}
	return portRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// String returns what docker ps prints, "0.0.0.0:8080->80/tcp"; for all
// addresses that is "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp". A host port
// that is still to be picked prints as 0 or as its range.
func (s Spec) String() string {
	to := fmt.Sprintf(":%s->%d/%s", s.hostPorts(), s.ContainerPort, s.Proto)
	if !s.HostIP.IsValid() {
		return "0.0.0.0" + to + ", [::]" + to
	}
	return bracketed(s.HostIP) + to
}

// Arg returns s in the grammar of ParseSpec, which makes the same Spec of it.
func (s Spec) Arg() string {
	to := fmt.Sprintf("%d/%s", s.ContainerPort, s.Proto)
	if s.HostPort != 0 {
		to = s.hostPorts() + ":" + to
	} else if s.HostIP.IsValid() {
		to = ":" + to
	}
	if s.HostIP.IsValid() {
		to = bracketed(s.HostIP) + ":" + to
	}
	return to
}

func (s Spec) hostPorts() string {
	if s.HostPortEnd > s.HostPort {
		return fmt.Sprintf("%d-%d", s.HostPort, s.HostPortEnd)
	}
	return strconv.Itoa(int(s.HostPort))
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
