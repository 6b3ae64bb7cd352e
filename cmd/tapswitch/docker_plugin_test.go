package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// libnetwork plays Docker's part in a lab: it says what Docker says, and moves
// devices as Docker does. The real one is in interop_docker_test.go.
type libnetwork struct {
	*lab
	socket string
}

const (
	netRed  = "aaaaaaaaaaaa0000000000000000000000000000000000000000000000000001"
	endWeb  = "bbbbbbbbbbbb0000000000000000000000000000000000000000000000000001"
	endC1   = "cccccccccccc0000000000000000000000000000000000000000000000000001"
	endNone = "dddddddddddd0000000000000000000000000000000000000000000000000001"
)

// plugin starts the plugin, for a Docker in our own network namespace.
func (d *libnetwork) plugin(more ...string) *proc {
	d.t.Helper()
	p := d.start(append([]string{"docker-plugin", "--listen", d.socket, "--spec", d.dir + "/spec"}, more...)...)
	p.expect("network driver tapswitch at " + d.socket)
	p.errs.await(d.t, "the switch is there")
	return p
}

// call makes a request and returns its status and answer.
func (d *libnetwork) call(path, body string) (int, map[string]any) {
	d.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket)
	}}}
	resp, err := c.Post("http://plugin"+path, "application/json", strings.NewReader(body))
	if err != nil {
		d.t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(resp.Body)
	var out map[string]any
	_ = json.Unmarshal(b.Bytes(), &out)
	return resp.StatusCode, out
}

// does makes a request that must succeed.
func (d *libnetwork) does(name, body string) map[string]any {
	d.t.Helper()
	code, out := d.call("/NetworkDriver."+name, body)
	if code != 200 || out["Err"] != nil {
		d.t.Fatalf("%s: %d %v", name, code, out)
	}
	return out
}

// refused makes a request that must fail with these words.
func (d *libnetwork) refused(words, name, body string) {
	d.t.Helper()
	code, out := d.call("/NetworkDriver."+name, body)
	if said, _ := out["Err"].(string); code == 200 || !strings.Contains(said, words) {
		d.t.Errorf("%s: %d %v, want %q", name, code, out, words)
	}
}

func ids(endpoint string) string {
	return fmt.Sprintf(`"NetworkID": %q, "EndpointID": %q`, netRed, endpoint)
}

// sandbox is a container's network namespace, held by a process of ours.
func (d *libnetwork) sandbox() (*proc, string) {
	d.t.Helper()
	c := exec.Command(prog, "hold")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	p := startProc(d.t, c)
	p.expect("holding")
	return p, "/proc/" + itoa(c.Process.Pid) + "/ns/net"
}

func (d *libnetwork) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// moveIn gives a device to a sandbox and sets it up, as libnetwork does.
func (d *libnetwork) moveIn(dev, sandbox, addr, mac, gateway string) {
	d.t.Helper()
	there, err := netns.GetFromPath(sandbox)
	d.must(err)
	defer there.Close()
	link, err := netlink.LinkByName(dev)
	d.must(err)
	d.must(netlink.LinkSetNsFd(link, int(there)))
	h, err := netlink.NewHandleAt(there)
	d.must(err)
	defer h.Close()
	link, err = h.LinkByName(dev)
	d.must(err)
	hw, err := net.ParseMAC(mac)
	d.must(err)
	a, err := netlink.ParseAddr(addr)
	d.must(err)
	d.must(h.LinkSetDown(link))
	d.must(h.LinkSetName(link, "eth0"))
	d.must(h.LinkSetHardwareAddr(link, hw))
	d.must(h.AddrAdd(link, a))
	d.must(h.LinkSetUp(link))
	d.must(h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(gateway).AsSlice()}))
}

// moveOut brings it back under its old name.
func (d *libnetwork) moveOut(dev, sandbox string) {
	d.t.Helper()
	there, err := netns.GetFromPath(sandbox)
	d.must(err)
	defer there.Close()
	here, err := netns.Get()
	d.must(err)
	defer here.Close()
	h, err := netlink.NewHandleAt(there)
	d.must(err)
	defer h.Close()
	link, err := h.LinkByName("eth0")
	d.must(err)
	d.must(h.LinkSetDown(link))
	d.must(h.LinkSetName(link, dev))
	d.must(h.LinkSetNsFd(link, int(here)))
}

// in is one of our programs in a sandbox.
func (d *libnetwork) in(sandbox string, args ...string) *exec.Cmd {
	return exec.Command(prog, append([]string{"within", sandbox}, args...)...)
}

// asked runs ask somewhere and wants this at the beginning of the answer.
func (d *libnetwork) asked(c *exec.Cmd, want string) {
	d.t.Helper()
	out, err := c.CombinedOutput()
	if !strings.HasPrefix(string(out), want) {
		d.t.Errorf("%v: %q (%v), want %q", c.Args[1:], out, err, want)
	}
}

