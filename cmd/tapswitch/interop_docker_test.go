//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// dockerLab is a lab with a Docker of its own, whose containers are on the switch
// of an ordinary user:
//
//	outside 192.0.2.2  ==  host 192.0.2.1: dockerd, docker-plugin (root), tapswitch (not root)
//
// It has a process namespace, too: whatever it starts ends with the test.
type dockerLab struct {
	*lab
	home    string // Docker's
	daemon  *proc
	plugin  *proc
	sw      *proc
	program func(args ...string) *proc // of the switch's user
}

// newDockerLab runs the calling test once more in namespaces of its own; out
// here it returns nil when that run is over.
func newDockerLab(t *testing.T) *dockerLab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	tools(t, "dockerd", "docker", "containerd", "runc", "ip", "iptables", "tar", "busybox")
	group := "/tapswitch-test-" + itoa(os.Getpid())
	if os.Getenv(inLab) == "" {
		need(t)
		c := exec.Command(prog, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=8m")
		c.Env = append(os.Environ(), inLab+"="+group)
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
		text, err := c.CombinedOutput()
		t.Logf("in the lab:\n%s", text)
		// Docker makes the group that its containers' are in, and leaves it.
		for _, pattern := range []string{"/sys/fs/cgroup" + group, "/sys/fs/cgroup/*" + group} {
			left, _ := filepath.Glob(pattern)
			for _, dir := range left {
				output(t, "find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")
			}
		}
		if err != nil || !strings.Contains(string(text), "--- PASS: "+t.Name()) {
			t.Fatalf("the run in the lab failed: %v", err)
		}
		return nil
	}
	os.Unsetenv("XDG_RUNTIME_DIR")
	for _, m := range []struct {
		what, at, kind string
		flags          uintptr
	}{{"", "/", "", unix.MS_REC | unix.MS_PRIVATE}, {"proc", "/proc", "proc", 0}, {"tmpfs", "/run", "tmpfs", 0}} {
		if err := unix.Mount(m.what, m.at, m.kind, m.flags, ""); err != nil {
			t.Fatalf("mount %s: %v", m.at, err)
		}
	}
	b, program := asUser(t)
	l := &dockerLab{lab: furnish(t, b), home: t.TempDir(), program: program}
	t.Cleanup(func() { _ = unix.Unmount(l.home+"/data", unix.MNT_DETACH) }) // Docker's, on itself
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
		t.Fatal(err)
	}
	l.up()
	l.servePlugin()
	l.startContainerd()
	l.startDocker()
	l.importImage()
	return l
}

// importImage makes an image of names: a container has this machine's /usr.
func (l *dockerLab) importImage() {
	l.t.Helper()
	image := l.t.TempDir()
	output(l.t, "sh", "-ec", "cd "+image+"; mkdir usr; for d in bin sbin lib lib64; do ln -s usr/$d $d; done; tar -cf ../image.tar .")
	l.docker("import", filepath.Dir(image)+"/image.tar", "box")
}

// up starts the switch, as its user.
func (l *dockerLab) up(args ...string) {
	l.t.Helper()
	l.sw = l.program(append([]string{"up"}, args...)...)
	l.sw.expect("ready")
}

func (l *dockerLab) servePlugin() {
	l.t.Helper()
	l.plugin = l.start("docker-plugin")
	l.plugin.expect("network driver tapswitch at /run/docker/plugins/tapswitch.sock")
	l.plugin.errs.await(l.t, "the switch is there")
}

// startContainerd starts what keeps Docker's containers, so that they outlive
// dockerd.
func (l *dockerLab) startContainerd() {
	l.t.Helper()
	config := l.write("containerd.toml", `version = 2
root = "`+l.home+`/containerd"
state = "`+l.home+`/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "`+l.home+`/containerd.sock"
`)
	p := startProc(l.t, exec.Command("containerd", "--config", config))
	p.errs.await(l.t, "containerd successfully booted")
}

