package configs

import (
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// API says who else may look at the control API, and how far.
type API struct {
	ReadOnly string // path of a socket that answers questions and changes nothing; "": none
	Mode     string // of that socket, as chmod has it; "": 0600, with a group 0660
	Group    string // that the socket is given to, by name or number; "": the user's own
}

// Perm is the mode of the read-only socket in numbers.
func (a API) Perm() uint32 {
	switch n, err := parseMode(a.Mode); {
	case err == nil:
		return n
	case a.Group != "":
		return 0o660
	}
	return 0o600
}

// unixPrefix marks the path of a socket where an address could stand.
const unixPrefix = "unix:"

// UnixPath is the path that unix:PATH names.
func UnixPath(address string) (path string, ok bool) { return strings.CutPrefix(address, unixPrefix) }

func parseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 9)
	return uint32(n), err
}

// listenAddress reads ADDRESS:PORT or unix:PATH; nothing is nowhere.
func (d *decoder) listenAddress(at value) string {
	s, ok := d.text(at)
	if !ok || s == "" {
		return ""
	}
	if path, ok := UnixPath(s); ok {
		if !filepath.IsAbs(path) {
			d.bad(at, "%s is no absolute path; write one, as unix:/run/user/1000/tapswitch/metrics.sock", quote(path))
			return ""
		}
		return s
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		d.bad(at, "%s is neither an address with a port nor unix:PATH; write 127.0.0.1:9475, or unix:/run/user/1000/tapswitch/metrics.sock", quote(s))
		return ""
	}
	return a.String()
}

// public says whether others than this host's own users reach the address.
func public(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && !a.Addr().Unmap().IsLoopback()
}

// serving checks where metrics and the read-only API are served.
func (k *checker) serving() {
	config, c := object{}, k.c
	if c.Metrics != "" && public(c.Metrics) && !c.MetricsPublic {
		k.bad(config, "metrics", "%s is no loopback address: whoever reaches it could read the names of containers and networks; write 127.0.0.1:9475 or unix:PATH, or set metrics_public: true", c.Metrics)
	}
	if c.API.ReadOnly != "" && !filepath.IsAbs(c.API.ReadOnly) {
		k.bad(config, "api.readonly", "%s is no absolute path; write one, as /run/user/1000/tapswitch/readonly.sock", quote(c.API.ReadOnly))
	}
	if _, err := parseMode(c.API.Mode); c.API.Mode != "" && err != nil {
		k.bad(config, "api.mode", "%s is no mode; write it as chmod takes it, as \"0660\"", quote(c.API.Mode))
	}
}
