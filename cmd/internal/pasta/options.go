package pasta

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
)

// options are the command line as read.
type options struct {
	quiet, foreground, help, version bool
	logFile, pidFile, pcap           string

	mtu           int
	addr4, addr6  netip.Prefix // an address with its prefix; bits may be unset (-1 of the zero value)
	gw4, gw6      netip.Addr
	ifname        string // the host's
	out4, out6    netip.Addr
	dnsForward    []netip.Addr
	dnsHost       []netip.AddrPort
	loopbacks     []netip.Addr // of --map-host-loopback
	noLoopback    bool
	guests        []netip.Addr // of --map-guest-addr
	only4, only6  bool
	without       map[string]bool // tcp, udp, icmp, dhcp, dhcpv6, ra
	tcp, udp      forwards        // host to namespace
	tcpNS, udpNS  forwards        // namespace's loopback to the host's
	inner         string          // interface in the namespace; "": as the host's
	innerMAC      net.HardwareAddr
	configure     bool
	stay          bool // when the namespace is gone
	pid           int
	netns, userns string
	command       []string
}

// accepted are options whose effect is ours anyway, or that have none here.
var acceptedFlags = []string{"debug", "trace", "stderr", "netns-only", "no-copy-routes", "no-copy-addrs", "no-splice", "freebind", "no-dhcp-dns", "dhcp-dns", "no-dhcp-search", "dhcp-search"}
var acceptedValues = []string{"log-size", "runas", "mac-addr", "dns", "search", "hostname", "fqdn"}

var shorthands = map[string]string{"debug": "d", "stderr": "e", "mac-addr": "M", "dns": "D", "search": "S", "hostname": "H"}

// parse reads a command line as getopt_long(3) does when it stops at the first
// argument that is no option.
func parse(name string, args []string) (*options, error) {
	o := &options{without: make(map[string]bool)}
	fl := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fl.SetOutput(io.Discard)
	fl.SetInterspersed(false)
	fl.Usage = func() {}
	for _, n := range acceptedFlags {
		fl.BoolP(n, shorthands[n], false, "")
	}
	for _, n := range acceptedValues {
		fl.StringArrayP(n, shorthands[n], nil, "")
	}
	fl.BoolVarP(&o.quiet, "quiet", "q", false, "")
	fl.BoolVarP(&o.foreground, "foreground", "f", false, "")
	fl.BoolVarP(&o.help, "help", "h", false, "")
	fl.BoolVar(&o.version, "version", false, "")
	fl.StringVarP(&o.logFile, "log-file", "l", "", "")
	fl.StringVarP(&o.pidFile, "pid", "P", "", "")
	fl.StringVarP(&o.pcap, "pcap", "p", "", "")
	fl.IntVarP(&o.mtu, "mtu", "m", 65520, "")
	addrs := fl.StringArrayP("address", "a", nil, "")
	mask := fl.StringP("netmask", "n", "", "")
	gws := fl.StringArrayP("gateway", "g", nil, "")
	fl.StringVarP(&o.ifname, "interface", "i", "", "")
	outs := fl.StringArrayP("outbound", "o", nil, "")
	outIf4, outIf6 := fl.String("outbound-if4", "", ""), fl.String("outbound-if6", "", "")
	dns, dnsHost := fl.StringArray("dns-forward", nil, ""), fl.StringArray("dns-host", nil, "")
	loops, guests := fl.StringArray("map-host-loopback", nil, ""), fl.StringArray("map-guest-addr", nil, "")
	fl.BoolVar(&o.noLoopback, "no-map-gw", false, "")
	fl.BoolVarP(&o.only4, "ipv4-only", "4", false, "")
	fl.BoolVarP(&o.only6, "ipv6-only", "6", false, "")
	for _, p := range []string{"tcp", "udp", "icmp", "dhcp", "dhcpv6", "ndp", "ra"} {
		fl.Bool("no-"+p, false, "")
	}
	t, u := fl.StringArrayP("tcp-ports", "t", nil, ""), fl.StringArrayP("udp-ports", "u", nil, "")
	tn, un := fl.StringArrayP("tcp-ns", "T", nil, ""), fl.StringArrayP("udp-ns", "U", nil, "")
	fl.StringVarP(&o.inner, "ns-ifname", "I", "", "")
	innerMAC := fl.String("ns-mac-addr", "", "")
	fl.BoolVar(&o.configure, "config-net", false, "")
	fl.BoolVar(&o.stay, "no-netns-quit", false, "")
	fl.StringVar(&o.netns, "netns", "", "")
	fl.StringVar(&o.userns, "userns", "", "")
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		return pflag.NormalizedName(face.Longest(fl, given))
	})
	if err := fl.Parse(args); err != nil {
		return o, errors.New(face.Getopt(name, err))
	}
	if o.help || o.version {
		return o, nil
	}
	for _, p := range []string{"tcp", "udp", "icmp", "dhcp", "dhcpv6", "ndp", "ra"} {
		o.without[p], _ = fl.GetBool("no-" + p)
	}
	if d, _ := fl.GetBool("debug"); d {
		o.foreground = true
	}
	if o.only4 && o.only6 {
		return o, errors.New("--ipv4-only and --ipv6-only exclude each other")
	}
	if o.mtu < 1280 || o.mtu > 65520 {
		return o, fmt.Errorf("--mtu %d: 1280 to 65520 bytes", o.mtu)
	}
	for _, list := range []struct {
		opt    string
		values []string
		to     *forwards
	}{{"--tcp-ports", *t, &o.tcp}, {"--udp-ports", *u, &o.udp}, {"--tcp-ns", *tn, &o.tcpNS}, {"--udp-ns", *un, &o.udpNS}} {
		for _, v := range list.values {
			if err := list.to.add(list.opt, v); err != nil {
				return o, err
			}
		}
		if list.to.mode == portsUnset {
			list.to.mode = portsAuto
		}
	}
	if err := o.addresses(*addrs, *gws, *outs, *mask, *outIf4, *outIf6); err != nil {
		return o, err
	}
	if err := o.services(*dns, *dnsHost, *loops, *guests); err != nil {
		return o, err
	}
	if *innerMAC != "" {
		var err error
		if o.innerMAC, err = net.ParseMAC(*innerMAC); err != nil || len(o.innerMAC) != 6 || o.innerMAC[0]&1 != 0 {
			return o, fmt.Errorf("--ns-mac-addr %s is no unicast MAC address", *innerMAC)
		}
	}
	return o, o.target(fl.Args())
}

