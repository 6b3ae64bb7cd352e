package configs

import (
	"net"
	"net/netip"
	"reflect"
	"testing"
)

// TestFormats: the same configuration in each format; its lines are the format's own.
func TestFormats(t *testing.T) {
	const inYAML = `
networks:
  - name: Net.One
    subnet: 172.20.0.0/16
  - {name: two, subnet: 10.1.0.0/24, gateway: 10.1.0.254, subnet6: "fd00:1::/64", mtu: 9000, internal: true, icc: false}
containers:
  - name: MyApp
    networks:
      - Net.One
      - {name: two, ip: 10.1.0.2, ip6: "fd00:1::2", mac: "02:00:00:00:00:01", aliases: [Www]}
    command: [sleep, 3600]
    env:
      - A=b
  - {name: web.example, networks: [two], ip: 10.1.0.3, publish: ["8080:80"], offload: off, spoof: allow, pid: 42}
log: {level: debug}
limits:
  half_open: 5
`
	const inJSON = `{
"networks": [
  {"name": "Net.One",
   "subnet": "172.20.0.0/16"},
  {"name": "two", "subnet": "10.1.0.0/24", "gateway": "10.1.0.254", "subnet6": "fd00:1::/64", "mtu": 9000, "internal": true, "icc": false}
],
"containers": [
  {"name": "MyApp", "networks": ["Net.One",
     {"name": "two", "ip": "10.1.0.2", "ip6": "fd00:1::2", "mac": "02:00:00:00:00:01", "aliases": ["Www"]}],
   "command": ["sleep", 3600], "env": ["A=b"]},
  {"name": "web.example", "networks": ["two"], "ip": "10.1.0.3", "publish": ["8080:80"], "offload": "off", "spoof": "allow", "pid": 42}
],
"log": {"level": "debug"}, "limits": {"half_open": 5}
}`
	const inTOML = `
log.level = "debug"
[[networks]]
name = "Net.One"
subnet = "172.20.0.0/16"
[[networks]]
name = 'two'
subnet = "10.1.0.0/24"
gateway = "10.1.0.254"
subnet6 = "fd00:1::/64"
mtu = 9_000
internal = true
icc = false

[[containers]]
name = "MyApp"
command = ["sleep",
  3600]
env = ["A=b"]
[[containers.networks]]
name = "Net.One"
[[containers.networks]]
name = "two"
ip = "10.1.0.2"
ip6 = "fd00:1::2"
mac = "02:00:00:00:00:01"
aliases = ["Www"]

[[containers]]
name = "web.example"
networks = ["two"]
ip = "10.1.0.3"
publish = ["8080:80"]
offload = "off"
spoof = "allow"
pid = 42
[limits]
half_open = 5
`
	want := Default()
	want.Networks = []Network{
		{Name: "Net.One", Subnet: netip.MustParsePrefix("172.20.0.0/16"), Gateway: netip.MustParseAddr("172.20.0.1"), MTU: 1500},
		{Name: "two", Subnet: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.254"),
			Subnet6: netip.MustParsePrefix("fd00:1::/64"), Gateway6: netip.MustParseAddr("fd00:1::1"), MTU: 9000, Internal: true, NoICC: true},
	}
	want.Containers = []Container{
		{Name: "MyApp", Offload: true, Command: []string{"sleep", "3600"}, Env: []string{"A=b"}, Networks: []Attachment{
			{Network: "Net.One"},
			{Network: "two", IP: netip.MustParseAddr("10.1.0.2"), IP6: netip.MustParseAddr("fd00:1::2"),
				MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Aliases: []string{"Www"}},
		}},
		{Name: "web.example", Networks: []Attachment{{Network: "two", IP: netip.MustParseAddr("10.1.0.3")}},
			Publish: []string{"8080:80"}, Spoof: true, Pid: 42},
	}
	want.LogLevel, want.Limits.HalfOpen = "debug", 5

	for _, tt := range []struct {
		name, text string
		elements   []int    // lines of the two networks and the two containers
		origins    []string // of some keys, below
	}{
		{"x.yaml", inYAML, []int{3, 5, 7, 14}, []string{"4", "10", "12", "14", "17"}},
		{"x.json", inJSON, []int{3, 5, 8, 11}, []string{"4", "9", "10", "11", "13"}},
		{"x.toml", inTOML, []int{3, 6, 15, 29}, []string{"5", "25", "19", "32", "38"}},
	} {
		c := loadText(t, tt.name, tt.text)
		if !reflect.DeepEqual(plain(c), want) {
			t.Errorf("%s = %+v\nwant %+v", tt.name, plain(c), want)
			continue
		}
		lines := []int{c.Networks[0].Line, c.Networks[1].Line, c.Containers[0].Line, c.Containers[1].Line}
		if !reflect.DeepEqual(lines, tt.elements) {
			t.Errorf("%s has its elements in lines %v, want %v", tt.name, lines, tt.elements)
		}
		for i, key := range []string{"networks[0].subnet", "containers[0].networks[1].ip6", "containers[0].env",
			"containers[1].networks[0].ip", "limits.half_open"} {
			if got, want := c.origins[key].String(), "file "+tt.name+":"+tt.origins[i]; got != want {
				t.Errorf("%s: %s is from %s, want %s", tt.name, key, got, want)
			}
		}
	}
}

