package joiner

import (
	"fmt"
	"strings"

	"tapswitch/cmd/internal/api"
)

// Attachment reads NET[:ip=A,alias=B...].
func Attachment(s string) (api.Attachment, error) {
	name, opts, _ := strings.Cut(s, ":")
	a := api.Attachment{Network: name}
	if name == "" {
		return a, fmt.Errorf("%q: a name must stand first", s)
	}
	if name == "container" {
		if opts == "" || strings.ContainsAny(opts, ",=") {
			return a, fmt.Errorf("%s: write container:NAME, and nothing else", s)
		}
		return api.Attachment{Network: s}, nil
	}
	for _, kv := range strings.Split(opts, ",") {
		if kv == "" {
			continue
		}
		k, v, ok := strings.Cut(kv, "=")
		if !ok || v == "" {
			return a, fmt.Errorf("%s: %q must be key=value", name, kv)
		}
		switch k {
		case "ip":
			if strings.Contains(v, ":") {
				a.IP6 = v
			} else {
				a.IP = v
			}
		case "ip6":
			a.IP6 = v
		case "mac":
			a.MAC = v
		case "alias":
			a.Aliases = append(a.Aliases, v)
		case "ifname", "interface_name":
			a.IfName = v
		default:
			return a, fmt.Errorf("%s: unknown key %q: ip, ip6, mac, alias or ifname", name, k)
		}
	}
	return a, nil
}
