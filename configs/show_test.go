package configs

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const shown = `
networks:
  - {name: bridge, subnet: 172.17.0.0/16, subnet6: "fd00:17::/64"}
containers:
  - name: MyApp
    ip: 172.17.0.2
    aliases: [www]
    command: [sh, -c, "echo # \"no\"\n# yes\ttab"]
    publish:
      - 8080:80
  - {name: "42", networks: [], spoof: allow, offload: off, netns: /run/netns/x, ifname: "null"}
host: {loopback: [80, 81]}
`

func loadShown(t *testing.T) *Config {
	t.Helper()
	env := environ{"TAPSWITCH_LOG_LEVEL": "warn", "TAPSWITCH_DNS_UPSTREAM": "192.0.2.1,2001:db8::1"}
	c, err := load(Options{Flags: newFlags(t, "--log-format=json"), Getenv: env.get}, "x.yaml", []byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShowYAML(t *testing.T) {
	const want = `networks:
  - name: bridge # file x.yaml:3
    subnet: 172.17.0.0/16 # file x.yaml:3
    gateway: 172.17.0.1 # default
    subnet6: fd00:17::/64 # file x.yaml:3
    gateway6: fd00:17::1 # default
    mtu: 1500 # default
    internal: false # default
    icc: true # default
containers:
  - name: MyApp # file x.yaml:5
    networks:
      - name: bridge # default
        ip: 172.17.0.2 # file x.yaml:6
        aliases: [www] # file x.yaml:7
    publish: ['8080:80'] # file x.yaml:9
    command: [sh, -c, "echo # \"no\"\n# yes\ttab"] # file x.yaml:8
    offload: on # default
    spoof: deny # default
  - name: "42" # file x.yaml:11
    networks: []
    offload: off # file x.yaml:11
    spoof: allow # file x.yaml:11
    netns: /run/netns/x # file x.yaml:11
    ifname: "null" # file x.yaml:11
ip_forward: true # default
host:
  loopback: [80, 81] # file x.yaml:12
  address: allow # default
dns:
  upstream: ['192.0.2.1:53', '[2001:db8::1]:53'] # env TAPSWITCH_DNS_UPSTREAM
  domains: [] # default
  cache: 4096 # default
  intercept: false # default
socks: "" # default
limits:
  flows: 8192 # default
  half_open: 1024 # default
  fdb: 4096 # default
  fragments: 256 # default
threads: 0 # default
capture_ring: 0 # default
sandbox: on # default
log:
  level: warn # env TAPSWITCH_LOG_LEVEL
  format: json # flag --log-format
metrics: "" # default
metrics_public: false # default
api:
  readonly: "" # default
  mode: "" # default
  group: "" # default
pprof: false # default
state_file: "" # default
`
	got, err := Show(loadShown(t), "yaml")
	if err != nil || string(got) != want {
		t.Errorf("Show = %v\n%s", err, got)
	}
}

// TestShowJSON looks at the shape; that the tree is the whole configuration is TestShowLoads.
func TestShowJSON(t *testing.T) {
	text, err := Show(loadShown(t), "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Config  map[string]any
		Origins map[string]string
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"level": "warn", "format": "json"}; !reflect.DeepEqual(got.Config["log"], want) {
		t.Errorf("log is %v, want %v", got.Config["log"], want)
	}
	for key, want := range map[string]string{
		"networks[0].mtu": "default", "networks[0].subnet": "file x.yaml:3", "containers[0].networks[0].ip": "file x.yaml:6",
		"containers[1].offload": "file x.yaml:11", "dns.upstream": "env TAPSWITCH_DNS_UPSTREAM", "log.format": "flag --log-format",
	} {
		if got.Origins[key] != want {
			t.Errorf("the origin of %s is %q, want %q", key, got.Origins[key], want)
		}
	}
	empty, err := Show(Default(), "json")
	if err != nil || !strings.Contains(string(empty), `"containers": [],`) || strings.Contains(string(empty), "null") {
		t.Errorf("Show(Default()) = %v\n%s", err, empty)
	}
}

// TestShowLoads: what is shown is a file that means the same.
func TestShowLoads(t *testing.T) {
	full := loadShown(t)
	full.StateFile, full.Path = "/a b/#c", "new\nline: x"
	for i, c := range []*Config{Default(), full, loadText(t, "x.yaml", "host: {loopback: all}"), loadText(t, "demo.yaml", string(Demo()))} {
		reload(t, i, c)
	}
}

func reload(t *testing.T, about any, c *Config) {
	t.Helper()
	inYAML, err := Show(c, "yaml")
	if err != nil {
		t.Fatalf("%v: %v", about, err)
	}
	inJSON, err := Show(c, "json")
	if err != nil {
		t.Fatalf("%v: %v", about, err)
	}
	var tree struct{ Config json.RawMessage }
	if err := json.Unmarshal(inJSON, &tree); err != nil {
		t.Fatalf("%v: %v", about, err)
	}
	for name, text := range map[string][]byte{"shown.yaml": inYAML, "shown.json": tree.Config} {
		again, err := load(Options{Getenv: environ{}.get}, name, text)
		if err != nil {
			t.Fatalf("%v: %s does not load: %v\n%s", about, name, err, text)
		}
		if !reflect.DeepEqual(plain(again), plain(c)) {
			t.Errorf("%v: %s means %+v\nwant %+v\n%s", about, name, plain(again), plain(c), text)
		}
	}
}

// TestShowOddOrigin: a path is not trusted to be one line.
func TestShowOddOrigin(t *testing.T) {
	c := loadText(t, "a\nb: c.yaml", "log: {level: warn}")
	text, err := Show(c, "yaml")
	if err != nil || !strings.Contains(string(text), `level: warn # "file a\nb: c.yaml:1"`+"\n") {
		t.Errorf("Show = %v\n%s", err, text)
	}
	reload(t, "odd path", c)
}

func TestShowUnknownFormat(t *testing.T) {
	if _, err := Show(Default(), "xml"); err == nil || err.Error() != `show the configuration as "xml": no such format; write yaml or json` {
		t.Errorf("Show: %v", err)
	}
}
