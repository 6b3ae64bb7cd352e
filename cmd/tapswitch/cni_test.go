package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// cniCall is one call of the plugin, as a container engine makes it.
type cniCall struct{ command, id, netns, ifname, args, conf string }

// cniResult is what a plugin prints: a result, or an error.
type cniResult struct {
	Version    string `json:"cniVersion"`
	Interfaces []struct{ Name, Mac, Sandbox string }
	IPs        []struct {
		Address, Gateway string
		Interface        int
	} `json:"ips"`
	Routes []struct{ Dst, GW string }
	DNS    struct {
		Nameservers, Search []string
	}
	Code         int
	Msg, Details string
	Supported    []string `json:"supportedVersions"`
}

// cni calls the plugin, which is this program without arguments.
func (b *bench) cni(c cniCall) (r cniResult, text string) {
	b.t.Helper()
	cmd := b.cmd()
	cmd.Env = append(slices.Clone(b.env), "CNI_COMMAND="+c.command, "CNI_CONTAINERID="+c.id, "CNI_NETNS="+c.netns, "CNI_IFNAME="+c.ifname, "CNI_ARGS="+c.args, "CNI_PATH="+b.dir)
	cmd.Stdin = strings.NewReader(c.conf)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var xe *exec.ExitError
	if err != nil && !errors.As(err, &xe) {
		b.t.Fatal(err)
	}
	if out.Len() > 0 {
		if jerr := json.Unmarshal(out.Bytes(), &r); jerr != nil {
			b.t.Fatalf("%s prints %q: %v\n%s", c.command, out.String(), jerr, errs.String())
		}
	}
	if (err != nil) != (r.Msg != "") {
		b.t.Fatalf("%s ends with %v and prints %s", c.command, err, out.String())
	}
	return r, out.String()
}

func (b *bench) cniOK(c cniCall) (cniResult, string) {
	b.t.Helper()
	r, text := b.cni(c)
	if r.Msg != "" {
		b.t.Fatalf("%s: %s", c.command, text)
	}
	return r, text
}

func (b *bench) cniFails(code int, words string, c cniCall) {
	b.t.Helper()
	if r, text := b.cni(c); r.Code != code || !strings.Contains(r.Msg+r.Details, words) {
		b.t.Errorf("%s: %s, want code %d and %q", c.command, text, code, words)
	}
}

// links are the names of a stranger's interfaces.
func links(t *testing.T, p *proc) (out []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + itoa(p.cmd.Process.Pid) + "/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(text), "\n") {
		if name, _, ok := strings.Cut(strings.TrimSpace(l), ":"); ok && !strings.Contains(name, " ") {
			out = append(out, name)
		}
	}
	return out
}

// withPrev adds a result to a configuration, as CHECK and DEL have it.
func withPrev(conf, result string) string {
	return strings.TrimSuffix(conf, "}") + `,"prevResult":` + result + "}"
}

