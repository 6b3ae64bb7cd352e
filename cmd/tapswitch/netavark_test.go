package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// netavark calls the plugin as netavark does, and returns what it prints.
func (b *bench) netavark(input string, args ...string) (out string, ok bool) {
	b.t.Helper()
	c := b.cmd(args...)
	var o, e bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &o, &e
	err := c.Run()
	if e.Len() > 0 {
		b.t.Errorf("%v says %s", args, e.String())
	}
	return strings.TrimSpace(o.String()), err == nil
}

// One network and a container on it and on another, as podman 4.5 and later have
// netavark do it.
func TestNetavark(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	worker := b.status().WorkerPid
	before := descriptors(t, worker)
	if out, ok := b.netavark("", "info"); !ok || !strings.Contains(out, `"api_version":"1.0.0"`) {
		t.Errorf("info: %s", out)
	}
	// podman names no subnet: the switch chooses one, and the rest is as it was.
	out, ok := b.netavark(`{"name":"made","id":"0f","driver":"tapswitch","network_interface":"","ipv6_enabled":false,"internal":false,"dns_enabled":false,"options":{},"ipam_options":{"driver":"host-local"}}`, "create")
	var n struct {
		Name, ID, Driver string
		Subnets          []struct{ Subnet, Gateway string }
	}
	if err := json.Unmarshal([]byte(out), &n); err != nil || !ok || n.Name != "made" || n.ID != "0f" || n.Driver != "tapswitch" || len(n.Subnets) != 1 || n.Subnets[0].Subnet == "" {
		t.Fatalf("create: %s (%v)", out, err)
	}
	if out, ok := b.netavark(`{"name":"made","options":{"vlan":"7"}}`, "create"); ok || !strings.Contains(out, `{"error":"network made: unknown option vlan`) {
		t.Errorf("create with an unknown option: %s", out)
	}
	s := stranger(t)
	exec := func(network, subnets, ifname, more string) string {
		return fmt.Sprintf(`{"container_id":"0123456789abcdef","container_name":"web","port_mappings":[{"container_port":80,"host_ip":"127.0.0.1","host_port":0,"protocol":"tcp","range":1}],
			"network":{"name":%q,"id":"x","driver":"tapswitch","subnets":%s,"options":{"publish":"true"}},"network_options":{"interface_name":%q,%s"aliases":["www"]}}`, network, subnets, ifname, more)
	}
	first := exec("bridge", `[{"subnet":"172.17.0.0/16","gateway":"172.17.0.1"}]`, "eth0", `"static_ips":["172.17.0.80"],"static_mac":"aa:bb:cc:dd:ee:00",`)
	out, ok = b.netavark(first, "setup", s.netns())
	var st struct {
		DNS        []string `json:"dns_server_ips"`
		Interfaces map[string]struct {
			MAC     string `json:"mac_address"`
			Subnets []struct{ Gateway, IPNet string }
		}
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil || !ok {
		t.Fatalf("setup: %s (%v)", out, err)
	}
	if e := st.Interfaces["eth0"]; e.MAC != "aa:bb:cc:dd:ee:00" || e.Subnets[0].IPNet != "172.17.0.80/16" || e.Subnets[0].Gateway != "172.17.0.1" || !slices.Equal(st.DNS, []string{"172.17.0.1"}) {
		t.Errorf("setup: %s", out)
	}
	if out, ok := b.netavark(first, "setup", s.netns()); ok || !strings.Contains(out, `{"error":"container web has an interface eth0 already`) {
		t.Errorf("setup again: %s", out)
	}
	second := exec("made", fmt.Sprintf(`[{"subnet":%q,"gateway":%q}]`, n.Subnets[0].Subnet, n.Subnets[0].Gateway), "eth1", "")
	if out, ok := b.netavark(second, "setup", s.netns()); !ok {
		t.Errorf("setup of the second: %s", out)
	}
	c := b.inspect("web")
	if c.Origin != "netavark" || len(c.Networks) != 2 || c.Networks[1].Network != "made" || len(c.Ports) != 1 {
		t.Errorf("on the switch it is %+v", c)
	}
	b.ok("exec", "c1", prog, "ping", "172.17.0.80")
	if got := b.ok("exec", "c1", prog, "lookup", "www"); !strings.Contains(got, "172.17.0.80") {
		t.Errorf("www is %s", got)
	}
	// teardown comes when the namespace is gone, too, and more than once.
	s.signal(unix.SIGKILL)
	s.wait()
	for range 2 {
		for _, x := range []string{second, first} {
			if out, ok := b.netavark(x, "teardown", s.netns()); !ok || out != "" {
				t.Errorf("teardown: %s", out)
			}
		}
	}
	b.fails(3, nil, "inspect", "web")
	released(t, worker, before)
	b.ok("down")
	if out, ok := b.netavark(first, "teardown", s.netns()); !ok {
		t.Errorf("teardown without a switch: %s", out)
	}
	if out, ok := b.netavark(first, "setup", s.netns()); ok || !strings.Contains(out, "no switch is running") {
		t.Errorf("setup without a switch: %s", out)
	}
}
