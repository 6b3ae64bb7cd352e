package configs

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/spf13/pflag"
)

// environ is a Getenv.
type environ map[string]string

func (e environ) get(name string) string { return e[name] }

// loadText loads text as if it were the file name.
func loadText(t *testing.T, name, text string) *Config {
	t.Helper()
	c, err := load(Options{Getenv: environ{}.get}, name, []byte(text))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return c
}

// plain is c without where things stand.
func plain(c *Config) *Config {
	p := *c
	p.Path, p.origins = "", nil
	p.Networks, p.Containers = nil, nil
	for _, n := range c.Networks {
		n.Line = 0
		p.Networks = append(p.Networks, n)
	}
	for _, ct := range c.Containers {
		ct.Line = 0
		p.Containers = append(p.Containers, ct)
	}
	return &p
}

func TestDefault(t *testing.T) {
	want := &Config{
		Networks: []Network{{Name: "bridge", Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"), MTU: 1500}},
		Forward:  true,
		Host:     Host{Address: true},
		DNS:      DNS{Cache: 4096},
		Limits:   Limits{Flows: 8192, HalfOpen: 1024, FDB: 4096, Fragments: 256},
		Sandbox:  "on",
		LogLevel: "info", LogFormat: "text",
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("Default() = %+v\nwant %+v", got, want)
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("Default() is not valid: %v", err)
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	for name, text := range map[string]string{
		"empty.yaml": "", "comment.yaml": "# nothing\n", "marker.yaml": "---\n", "null.yaml": "networks:\ncontainers:\nlog:\n", "bom.yaml": "\xef\xbb\xbf",
		"empty.json": "", "space.json": " \n", "object.json": "{}", "null.json": "null", "lists.json": `{"networks": [], "containers": []}`,
		"empty.toml": "", "comment.toml": "# nothing\n", "section.toml": "[log]\n", "nofile.conf": "",
	} {
		if got := loadText(t, name, text); !reflect.DeepEqual(plain(got), Default()) || got.Path != name {
			t.Errorf("%s = %+v\nwant Default()", name, got)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	c, err := Load(Options{Getenv: environ{}.get, SearchDirs: []string{t.TempDir()}})
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Errorf("Load = %+v, %v; want Default()", c, err)
	}
}

func TestSearch(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	opts := Options{Getenv: environ{}.get, SearchDirs: []string{filepath.Join(first, "missing"), first, second}}
	// Each file that is added goes before those before it.
	for _, path := range []string{
		filepath.Join(second, "tapswitch.json"), filepath.Join(second, "tapswitch.toml"), filepath.Join(second, "tapswitch.yml"),
		filepath.Join(second, "tapswitch.yaml"), filepath.Join(first, "tapswitch.json"), filepath.Join(first, "tapswitch.yaml"),
	} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(opts)
		if err != nil || c.Path != path {
			t.Errorf("Load with %s = %+v, %v", path, c, err)
		}
	}
	named := filepath.Join(second, "tapswitch.toml")
	opts.File = named
	if c, err := Load(opts); err != nil || c.Path != named {
		t.Errorf("Load with File = %+v, %v", c, err)
	}
}

func TestSearchDirs(t *testing.T) {
	for _, tt := range []struct {
		env  environ
		want []string
	}{
		{environ{}, []string{".", "/etc/tapswitch"}},
		{environ{"HOME": "/home/me"}, []string{".", "/home/me/.config/tapswitch", "/etc/tapswitch"}},
		{environ{"HOME": "/home/me", "XDG_CONFIG_HOME": "/conf"}, []string{".", "/conf/tapswitch", "/etc/tapswitch"}},
		{environ{"HOME": "/home/me", "XDG_CONFIG_HOME": "conf"}, []string{".", "/home/me/.config/tapswitch", "/etc/tapswitch"}},
	} {
		if got := SearchDirs(tt.env.get); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("SearchDirs(%v) = %q, want %q", tt.env, got, tt.want)
		}
	}
}

func TestWorkingDirectoryGoesFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	home := t.TempDir()
	mine := filepath.Join(home, ".config/tapswitch/tapswitch.yaml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(mine), 0o700), os.WriteFile(mine, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	opts := Options{Getenv: environ{"HOME": home}.get}
	if c, err := Load(opts); err != nil || c.Path != mine {
		t.Errorf("Load = %+v, %v; want that of %s", c, err, mine)
	}
	if err := os.WriteFile("tapswitch.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(opts); err != nil || c.Path != "tapswitch.toml" {
		t.Errorf("Load = %+v, %v; want that of ./tapswitch.toml", c, err)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone.yaml")
	for _, tt := range []struct{ path, want string }{
		{gone, gone + ": no such file; name another with -c, or begin with the sample that `tapswitch config init` prints"},
		{dir, dir + ": is a directory; name a readable file with -c"},
		{huge, huge + ": is larger than 262144 bytes, too large for a configuration; name another file with -c"},
	} {
		if _, err := Load(Options{File: tt.path, Getenv: environ{}.get}); err == nil || err.Error() != tt.want {
			t.Errorf("Load(%s): %v\nwant %s", tt.path, err, tt.want)
		}
	}
	if _, err := Load(Options{File: gone, Getenv: environ{}.get}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	// A file that is found is never passed over for the next.
	if err := os.Mkdir(filepath.Join(dir, "tapswitch.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(Options{Getenv: environ{}.get, SearchDirs: []string{dir}}); err == nil {
		t.Errorf("a directory in the file's place was passed over: %+v", c)
	}
}

// TestPrecedence gives each source its own value of one setting and takes the sources away from above.
func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		key                   string
		file, env, flag       string // what each says
		fromFlag, fromEnv     any
		fromFile, fromDefault any
		get                   func(*Config) any
	}{
		{"host.loopback", "host: {loopback: [80]}", "81,82", "all",
			Ports{All: true}, Ports{List: []uint16{81, 82}}, Ports{List: []uint16{80}}, Ports{}, func(c *Config) any { return c.Host.Loopback }},
		{"host.address", "host: {address: deny}", "allow", "deny", false, true, false, true, func(c *Config) any { return c.Host.Address }},
		{"dns.upstream", "dns: {upstream: [192.0.2.1]}", "192.0.2.2, 192.0.2.3:5353", "2001:db8::1,[2001:db8::2]:54",
			servers("[2001:db8::1]:53", "[2001:db8::2]:54"), servers("192.0.2.2:53", "192.0.2.3:5353"), servers("192.0.2.1:53"), servers(),
			func(c *Config) any { return c.DNS.Upstream }},
		{"limits.flows", "limits: {flows: 10}", "20", "30", 30, 20, 10, 8192, func(c *Config) any { return c.Limits.Flows }},
		{"limits.half_open", "limits: {half_open: 10}", "20", "30", 30, 20, 10, 1024, func(c *Config) any { return c.Limits.HalfOpen }},
		{"limits.fdb", "limits: {fdb: 10}", "20", "30", 30, 20, 10, 4096, func(c *Config) any { return c.Limits.FDB }},
		{"limits.fragments", "limits: {fragments: 10}", "20", "30", 30, 20, 10, 256, func(c *Config) any { return c.Limits.Fragments }},
		{"ip_forward", "ip_forward: false", "true", "false", false, true, false, true, func(c *Config) any { return c.Forward }},
		{"dns.domains", "dns: {domains: [a.example=192.0.2.1]}", "b.example=192.0.2.2:54", "c.example=192.0.2.3,.C.example.=[::1]:5",
			[]Domain{{"c.example", servers("192.0.2.3:53", "[::1]:5")}}, []Domain{{"b.example", servers("192.0.2.2:54")}}, []Domain{{"a.example", servers("192.0.2.1:53")}}, []Domain(nil),
			func(c *Config) any { return c.DNS.Domains }},
		{"dns.cache", "dns: {cache: 1}", "2", "0", 0, 2, 1, 4096, func(c *Config) any { return c.DNS.Cache }},
		{"dns.intercept", "dns: {intercept: true}", "false", "true", true, false, true, false, func(c *Config) any { return c.DNS.Intercept }},
		{"socks", "socks: '127.0.0.1:1'", "127.0.0.1:2", "[::1]:3", "[::1]:3", "127.0.0.1:2", "127.0.0.1:1", "", func(c *Config) any { return c.SOCKS }},
		{"threads", "threads: 2", "3", "4", 4, 3, 2, 0, func(c *Config) any { return c.Threads }},
		{"capture_ring", "capture_ring: 64kb", "1mb", "2MB", 2 << 20, 1 << 20, 64 << 10, 0, func(c *Config) any { return c.CaptureRing }},
		{"sandbox", "sandbox: off", "strict", "on", "on", "strict", "off", "on", func(c *Config) any { return c.Sandbox }},
		{"log.level", "log: {level: debug}", "warn", "error", "error", "warn", "debug", "info", func(c *Config) any { return c.LogLevel }},
		{"log.format", "log: {format: json}", "text", "json", "json", "text", "json", "text", func(c *Config) any { return c.LogFormat }},
		{"metrics", "metrics: '127.0.0.1:1'", "127.0.0.2:2", "unix:/m", "unix:/m", "127.0.0.2:2", "127.0.0.1:1", "", func(c *Config) any { return c.Metrics }},
		{"metrics_public", "metrics_public: true", "false", "true", true, false, true, false, func(c *Config) any { return c.MetricsPublic }},
		{"api.readonly", "api: {readonly: /a}", "/B", "/C", "/C", "/B", "/a", "", func(c *Config) any { return c.API.ReadOnly }},
		{"api.mode", "api: {mode: '0600'}", "0660", "0666", "0666", "0660", "0600", "", func(c *Config) any { return c.API.Mode }},
		{"api.group", "api: {group: a}", "b", "c", "c", "b", "a", "", func(c *Config) any { return c.API.Group }},
		{"pprof", "pprof: true", "false", "true", true, false, true, false, func(c *Config) any { return c.Pprof }},
		{"state_file", "state_file: /a", "/B", "/C", "/C", "/B", "/a", "", func(c *Config) any { return c.StateFile }},
	} {
		i := 0
		for settings[i].key != tt.key {
			i++
		}
		s := settings[i]
		set, unset := newFlags(t, "--"+s.flag(), tt.flag), newFlags(t)
		env := environ{s.env(): tt.env}
		for _, step := range []struct {
			name   string
			flags  *pflag.FlagSet
			env    environ
			file   string
			want   any
			origin string
		}{
			{"flag", set, env, tt.file, tt.fromFlag, "flag --" + s.flag()},
			{"env", unset, env, tt.file, tt.fromEnv, "env " + s.env()},
			{"file", unset, nil, tt.file, tt.fromFile, "file x.yaml:1"},
			{"default", unset, nil, "", tt.fromDefault, "default"},
			{"no flags", nil, nil, "", tt.fromDefault, "default"},
		} {
			c, err := load(Options{Flags: step.flags, Getenv: step.env.get}, "x.yaml", []byte(step.file))
			if err != nil {
				t.Errorf("%s by %s: %v", tt.key, step.name, err)
				continue
			}
			if got := tt.get(c); !reflect.DeepEqual(got, step.want) || c.origins[tt.key].String() != step.origin {
				t.Errorf("%s by %s = %v of %s, want %v of %s", tt.key, step.name, got, c.origins[tt.key], step.want, step.origin)
			}
		}
	}
	if len(settings) != 24 {
		t.Errorf("%d settings, of which 24 are tested above", len(settings))
	}
}

// newFlags are our flags after args.
func newFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func servers(all ...string) []netip.AddrPort {
	var list []netip.AddrPort
	for _, s := range all {
		list = append(list, netip.MustParseAddrPort(s))
	}
	return list
}

// TestOwnFlags: a command may have flags of other types by these names, and flags that are none of ours.
func TestOwnFlags(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.Int("limits-flows", 7, "")
	fs.StringSlice("dns-upstream", nil, "")
	fs.String("networks", "", "")
	if err := fs.Parse([]string{"--limits-flows=9", "--dns-upstream=192.0.2.1,192.0.2.2", "--networks=no"}); err != nil {
		t.Fatal(err)
	}
	c, err := load(Options{Flags: fs, Getenv: environ{}.get}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Limits.Flows != 9 || !reflect.DeepEqual(c.DNS.Upstream, servers("192.0.2.1:53", "192.0.2.2:53")) || c.Networks[0].Name != "bridge" {
		t.Errorf("Load = %+v", c)
	}
}

// TestEmptiedByFlag: an empty flag is a value, an empty variable is none.
func TestEmptiedByFlag(t *testing.T) {
	fs := newFlags(t, "--state-file=", "--dns-upstream=")
	text := "state_file: /a\ndns: {upstream: [192.0.2.1]}\nlog: {level: warn}\n"
	c, err := load(Options{Flags: fs, Getenv: environ{"TAPSWITCH_LOG_LEVEL": ""}.get}, "x.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.StateFile != "" || c.DNS.Upstream != nil || c.LogLevel != "warn" {
		t.Errorf("Load = %+v", c)
	}
}

func TestSamples(t *testing.T) {
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 9 {
		t.Fatalf("samples are %q, %v", paths, err)
	}
	for _, path := range paths {
		c, err := Load(Options{File: path, Getenv: environ{}.get})
		if err != nil {
			t.Error(err)
		} else if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestSample(t *testing.T) {
	c := loadText(t, "sample.yaml", string(Sample()))
	if !reflect.DeepEqual(plain(c), Default()) {
		t.Errorf("the sample is %+v\nwant the defaults", plain(c))
	}
	// The examples in it are the lines with a single #.
	full := regexp.MustCompile(`(?m)^#([^#])`).ReplaceAllString(string(Sample()), "$1")
	c, err := load(Options{Getenv: environ{}.get}, "sample.yaml", []byte(full))
	if err != nil {
		t.Fatalf("with its examples: %v", err)
	}
	if len(c.Networks) != 3 || len(c.Containers) != 4 || len(c.Rules) != 2 || len(c.Routes) != 1 || len(c.Egress) != 1 || c.StateFile == "" {
		t.Errorf("with its examples: %+v", c)
	}
}

func TestDemo(t *testing.T) {
	c := plain(loadText(t, "demo.yaml", string(Demo())))
	want := Default()
	want.Networks = []Network{
		{Name: "bridge", Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"),
			Subnet6: netip.MustParsePrefix("fd00:17::/64"), Gateway6: netip.MustParseAddr("fd00:17::1"), MTU: 1500},
		{Name: "bridge2", Subnet: netip.MustParsePrefix("172.18.0.0/16"), Gateway: netip.MustParseAddr("172.18.0.1"),
			Subnet6: netip.MustParsePrefix("fd00:18::/64"), Gateway6: netip.MustParseAddr("fd00:18::1"), MTU: 1500},
	}
	want.Containers = []Container{
		{Name: "busybox1", Networks: []Attachment{{Network: "bridge", IP: netip.MustParseAddr("172.17.0.2")}}, Offload: true},
		{Name: "busybox2", Networks: []Attachment{{Network: "bridge", IP: netip.MustParseAddr("172.17.0.3")}}, Offload: true, Publish: []string{"8080:80", "8080:80/udp"}},
		{Name: "busybox3", Networks: []Attachment{{Network: "bridge2", IP: netip.MustParseAddr("172.18.0.2")}}, Offload: true},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the demo is %+v\nwant %+v", c, want)
	}
}