// One container on two networks, from ADD to DEL, in each version.
func TestCNI(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	worker := b.status().WorkerPid
	before := descriptors(t, worker)
	for _, version := range []string{"0.3.1", "1.1.0"} {
		s := stranger(t)
		inode, err := os.Readlink(s.netns())
		if err != nil {
			t.Fatal(err)
		}
		conf := fmt.Sprintf(`{"cniVersion":%q,"name":"tapnet","type":"tapswitch","network":"bridge","publish":true,"runtimeConfig":{"portMappings":[{"hostPort":0,"containerPort":80}],"ips":["172.17.0.80/16"],"aliases":{"tapnet":["www"]}}}`, version)
		second := fmt.Sprintf(`{"cniVersion":%q,"name":"more","type":"tapswitch","subnets":["10.99.0.0/24"]}`, version)
		eth0 := cniCall{"ADD", "0123456789abcdef", s.netns(), "eth0", "IgnoreUnknown=1;K8S_POD_NAME=web", conf}
		r, result := b.cniOK(eth0)
		if r.Version != version || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].Mac != "02:42:ac:11:00:50" || r.Interfaces[0].Sandbox != s.netns() {
			t.Errorf("interfaces of %s", result)
		}
		if len(r.IPs) != 2 || r.IPs[0].Address != "172.17.0.80/16" || r.IPs[0].Gateway != "172.17.0.1" || !strings.HasSuffix(r.IPs[1].Address, "/64") || r.IPs[1].Gateway != "fd00:17::1" {
			t.Errorf("addresses of %s", result)
		}
		if len(r.Routes) != 2 || r.Routes[0].Dst != "0.0.0.0/0" || r.Routes[0].GW != "172.17.0.1" || r.Routes[1].Dst != "::/0" {
			t.Errorf("routes of %s", result)
		}
		if !slices.Equal(r.DNS.Nameservers, []string{"172.17.0.1"}) {
			t.Errorf("DNS of %s", result)
		}
		b.cniFails(4, "CNI_IFNAME", eth0)
		eth1 := cniCall{"ADD", eth0.id, s.netns(), "eth1", eth0.args, second}
		r, more := b.cniOK(eth1)
		if len(r.IPs) != 1 || r.IPs[0].Address != "10.99.0.2/24" || len(r.Routes) != 0 {
			t.Errorf("the second result is %s", more)
		}
		if got := links(t, s); !slices.Equal(got, []string{"lo", "eth0", "eth1"}) {
			t.Errorf("interfaces: %v", got)
		}
		c := b.inspect("web")
		if c.Origin != "cni" || c.Key != "cni:0123456789abcdef" || len(c.Networks) != 2 || !slices.Equal(c.Networks[0].Aliases, []string{"www"}) || c.Mode != "bridge" {
			t.Errorf("on the switch it is %+v", c)
		}
		b.ok("exec", "c1", prog, "ping", "172.17.0.80")
		if got := b.ok("exec", "c1", prog, "lookup", "www"); !strings.Contains(got, "172.17.0.80") {
			t.Errorf("www is %s", got)
		}
		if version != "0.3.1" {
			check := eth0
			check.command, check.conf = "CHECK", withPrev(conf, result)
			b.cniOK(check)
			check.ifname = "eth2"
			b.cniFails(3, "eth2", check)
			check.ifname, check.conf = "eth0", withPrev(conf, strings.Replace(result, "172.17.0.80", "172.17.0.81", 1))
			b.cniFails(100, "172.17.0.81", check)
			check.conf = conf
			b.cniFails(7, "prevResult", check)
		}
		// One after the other, each twice.
		for i, call := range []cniCall{eth1, eth1, eth0, eth0} {
			if i == 2 {
				if n := b.inspect("web").Networks; len(n) != 1 || n[0].IfName != "eth0" {
					t.Errorf("without eth1 it is on %+v", n)
				}
			}
			call.command = "DEL"
			b.cniOK(call)
		}
		b.fails(3, nil, "inspect", "web")
		eventually(t, "the namespace without interfaces", func() bool { return slices.Equal(links(t, s), []string{"lo"}) })
		released(t, worker, before)
		b.ok("network", "rm", "more")
		// A namespace that ends without DEL takes its ports along.
		b.cniOK(eth0)
		waiting := b.start("wait", b.inspect("web").ID)
		s.signal(unix.SIGKILL)
		s.wait()
		waiting.line()
		del := eth0
		del.command = "DEL"
		b.cniOK(del) // its path is gone
		del.netns = ""
		b.cniOK(del)
		eventually(t, "the end of the namespace", func() bool { return len(holders(inode)) == 0 })
		released(t, worker, before)
	}
	gone := cniCall{"DEL", "x", "", "eth0", "", `{"cniVersion":"1.1.0","name":"bridge","type":"tapswitch"}`}
	status := gone
	status.command = "STATUS"
	b.cniOK(status)
	b.ok("down")
	b.cniOK(gone)
	b.cniFails(50, "no switch is running", status)
}

