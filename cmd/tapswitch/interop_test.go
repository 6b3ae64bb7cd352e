//go:build interop

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Tests with programs of others, which must be installed:
//
//	go test -tags interop -run Interop ./cmd/tapswitch      as an ordinary user
//	go test -tags interop -run Root ./cmd/tapswitch         as root
//
// With -short the transfers are smaller.

// tools skips a test where programs are missing; on CI that is a failure.
func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			skip(t, n+" is not installed")
		}
	}
}

// output runs a program to its end and returns what it printed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// routed is a lab with a router in the way:
//
//	host 192.0.2.1, 2001:db8::1  ==  router 192.0.2.2, 198.51.100.254  ==  outside 198.51.100.2
//
// Its outside is one hop further away than the lab's; its namespace is beyond.
func routed(t *testing.T) (l *lab, beyond string) {
	t.Helper()
	tools(t, "ip", "nsenter")
	if l = newLab(t); l == nil {
		return nil, ""
	}
	holder := exec.Command("nsenter", "--net="+l.outside, "unshare", "-n", prog, "hold")
	p := startProc(t, holder)
	p.expect("holding")
	beyond = fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid)
	output(t, "nsenter", "--net="+l.outside, "sh", "-ec", fmt.Sprintf(`
		echo 1 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
		ip addr del 198.51.100.1/32 dev lo
		ip link add far0 type veth peer name up0 netns %d
		ip addr add 198.51.100.254/24 dev far0
		ip addr add 2001:db8:1::254/64 dev far0 nodad
		ip link set far0 up`, holder.Process.Pid))
	output(t, "nsenter", "--net="+beyond, "sh", "-ec", `
		ip link set lo up
		ip addr add 198.51.100.2/24 dev up0
		ip addr add 2001:db8:1::2/64 dev up0 nodad
		ip link set up0 up
		ip route add default via 198.51.100.254
		ip -6 route add default via 2001:db8:1::254`)
	return l, beyond
}

func TestInteropTools(t *testing.T) {
	tools(t, "ping", "traceroute", "dig", "curl", "nc", "busybox")
	l, beyond := routed(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges+`
  - {name: web, networks: [{name: bridge, ip: 172.17.0.80, ip6: "fd00:17::80"}], publish: ["8080:80"]}
`), "--ephemeral")
	in := func(c string, args ...string) string {
		t.Helper()
		return l.ok(append([]string{"exec", c, "--"}, args...)...)
	}
	for _, to := range []string{"172.17.0.3", "c2", "172.17.0.1", "192.0.2.2", "198.51.100.2", "fd00:17::3", "fd00:17::1", "2001:db8:1::2"} {
		if got := in("c1", "ping", "-c", "3", "-i", "0.01", "-W", "5", to); !strings.Contains(got, " 0% packet loss") {
			t.Errorf("ping %s:\n%s", to, got)
		}
	}
	if got := in("c1", "ping", "-c", "1", "-s", "8000", "-W", "5", "198.51.100.2"); !strings.Contains(got, "8008 bytes from 198.51.100.2") {
		t.Errorf("a large ping:\n%s", got)
	}
	traceroutes(t, in)

	// HTTP outwards, inwards, and between containers.
	site := t.TempDir()
	if err := os.WriteFile(site+"/index.html", []byte("it works\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(site, 0o755); err != nil {
		t.Fatal(err)
	}
	startProc(t, exec.Command("nsenter", "--net="+beyond, "busybox", "httpd", "-f", "-p", "80", "-h", site))
	l.start("exec", "web", "--", "busybox", "httpd", "-f", "-p", "80", "-h", site)
	const patient = "--retry-connrefused --retry 50 --retry-delay 0 --retry-max-time 30 -sS -m 30 "
	curl := func(url string) []string { return append([]string{"curl"}, strings.Fields(patient+url)...) }
	for _, url := range []string{"http://198.51.100.2/", "http://[2001:db8:1::2]/", "http://web/", "http://172.17.0.80/", "http://192.0.2.1:8080/"} {
		if got := in("c1", curl(url)...); got != "it works" {
			t.Errorf("curl %s: %s", url, got)
		}
	}
	if got := in("c3", curl("http://192.0.2.1:8080/")...); got != "it works" {
		t.Errorf("curl from the other bridge: %s", got)
	}
	for _, from := range [][]string{{"nsenter", "--net=" + beyond}, {"env"}} {
		for _, url := range []string{"http://192.0.2.1:8080/", "http://[2001:db8::1]:8080/"} {
			args := append(from, curl(url)...)
			if got := output(t, args[0], args[1:]...); got != "it works" {
				t.Errorf("%v: %s", args, got)
			}
		}
	}
	if got := output(t, "curl", curl("http://localhost:8080/")[1:]...); got != "it works" {
		t.Errorf("curl localhost:8080: %s", got)
	}

	for _, c := range []struct{ args, want string }{
		{"+short c2", "172.17.0.3"},
		{"+short +tcp c2", "172.17.0.3"},
		{"+short web AAAA", "fd00:17::80"},
		{"+short -x 172.17.0.3", "c2.bridge."},
		{"+short +tcp -x fd00:17::80", "web.bridge."},
	} {
		if got := in("c1", append([]string{"dig", "+time=5"}, strings.Fields(c.args)...)...); got != c.want {
			t.Errorf("dig %s: %s, want %s", c.args, got, c.want)
		}
	}
	if got := in("c3", "dig", "+time=5", "c2"); !strings.Contains(got, "NXDOMAIN") && !strings.Contains(got, "SERVFAIL") {
		t.Errorf("a name of the other bridge:\n%s", got)
	}
	listens := l.start("exec", "c2", "--", "nc", "-l", "-v", "-n", "-p", "7")
	listens.errs.await(t, "istening")
	if r := l.feed("by netcat\n", "exec", "-i", "c1", "--", "nc", "-N", "172.17.0.3", "7"); r.code != 0 {
		t.Errorf("nc: %+v", r)
	}
	listens.expect("by netcat")
}