// gone waits until there is no device of a plugin's here.
func (d *libnetwork) gone() {
	d.t.Helper()
	eventually(d.t, "the devices to go", func() bool {
		links, err := netlink.LinkList()
		d.must(err)
		for _, l := range links {
			if l.Type() == "tuntap" {
				return false
			}
		}
		return true
	})
}

func TestDockerPlugin(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	d := &libnetwork{l, filepath.Join(l.dir, "d")}
	sw := l.up("--ephemeral")
	plugin := d.plugin()
	if b, err := os.ReadFile(d.dir + "/spec"); err != nil || string(b) != "unix://"+d.socket+"\n" {
		t.Errorf("spec file: %q, %v", b, err)
	}
	l.fails(1, []string{"another plugin serves it", "--name"}, "docker-plugin", "--listen", d.socket, "--spec", d.dir+"/spec")
	l.fails(2, []string{"--name"}, "docker-plugin", "--name", "a/b")

	if _, out := d.call("/Plugin.Activate", ""); fmt.Sprint(out) != "map[Implements:[NetworkDriver]]" {
		t.Errorf("activate: %v", out)
	}
	if out := d.does("GetCapabilities", "{}"); out["Scope"] != "local" || out["ConnectivityScope"] != "local" || out["GwAllocChecker"] != true {
		t.Errorf("capabilities: %v", out)
	}
	if code, _ := d.call("/NetworkDriver.AllocateNetwork", "{}"); code != 404 {
		t.Errorf("what there is not: %d", code)
	}
	d.refused("request:", "CreateNetwork", "{")
	d.refused("request:", "CreateNetwork", `{"NetworkID": 7}`)
	if out := d.does("GwAllocCheck", `{"Options": {"com.docker.network.generic": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}}}`); out["SkipIPv4"] != true || out["SkipIPv6"] != false {
		t.Errorf("gateways: %v", out)
	}
	worker := l.status().WorkerPid
	before, ours := descriptors(t, worker), descriptors(t, plugin.cmd.Process.Pid)

	red := `{"NetworkID": "` + netRed + `", "Options": {"com.docker.network.generic": {"com.docker.network.driver.mtu": "1450"}, "com.docker.network.enable_ipv6": false},
		"IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": "10.1.1.0/24", "Gateway": "10.1.1.254/24", "AuxAddresses": {"printer": "10.1.1.9/24"}}], "IPv6Data": []}`
	d.does("CreateNetwork", red)
	d.refused("has the id aaaaaaaaaaaa already", "CreateNetwork", strings.Replace(red, `"com.docker.network.driver.mtu": "1450"`, `"com.docker.network.bridge.name": "other"`, 1))
	d.refused("address is already in use", "CreateEndpoint", `{`+ids(endWeb)+`, "Interface": {"Address": "10.1.1.9/24"}}`)
	d.refused("not known", "Join", `{`+ids(endWeb)+`}`)
	out := d.does("CreateEndpoint", `{`+ids(endWeb)+`, "Interface": {"Address": "10.1.1.1/24", "AddressIPv6": "", "MacAddress": ""},
		"Options": {"com.docker.network.endpoint.exposedports": [{"Proto": 6, "Port": 80}], "com.docker.network.portmap": []}}`)
	if fmt.Sprint(out) != "map[Interface:map[MacAddress:02:42:0a:01:01:01]]" {
		t.Errorf("CreateEndpoint fills in %v", out)
	}
	out = d.does("CreateEndpoint", `{`+ids(endC1)+`, "Interface": {"Address": "10.1.1.2/24", "MacAddress": "02:00:00:00:00:77"}}`)
	if fmt.Sprint(out) != "map[Interface:map[]]" {
		t.Errorf("CreateEndpoint fills in %v", out)
	}
	// Between the two the plugin may begin anew.
	plugin.signal(unix.SIGKILL)
	plugin.wait()
	plugin = d.plugin()
	holders, sandboxes := map[string]*proc{}, map[string]string{}
	for _, x := range []struct{ id, dev, addr, mac string }{{endWeb, "tapbbbbbbbbbbbb", "10.1.1.1/24", "02:42:0a:01:01:01"}, {endC1, "tapcccccccccccc", "10.1.1.2/24", "02:00:00:00:00:77"}} {
		holders[x.id], sandboxes[x.id] = d.sandbox()
		join := `{` + ids(x.id) + `, "SandboxKey": "/var/run/docker/netns/x", "Options": {}}`
		out = d.does("Join", join)
		if got, _ := json.Marshal(out); string(got) != `{"DisableGatewayService":true,"Gateway":"10.1.1.254","InterfaceName":{"DstPrefix":"eth","SrcName":"`+x.dev+`"}}` {
			t.Errorf("Join: %s", got)
		}
		d.does("Join", join) // once more: the answer was lost
		link, err := netlink.LinkByName(x.dev)
		d.must(err)
		if a := link.Attrs(); a.MTU != 1450 || a.HardwareAddr.String() != x.mac || a.Flags&net.FlagUp != 0 {
			t.Errorf("%s: MTU %d, %s, %v", x.dev, a.MTU, a.HardwareAddr, a.Flags)
		}
		d.moveIn(x.dev, sandboxes[x.id], x.addr, x.mac, "10.1.1.254")
	}
	startProc(t, d.in(sandboxes[endWeb], "serve", "80")).expect("listening")
	startProc(t, l.far("serve", "80")).expect("listening")
	d.refused("0.0.0.0:8080/tcp: address already in use", "ProgramExternalConnectivity", `{`+ids(endWeb)+`, "Options": {"com.docker.network.portmap": [
		{"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}, {"Proto": 6, "Port": 81, "HostPort": 8080, "HostPortEnd": 8080}]}}`)
	program := `{` + ids(endWeb) + `, "Options": {"com.docker.network.portmap": [
		{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}, {"Proto": 17, "Port": 80, "HostIP": "192.0.2.1", "HostPort": 0, "HostPortEnd": 0}]}}`
	d.does("ProgramExternalConnectivity", program)
	d.does("ProgramExternalConnectivity", program) // as the gateway of the other family
	if out = d.does("EndpointOperInfo", `{`+ids(endWeb)+`}`); fmt.Sprint(out) != "map[Value:map[]]" {
		t.Errorf("EndpointOperInfo: %v", out)
	}
	udp := l.port("bbbbbbbbbbbb", "udp", 80)
	works := func(when string) {
		t.Helper()
		t.Log(when)
		d.asked(d.in(sandboxes[endC1], "ask", "tcp", "10.1.1.1:80", "hello"), "from 10.1.1.2:")
		d.asked(d.in(sandboxes[endC1], "ask", "tcp", "192.0.2.2:80", "hello"), "from 192.0.2.1:")
		d.asked(l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "from 192.0.2.2:")
		d.asked(l.far("ask", "udp", "192.0.2.1:"+itoa(udp), "hello"), "from 192.0.2.2:")
	}
	works("at first")
	if c := l.inspect(endWeb[:20]); c.ID != endWeb || c.Name != endWeb[:12] || c.Origin != "docker" || fmt.Sprint(c.Expose) != "[80/tcp]" {
		t.Errorf("on the switch it is %+v", c)
	}

	plugin.signal(unix.SIGKILL)
	plugin.wait()
	plugin = d.plugin()
	d.does("ProgramExternalConnectivity", program)
	if n := len(l.inspect(endWeb).Ports); n != 3 {
		t.Errorf("%d ports are open", n) // 8080 of both families, and one of UDP
	}
	sw.signal(unix.SIGKILL)
	sw.wait()
	sw = l.up("--ephemeral")
	for _, id := range []string{endWeb, endC1} {
		plugin.errs.await(t, "endpoint is on the switch again\" endpoint="+id[:12])
	}
	works("after both have begun anew")
	var n []api.Network
	l.json(&n, "network", "inspect", netRed[:12])
	if fmt.Sprint(n[0].Aux) != "map[printer:10.1.1.9]" || n[0].MTU != 1450 || n[0].Subnets[0].Gateway.String() != "10.1.1.254" {
		t.Errorf("the network is %+v", n)
	}

	// One ends as Docker ends it, without a switch at first; the other dies.
	d.does("RevokeExternalConnectivity", `{`+ids(endWeb)+`}`)
	d.asked(l.far("ask", "tcp", "192.0.2.1:8080", "hello"), "dial tcp 192.0.2.1:8080: connect: connection refused")
	d.does("Leave", `{`+ids(endWeb)+`}`)
	d.moveOut("tapbbbbbbbbbbbb", sandboxes[endWeb])
	d.does("DeleteEndpoint", `{`+ids(endWeb)+`}`)
	l.fails(3, nil, "inspect", endWeb)
	d.gone()
	d.refused("active endpoints", "DeleteNetwork", `{"NetworkID": "`+netRed+`"}`)
	waiting := l.start("wait", endC1)
	holders[endC1].signal(unix.SIGKILL)
	waiting.line()
	d.does("DeleteEndpoint", `{`+ids(endC1)+`}`)
	d.does("DeleteEndpoint", `{`+ids(endNone)+`}`) // of which nobody knows
	d.does("DeleteNetwork", `{"NetworkID": "`+netRed+`"}`)
	d.does("DeleteNetwork", `{"NetworkID": "`+netRed+`"}`)
	released(t, l.status().WorkerPid, before)
	released(t, plugin.cmd.Process.Pid, ours)

	sw.signal(unix.SIGTERM)
	sw.wait()
	d.does("DeleteEndpoint", `{`+ids(endC1)+`}`)
	d.refused("no switch is running", "CreateNetwork", red)
	plugin.signal(unix.SIGTERM)
	if code := plugin.wait(); code != 0 {
		t.Errorf("the plugin ends with %d", code)
	}
	if _, err := os.Stat(d.socket); err == nil {
		t.Error("its socket is left")
	}
}