func (o *options) addresses(addrs, gws, outs []string, mask, if4, if6 string) error {
	for _, s := range addrs {
		a, bits, has := strings.Cut(s, "/")
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("--address %s: %q is no address", s, a)
		}
		n := classBits(ip)
		if has {
			if n, err = strconv.Atoi(bits); err != nil || n < 1 || n > ip.BitLen() {
				return fmt.Errorf("--address %s: %q is no length of a prefix", s, bits)
			}
		}
		if ip.Is4() {
			o.addr4 = netip.PrefixFrom(ip, n)
		} else {
			o.addr6 = netip.PrefixFrom(ip, n)
		}
	}
	if mask != "" {
		n, err := strconv.Atoi(mask)
		if m := net.ParseIP(mask).To4(); m != nil {
			n, _ = net.IPMask(m).Size()
			err = nil
		}
		if err != nil || n < 1 || n > 32 {
			return fmt.Errorf("--netmask %s: a mask, or a length of 1 to 32", mask)
		}
		if !o.addr4.IsValid() {
			return errors.New("--netmask goes with --address")
		}
		o.addr4 = netip.PrefixFrom(o.addr4.Addr(), n)
	}
	for _, s := range gws {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return fmt.Errorf("--gateway %s is no address", s)
		case a.Is4():
			o.gw4 = a
		default:
			o.gw6 = a
		}
	}
	for _, s := range outs {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return fmt.Errorf("--outbound %s is no address", s)
		case a.Is4():
			o.out4 = a
		default:
			o.out6 = a
		}
	}
	for ifname, to := range map[string]*netip.Addr{if4: &o.out4, if6: &o.out6} {
		if ifname == "" {
			continue
		}
		all, err := addressesOf(ifname)
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.Is4() == (to == &o.out4) && !a.IsLinkLocalUnicast() {
				*to = a
				break
			}
		}
		if !to.IsValid() {
			return fmt.Errorf("interface %s has no address of that family", ifname)
		}
	}
	return nil
}

// classBits is the length of the prefix that an address has without one, by its
// class, as pasta takes it.
func classBits(a netip.Addr) int {
	if a.Is6() {
		return 64
	}
	switch b := a.As4(); {
	case b[0] < 128:
		return 8
	case b[0] < 192:
		return 16
	}
	return 24
}

func (o *options) services(dns, dnsHost, loops, guests []string) error {
	list := func(opt string, values []string, none func()) (out []netip.Addr, err error) {
		for _, s := range values {
			if s == "none" && none != nil {
				none()
				continue
			}
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%s %s is no address", opt, s)
			}
			out = append(out, a)
		}
		return out, nil
	}
	var err error
	if o.dnsForward, err = list("--dns-forward", dns, nil); err != nil {
		return err
	}
	servers, err := list("--dns-host", dnsHost, nil)
	if err != nil {
		return err
	}
	for _, a := range servers {
		o.dnsHost = append(o.dnsHost, netip.AddrPortFrom(a, 53))
	}
	if o.loopbacks, err = list("--map-host-loopback", loops, func() { o.noLoopback = true }); err != nil {
		return err
	}
	if len(o.loopbacks) > 0 {
		o.noLoopback = true // they stand instead of the gateway
	}
	o.guests, err = list("--map-guest-addr", guests, func() {})
	if err == nil && len(o.loopbacks)+len(o.guests) > 4 {
		err = errors.New("--map-host-loopback and --map-guest-addr: four addresses at most")
	}
	return err
}

// target reads what is no option.
func (o *options) target(args []string) error {
	if o.netns != "" {
		if len(args) > 0 {
			return fmt.Errorf("--netns and %q exclude each other", args[0])
		}
		if !strings.Contains(o.netns, "/") {
			o.netns = filepath.Join("/run/netns", o.netns)
		}
		return nil
	}
	if len(args) == 1 {
		if pid, err := strconv.Atoi(args[0]); err == nil && pid > 0 {
			if unix.Kill(pid, 0) == unix.ESRCH {
				return fmt.Errorf("there is no process %d", pid)
			}
			o.pid = pid
			return nil
		}
	}
	if o.userns != "" {
		return errors.New("--userns goes with a PID or --netns")
	}
	o.command = args
	o.foreground = true
	return nil
}