// TestCase: names keep their case and dots; a file's keys have theirs.
func TestCase(t *testing.T) {
	c := loadText(t, "x.yaml", `
networks: [{name: My.Net, subnet: 10.0.0.0/8}]
containers:
  - {name: MyApp, networks: [My.Net], aliases: [Api.MyApp], hostname: Host.A, env: [Path=/X]}
  - {name: myapp, networks: [My.Net]}
  - {name: web.example, networks: [{name: My.Net}]}
`)
	want := []Container{
		{Name: "MyApp", Networks: []Attachment{{Network: "My.Net", Aliases: []string{"Api.MyApp"}}}, Hostname: "Host.A", Env: []string{"Path=/X"}, Offload: true, Line: 4},
		{Name: "myapp", Networks: []Attachment{{Network: "My.Net"}}, Offload: true, Line: 5},
		{Name: "web.example", Networks: []Attachment{{Network: "My.Net"}}, Offload: true, Line: 6},
	}
	if c.Networks[0].Name != "My.Net" || !reflect.DeepEqual(c.Containers, want) {
		t.Errorf("Load = %+v", c)
	}
}

func TestContainers(t *testing.T) {
	on := func(names ...string) []Attachment {
		var all []Attachment
		for _, n := range names {
			all = append(all, Attachment{Network: n})
		}
		return all
	}
	const other = "networks: [{name: a, subnet: 10.1.0.0/16}]\n"
	const both = "networks: [{name: a, subnet: 10.1.0.0/16}, {name: bridge, subnet: 10.2.0.0/16}]\n"
	for _, tt := range []struct {
		about, text string
		want        Container
	}{
		{"no networks at all: the default one", "containers: [{name: c, networks: [bridge]}]", Container{Networks: on("bridge"), Offload: true}},
		{"none named: bridge", "containers: [{name: c}]", Container{Networks: on("bridge"), Offload: true}},
		{"none named: bridge among others", both + "containers: [{name: c}]", Container{Networks: on("bridge"), Offload: true}},
		{"none named: the only one", other + "containers: [{name: c}]", Container{Networks: on("a"), Offload: true}},
		{"null is none named", "containers: [{name: c, networks: , command: ~}]", Container{Networks: on("bridge"), Offload: true}},
		{"explicitly none", "containers: [{name: c, networks: []}]", Container{Offload: true}},
		{"two", both + "containers: [{name: c, networks: [bridge, {name: a}]}]", Container{Networks: on("bridge", "a"), Offload: true}},
		{"address without a network named", "containers: [{name: c, ip: 172.17.5.5}]",
			Container{Networks: []Attachment{{Network: "bridge", IP: netip.MustParseAddr("172.17.5.5")}}, Offload: true}},
		{"words", "containers: [{name: c, offload: on, spoof: deny}]", Container{Networks: on("bridge"), Offload: true}},
		{"numbers and words as text, as written", "containers: [{name: c, command: [x, 1.50, 0x1F, 010, true, 2020-01-01, no], publish: [80]}]",
			Container{Networks: on("bridge"), Offload: true, Command: []string{"x", "1.50", "0x1F", "010", "true", "2020-01-01", "no"}, Publish: []string{"80"}}},
		{"join", "containers: [{name: c, netns: /run/netns/x, ifname: net0, workdir: /tmp}]",
			Container{Networks: on("bridge"), Offload: true, Netns: "/run/netns/x", IfName: "net0", Workdir: "/tmp"}},
	} {
		tt.want.Name = "c"
		c := loadText(t, "x.yaml", tt.text)
		if got := c.Containers[0]; !got.Equal(tt.want) {
			t.Errorf("%s: %+v\nwant %+v", tt.about, got, tt.want)
		}
	}
}