// A socket that systemd opened is used, and left.
func TestDockerPluginSocket(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	d := &libnetwork{l, filepath.Join(l.dir, "d")}
	at, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.socket})
	d.must(err)
	defer at.Close()
	f, err := at.File()
	d.must(err)
	defer f.Close()
	d.must(os.Symlink(prog, d.dir+"/tapswitch"))
	for _, c := range []struct{ fds, says string }{{"1", "network driver tapswitch at " + d.socket}, {"2", ""}} {
		cmd := exec.Command("sh", "-c", "LISTEN_PID=$$ LISTEN_FDS="+c.fds+" exec "+d.dir+"/tapswitch docker-plugin --spec "+d.dir+"/spec")
		cmd.Env, cmd.Dir, cmd.ExtraFiles = d.env, d.dir, []*os.File{f}
		p := startProc(t, cmd)
		if c.says == "" {
			if code := p.wait(); code != 1 {
				t.Errorf("with %s sockets it ends with %d", c.fds, code)
			}
			p.errs.await(t, "one socket is served, not "+c.fds)
			continue
		}
		p.expect(c.says)
		if _, out := d.call("/Plugin.Activate", ""); fmt.Sprint(out) != "map[Implements:[NetworkDriver]]" {
			t.Errorf("activate: %v", out)
		}
		p.signal(unix.SIGTERM)
		if code := p.wait(); code != 0 {
			t.Errorf("it ends with %d", code)
		}
		if _, err := os.Stat(d.socket); err != nil {
			t.Errorf("systemd's socket: %v", err)
		}
	}
}

