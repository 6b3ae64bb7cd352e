package slirp

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
)

// options are the command line as read.
type options struct {
	configure, ipv6, noLoopback, noDNS bool
	sandbox, seccomp                   bool // always so, as far as it is ours; taken for their callers' sake
	help, version                      bool
	exitFD, readyFD                    int // -1: none
	mtu                                int
	apiSocket                          string
	cidr                               netip.Prefix
	netnsType, usernsPath              string
	outbound4, outbound6               netip.Addr
	mac                                net.HardwareAddr
	bess                               string // the socket's path

	pid   int    // netnsType pid
	path  string // netnsType path
	tapFD int    // netnsType tapfd; else -1
	tap   string
	notes []string // to be printed: what is experimental, deprecated or too much
}

// errUsage says that the usage is to be printed; what is wrong was said, or is
// to be seen.
var errUsage = errors.New("usage")

// said is an error with slirp4netns' own words and without its usage.
type said string

func (s said) Error() string { return string(s) }

// asked says that the usage is printed behind the message.
func asked(format string, args ...any) error {
	return fmt.Errorf("%w%s", errUsage, fmt.Sprintf(format, args...))
}

const (
	defaultMTU  = 1500
	maxMTU      = 65521
	defaultCIDR = "10.0.2.0/24"
)

// aliases are names that slirp4netns once had for an option.
var aliases = map[string]string{"no-host-loopback": "disable-host-loopback", "create-sandbox": "enable-sandbox"}

// parse reads a command line as getopt_long(3) does: options anywhere, their
// names as short as they are unambiguous.
func parse(name string, args []string) (*options, error) {
	o := &options{tapFD: -1}
	var exitFD, readyFD, mtu, cidr, outbound4, outbound6, mac, target string
	fl := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fl.SetOutput(io.Discard)
	fl.SortFlags = false
	fl.Usage = func() {}
	fl.BoolVarP(&o.configure, "configure", "c", false, "")
	fl.StringVarP(&exitFD, "exit-fd", "e", "", "")
	fl.StringVarP(&readyFD, "ready-fd", "r", "", "")
	fl.StringVarP(&mtu, "mtu", "m", "", "")
	fl.StringVar(&cidr, "cidr", defaultCIDR, "")
	fl.BoolVar(&o.noLoopback, "disable-host-loopback", false, "")
	fl.StringVar(&o.netnsType, "netns-type", "pid", "")
	fl.StringVar(&o.usernsPath, "userns-path", "", "")
	fl.StringVarP(&o.apiSocket, "api-socket", "a", "", "")
	fl.BoolVarP(&o.ipv6, "enable-ipv6", "6", false, "")
	fl.BoolVar(&o.sandbox, "enable-sandbox", false, "")
	fl.BoolVar(&o.seccomp, "enable-seccomp", false, "")
	fl.BoolVarP(&o.help, "help", "h", false, "")
	fl.BoolVarP(&o.version, "version", "v", false, "")
	fl.StringVar(&outbound4, "outbound-addr", "", "")
	fl.StringVar(&outbound6, "outbound-addr6", "", "")
	fl.BoolVar(&o.noDNS, "disable-dns", false, "")
	fl.StringVar(&mac, "macaddress", "", "")
	fl.StringVar(&target, "target-type", "netns", "")
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, given string) pflag.NormalizedName {
		full, deprecated := longest(fl, given)
		if deprecated {
			o.notes = append(o.notes, fmt.Sprintf("WARNING: --%s is deprecated and will be removed in future releases, please use --%s instead.", given, full))
		}
		return pflag.NormalizedName(full)
	})
	if err := fl.Parse(args); err != nil {
		return o, asked("%s", face.Getopt(name, err))
	}
	if o.help || o.version {
		return o, nil
	}
	if o.seccomp {
		o.notes = append(o.notes, "WARNING: Support for seccomp is experimental")
	}
	if o.ipv6 {
		o.notes = append(o.notes, "WARNING: Support for IPv6 is experimental")
	}
	var err error
	if o.exitFD, err = number(exitFD, "-1"); err != nil {
		return o, asked("exit-fd must be a non-negative integer")
	}
	if o.readyFD, err = number(readyFD, "-1"); err != nil {
		return o, asked("ready-fd must be a non-negative integer")
	}
	if o.mtu, err = number(mtu, strconv.Itoa(defaultMTU)); err != nil || o.mtu == 0 || o.mtu > maxMTU {
		return o, asked("MTU must be a positive integer (< 65522)")
	}
	if o.usernsPath != "" && !exists(o.usernsPath) {
		return o, asked("userns path doesn't exist: %s", o.usernsPath)
	}
	if mac != "" && !o.configure {
		return o, asked("--macaddr cannot be specified when --configure or -c is not specified")
	}
	if err := o.positionals(target, fl); err != nil {
		return o, err
	}
	return o, o.values(cidr, outbound4, outbound6, mac)
}