// startDocker starts dockerd.
func (l *dockerLab) startDocker() {
	l.t.Helper()
	c := exec.Command("dockerd", "--storage-driver=vfs", "--iptables=false", "--bridge=none", "--live-restore", "--containerd", l.home+"/containerd.sock", "-H", "unix://"+l.home+"/sock",
		"--data-root", l.home+"/data", "--exec-root", l.home+"/exec", "--pidfile", l.home+"/pid", "--config-file", l.home+"/none.json", "--cgroup-parent", os.Getenv(inLab))
	if err := os.WriteFile(l.home+"/none.json", []byte("{}"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	c.Env = append(os.Environ(), "HOME="+l.home)
	l.daemon = startProc(l.t, c)
	l.awaitDocker()
}

func (l *dockerLab) awaitDocker() {
	l.t.Helper()
	eventually(l.t, "dockerd", func() bool {
		select {
		case <-l.daemon.ended:
			l.t.Fatalf("dockerd has ended\n%s", l.daemon.errs)
		default:
		}
		return l.tryDocker("version").code == 0
	})
}

func (l *dockerLab) tryDocker(args ...string) result {
	l.t.Helper()
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST=unix://"+l.home+"/sock", "DOCKER_CONFIG="+l.home, "HOME="+l.home)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	_ = c.Run()
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// docker runs a command of Docker's that must succeed.
func (l *dockerLab) docker(args ...string) string {
	l.t.Helper()
	r := l.tryDocker(args...)
	if r.code != 0 {
		l.t.Fatalf("docker %s: exit code %d\n%s%s\nplugin:\n%s", strings.Join(args, " "), r.code, r.out, r.err, l.plugin.errs)
	}
	return strings.TrimSpace(r.out)
}

// refused runs a command of Docker's that must fail with these words.
func (l *dockerLab) refused(words string, args ...string) {
	l.t.Helper()
	if r := l.tryDocker(args...); r.code == 0 || !strings.Contains(r.err, words) {
		l.t.Errorf("docker %s: exit code %d, want %q in\n%s%s", strings.Join(args, " "), r.code, words, r.out, r.err)
	}
}

// run starts a container of Docker's with our program in it.
func (l *dockerLab) run(name string, args ...string) {
	l.t.Helper()
	l.docker(append([]string{"run", "-d", "--name", name, "--stop-signal", "KILL", "-v", prog + ":/prog:ro", "-v", "/usr:/usr:ro"}, args...)...)
}

// serves starts a container whose server tells clients who they are.
func (l *dockerLab) serves(name string, args ...string) {
	l.t.Helper()
	l.run(name, append(args, "box", "/prog", "serve", "80")...)
	l.listens(name)
}

func (l *dockerLab) listens(name string) {
	l.t.Helper()
	eventually(l.t, name+" listens", func() bool { return strings.Contains(l.docker("logs", "--tail", "1", name), "listening") })
}

// sees asks a server from a container of Docker's; want begins the answer, or
// stands for silence, as bench.asks has it.
func (l *dockerLab) sees(from, addr, want string) {
	l.t.Helper()
	limit := silence.String()
	if want == silent {
		limit = "1s"
	}
	r := l.tryDocker("exec", from, "/prog", "ask", "tcp", addr, "hello", limit)
	got := r.out
	switch r.code {
	case askSilence:
		got = silent
	case askRefused:
		got = refused
	case askUnreachable:
		got = unreachable
	}
	if !strings.HasPrefix(got, want) {
		l.t.Errorf("%s asks %s and gets %q, want %q\n%s", from, addr, got, want, r.err)
	}
}

// knocks asks a published port from outside.
func (l *dockerLab) knocks(addr, want string) {
	l.t.Helper()
	var out, errs bytes.Buffer
	c := l.far("ask", "tcp", addr, "hello")
	c.Stdout, c.Stderr = &out, &errs
	if _ = c.Run(); c.ProcessState.ExitCode() == askRefused {
		out.WriteString(refused)
	}
	if !strings.HasPrefix(out.String(), want) {
		l.t.Errorf("outside asks %s and gets %q, want %q\n%s", addr, out.String(), want, errs.String())
	}
}

// endpoint is what the switch calls a container's interface on a network.
func (l *dockerLab) endpoint(container, network string) string {
	l.t.Helper()
	return l.docker("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").EndpointID}}", container)[:12]
}

var pluginTAP = regexp.MustCompile(`: tap[0-9a-f]{12}:`)

// clean fails if anything is left: devices here, ports and networks on the
// switch, processes that keep containers.
func (l *dockerLab) clean() {
	l.t.Helper()
	// The worker closes its end of a device when the answer is already given.
	eventually(l.t, "the last device to go", func() bool { return !pluginTAP.MatchString(output(l.t, "ip", "-o", "link")) })
	var networks []api.Network
	l.json(&networks, "network", "ls", "--json")
	if len(networks) != 1 || networks[0].Origin != "file" {
		l.t.Errorf("networks are left: %+v", networks)
	}
	if got := l.ok("ps", "-a", "-q"); got != "" {
		l.t.Errorf("endpoints are left: %s", got)
	}
	for _, pid := range strings.Fields(output(l.t, "sh", "-c", "ls /proc | grep -x '[0-9]*'")) {
		if b, err := os.ReadFile("/proc/" + pid + "/cmdline"); err == nil && bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, []byte(l.home)) {
			l.t.Errorf("process %s is left: %q", pid, b)
		}
	}
	// The plugin keeps no duplicate.
	for _, f := range descriptors(l.t, l.plugin.cmd.Process.Pid) {
		if strings.Contains(f, "tun") {
			l.t.Errorf("the plugin has %s open", f)
		}
	}
}

