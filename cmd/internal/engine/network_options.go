package engine

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
)

// Options of networks beyond those that create_network.go reads: further ones
// of Docker's, and our own under "tapswitch.", which are keys of a network in the
// configuration.

const (
	optInhibit   = "com.docker.network.bridge.inhibit_ipv4"
	optTrusted   = "com.docker.network.bridge.trusted_host_interfaces"
	optOutbound  = "com.docker.network.host_ipv4"
	optOutbound6 = "com.docker.network.host_ipv6"
	optIPv4      = "com.docker.network.enable_ipv4"
	optIPv6      = "com.docker.network.enable_ipv6"
	optMessages  = "com.docker.network.advertise_addr_nmsgs"
	optPeriod    = "com.docker.network.advertise_addr_ms"

	ownPrefix      = "tapswitch."
	optSnooping    = ownPrefix + "multicast_snooping"
	optMirror      = ownPrefix + "mirror"
	optMirrorPorts = ownPrefix + "mirror_ports"
	optHost        = ownPrefix + "host_interface"
)

// furtherOptions are those that this file reads.
var furtherOptions = []string{optIPv4, optInhibit, optOutbound, optOutbound6, optIPv6, optSnooping, optMirror, optMirrorPorts, optHost}

// readFurther reads them into a network; r gets what is its own.
func readFurther(c *configs.Network, r *api.NetworkCreate) error {
	o := r.Options
	bad := func(key, why string) error {
		return api.Errorf(api.BadRequest, "failed to parse %s value: %q %s", key, o[key], why)
	}
	for key := range o {
		if strings.HasPrefix(key, ownPrefix) && !slices.Contains(furtherOptions, key) {
			return api.Errorf(api.BadRequest, "option %s is not known", key).WithHint("there are %s, %s, %s and %s", optSnooping, optMirror, optMirrorPorts, optHost)
		}
	}
	if v, is := o[optTrusted]; is && v != "" {
		return api.Errorf(api.Failed, "option %s: there is nothing that it could open: the host's kernel has no route to the network, so nothing is forwarded to it from any interface", optTrusted).
			WithHint("publish the ports, or mirror the network: -o %s=127.18.0.0/16", optMirror)
	}
	snoop := true
	for key, to := range map[string]*bool{optInhibit: &c.NoAddress4, optIPv6: &r.IPv6, optSnooping: &snoop} {
		if v, is := o[key]; is {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return bad(key, "is neither true nor false")
			}
			*to = b
		}
	}
	c.NoSnooping = !snoop
	if v, is := o[optIPv4]; is {
		if b, err := strconv.ParseBool(v); err != nil {
			return bad(optIPv4, "is neither true nor false")
		} else {
			c.NoIPv4 = !b
		}
	}
	for key, to := range map[string]*netip.Addr{optOutbound: &c.Outbound, optOutbound6: &c.Outbound6} {
		v, is := o[key]
		if !is {
			continue
		}
		a, err := netip.ParseAddr(v)
		if err != nil || a.Is4() != (key == optOutbound) {
			return bad(key, "is no address of the family")
		}
		if _, ours := hostAddrs()[a]; !ours {
			return bad(key, "is no address of this host")
		}
		*to = a
	}
	if v, is := o[optMirror]; is {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return bad(optMirror, "is no range of addresses: write it like 127.18.0.0/16")
		}
		c.Mirror = p
	}
	if v, is := o[optMirrorPorts]; is {
		c.MirrorPorts = configs.MirrorPorts(v)
		if _, err := c.MirrorPorts.Spans(); err != nil {
			return api.Errorf(api.BadRequest, "failed to parse %s value: %v", optMirrorPorts, err)
		}
	}
	c.HostInterface = o[optHost]
	for _, x := range []struct {
		key         string
		least, most int
	}{{optMessages, 0, 3}, {optPeriod, 100, 2000}} { // nothing here is lost, so that once is enough
		if v, is := o[x.key]; is {
			if n, err := strconv.Atoi(v); err != nil || n < x.least || n > x.most {
				return bad(x.key, "is no number from "+strconv.Itoa(x.least)+" to "+strconv.Itoa(x.most))
			}
		}
	}
	return nil
}

// optionsOf are the options that make of a network what it is, beyond the
// defaults: those of the file are shown as if they had come by command.
func optionsOf(c configs.Network) map[string]string {
	o := make(map[string]string)
	set := func(key, value string) {
		if value != "" {
			o[key] = value
		}
	}
	flag := func(key string, is bool, value string) {
		if is {
			o[key] = value
		}
	}
	flag(optICC, c.NoICC, "false")
	flag(optMasquerade, c.NoMasquerade, "false")
	flag(optIPv4, c.NoIPv4, "false")
	flag(optInhibit, c.NoAddress4, "true")
	flag(optSnooping, c.NoSnooping, "false")
	set(optMode4, c.Mode4)
	set(optMode6, c.Mode6)
	set(optBinding, written(c.HostBinding))
	set(optPrefix, c.IfPrefix)
	set(optHost, c.HostInterface)
	set(optOutbound, written(c.Outbound))
	set(optOutbound6, written(c.Outbound6))
	if c.Mirror.IsValid() {
		set(optMirror, c.Mirror.String())
		set(optMirrorPorts, string(c.MirrorPorts))
	}
	return o
}
