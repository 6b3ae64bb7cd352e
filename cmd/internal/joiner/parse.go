package joiner

import (
	"fmt"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
)

// Attachment reads NET[:ip=A,alias=B...], or Docker's long form.
func Attachment(s string) (api.Attachment, error) {
	name, opts, _ := strings.Cut(s, ":")
	if strings.HasPrefix(s, "name=") {
		name, opts = long(s)
	}
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
		case "mac", "mac-address":
			a.MAC = v
		case "gw-priority":
			n, err := strconv.Atoi(v)
			if err != nil {
				return a, fmt.Errorf("%s: gw-priority %q is no number", name, v)
			}
			a.GwPriority = n
		case "driver-opt":
			k, v, _ := strings.Cut(v, "=")
			if a.Options == nil {
				a.Options = make(map[string]string)
			}
			if old := a.Options[k]; old != "" {
				v = old + "," + v
			}
			a.Options[k] = v
		case "alias":
			a.Aliases = append(a.Aliases, v)
		case "ifname", "interface_name":
			a.IfName = v
		default:
			return a, fmt.Errorf("%s: unknown key %q: ip, ip6, mac, alias, ifname, gw-priority or driver-opt", name, k)
		}
	}
	return a, nil
}

// long reads Docker's long form: name=NET,ip=A,"driver-opt=K=V".
func long(s string) (name, opts string) {
	name, opts, _ = strings.Cut(strings.TrimPrefix(s, "name="), ",")
	return name, strings.ReplaceAll(opts, `"`, "")
}
