package dockerplugin

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tapswitch/forward"
)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// What Docker 20.10 and later say, and what the switch is asked for.
func TestNetworkRequests(t *testing.T) {
	for _, c := range []struct{ name, in, want, err string }{
		{"plain", `"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"10.1.1.0/24","Gateway":"10.1.1.254/24"}],"Options":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{}}`,
			`{"name":"br-0123456789ab","subnets":["10.1.1.0/24"],"gateways":["10.1.1.254"],"origin":"docker","id":"` + id + `"}`, ""},
		{"both families", `"IPv4Data":[{"Pool":"10.1.1.0/24","Gateway":"10.1.1.1/24"}],"IPv6Data":[{"Pool":"fd00::/64","Gateway":"fd00::1/64"}],"Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.enable_ipv6":true}`,
			`{"name":"br-0123456789ab","subnets":["10.1.1.0/24","fd00::/64"],"gateways":["10.1.1.1","fd00::1"],"ipv6":true,"origin":"docker","id":"` + id + `"}`, ""},
		{"options", `"IPv4Data":[{"Pool":"10.1.1.0/24","AuxAddresses":{"DefaultGatewayIPv4":"10.1.1.3/24"}}],"Options":{"com.docker.network.internal":true,"com.docker.network.generic":{"com.docker.network.driver.mtu":1400,"tapswitch.egress":"none","com.docker.network.bridge.name":"red"}}`,
			`{"name":"red","subnets":["10.1.1.0/24"],"aux_addresses":{"DefaultGatewayIPv4":"10.1.1.3"},"egress":"none","internal":true,"options":{"com.docker.network.bridge.name":"red","com.docker.network.driver.mtu":"1400"},"origin":"docker","id":"` + id + `"}`, ""},
		{"null driver", `"IPv4Data":[{"AddressSpace":"null","Pool":"0.0.0.0/0"}]`, "", "leave --ipam-driver out"},
		{"no addresses", ``, "", "leave --ipam-driver out"},
		{"no IPv4", `"IPv6Data":[{"Pool":"fd00::/64"}],"Options":{"com.docker.network.enable_ipv4":false}`, "", "without IPv4"},
		{"an option of ours that is none", `"IPv4Data":[{"Pool":"10.1.1.0/24"}],"Options":{"com.docker.network.generic":{"tapswitch.mtu":"9000"}}`, "", "tapswitch.mtu is not known"},
		{"a flag that is none", `"IPv4Data":[{"Pool":"10.1.1.0/24"}],"Options":{"com.docker.network.internal":"perhaps"}`, "", "com.docker.network.internal"},
		{"a gateway that is none", `"IPv4Data":[{"Pool":"10.1.1.0/24","Gateway":"here"}]`, "", `"here" is no address`},
	} {
		got, err := read(t, c.name, c.in).network()
		agree(t, c.name, got, err, c.want, c.err)
	}
	if _, err := (&request{NetworkID: "short"}).network(); err == nil {
		t.Error("a short id is taken")
	}
}

func TestEndpointRequests(t *testing.T) {
	for _, c := range []struct{ name, in, want, err string }{
		{"plain", `"Interface":{"Address":"10.1.1.1/24","AddressIPv6":"","MacAddress":""}`,
			`{"name":"0123456789ab","networks":[{"network":"` + id + `","ip":"10.1.1.1"}],"lifetime":"until_error","origin":"docker","id":"` + id + `","hold":true}`, ""},
		{"all", `"Interface":{"Address":"10.1.1.1/24","AddressIPv6":"fd00::2/64","MacAddress":"02:42:00:00:00:01"},"Options":{"tapswitch.name":"web","tapswitch.egress":"internet","tapswitch.link":"db,cache","com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80},{"Proto":17,"Port":53},{"Proto":132,"Port":1}]}`,
			`{"name":"web","networks":[{"network":"` + id + `","ip":"10.1.1.1","ip6":"fd00::2","mac":"02:42:00:00:00:01"}],"egress":"internet","lifetime":"until_error","origin":"docker","id":"` + id + `","hold":true,"expose":["80/tcp","53/udp"],"links":["db","cache"]}`, ""},
		{"no interface", ``, "", "no IPv4 address"},
		{"no address", `"Interface":{"AddressIPv6":"fd00::2/64"}`, "", "no IPv4 address"},
		{"unknown", `"Interface":{"Address":"10.1.1.1/24"},"Options":{"tapswitch.rate":"1"}`, "", "tapswitch.rate is not known"},
		{"exposed nonsense", `"Interface":{"Address":"10.1.1.1/24"},"Options":{"com.docker.network.endpoint.exposedports":{"80":1}}`, "", "exposedports"},
	} {
		got, err := read(t, c.name, c.in).endpoint()
		agree(t, c.name, got, err, c.want, c.err)
	}
	if _, err := (&request{EndpointID: "short"}).endpoint(); err == nil {
		t.Error("a short id is taken")
	}
}

