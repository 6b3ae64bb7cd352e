package slirp

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
)

// returned is the answer to a request that was done.
type returned struct {
	Return any `json:"return"`
}

// failed is the answer to one that was not, in slirp4netns' words.
func failed(why string) any {
	return map[string]any{"error": map[string]string{"desc": "bad request: " + why}}
}

// answer does what a request says.
func (h *hostfwds) answer(b []byte) any {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return failed("cannot parse JSON")
	}
	r, ok := v.(map[string]any)
	if !ok {
		return failed("json_object() failed")
	}
	execute, ok := r["execute"].(string)
	if !ok {
		return failed("no execute found")
	}
	args, _ := r["arguments"].(map[string]any)
	switch execute {
	case "add_hostfwd":
		e, bad := entryOf(args, h.n)
		if bad != "" {
			return failed("add_hostfwd: bad arguments." + bad)
		}
		return h.add(e)
	case "list_hostfwd":
		return h.list()
	case "remove_hostfwd":
		id, _ := integer(args["id"])
		return h.remove(id)
	}
	return failed("unknown execute")
}

// entryOf reads the arguments of add_hostfwd; bad is the one that is wrong. More
// than slirp4netns takes: IPv6 addresses, the protocols tcp4, tcp6, udp4 and udp6,
// and with host_port_end a range of as many guest ports.
func entryOf(args map[string]any, n network) (e *entry, bad string) {
	e = new(entry)
	e.Proto, _ = args["proto"].(string)
	family := strings.TrimLeft(e.Proto, "tcpud")
	if e.Proto = strings.TrimSuffix(e.Proto, family); e.Proto != "tcp" && e.Proto != "udp" || family != "" && family != "4" && family != "6" {
		return nil, "proto"
	}
	var ok bool
	without := netip.IPv4Unspecified()
	if family == "6" {
		without = netip.IPv6Unspecified()
	}
	if e.HostAddr, ok = address(args["host_addr"], without); !ok || family == "4" && !e.HostAddr.Is4() || family == "6" && !e.HostAddr.Is6() {
		return nil, "host_addr"
	}
	if e.HostPort, ok = port(args["host_port"]); !ok {
		return nil, "host_port"
	}
	if e.GuestAddr, ok = address(args["guest_addr"], n.guest); !ok {
		return nil, "guest_addr"
	}
	if e.GuestAddr != n.guest {
		e.to = e.GuestAddr
	}
	if e.GuestPort, ok = port(args["guest_port"]); !ok {
		return nil, "guest_port"
	}
	if args["host_port_end"] != nil {
		if e.HostEnd, ok = port(args["host_port_end"]); !ok || e.HostEnd < e.HostPort {
			return nil, "host_port_end"
		}
		if e.GuestPort+e.HostEnd-e.HostPort > math.MaxUint16 {
			return nil, "guest_port"
		}
	}
	return e, ""
}

// address reads an IP address; without stands for none, and for an empty one.
func address(v any, without netip.Addr) (netip.Addr, bool) {
	if v == nil || v == "" {
		return without, true
	}
	s, _ := v.(string)
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}

func port(v any) (int, bool) {
	n, ok := integer(v)
	return n, ok && n > 0 && n <= math.MaxUint16
}

// integer is a JSON number without what stands behind its point, as in C.
func integer(v any) (int, bool) {
	f, ok := v.(float64)
	if !ok || math.Abs(f) > math.MaxInt32 {
		return 0, false
	}
	return int(f), true
}