// The core topology by Docker's own commands: what people type.
func TestRootDocker(t *testing.T) {
	l := newDockerLab(t)
	if l == nil {
		return
	}
	startProc(t, l.far("serve", "80")).expect("listening")
	red := l.docker("network", "create", "-d", "tapswitch", "--subnet=10.1.1.0/24", "--gateway=10.1.1.254", "red_prueba1")
	l.docker("network", "create", "-d", "tapswitch", "--subnet=10.2.2.0/24", "-o", "com.docker.network.driver.mtu=1400", "blue")
	l.serves("web", "--network", "red_prueba1", "-p", "8080:80", "-p", "8081:80/udp")
	l.serves("c1", "--network", "red_prueba1")
	l.serves("c3", "--network", "blue")

	// What each shows.
	var n api.Network
	l.json(&[]*api.Network{&n}, "network", "inspect", red[:12])
	if n.ID != red || n.Name != "br-"+red[:12] || n.Origin != "docker" || n.Subnets[0].Gateway.String() != "10.1.1.254" {
		t.Errorf("the switch's network is %+v", n)
	}
	if got := l.docker("network", "inspect", "-f", "{{.Driver}} {{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}", "red_prueba1"); got != "tapswitch 10.1.1.0/24 10.1.1.254" {
		t.Errorf("docker network inspect: %s", got)
	}
	if got := l.docker("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}};{{end}}", "blue"); got != "c3 10.2.2.2/24 02:42:0a:02:02:02;" {
		t.Errorf("docker network inspect: %s", got)
	}
	var s shown
	show := func(c string) shown {
		var s shown
		if err := json.Unmarshal([]byte(l.docker("exec", c, "/prog", "show")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s = show("c1"); !slices.Equal(s.Ifaces["eth0"], []string{"10.1.1.2/24", "02:42:0a:01:01:02"}) || len(s.Ifaces) != 2 {
		t.Errorf("interfaces in c1: %v", s.Ifaces)
	}
	if got := l.docker("exec", "c3", "cat", "/sys/class/net/eth0/mtu"); got != "1400" {
		t.Errorf("MTU %s", got)
	}
	if got := l.docker("exec", "c1", "cat", "/proc/net/route"); !strings.Contains(got, "eth0\t00000000\tFE01010A") {
		t.Errorf("routes in c1:\n%s", got)
	}

	// Who reaches whom.
	l.sees("c1", "web:80", "from 10.1.1.2:")
	l.sees("c1", "10.1.1.1:80", "from 10.1.1.2:")
	l.sees("c3", "10.1.1.1:80", silent)
	if d := l.inspect(l.endpoint("c3", "blue")).Networks[0].Stats.Drops; d["isolated"] == 0 {
		t.Errorf("drops of c3: %v", d)
	}
	for _, c := range []string{"c1", "c3"} {
		l.sees(c, "192.0.2.2:80", "from 192.0.2.1:")
		if r := l.tryDocker("exec", c, "/prog", "ping", "192.0.2.2"); r.code != 0 {
			t.Errorf("%s pings outside: %+v", c, r)
		}
	}
	l.sees("c3", "192.0.2.1:8080", "from 10.1.1.254:")
	l.sees("c1", "192.0.2.1:8080", "from 10.1.1.254:")
	l.knocks("192.0.2.1:8080", "from 192.0.2.2:")
	l.knocks("[2001:db8::1]:8080", "from 10.1.1.254:")
	if got, err := ask("udp", "192.0.2.1:8081", "hello", silence); err != nil || !strings.HasPrefix(got, "from 192.0.2.1:") {
		t.Errorf("UDP by the host: %q, %v", got, err)
	}
	// Docker's name server asks further through us.
	l.docker("run", "--rm", "--network", "red_prueba1", "--dns", "10.1.1.254", "-v", "/usr:/usr:ro", "box", "busybox", "nslookup", l.endpoint("web", "red_prueba1")+".br-"+red[:12])

	// A second network on a container that runs, and off again.
	l.docker("network", "connect", "blue", "c1")
	if s = show("c1"); !slices.Equal(s.Ifaces["eth1"], []string{"10.2.2.3/24", "02:42:0a:02:02:03"}) {
		t.Errorf("interfaces in c1: %v", s.Ifaces)
	}
	l.sees("c1", "c3:80", "from 10.2.2.3:")
	l.docker("network", "disconnect", "blue", "c1")
	if s = show("c1"); len(s.Ifaces) != 2 {
		t.Errorf("interfaces in c1: %v", s.Ifaces)
	}
	l.sees("c1", "10.2.2.2:80", silent)

	// The default route moves, and what is published with it.
	l.docker("network", "connect", "blue", "web")
	l.docker("network", "disconnect", "red_prueba1", "web")
	l.knocks("192.0.2.1:8080", "from 192.0.2.2:")
	l.sees("c1", "192.0.2.1:8080", "from 10.2.2.1:")
	l.docker("network", "connect", "--ip", "10.1.1.77", "--alias", "site", "red_prueba1", "web")
	l.docker("network", "disconnect", "blue", "web")
	l.sees("c1", "site:80", "from 10.1.1.2:")
	l.knocks("192.0.2.1:8080", "from 192.0.2.2:")

	// Restarts.
	l.docker("restart", "-t", "0", "web")
	l.listens("web")
	l.sees("c1", "site:80", "from 10.1.1.2:")
	l.knocks("192.0.2.1:8080", "from 192.0.2.2:")
	if got := l.docker("inspect", "-f", "{{.NetworkSettings.Networks.red_prueba1.IPAddress}}", "web"); got != "10.1.1.77" {
		t.Errorf("web has %s", got)
	}
	l.docker("stop", "-t", "0", "web")
	l.knocks("192.0.2.1:8080", refused)

	// What is asked for wrongly.
	l.docker("start", "web")
	l.refused("Bind for 0.0.0.0:8080 failed: port is already allocated", "run", "--rm", "--network", "blue", "-p", "8080:80", "-v", "/usr:/usr:ro", "box", "true")
	l.refused("overlaps network bridge", "network", "create", "-d", "tapswitch", "--subnet", "172.17.0.0/24", "bad")
	l.refused("enable_iccc is not known", "network", "create", "-d", "tapswitch", "--subnet", "10.7.0.0/24", "-o", "com.docker.network.bridge.enable_iccc=false", "bad")
	l.refused("tapswitch.nome is not known", "run", "--rm", "--network", "name=blue,driver-opt=tapswitch.nome=x", "-v", "/usr:/usr:ro", "box", "true")
	l.refused("protocol 132 cannot be published", "run", "--rm", "--network", "blue", "-p", "9:9/sctp", "-v", "/usr:/usr:ro", "box", "true")
	l.refused("has active endpoints", "network", "rm", "red_prueba1")

	l.docker("rm", "-f", "web", "c1", "c3")
	l.docker("network", "rm", "red_prueba1", "blue")
	l.clean()
}

// Networks of other kinds.
func TestRootDockerNetworks(t *testing.T) {
	l := newDockerLab(t)
	if l == nil {
		return
	}
	startProc(t, l.far("serve", "80")).expect("listening")
	l.docker("network", "create", "-d", "tapswitch", "--internal", "--subnet", "10.3.0.0/24", "inner")
	l.docker("network", "create", "-d", "tapswitch", "--ipv6", "--subnet", "10.4.0.0/24", "--subnet", "fd00:4::/64", "--gateway", "fd00:4::99", "six")
	l.docker("network", "create", "-d", "tapswitch", "--subnet", "10.5.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false",
		"-o", "com.docker.network.bridge.name=quiet0", "-o", "com.docker.network.container_iface_prefix=net", "-o", "tapswitch.egress=none", "quiet")
	l.docker("network", "create", "-d", "tapswitch", "--subnet", "10.6.0.0/24", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
		"-o", "com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected", "open")

	l.serves("i1", "--network", "inner", "-p", "8080:80")
	l.serves("i2", "--network", "inner")
	l.sees("i1", "i2:80", "from 10.3.0.2:")
	l.sees("i1", "192.0.2.2:80", unreachable)
	l.knocks("192.0.2.1:8080", refused) // as with Docker's own driver
	if got := output(t, "ip", "-o", "link"); strings.Contains(got, "docker_gwbridge") {
		t.Errorf("Docker made a bridge:\n%s", got)
	}

	l.serves("s1", "--network", "six", "-p", "8086:80", "--ip6", "fd00:4::11")
	l.serves("s2", "--network", "six")
	l.sees("s2", "[fd00:4::11]:80", "from [fd00:4::")
	l.sees("s1", "[2001:db8::2]:80", "from [2001:db8::1]:")
	l.knocks("[2001:db8::1]:8086", "from [2001:db8::2]:")
	if got := l.docker("exec", "s1", "cat", "/proc/net/ipv6_route"); !strings.Contains(got, "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000004000000000000000000000099") {
		t.Errorf("routes in s1:\n%s", got)
	}

	l.serves("q1", "--network", "name=quiet,driver-opt=tapswitch.name=db", "--expose", "80")
	l.serves("q2", "--network", "name=quiet,driver-opt=tapswitch.link=db")
	l.serves("q3", "--network", "name=quiet,driver-opt=tapswitch.egress=all")
	l.sees("q2", "10.5.0.2:80", "from 10.5.0.3:")
	l.sees("q3", "10.5.0.2:80", silent)
	l.sees("q1", "10.5.0.3:80", silent)
	l.sees("q2", "192.0.2.2:80", refused)
	l.sees("q3", "192.0.2.2:80", "from 192.0.2.1:")
	if got := l.docker("exec", "q1", "ls", "/sys/class/net"); !strings.Contains(got, "net0") {
		t.Errorf("interfaces in q1: %s", got)
	}
	if c := l.inspect("db"); c.Networks[0].Network != "quiet0" || !slices.Equal(c.Expose, []string{"80/tcp"}) {
		t.Errorf("q1 on the switch is %+v", c)
	}

	l.serves("o1", "--network", "open", "-p", "80")
	port := itoa(l.port(l.endpoint("o1", "open"), "tcp", 80))
	l.knocks("192.0.2.1:"+port, refused) // bound to the loopback
	if got, err := ask("tcp", "127.0.0.1:"+port, "hello", silence); err != nil || !strings.HasPrefix(got, "from 10.6.0.1:") {
		t.Errorf("by the loopback: %q, %v", got, err)
	}
	l.sees("s1", "10.6.0.2:80", "from 10.4.0.2:") // unprotected

	// What Docker made is not the switch's to prune or to connect.
	l.ok("network", "prune", "-f")
	l.docker("rm", "-f", "o1")
	l.ok("network", "prune", "-f")
	l.serves("o1", "--network", "open")
	l.fails(1, []string{"docker network connect"}, "network", "connect", "bridge", "db")
	// A container of the switch's own beside those of Docker.
	if got := l.ok("run", "--rm", "--network", l.docker("network", "inspect", "-f", "{{.Id}}", "six")[:12]+":ip=10.4.0.200", "--", filepath.Join(l.dir, "prog"), "ask", "tcp", "10.4.0.2:80", "hello"); !strings.HasPrefix(got, "from 10.4.0.200:") {
		t.Errorf("a container of the switch's own gets %q", got)
	}
	l.docker("rm", "-f", "i1", "i2", "s1", "s2", "q1", "q2", "q3", "o1")
	l.docker("network", "rm", "inner", "six", "quiet", "open")
	l.clean()
}

// Everything may restart under containers that run.
func TestRootDockerRestarts(t *testing.T) {
	l := newDockerLab(t)
	if l == nil {
		return
	}
	l.docker("network", "create", "-d", "tapswitch", "--subnet", "10.1.1.0/24", "red")
	l.serves("web", "--network", "red", "-p", "8080:80")
	l.serves("c1", "--network", "red")
	id := l.endpoint("web", "red")
	works := func(when string) {
		t.Helper()
		t.Log(when)
		l.sees("c1", "web:80", "from 10.1.1.3:")
		l.knocks("192.0.2.1:8080", "from 192.0.2.2:")
		if got := l.endpoint("web", "red"); got != id {
			t.Errorf("%s the endpoint is %s, and was %s", when, got, id)
		}
	}
	works("at first")

	l.plugin.signal(unix.SIGKILL)
	l.plugin.wait()
	works("without a plugin")
	l.servePlugin() // over the socket that was left
	l.serves("c2", "--network", "red")
	l.sees("c2", "web:80", "from 10.1.1.4:")
	l.docker("rm", "-f", "c2")
	works("with another plugin")

	// The switch, killed and with state; the plugin, begun before, had no part in
	// making the devices.
	l.sw.signal(unix.SIGKILL)
	l.sw.wait()
	l.up()
	l.plugin.errs.await(t, "endpoint is on the switch again\" endpoint="+id)
	l.awaitPort()
	works("with another switch")
	l.sw.signal(unix.SIGTERM)
	l.sw.wait()
	l.plugin.errs.forget()
	l.up("--ephemeral")
	l.serves("c2", "--network", "red") // waits for it
	l.plugin.errs.await(t, "endpoint is on the switch again\" endpoint="+id)
	works("with a switch that has forgotten all")
	l.docker("rm", "-f", "c2")

	// Docker lets containers live, and forgets nothing.
	l.daemon.signal(unix.SIGTERM)
	l.daemon.wait()
	l.startDocker()
	works("with another dockerd")
	l.daemon.signal(unix.SIGKILL)
	l.daemon.wait()
	l.startDocker()
	works("after a dockerd that was killed")
	l.docker("restart", "-t", "0", "web")
	l.listens("web")
	id = l.endpoint("web", "red")
	works("restarted by it")

	l.docker("rm", "-f", "web", "c1")
	l.docker("network", "rm", "red")
	l.clean()
}

// awaitPort waits for the published port of the test above.
func (l *dockerLab) awaitPort() {
	l.t.Helper()
	eventually(l.t, "a published port", func() bool { return strings.Contains(l.ok("port"), "8080") })
}

// Rootless Docker, whose own network would be RootlessKit's: its containers are
// on the user's switch, whose sockets are the host's.
func TestInteropDockerRootless(t *testing.T) {
	tools(t, "dockerd", "docker", "containerd", "runc", "rootlesskit", "slirp4netns", "newuidmap", "iptables", "tar")
	if os.Geteuid() == 0 {
		skip(t, "rootless Docker needs an ordinary user")
	}
	script, err := exec.LookPath("dockerd-rootless.sh")
	if err != nil {
		script = "/usr/share/docker.io/contrib/dockerd-rootless.sh" // Debian's
	}
	b := newBench(t)
	home := t.TempDir()
	// What Docker stores is owned by subordinate users: only they can remove it.
	t.Cleanup(func() { _ = exec.Command("rootlesskit", "rm", "-rf", home+"/data", home+"/exec").Run() })
	l := &dockerLab{lab: &lab{bench: b}, home: home}
	l.sw = b.up("--ephemeral")
	l.plugin = b.start("docker-plugin", "--listen", b.dir+"/d", "--spec", home+"/.local/lib/docker/plugins/tapswitch.spec")
	l.plugin.errs.await(t, "the switch is there")
	c := exec.Command("sh", script, "--storage-driver=vfs", "--iptables=false", "--bridge=none", "-H", "unix://"+home+"/sock",
		"--data-root", home+"/data", "--exec-root", home+"/exec", "--pidfile", home+"/pid")
	c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+home, "HOME="+home, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "DOCKERD_ROOTLESS_ROOTLESSKIT_NET=slirp4netns")
	l.daemon = startProc(t, c)
	l.awaitDocker()
	t.Cleanup(func() { l.daemon.signal(unix.SIGTERM); l.daemon.wait() }) // and all of RootlessKit's
	// This Docker's /run is its own, and it may be too old for spec files there.
	pid, err := os.ReadFile(home + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	plugins := "/proc/" + string(pid) + "/root/run/docker/plugins"
	output(t, "sh", "-ec", "mkdir -p "+plugins+"; ln -s "+b.dir+"/d "+plugins+"/tapswitch.sock")
	l.importImage()

	for _, name := range []string{"red", "blue"} {
		l.docker("network", "create", "-d", "tapswitch", "--subnet", map[string]string{"red": "10.1.1.0/24", "blue": "10.2.2.0/24"}[name], name)
	}
	l.serves("web", "--network", "red", "-p", "80")
	l.run("c1", "--network", "red", "box", "/prog", "hold")
	l.run("c3", "--network", "blue", "box", "/prog", "hold")
	port := func() string { return itoa(l.port(l.endpoint("web", "red"), "tcp", 80)) }
	works := func() {
		t.Helper()
		l.sees("c1", "web:80", "from 10.1.1.3:")
		l.sees("c3", "10.1.1.2:80", silent)
		l.sees("c3", "10.2.2.1:"+port(), "from 10.1.1.1:")
		if got, err := ask("tcp", "127.0.0.1:"+port(), "hello", silence); err != nil || !strings.HasPrefix(got, "from 10.1.1.1:") {
			t.Errorf("by the loopback: %q, %v", got, err)
		}
	}
	works()
	l.sw.signal(unix.SIGKILL)
	l.sw.wait()
	l.plugin.errs.forget()
	l.sw = b.up("--ephemeral")
	l.plugin.errs.await(t, "the switch is there")
	works()
	l.docker("restart", "-t", "0", "web")
	l.listens("web")
	works()
	l.docker("rm", "-f", "web", "c1", "c3")
	l.docker("network", "rm", "red", "blue")
	l.clean()
}