// What an engine with ids of its own may get wrong.
func TestGivenIDs(t *testing.T) {
	b := newBench(t)
	b.up()
	b.ok("run", "-d", "--name", "own", "--", prog, "hold")
	c := &client.Client{Socket: b.socket}
	ask := func(path string, in any) string {
		t.Helper()
		var e *api.Error
		err := c.Do("POST", path, in, nil)
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e == nil {
			return ""
		}
		return e.Code + ": " + e.Message
	}
	red := api.NetworkCreate{Name: "red", Subnets: []string{"10.1.1.0/24"}, ID: netRed}
	held := api.Reserve{Name: "web", Networks: []api.Attachment{{Network: netRed}}, ID: endWeb, Hold: true, Lifetime: "until_error"}
	for _, x := range []struct {
		path string
		in   any
		want string
	}{
		{"/networks", api.NetworkCreate{Name: "red", ID: "red"}, `bad_request: id "red": 64 hexadecimal digits`},
		{"/networks", red, ""},
		{"/networks", api.NetworkCreate{Name: "blue", ID: netRed}, "conflict: network red has the id aaaaaaaaaaaa already"},
		{"/reservations", api.Reserve{Name: "web", ID: strings.ToUpper(endWeb)}, "bad_request: id"},
		{"/reservations", api.Reserve{Name: "web", ID: endWeb, Expose: []string{"x"}}, "bad_request: "},
		{"/reservations", api.Reserve{Name: "web", ID: endWeb, Links: []string{"-"}}, "bad_request: bad format for links"},
		{"/reservations", held, ""},
		{"/reservations", held, "conflict: container web has the id bbbbbbbbbbbb already"},
		{"/containers/own/taps", nil, "bad_request: TAPs go to a socket beside the request"},
	} {
		if got := ask(x.path, x.in); got != x.want && (x.want == "" || !strings.HasPrefix(got, x.want)) {
			t.Errorf("%s %+v: %q, want %q", x.path, x.in, got, x.want)
		}
	}
	for name, want := range map[string]string{"own": "no TAP that a caller brought", "web": "no TAP that a caller brought", "nobody": "no such container"} {
		if fds, err := c.TAPs(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("TAPs of %s: %v, %v", name, fds, err)
		}
	}
	// Its network is there again after a restart, under its id; what is held is for
	// its caller to bring.
	b.ok("down")
	eventually(t, "the end", func() bool { return !c.Running() })
	b.up()
	var n []api.Network
	b.json(&n, "network", "inspect", netRed)
	if n[0].ID != netRed || n[0].Name != "red" {
		t.Errorf("restored: %+v", n[0])
	}
	b.fails(3, nil, "inspect", "web")
	if got := ask("/reservations", held); got != "" {
		t.Errorf("reserved again: %s", got)
	}
}