// Two containers of one name (of different users, or namespaces), and GC.
func TestCNIGarbage(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges)
	b.up("-c", file)
	conf := `{"cniVersion":"1.1.0","name":"bridge","type":"tapswitch"}`
	var made []cniCall
	for _, id := range []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"} {
		call := cniCall{"ADD", id, stranger(t).netns(), "eth0", "K8S_POD_NAME=web", conf}
		b.cniOK(call)
		made = append(made, call)
	}
	if c := b.inspect("web-bbbbbbbbbbbb"); !slices.Equal(c.Networks[0].Aliases, []string{"web"}) {
		t.Errorf("the second has the aliases %v", c.Networks[0].Aliases)
	}
	other := cniCall{"ADD", "cccccccccccccccc", stranger(t).netns(), "eth0", "K8S_POD_NAME=apart", `{"cniVersion":"1.1.0","name":"bridge2","type":"tapswitch"}`}
	b.cniOK(other)
	b.ok("join", "mine", "--pid", itoa(stranger(t).cmd.Process.Pid))
	gc := made[0]
	gc.command, gc.id = "GC", ""
	gc.conf = strings.TrimSuffix(conf, "}") + `,"cni.dev/valid-attachments":[{"containerID":"aaaaaaaaaaaaaaaa","ifname":"eth0"},{"containerID":"bbbbbbbbbbbbbbbb","ifname":"eth1"}]}`
	b.cniOK(gc)
	for name, there := range map[string]bool{"web": true, "web-bbbbbbbbbbbb": false, "apart": true, "mine": true, "c1": true} {
		if got := b.try("inspect", name).code == 0; got != there {
			t.Errorf("%s: %v, want %v", name, got, there)
		}
	}
	// A switch that comes back knows whom it has.
	b.ok("down")
	b.up("-c", file)
	if c := b.inspect("web"); c.Key != "cni:aaaaaaaaaaaaaaaa" || c.Networks[0].IfName != "eth0" {
		t.Errorf("after a restart web is %+v", c)
	}
	del := made[0]
	del.command = "DEL"
	b.cniOK(del)
	b.fails(3, nil, "inspect", "web")
}

// What is wrong gets the specification's codes and changes nothing.
func TestCNIErrors(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	s := stranger(t)
	good := cniCall{"ADD", "0123456789abcdef", s.netns(), "eth0", "", `{"cniVersion":"1.0.0","name":"bridge","type":"tapswitch"}`}
	with := func(change func(*cniCall)) cniCall { c := good; change(&c); return c }
	conf := func(s string) cniCall {
		return with(func(c *cniCall) { c.conf = strings.TrimSuffix(good.conf, "}") + "," + s + "}" })
	}
	for _, c := range []struct {
		code  int
		words string
		call  cniCall
	}{
		{1, "incompatible", with(func(c *cniCall) { c.conf = strings.Replace(c.conf, "1.0.0", "9.9.9", 1) })},
		{4, "CNI_CONTAINERID", with(func(c *cniCall) { c.id = "" })},
		{4, "CNI_NETNS", with(func(c *cniCall) { c.netns = "" })},
		{4, "unknown CNI_COMMAND", with(func(c *cniCall) { c.command = "ADDD" })},
		{6, "", with(func(c *cniCall) { c.conf = "{" })},
		{6, "", conf(`"runtimeConfig":{"ips":3}`)},
		{7, "name", with(func(c *cniCall) { c.conf = `{"cniVersion":"1.0.0"}` })},
		{7, "no address", conf(`"runtimeConfig":{"ips":["here"]}`)},
		{100, "outside of the subnet", conf(`"runtimeConfig":{"ips":["10.0.0.1"]}`)},
		{8, "nonexistent", with(func(c *cniCall) { c.netns = "/nonexistent" })},
		{8, "ordinary file", with(func(c *cniCall) { c.netns = b.write("file", "") })},
		{8, "own", with(func(c *cniCall) { c.netns = "/proc/self/ns/net" })},
		{100, "nosuch not found", conf(`"network":"nosuch"`)},
		{100, "in use", conf(`"runtimeConfig":{"ips":["172.17.0.3"]}`)},
		{100, "no subnet 10.0.0.0/24", conf(`"subnets":["10.0.0.0/24"]`)},
		{11, "no switch is running", conf(`"socket":"` + b.dir + `/other"`)},
		{1, "does not allow", with(func(c *cniCall) { c.command = "STATUS" })},
	} {
		b.cniFails(c.code, c.words, c.call)
	}
	if got := links(t, s); !slices.Equal(got, []string{"lo"}) {
		t.Errorf("interfaces: %v", got)
	}
	if r, _ := b.cniOK(cniCall{command: "VERSION"}); !reflect.DeepEqual(r.Supported, []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
		t.Errorf("versions %v", r.Supported)
	}
	// The same by its other name, and as a program that people start.
	c := b.cmd()
	c.Args[0] = "tapswitch-cni"
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "CNI protocol versions supported") {
		t.Errorf("tapswitch-cni says %q (%v)", out, err)
	}
}