// longest is the option's whole name: given itself, one that an alias stands for,
// or the only one that begins so.
func longest(fl *pflag.FlagSet, given string) (full string, deprecated bool) {
	if a, ok := aliases[given]; ok {
		return a, true
	}
	return face.Longest(fl, given), false
}

func number(s, without string) (int, error) {
	n, err := strconv.Atoi(cmp.Or(s, without))
	if err == nil && n < 0 && s != "" {
		err = strconv.ErrRange
	}
	return n, err
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// positionals reads what is no option: PID|PATH|FD [TAPNAME], or a socket's path.
func (o *options) positionals(target string, fl *pflag.FlagSet) error {
	args := fl.Args()
	if target == "bess" {
		switch {
		case len(args) < 1:
			return errUsage
		case len(args) > 1:
			return asked("too many arguments")
		case o.configure:
			return asked("--configure conflicts with --target-type=bess")
		case fl.Changed("netns-type"):
			return asked("--netns-type conflicts with --target-type=bess")
		case fl.Changed("userns-path"):
			return asked("--userns-path conflicts with --target-type=bess")
		}
		o.bess = args[0]
		o.notes = append(o.notes, "WARNING: BESS mode is experimental")
		return nil
	}
	if target != "netns" {
		return asked(`--target-type must be either "netns" or "bess"`)
	}
	if len(args) < 1 {
		return errUsage
	}
	var err error
	switch o.netnsType {
	case "pid":
		if o.pid, err = number(args[0], ""); err != nil || o.pid == 0 {
			return asked("PID must be a positive integer")
		}
	case "tapfd":
		if o.tapFD, err = number(args[0], ""); err != nil {
			return asked("TAPFD must be a file descriptor")
		}
		if len(args) > 1 {
			o.notes = append(o.notes, "WARNING: too many arguments")
		}
		return nil
	default: // slirp4netns takes any other word for path
		if err := unix.Access(args[0], unix.F_OK); err != nil {
			return asked("existing path expected when --netns-type=path: %s", description(err))
		}
		o.path = args[0]
	}
	if len(args) < 2 {
		return errUsage
	}
	if len(args) > 2 {
		o.notes = append(o.notes, "WARNING: too many arguments")
	}
	o.tap = args[1]
	return nil
}

// description is an error as perror(3) says it.
func description(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		s := e.Error()
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return err.Error()
}

// values reads what slirp4netns looks at after the rest, and without printing
// its usage.
func (o *options) values(cidr, outbound4, outbound6, mac string) (err error) {
	if o.cidr, err = parseCIDR(cidr); err != nil {
		return err
	}
	if outbound4 != "" {
		o.notes = append(o.notes, "WARNING: Support for --outbound-addr is experimental")
		if o.outbound4 = addressOf(outbound4, false); !o.outbound4.IsValid() {
			return said("outbound-addr has to be valid ipv4 address or interface name.")
		}
	}
	if outbound6 != "" {
		o.notes = append(o.notes, "WARNING: Support for --outbound-addr6 is experimental")
		if o.outbound6 = addressOf(outbound6, true); !o.outbound6.IsValid() {
			return said("outbound-addr6 has to be valid ipv6 address or interface name.")
		}
	}
	if mac != "" {
		if o.mac = parseMAC(mac); o.mac == nil {
			return said(fmt.Sprintf("%q is an invalid MAC address.\nmacaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').", mac))
		}
	}
	return nil
}

var cidrForm = regexp.MustCompile(`^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$`)

func parseCIDR(s string) (netip.Prefix, error) {
	var none netip.Prefix
	if !cidrForm.MatchString(s) {
		return none, said("invalid CIDR: " + s)
	}
	network, bits, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(network)
	if err != nil {
		return none, said("invalid network address: " + network)
	}
	n, _ := strconv.Atoi(bits)
	if n < 1 || n > 25 {
		return none, said("prefix length needs to be 1-25")
	}
	p := netip.PrefixFrom(a, n)
	if p != p.Masked() {
		return none, said("CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24")
	}
	return p, nil
}

// addressOf is an address of the family, or the first of the interface of that
// name.
func addressOf(s string, v6 bool) netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() == v6 && a.Zone() == "" {
		return a
	}
	i, err := net.InterfaceByName(s)
	if err != nil {
		return netip.Addr{}
	}
	all, _ := i.Addrs()
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		// A link-local address cannot be bound without its interface.
		if x, ok := netip.AddrFromSlice(n.IP); ok && x.Unmap().Is6() == v6 && !x.IsLinkLocalUnicast() {
			return x.Unmap()
		}
	}
	return netip.Addr{}
}

// parseMAC reads six bytes between colons, of one digit or two.
func parseMAC(s string) net.HardwareAddr {
	var m net.HardwareAddr
	for _, part := range strings.Split(s, ":") {
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil
		}
		m = append(m, byte(b))
	}
	if len(m) != 6 || m[0]&1 != 0 {
		return nil
	}
	return m
}