func TestAnchorsAndMerges(t *testing.T) {
	c := loadText(t, "x.yaml", `
containers:
  - &base {name: a, env: &env [A=1], workdir: /a, offload: off}
  - {<<: *base, name: b, workdir: /b}
  - {name: c, env: *env, <<: [{workdir: /c, name: no}, *base]}
`)
	on := []Attachment{{Network: "bridge"}}
	want := []Container{
		{Name: "a", Networks: on, Env: []string{"A=1"}, Workdir: "/a", Line: 3},
		{Name: "b", Networks: on, Env: []string{"A=1"}, Workdir: "/b", Line: 4},
		{Name: "c", Networks: on, Env: []string{"A=1"}, Workdir: "/c", Line: 5},
	}
	if !reflect.DeepEqual(c.Containers, want) {
		t.Errorf("Load = %+v\nwant %+v", c.Containers, want)
	}
}

// TestJSONEscapes: characters beyond the BMP are pairs of escapes in JSON, which YAML does not know.
func TestJSONEscapes(t *testing.T) {
	c := loadText(t, "x.json", `{"containers": [{"name": "c", "command": ["echo", "\ud83d\ude00 \/ \u00e9"]}]}`)
	if got := c.Containers[0].Command[1]; got != "😀 / é" {
		t.Errorf("command is %q", got)
	}
}

func TestServers(t *testing.T) {
	c := loadText(t, "x.yaml", `dns: {upstream: [192.0.2.1, "192.0.2.1:54", "2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:55", 127.0.0.53, "fe80::1%eth0"]}`)
	want := servers("192.0.2.1:53", "192.0.2.1:54", "[2001:db8::1]:53", "[2001:db8::2]:53", "[2001:db8::3]:55", "127.0.0.53:53", "[fe80::1%eth0]:53")
	if !reflect.DeepEqual(c.DNS.Upstream, want) {
		t.Errorf("upstream is %v, want %v", c.DNS.Upstream, want)
	}
}

func TestLoopback(t *testing.T) {
	for _, tt := range []struct {
		file, env string
		want      Ports
	}{
		{file: "none", want: Ports{}},
		{file: "all", want: Ports{All: true}},
		{file: "[]", want: Ports{}},
		{file: "[1, 65535]", want: Ports{List: []uint16{1, 65535}}},
		{env: "none", want: Ports{}},
		{env: "all", want: Ports{All: true}},
		{env: "8080", want: Ports{List: []uint16{8080}}},
		{env: " 80 , 81 ", want: Ports{List: []uint16{80, 81}}},
		{env: "[80, 81]", want: Ports{List: []uint16{80, 81}}},
	} {
		text := ""
		if tt.file != "" {
			text = "host: {loopback: " + tt.file + "}"
		}
		c, err := load(Options{Getenv: environ{"TAPSWITCH_HOST_LOOPBACK": tt.env}.get}, "x.yaml", []byte(text))
		if err != nil || !reflect.DeepEqual(c.Host.Loopback, tt.want) {
			t.Errorf("loopback of file %q, env %q = %+v, %v; want %+v", tt.file, tt.env, c, err, tt.want)
		}
	}
}

func TestEqual(t *testing.T) {
	a := loadText(t, "x.yaml", "containers: [{name: c, env: [A=1], mac: '02:00:00:00:00:01'}]")
	b := loadText(t, "x.yaml", "\n# moved\ncontainers:\n  - {name: c, env: [A=1], mac: '02:00:00:00:00:01'}\n")
	if a.Containers[0].Line == b.Containers[0].Line || !a.Containers[0].Equal(b.Containers[0]) {
		t.Errorf("moved: %+v and %+v", a.Containers[0], b.Containers[0])
	}
	b.Containers[0].Networks[0].MAC[5]++
	if a.Containers[0].Equal(b.Containers[0]) {
		t.Error("another MAC, and still equal")
	}
	n := a.Networks[0]
	n.Line = 7
	if !n.Equal(a.Networks[0]) {
		t.Errorf("moved: %+v and %+v", n, a.Networks[0])
	}
	if n.MTU = 1400; n.Equal(a.Networks[0]) {
		t.Error("another MTU, and still equal")
	}
}
