package pasta

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// portMode is what an option for ports asks for as a whole.
type portMode uint8

const (
	portsUnset portMode = iota
	portsNone
	portsAuto // those that listen at the other end, as they come and go
	portsSome // those of the list
)

// forwards is what one of -t, -u, -T, -U asks for.
type forwards struct {
	mode portMode
	list []forward
}

// forward leads a port to one of the other end.
type forward struct {
	addr     netip.Addr // at which it listens; zero: at all
	ifname   string     // on whose addresses alone; "": all
	port, to uint16
	weak     bool // one of all there are: no error if somebody else has it
}

// lastOrdinary is the last port that "all" means: those above are for the
// kernel to give (RFC 6335 has them begin at 49152, Linux at 32768).
const lastOrdinary = 32767

// add reads one value of the option, as passt(1) has it:
//
//	none | auto | all | [ADDR[%IF]/]SPEC[,SPEC...]
//	SPEC: FIRST[-LAST][:TO[-TOLAST]] | ~FIRST[-LAST]
//
// With exclusions alone all other ordinary ports are meant.
func (f *forwards) add(opt, s string) error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%s %s: %s", opt, s, fmt.Sprintf(format, a...))
	}
	word := map[string]portMode{"none": portsNone, "auto": portsAuto}[s]
	switch {
	case word != portsUnset && f.mode != portsUnset && f.mode != word, word == portsUnset && (f.mode == portsNone || f.mode == portsAuto):
		return bad("it excludes what an earlier %s says", opt)
	case word != portsUnset:
		f.mode = word
		return nil
	}
	f.mode = portsSome
	var at forward
	rest := s
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		addr, ifname, _ := strings.Cut(s[:i], "%")
		var err error
		if at.ifname = ifname; addr != "" {
			if at.addr, err = netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
				return bad("%q is no address", addr)
			}
		}
		rest = s[i+1:]
	}
	excluded := make(map[uint16]bool)
	included := false
	for _, part := range strings.Split(rest, ",") {
		if x, is := strings.CutPrefix(part, "~"); is {
			first, last, err := portRange(x)
			if err != nil {
				return bad("%v", err)
			}
			for p := int(first); p <= int(last); p++ {
				excluded[uint16(p)] = true
			}
			continue
		}
		included = true
	}
	take := func(first, last, to uint16, weak bool) {
		for p := int(first); p <= int(last); p++ {
			if !excluded[uint16(p)] {
				x := at
				x.port, x.to, x.weak = uint16(p), to+uint16(p)-first, weak
				f.list = append(f.list, x)
			}
		}
	}
	if !included || rest == "all" {
		take(1, lastOrdinary, 1, true)
		return nil
	}
	for _, part := range strings.Split(rest, ",") {
		if strings.HasPrefix(part, "~") {
			continue
		}
		from, to, mapped := strings.Cut(part, ":")
		first, last, err := portRange(from)
		if err != nil {
			return bad("%v", err)
		}
		target := first
		if mapped {
			t, tl, err := portRange(to)
			if err != nil {
				return bad("%v", err)
			}
			if tl-t != last-first && tl != t {
				return bad("ranges of %d and %d ports", int(last)-int(first)+1, int(tl)-int(t)+1)
			}
			if int(t)+int(last)-int(first) > 65535 {
				return bad("port %d is above 65535", int(t)+int(last)-int(first))
			}
			target = t
		}
		take(first, last, target, false)
	}
	return nil
}

func portRange(s string) (first, last uint16, err error) {
	a, b, is := strings.Cut(s, "-")
	if !is {
		b = a
	}
	var n [2]uint64
	for i, x := range []string{a, b} {
		if n[i], err = strconv.ParseUint(x, 10, 16); err != nil || n[i] == 0 {
			return 0, 0, fmt.Errorf("%q is no port", x)
		}
	}
	if n[1] < n[0] {
		return 0, 0, fmt.Errorf("%s is no range: it ends before it begins", s)
	}
	return uint16(n[0]), uint16(n[1]), nil
}

// specs are the forward in Docker's words, for each address that it names.
func (f forward) specs(proto string, only4, only6 bool) ([]string, error) {
	var hosts []netip.Addr
	switch {
	case f.ifname != "":
		all, err := addressesOf(f.ifname)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if !f.addr.IsValid() || f.addr.IsUnspecified() && f.addr.Is4() == a.Is4() || f.addr == a {
				hosts = append(hosts, a)
			}
		}
		if len(hosts) == 0 {
			return nil, fmt.Errorf("interface %s has no such address", f.ifname)
		}
	case f.addr.IsValid():
		hosts = []netip.Addr{f.addr}
	case only4:
		hosts = []netip.Addr{netip.IPv4Unspecified()}
	case only6:
		hosts = []netip.Addr{netip.IPv6Unspecified()}
	default:
		return []string{fmt.Sprintf("%d:%d/%s", f.port, f.to, proto)}, nil
	}
	var out []string
	for _, a := range hosts {
		out = append(out, fmt.Sprintf("%s:%d/%s", netip.AddrPortFrom(a, f.port), f.to, proto))
	}
	return out, nil
}
