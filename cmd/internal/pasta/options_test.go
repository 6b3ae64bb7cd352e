package pasta

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	me := strconv.Itoa(os.Getpid())
	for _, x := range []struct{ args, bad string }{
		// As podman and RootlessKit call it.
		{"--config-net -t 8080-8080:80-80 --dns-forward 169.254.1.1 -u none -T none -U none --no-map-gw --quiet --netns /run/x --map-guest-addr 169.254.1.2", ""},
		{"--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=none " + me, ""},
		{"--userns=/proc/1/ns/user --netns=x --no-netns-quit", ""},
		{"-- sh -c --netns", ""},
		{"sh -t 1", ""},
		{"--config -f ls", ""},
		{"--map-guest-addr none --map-host-loopback none", ""},
		{"-a 2001:db8::1/64 -a 10.0.0.1 -n 255.255.0.0 -g 10.0.0.9 -o 10.0.0.2", ""},
		{"--host-lo-to-ns-lo", "unrecognized option '--host-lo-to-ns-lo'"},
		{"-z", "invalid option -- 'z'"},
		{"--netns", "option '--netns' requires an argument"},
		{"--netns x ls", "exclude each other"},
		{"--userns x ls", "goes with a PID or --netns"},
		{"-4 -6", "exclude each other"},
		{"-m 100", "1280 to 65520"},
		{"-a 1.2.3", "is no address"},
		{"-a 10.0.0.1/33", "no length"},
		{"-n 24", "goes with --address"},
		{"-g x", "is no address"},
		{"--dns-forward x", "is no address"},
		{"--ns-mac-addr 01:00:00:00:00:00", "unicast"},
		{"-t 1 -t none", "excludes"},
		{"--outbound-if4 nosuch0", "nosuch0"},
		{"999999999", "no process"},
	} {
		o, err := parse("pasta", strings.Fields(x.args))
		switch {
		case x.bad == "" && err != nil:
			t.Errorf("pasta %s: %v", x.args, err)
		case x.bad != "" && (err == nil || !strings.Contains(err.Error(), x.bad)):
			t.Errorf("pasta %s: %v, want %q", x.args, err, x.bad)
		case x.bad == "" && o.tcp.mode == portsUnset:
			t.Errorf("pasta %s: ports are left open", x.args)
		}
	}
	o, err := parse("pasta", strings.Fields("-a 10.0.0.1 -n 16 sh -c true"))
	if err != nil || o.addr4.String() != "10.0.0.1/16" || strings.Join(o.command, " ") != "sh -c true" || o.tcp.mode != portsAuto || !o.foreground {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse("pasta", []string{"-a", "172.16.0.1", me}); err != nil || o.addr4.Bits() != 16 || o.pid != os.Getpid() || o.foreground {
		t.Errorf("%+v, %v", o, err)
	}
}
