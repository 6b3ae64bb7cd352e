package netavark

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/joiner"
)

// What netavark's document says it writes to setup and teardown.
const documented = `{
  "container_id": "6ce776ea58b5", "container_name": "testcontainer",
  "port_mappings": [
    {"container_port": 80, "host_ip": "", "host_port": 8080, "protocol": "tcp", "range": 2},
    {"container_port": 53, "host_ip": "127.0.0.1", "host_port": 5353, "protocol": "tcp,udp", "range": 1}
  ],
  "network": {
    "dns_enabled": false, "driver": "tapswitch", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "internal": false, "ipv6_enabled": false,
    "name": "test", "network_interface": "", "options": {"publish": "true", "mtu": "1400"}, "ipam_options": {"driver": "host-local"},
    "subnets": [{"gateway": "10.88.0.1", "subnet": "10.88.0.0/16"}]
  },
  "network_options": {"aliases": ["www"], "interface_name": "eth0", "static_ips": ["10.88.0.50"], "static_mac": "aa:bb:cc:dd:ee:00"}
}`

func TestRequest(t *testing.T) {
	x, err := readExec([]byte(documented))
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.request("/run/netns/x")
	want := api.Reserve{Key: "netavark:6ce776ea58b5", Name: "testcontainer", Origin: "netavark", Lifetime: joiner.ByDevice, Netns: "/run/netns/x",
		Networks: []api.Attachment{{Network: "test", IP: "10.88.0.50", MAC: "aa:bb:cc:dd:ee:00", Aliases: []string{"www"}, IfName: "eth0"}},
		Publish:  []string{"8080:80/tcp", "8081:81/tcp", "127.0.0.1:5353:53/tcp", "127.0.0.1:5353:53/udp"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v (%v), want %+v", got, err, want)
	}
	n, err := x.Network.onSwitch()
	made := api.NetworkCreate{Name: "test", Subnets: []string{"10.88.0.0/16"}, Gateways: []string{"10.88.0.1"}, Options: map[string]string{"com.docker.network.driver.mtu": "1400"}, Origin: "netavark"}
	if err != nil || !reflect.DeepEqual(n, made) {
		t.Errorf("%+v (%v), want %+v", n, err, made)
	}
}

func TestRefuses(t *testing.T) {
	change := func(from, to string) string { return strings.Replace(documented, from, to, 1) }
	for name, c := range map[string]struct{ text, err string }{
		"no JSON":           {"x", "the container's description"},
		"no id":             {change("container_id", "id"), "container_id"},
		"no network":        {change(`"name": "test"`, `"title": "test"`), "no network"},
		"no interface":      {change("interface_name", "interface"), "interface_name"},
		"no address":        {change("10.88.0.50", "web"), `"web" is no address`},
		"two of a family":   {change(`"10.88.0.50"`, `"10.88.0.50", "10.88.0.51"`), "one of a family"},
		"no port":           {change(`"container_port": 80`, `"container_port": 0`), "ports are 1 to 65535"},
		"too many ports":    {change(`"range": 2`, `"range": 65535`), "ports are 1 to 65535"},
		"neither yes or no": {change(`"publish": "true"`, `"publish": "maybe"`), "true or false"},
		"an unknown option": {change(`"mtu"`, `"vlan"`), "unknown option vlan"},
		"an ip range":       {change(`"gateway": "10.88.0.1"`, `"lease_range": {"start_ip": "10.88.0.9"}`), "--ip-range"},
	} {
		x, err := readExec([]byte(c.text))
		if err == nil {
			_, err = x.request("/run/netns/x")
		}
		if err == nil {
			_, err = x.Network.onSwitch()
		}
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q in it", name, err, c.err)
		}
	}
}

// What netavark is told is what its document says it reads.
func TestStatus(t *testing.T) {
	got, err := json.Marshal(statusOf(&joiner.Added{DNS: []string{"10.88.0.1"}, Addrs: []string{"10.88.0.50/16", "fd00::50/64"},
		Endpoint: api.Endpoint{MAC: "aa:bb:cc:dd:ee:00", Gateway: "10.88.0.1", Gateway6: "fd00::1", IfName: "eth0"}}))
	want := `{"dns_server_ips":["10.88.0.1"],"dns_search_domains":[],"interfaces":{"eth0":{"mac_address":"aa:bb:cc:dd:ee:00","subnets":[{"gateway":"10.88.0.1","ipnet":"10.88.0.50/16"},{"gateway":"fd00::1","ipnet":"fd00::50/64"}]}}}`
	if err != nil || string(got) != want {
		t.Errorf("%s (%v)", got, err)
	}
}

// create gives back all that it got, also what a later netavark adds.
func TestNetworkKeepsTheRest(t *testing.T) {
	in := `{"name":"test","id":"2f25","driver":"tapswitch","network_interface":"","internal":false,"routes":[{"destination":"10.0.0.0/8"}],"future":18446744073709551615}`
	var n network
	if err := json.Unmarshal([]byte(in), &n); err != nil {
		t.Fatal(err)
	}
	n.Subnets = []subnet{{Subnet: "172.18.0.0/16", Gateway: "172.18.0.1"}}
	out, err := json.Marshal(&n)
	want := `{"driver":"tapswitch","future":18446744073709551615,"id":"2f25","internal":false,"name":"test","network_interface":"","routes":[{"destination":"10.0.0.0/8"}],"subnets":[{"subnet":"172.18.0.0/16","gateway":"172.18.0.1"}]}`
	if err != nil || string(out) != want {
		t.Errorf("%s (%v)", out, err)
	}
}

func TestServe(t *testing.T) {
	out, err := serve([]string{"info"}, nil, "1.2.3")
	if b, _ := json.Marshal(out); err != nil || string(b) != `{"version":"1.2.3","api_version":"1.0.0"}` {
		t.Errorf("info: %s (%v)", b, err)
	}
	for _, args := range [][]string{nil, {"help"}, {"setup"}, {"create", "x"}, {"info", "x"}} {
		if _, err := serve(args, strings.NewReader("{}"), ""); err == nil || !strings.Contains(err.Error(), "plugin of netavark") {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, c := range []struct {
		args []string
		is   bool
	}{
		{[]string{"/usr/libexec/netavark/tapswitch", "setup", "/run/netns/x"}, true},
		{[]string{"tapswitch", "teardown", "/run/netns/x"}, true},
		{[]string{"tapswitch-netavark", "anything"}, true},
		{[]string{"tapswitch"}, false},
		{[]string{"tapswitch", "setup"}, false},
		{[]string{"tapswitch", "run", "setup"}, false},
	} {
		if Called(c.args) != c.is {
			t.Errorf("%v: %v", c.args, !c.is)
		}
	}
}

// Whatever is read, it is refused or asks for a network that has a name.
func FuzzSetup(f *testing.F) {
	f.Add([]byte(documented))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := readExec(text)
		if err != nil {
			return
		}
		r, err := x.request("/x")
		if err != nil {
			return
		}
		if len(r.Networks) != 1 || r.Networks[0].Network == "" || r.Networks[0].IfName == "" || r.Name == "" {
			t.Errorf("request %+v", r)
		}
		if _, err := json.Marshal(&x.Network); err != nil {
			t.Error(err)
		}
	})
}
