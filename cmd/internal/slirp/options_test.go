package slirp

import (
	"errors"
	"strings"
	"testing"
)

func TestCommandLines(t *testing.T) {
	self := []string{"1", "tap0"}
	with := func(args ...string) []string { return append(args, self...) }
	for _, c := range []struct {
		name string
		args []string
		is   func(o *options) bool
	}{
		{"nothing but a process", self, func(o *options) bool {
			return o.pid == 1 && o.tap == "tap0" && o.mtu == 1500 && o.exitFD == -1 && o.readyFD == -1 && o.tapFD == -1 && o.cidr.String() == "10.0.2.0/24"
		}},
		{"as RootlessKit does", with("--mtu", "65520", "-r", "3", "--disable-host-loopback", "--api-socket", "/x/.s4nn.sock", "--enable-sandbox", "--enable-seccomp", "--enable-ipv6"),
			func(o *options) bool {
				return o.mtu == 65520 && o.readyFD == 3 && o.noLoopback && o.apiSocket == "/x/.s4nn.sock" && o.sandbox && o.seccomp && o.ipv6 && len(o.notes) == 2
			}},
		{"as RootlessKit does for a detached namespace", []string{"--userns-path=/proc/self/ns/user", "--netns-type=path", "/proc/self/ns/net", "tap0"},
			func(o *options) bool {
				return o.usernsPath == "/proc/self/ns/user" && o.path == "/proc/self/ns/net" && o.pid == 0
			}},
		{"as podman does", []string{"--disable-host-loopback", "--mtu=65520", "--enable-sandbox", "--enable-seccomp", "--enable-ipv6", "-c", "-e", "3", "-r", "4", "--netns-type=path", "/proc/self/ns/net", "tap0"},
			func(o *options) bool { return o.configure && o.exitFD == 3 && o.readyFD == 4 }},
		{"options behind", []string{"-c", "1", "--cidr", "10.0.123.0/24", "tap11", "-6"}, func(o *options) bool {
			return o.tap == "tap11" && o.ipv6 && o.cidr.String() == "10.0.123.0/24"
		}},
		{"short options together, with values", []string{"-c6e3", "-r4", "-m9000", "1", "tap0"}, func(o *options) bool {
			return o.configure && o.ipv6 && o.exitFD == 3 && o.readyFD == 4 && o.mtu == 9000
		}},
		{"names cut short", with("--conf", "--disable-h", "--api=/s", "--mac=02:00:00:00:00:1"), func(o *options) bool {
			return o.configure && o.noLoopback && o.apiSocket == "/s" && o.mac.String() == "02:00:00:00:00:01"
		}},
		{"names of old", with("--no-host-loopback", "--create-sandbox"), func(o *options) bool {
			return o.noLoopback && o.sandbox && len(o.notes) == 2 && strings.Contains(o.notes[0], "--no-host-loopback is deprecated")
		}},
		{"all that is behind --", []string{"--", "1", "-c"}, func(o *options) bool { return o.tap == "-c" && !o.configure }},
		{"too much", []string{"1", "tap0", "more"}, func(o *options) bool { return len(o.notes) == 1 }},
		{"a descriptor", []string{"--netns-type=tapfd", "5"}, func(o *options) bool { return o.tapFD == 5 && o.tap == "" }},
		{"a descriptor with a name", []string{"--netns-type=tapfd", "5", "tap0"}, func(o *options) bool { return o.tapFD == 5 && len(o.notes) == 1 }},
		{"a socket", []string{"--target-type=bess", "/x/s"}, func(o *options) bool { return o.bess == "/x/s" }},
		{"where to leave from", with("--outbound-addr=192.0.2.7", "--outbound-addr6", "2001:db8::7"), func(o *options) bool {
			return o.outbound4.String() == "192.0.2.7" && o.outbound6.String() == "2001:db8::7"
		}},
		{"an interface to leave from", with("--outbound-addr=lo"), func(o *options) bool { return o.outbound4.IsLoopback() }},
		{"help, whatever else", []string{"-h", "--netns-type=path"}, func(o *options) bool { return o.help }},
		{"version", []string{"--version"}, func(o *options) bool { return o.version }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := parse(Name, c.args)
			if err != nil || !c.is(o) {
				t.Errorf("%q: %+v, %v", c.args, o, err)
			}
		})
	}
}