var hop = regexp.MustCompile(`(?m)^ *(\d+)  (\S+)`)

// traceroutes looks for the gateway first, then each hop after it.
func traceroutes(t *testing.T, in func(c string, args ...string) string) {
	t.Helper()
	for _, c := range []struct{ how, to, want string }{
		{"-U", "198.51.100.2", "172.17.0.1 192.0.2.2 198.51.100.2"},
		{"-I", "198.51.100.2", "172.17.0.1 192.0.2.2 198.51.100.2"},
		{"-T", "198.51.100.2", "172.17.0.1 192.0.2.2 198.51.100.2"},
		{"-U", "2001:db8:1::2", "fd00:17::1 2001:db8::2 2001:db8:1::2"},
		{"-I", "2001:db8:1::2", "fd00:17::1 2001:db8::2 2001:db8:1::2"},
		{"-U", "172.17.0.3", "172.17.0.3"},
		{"-I", "172.17.0.1", "172.17.0.1"},
	} {
		text := in("c1", "traceroute", c.how, "-n", "-w", "2", "-q", "2", "-m", "6", c.to)
		var got []string
		for _, m := range hop.FindAllStringSubmatch(text, -1) {
			got = append(got, m[2])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("traceroute %s %s, want %s:\n%s", c.how, c.to, c.want, text)
		}
	}
}

// iperf3 in each direction over each path; the figures are for the reader.
func TestInteropIperf3(t *testing.T) {
	tools(t, "iperf3")
	l := newLab(t)
	if l == nil {
		return
	}
	l.up("-c", l.write("c.yaml", twoBridges+"  - {name: server, networks: [bridge], ip: 172.17.0.80, publish: [\"5201:5201\", \"5201:5201/udp\"]}\n"), "--ephemeral")
	seconds := "2"
	if testing.Short() {
		seconds = "1"
	}
	outside := startProc(t, exec.Command("nsenter", "--net="+l.outside, "iperf3", "-s", "--forceflush"))
	inside := startProc(t, l.cmd("exec", "server", "--", "iperf3", "-s", "--forceflush"))
	rate := regexp.MustCompile(`(?m)([\d.]+ [KMG]?bits/sec).*receiver`)
	for _, c := range []struct {
		name   string
		server *proc
		cmd    *exec.Cmd
	}{
		{"container to container", inside, l.cmd("exec", "c1", "--", "iperf3", "-c", "172.17.0.80")},
		{"container to outside", outside, l.cmd("exec", "c1", "--", "iperf3", "-c", "192.0.2.2")},
		{"outside to a published port", inside, exec.Command("nsenter", "--net="+l.outside, "iperf3", "-c", "192.0.2.1")},
		{"localhost to a published port", inside, exec.Command("iperf3", "-c", "127.0.0.1")},
	} {
		for _, how := range [][]string{nil, {"-R"}, {"--bidir"}, {"-P", "4"}, {"-u", "-b", "100M"}} {
			cmd := exec.Command(c.cmd.Path, append(append(c.cmd.Args[1:len(c.cmd.Args):len(c.cmd.Args)], "-t", seconds), how...)...)
			cmd.Args[0], cmd.Env = c.cmd.Args[0], c.cmd.Env
			c.server.expect("Server listening") // said before each test: it may still be ending the last one
			out, err := cmd.CombinedOutput()
			found := rate.FindAllStringSubmatch(string(out), -1)
			if err != nil || len(found) == 0 {
				t.Errorf("%s %v: %v\n%s", c.name, how, err, out)
				continue
			}
			t.Logf("%s %v: %s", c.name, how, found[len(found)-1][1])
		}
	}
}

// A whole gigabyte arrives as it was sent, in each direction.
func TestInteropDownload(t *testing.T) {
	tools(t, "curl", "sha256sum", "nsenter")
	l := newLab(t)
	if l == nil {
		return
	}
	size := "1073741824"
	if testing.Short() {
		size = "268435456"
	}
	l.up("-c", l.write("c.yaml", twoBridges+"  - {name: server, networks: [bridge], ip: 172.17.0.80, publish: [\"8080:80\"]}\n"), "--ephemeral")
	startProc(t, l.far("stream", "80")).expect("listening")
	l.start("exec", "server", "--", prog, "stream", "80").expect("listening")
	want := output(t, "sh", "-c", prog+" pattern "+size+" | sha256sum")
	fetch := func(host string) string {
		return "curl -sS -m 300 http://" + net.JoinHostPort(host, "80") + "/" + size + " | sha256sum"
	}
	for _, c := range []struct{ name, got string }{
		{"from outside", l.ok("exec", "c1", "--", "sh", "-c", fetch("192.0.2.2"))},
		{"from a container", l.ok("exec", "c1", "--", "sh", "-c", fetch("172.17.0.80"))},
		{"from a published port", output(t, "nsenter", "--net="+l.outside, "sh", "-c", strings.Replace(fetch("192.0.2.1"), ":80/", ":8080/", 1))},
		{"to outside", l.ok("exec", "c1", "--", "sh", "-c", prog+" pattern "+size+" | curl -sS -m 300 -T - http://192.0.2.2/")},
	} {
		if c.got != want {
			t.Errorf("%s: %s, want %s", c.name, c.got, want)
		}
	}
}