func TestPortRequests(t *testing.T) {
	for _, c := range []struct{ name, in, want, err string }{
		{"none", `[]`, `null`, ""},
		{"all forms", `[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,"HostPortEnd":8080},{"Proto":17,"Port":53,"HostIP":"::1","HostPort":0,"HostPortEnd":0},
			{"Proto":6,"Port":81,"HostIP":"0.0.0.0","HostPort":8000,"HostPortEnd":8010},{"Proto":6,"Port":82,"HostIP":"::ffff:127.0.0.1","HostPort":82}]`,
			`["8080:80/tcp","[::1]::53/udp","0.0.0.0:8000-8010:81/tcp","127.0.0.1:82:82/tcp"]`, ""},
		{"sctp", `[{"Proto":132,"Port":9}]`, "", "protocol 132 cannot be published"},
		{"a host that is none", `[{"Proto":6,"Port":9,"HostIP":"here"}]`, "", `"here" is no host address`},
		{"no list", `7`, "", "com.docker.network.portmap"},
		{"port 0", `[{"Proto":6,"Port":0}]`, "", "a container port is missing"},
		{"too large", `[{"Proto":6,"Port":70000}]`, "", "com.docker.network.portmap"},
	} {
		got, err := read(t, c.name, `"Options":{"com.docker.network.portmap":`+c.in+`}`).published()
		agree(t, c.name, got, err, c.want, c.err)
	}
}

func read(t *testing.T, name, fields string) *request {
	t.Helper()
	text := `{"NetworkID":"` + id + `","EndpointID":"` + id + `"`
	if fields != "" {
		text += "," + fields
	}
	var r request
	if err := json.Unmarshal([]byte(text+"}"), &r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &r
}

func agree(t *testing.T, name string, got any, err error, want, words string) {
	t.Helper()
	switch {
	case words != "":
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", name, err, words)
		}
	case err != nil:
		t.Errorf("%s: %v", name, err)
	default:
		if b, _ := json.Marshal(got); string(b) != want {
			t.Errorf("%s:\n%s, want\n%s", name, b, want)
		}
	}
}

// Whatever comes is refused or becomes something that can be asked for: ports
// that are published are of the grammar.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"NetworkID":"` + id + `","IPv4Data":[{"Pool":"10.1.1.0/24","Gateway":"10.1.1.254/24"}],"Options":{"com.docker.network.generic":{"a":1}}}`))
	f.Add([]byte(`{"EndpointID":"` + id + `","Interface":{"Address":"10.1.1.1/24"},"Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostIP":"::1","HostPort":8080,"HostPortEnd":8081}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r request
		if json.Unmarshal(b, &r) != nil {
			return
		}
		if n, err := r.network(); err == nil && (len(n.Subnets) == 0 || n.Name == "") {
			t.Errorf("network %+v", n)
		}
		if e, err := r.endpoint(); err == nil && (len(e.Networks) != 1 || e.Networks[0].IP == "") {
			t.Errorf("endpoint %+v", e)
		}
		specs, err := r.published()
		if err != nil {
			return
		}
		for _, s := range specs {
			if _, err := forward.ParseSpec(s); err != nil {
				t.Errorf("published: %v", err)
			}
		}
	})
}

// A dockerd is on its process's network, unless RootlessKit has detached that.
func TestNetworkOf(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ file, suffix string }{{"other", "/ns/net"}, {"netns", "/root" + dir + "/netns"}} {
		if err := os.WriteFile(filepath.Join(dir, c.file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("cat")
		cmd.Env = []string{"A=b", "ROOTLESSKIT_STATE_DIR=" + dir}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Start returns when execve has closed the parent's descriptors, which is
		// before the new environment can be read.
		in.Write([]byte{'x'})
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		pid := strconv.Itoa(cmd.Process.Pid)
		if got := networkOf(cmd.Process.Pid); got != "/proc/"+pid+c.suffix {
			t.Errorf("with a file %s: %s", c.file, got)
		}
		in.Close()
		_ = cmd.Wait()
	}
}