// What callers look for in what goes wrong, and whether the usage follows.
func TestCommandLinesThatAreWrong(t *testing.T) {
	for _, c := range []struct {
		args  string
		says  string
		usage bool
	}{
		{"", "", true},
		{"1", "", true},
		{"--bogus 1 tap0", "slirp4netns: unrecognized option '--bogus'", true},
		{"-z 1 tap0", "slirp4netns: invalid option -- 'z'", true},
		{"1 tap0 --mtu", "slirp4netns: option '--mtu' requires an argument", true},
		{"1 tap0 -r", "slirp4netns: option requires an argument -- 'r'", true},
		{"--enable 1 tap0", "slirp4netns: unrecognized option '--enable'", true}, // -ipv6, -sandbox or -seccomp
		{"-e -1 1 tap0", "exit-fd must be a non-negative integer", true},
		{"-r x 1 tap0", "ready-fd must be a non-negative integer", true},
		{"-m 0 1 tap0", "MTU must be a positive integer (< 65522)", true},
		{"-m 65522 1 tap0", "MTU must be a positive integer (< 65522)", true},
		{"x tap0", "PID must be a positive integer", true},
		{"0 tap0", "PID must be a positive integer", true},
		{"--userns-path=/nowhere 1 tap0", "userns path doesn't exist: /nowhere", true},
		{"--netns-type=path /nowhere tap0", "existing path expected when --netns-type=path: No such file or directory", true},
		{"--netns-type=path /", "", true},
		{"--netns-type=tapfd x", "TAPFD must be a file descriptor", true},
		{"--target-type=x 1 tap0", `--target-type must be either "netns" or "bess"`, true},
		{"--target-type=bess", "", true},
		{"--target-type=bess a b", "too many arguments", true},
		{"--target-type=bess -c a", "--configure conflicts with --target-type=bess", true},
		{"--target-type=bess --netns-type=pid a", "--netns-type conflicts with --target-type=bess", true},
		{"--target-type=bess --userns-path=/ a", "--userns-path conflicts with --target-type=bess", true},
		{"--macaddress=02:00:00:00:00:01 1 tap0", "--macaddr cannot be specified when --configure or -c is not specified", true},
		{"-c --macaddress=02:00:00:00:00 1 tap0", "is an invalid MAC address", false},
		{"-c --macaddress=01:00:00:00:00:01 1 tap0", "macaddress has to be a valid MAC address", false}, // a group's
		{"--cidr=x 1 tap0", "invalid CIDR: x", false},
		{"--cidr=10.0.2.0 1 tap0", "invalid CIDR: 10.0.2.0", false},
		{"--cidr=999.0.2.0/24 1 tap0", "invalid network address: 999.0.2.0", false},
		{"--cidr=10.0.2.0/26 1 tap0", "prefix length needs to be 1-25", false},
		{"--cidr=10.0.2.0/0 1 tap0", "prefix length needs to be 1-25", false},
		{"--cidr=10.0.2.100/24 1 tap0", "CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24", false},
		{"--outbound-addr=nosuch0 1 tap0", "outbound-addr has to be valid ipv4 address or interface name.", false},
		{"--outbound-addr=::1 1 tap0", "outbound-addr has to be valid ipv4 address or interface name.", false},
		{"--outbound-addr6=127.0.0.1 1 tap0", "outbound-addr6 has to be valid ipv6 address or interface name.", false},
	} {
		_, err := parse(Name, strings.Fields(c.args))
		if err == nil {
			t.Errorf("%q was taken", c.args)
			continue
		}
		if got := strings.TrimPrefix(err.Error(), errUsage.Error()); errors.Is(err, errUsage) != c.usage || !strings.Contains(got, c.says) || c.says == "" && got != "" {
			t.Errorf("%q: %q, usage %v; want %q, %v", c.args, got, errors.Is(err, errUsage), c.says, c.usage)
		}
	}
}

// The names that callers look for before they use an option, and the version
// that they read.
func TestWhatCallersSearch(t *testing.T) {
	help := usage(Name)
	for _, option := range []string{"--netns-type", "--enable-ipv6", "--cidr", "--disable-host-loopback", "--api-socket", "--enable-sandbox", "--enable-seccomp",
		"--mtu", "--outbound-addr", "--disable-dns", "--macaddress", "--target-type", "--userns-path", "--ready-fd", "--exit-fd", "--configure"} {
		if !strings.Contains(help, option) {
			t.Errorf("the help lacks %s", option)
		}
	}
	for _, line := range []string{"slirp4netns version ", "\nSLIRP_CONFIG_VERSION_MAX: 5\n", "\nlibseccomp: "} {
		if !strings.Contains(version("x"), line) {
			t.Errorf("the version lacks %q:\n%s", line, version("x"))
		}
	}
}

func TestAddresses(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.2.0/24":   "255.255.255.0 10.0.2.2 10.0.2.3 10.0.2.100 10.0.2.15 10.0.2.30",
		"10.0.2.128/25": "255.255.255.128 10.0.2.130 10.0.2.131 10.0.2.228 10.0.2.143 10.0.2.158",
		"128.0.0.0/1":   "128.0.0.0 128.0.0.2 128.0.0.3 128.0.0.100 128.0.0.15 128.0.0.30",
	} {
		p, err := parseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		n := networkOf(p)
		var got []string
		for _, a := range []interface{ String() string }{n.mask, n.gateway, n.dns, n.guest, n.first, n.last} {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", cidr, got, want)
		}
	}
}

// FuzzCommandLine: whatever stands there is taken, or refused with words.
func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{"-c -e 3 -r 4 --mtu=65520 1 tap0", "--target-type=bess /x/s", "--netns-type=tapfd 5", "--cidr 10.0.2.0/24 -6 1 tap0", "--macaddress=2:0:0:0:0:1 -c 1 tap0", "-c6e3 -- 1 -x"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parse(Name, strings.Fields(line))
		switch {
		case err != nil && strings.TrimSpace(err.Error()) == "":
			t.Error("refused without a word")
		case err == nil && !o.help && !o.version && o.bess == "" && o.pid <= 0 && o.path == "" && o.tapFD < 0:
			t.Errorf("taken without a target: %+v", o)
		case err == nil && !o.help && !o.version && (o.mtu < 1 || o.mtu > maxMTU || !o.cidr.IsValid()):
			t.Errorf("taken with %+v", o)
		}
	})
}