// Addresses may come from another plugin; what that has given is given back.
func TestCNIDelegates(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	// An IPAM plugin that keeps a log of its calls.
	ipam := "#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>" + b.dir + "/calls\n" +
		`[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"'$(cat ` + b.dir + `/next)'"}],"dns":{"nameservers":["192.0.2.53"]}}'` + "\nexit 0\n"
	if err := os.WriteFile(b.dir+"/ours-ipam", []byte(ipam), 0o755); err != nil {
		t.Fatal(err)
	}
	calls := func() string {
		text, _ := os.ReadFile(b.dir + "/calls")
		os.Remove(b.dir + "/calls")
		return strings.Join(strings.Fields(string(text)), " ")
	}
	call := cniCall{"ADD", "0123456789abcdef", stranger(t).netns(), "eth0", "", `{"cniVersion":"1.0.0","name":"only4","type":"tapswitch","ipam":{"type":"ours-ipam"}}`}
	b.write("next", "172.19.0.77/16")
	r, text := b.cniOK(call)
	if len(r.IPs) != 1 || r.IPs[0].Address != "172.19.0.77/16" || r.IPs[0].Gateway != "172.19.0.1" || !slices.Equal(r.DNS.Nameservers, []string{"192.0.2.53"}) || calls() != "ADD" {
		t.Errorf("result %s", text)
	}
	check := call
	check.command, check.conf = "CHECK", withPrev(call.conf, text)
	b.cniOK(check)
	call.command = "DEL"
	b.cniOK(call)
	if got := calls(); got != "CHECK DEL" {
		t.Errorf("it was called with %s", got)
	}
	call.command = "ADD"
	for next, words := range map[string]string{"10.0.0.9/24": "no subnet of network only4", "172.19.0.1/16": "is reserved"} {
		b.write("next", next)
		if r, text := b.cni(call); !strings.Contains(r.Msg, words) {
			t.Errorf("%s: %s", next, text)
		}
		if got := calls(); got != "ADD DEL" {
			t.Errorf("%s: it was called with %s", next, got)
		}
	}
}

// What is reserved for a container that is there is given back if nothing comes
// of it.
func TestReserveMore(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges))
	call := cniCall{"ADD", "0123456789abcdef", stranger(t).netns(), "eth0", "K8S_POD_NAME=web", `{"cniVersion":"1.1.0","name":"bridge","type":"tapswitch"}`}
	b.cniOK(call)
	c := &client.Client{Socket: b.socket}
	reserve := func(network, ip, ifname string, publish ...string) (api.Reservation, error) {
		var res api.Reservation
		err := c.Do("POST", "/reservations", api.Reserve{Key: "cni:" + call.id, Networks: []api.Attachment{{Network: network, IP: ip, IfName: ifname}}, Publish: publish}, &res)
		return res, err
	}
	for range 2 {
		res, err := reserve("bridge2", "172.18.0.77", "eth1")
		if err != nil || len(res.Interfaces) != 1 || res.Interfaces[0].Name != "eth1" || res.Interfaces[0].Gateway != "" {
			t.Fatalf("reserved %+v (%v)", res, err)
		}
		if err := c.Do("DELETE", "/reservations/"+res.ID, nil, nil); err != nil {
			t.Error(err)
		}
	}
	res, err := reserve("bridge2", "172.18.0.77", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do("POST", "/ports", api.Join{Reservation: res.ID}, nil); err == nil || !strings.Contains(err.Error(), "1 further interfaces, not 0") {
		t.Errorf("without an interface: %v", err)
	}
	b.ok("run", "--rm", "--network", "bridge2:ip=172.18.0.77", "--", prog, "exit", "0")
	for want, ask := range map[string]func() error{
		"is there already":               func() error { _, err := reserve("bridge2", "", "eth1", "80"); return err },
		"has an interface eth0":          func() error { _, err := reserve("bridge2", "", "eth0"); return err },
		"the container is on it already": func() error { _, err := reserve("bridge", "", "eth1"); return err },
		"network nosuch":                 func() error { _, err := reserve("nosuch", "", "eth1"); return err },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	// The container may go meanwhile.
	if res, err = reserve("bridge2", "172.18.0.77", "eth1"); err != nil {
		t.Fatal(err)
	}
	b.ok("leave", "web")
	if err := c.Do("POST", "/ports", api.Join{Reservation: res.ID}, nil); err == nil || !strings.Contains(err.Error(), "no such reservation") {
		t.Errorf("after its end: %v", err)
	}
	b.ok("run", "--rm", "--network", "bridge2:ip=172.18.0.77", "--", prog, "exit", "0")
}
