package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/slirp"
	"tapswitch/switch/ns"
)

// slirpProc is tapswitch called as slirp4netns by a caller that gives it nothing
// but pipes: no environment, no place to write.
type slirpProc struct {
	*proc
	exit  *os.File // closing it is the end
	ready *os.File
	api   string
}

// startSlirp starts it; descriptors 3 and 4 are the exit and the ready pipe, files
// come behind.
func startSlirp(t *testing.T, files []*os.File, args ...string) *slirpProc {
	t.Helper()
	need(t)
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exitR, exitW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &slirpProc{exit: exitW, ready: readyR, api: dir + "/api"}
	c := exec.Command(prog)
	c.Args, c.Dir = append([]string{slirp.Name, "-e", "3", "-r", "4", "--api-socket=" + s.api}, args...), "/"
	c.Env = []string{"GORACE=atexit_sleep_ms=0 log_path=" + dir + "/race"}
	c.ExtraFiles = append([]*os.File{exitR, readyW}, files...)
	s.proc = startProc(t, c)
	exitR.Close()
	readyW.Close()
	t.Cleanup(func() {
		exitW.Close()
		readyR.Close()
	})
	return s
}

// newSlirp returns when it is ready.
func newSlirp(t *testing.T, files []*os.File, args ...string) *slirpProc {
	t.Helper()
	s := startSlirp(t, files, args...)
	if b, err := io.ReadAll(s.ready); string(b) != "1" {
		t.Fatalf("not ready (%q, %v):\n%s", b, err, s.errs)
	}
	return s
}

// call sends a request to the API and decodes the answer.
func (s *slirpProc) call(request string) (answer map[string]any) {
	s.t.Helper()
	c, err := net.Dial("unix", s.api)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		s.t.Fatal(err)
	}
	_ = c.(*net.UnixConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		s.t.Fatalf("%s: %q", request, b)
	}
	return answer
}

// forward publishes a port and returns its id.
func (s *slirpProc) forward(arguments string) int {
	s.t.Helper()
	a := s.call(`{"execute":"add_hostfwd","arguments":{` + arguments + `}}`)
	r, _ := a["return"].(map[string]any)
	id, _ := r["id"].(float64)
	if id == 0 {
		s.t.Fatalf("add_hostfwd {%s}: %v\n%s", arguments, a, s.errs)
	}
	return int(id)
}

// server is a program of ours in a namespace of its own, which serves port 80.
func server(t *testing.T) *proc {
	t.Helper()
	c := exec.Command(prog, "serve", "80")
	c.SysProcAttr = ownNamespaces()
	p := startProc(t, c)
	p.expect("listening")
	return p
}

// inside runs a program of ours in a stranger's namespaces.
func (p *proc) inside(args ...string) result {
	p.t.Helper()
	user, err := os.Open("/proc/" + itoa(p.cmd.Process.Pid) + "/ns/user")
	if err != nil {
		p.t.Fatal(err)
	}
	defer user.Close()
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		p.t.Fatal(err)
	}
	defer null.Close()
	pid, err := ns.SpawnIn(int(user.Fd()), prog, append([]string{prog, "within", p.netns()}, args...), os.Environ(), []int{int(null.Fd()), int(w.Fd()), int(w.Fd())})
	w.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		p.t.Fatal(err)
	}
	return result{code: ws.ExitStatus(), out: strings.TrimSuffix(string(out), "\n")}
}

// freePort is a port of the host's that nobody has.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// hostServer greets who connects to the host's loopback.
func hostServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "the host")
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// answers says that a host's address leads to a server of ours that sees from.
func answers(t *testing.T, network, addr, from string) {
	t.Helper()
	if got, err := ask(network, addr, "hello", silence); err != nil || !strings.HasPrefix(got, "from "+from+":") && !strings.HasPrefix(got, "from ["+from+"]:") {
		t.Errorf("%s %s: %q (%v), want it to come from %s", network, addr, got, err, from)
	}
}

// All that a container of slirp4netns has, from a bare process: addresses, ways
// out and in, names; and its end leaves nothing.
func TestSlirp(t *testing.T) {
	guest := server(t)
	s := newSlirp(t, nil, "-c6", "--mtu=65520", itoa(guest.cmd.Process.Pid), "tap0")
	family := pidfds(t, family(s.cmd.Process.Pid))
	if len(family) != 2 {
		t.Errorf("%d processes, want the caller's and the worker", len(family))
	}
	s.expect("Starting slirp")
	s.expect("* Recommended IP:  10.0.2.100")
	var seen shown
	if r := guest.inside("show"); json.Unmarshal([]byte(r.out), &seen) != nil {
		t.Fatalf("show: %+v", r)
	}
	if got := strings.Join(seen.Ifaces["tap0"], " "); !strings.HasPrefix(got, "10.0.2.100/24 fd00::") {
		t.Errorf("tap0 has %s", got)
	}
	port := hostServer(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"ask", "tcp", "10.0.2.2:" + port}, "the host"},
		{[]string{"ask", "tcp", "10.0.2.3:" + port}, refused},
		{[]string{"lookup", "guest", "10.0.2.3"}, "10.0.2.100 fd00::"},
		{[]string{"lookup", "guest", "fd00::3"}, "10.0.2.100 fd00::"},
		{[]string{"lookup", "10.0.2.100", "10.0.2.3"}, "guest.slirp"},
	} {
		r := guest.inside(c.args...)
		if c.want == refused && r.code == askRefused {
			continue
		}
		if r.code != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("%v: %+v, want %q", c.args, r, c.want)
		}
	}
	p1, p2, p3 := freePort(t), freePort(t), freePort(t)
	if id := s.forward(fmt.Sprintf(`"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_addr":"10.0.2.100","guest_port":80`, p1)); id != 1 {
		t.Errorf("the first id is %d", id)
	}
	if id := s.forward(fmt.Sprintf(`"proto":"udp","host_port":%d,"guest_port":80`, p2)); id != 2 {
		t.Errorf("the second id is %d", id)
	}
	s.forward(fmt.Sprintf(`"proto":"tcp6","host_addr":"::1","host_port":%d,"guest_port":80`, p3))
	answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", p1), "10.0.2.2")
	answers(t, "udp", fmt.Sprintf("127.0.0.1:%d", p2), "10.0.2.2")
	answers(t, "tcp", fmt.Sprintf("[::1]:%d", p3), "fd00::2")
	if a := s.call(fmt.Sprintf(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%s,"guest_port":80}}`, port)); !strings.Contains(fmt.Sprint(a), "bad request: add_hostfwd: slirp_add_hostfwd failed") {
		t.Errorf("a port that somebody has: %v", a)
	}
	list := s.call(`{"execute":"list_hostfwd"}`)
	entries, _ := list["entries"].([]any)
	inner, _ := list["return"].(map[string]any)
	if len(entries) != 3 || fmt.Sprint(inner["entries"]) != fmt.Sprint(entries) {
		t.Errorf("list: %v", list)
	}
	want := map[string]any{"id": 1., "proto": "tcp", "host_addr": "127.0.0.1", "host_port": float64(p1), "guest_addr": "10.0.2.100", "guest_port": 80.}
	if len(entries) > 0 && fmt.Sprint(entries[0]) != fmt.Sprint(want) {
		t.Errorf("the first entry is %v, want %v", entries[0], want)
	}
	for range 2 { // the second time there is none
		s.call(`{"execute":"remove_hostfwd","arguments":{"id":1}}`)
	}
	if _, err := ask("tcp", fmt.Sprintf("127.0.0.1:%d", p1), "hello", silence); err == nil {
		t.Error("a port answers that was taken back")
	}
	if id := s.forward(fmt.Sprintf(`"proto":"tcp","host_port":%d,"guest_port":80`, p1)); id != 4 {
		t.Errorf("the next id is %d: one came back", id)
	}
	s.exit.Close()
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
	if !strings.Contains(s.errs.String(), "exitfd event") {
		t.Errorf("it does not say why it ended:\n%s", s.errs)
	}
	if _, err := os.Lstat(s.api); err == nil {
		t.Error("the API socket is left")
	}
	for _, fd := range family {
		eventually(t, "the end of its processes", func() bool { return !alive(fd) })
	}
}

// A range of ports, to a guest at another address than the usual.
func TestSlirpRange(t *testing.T) {
	guest := server(t)
	s := newSlirp(t, nil, "-c", "--cidr=10.9.0.0/16", itoa(guest.cmd.Process.Pid), "tap0")
	first := freePort(t)
	for tries := 0; first > 60000 && tries < 100; tries++ {
		first = freePort(t)
	}
	a := s.call(fmt.Sprintf(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"host_port_end":%d,"guest_port":79}}`, first, first+1))
	if fmt.Sprint(a) != "map[return:map[id:1]]" {
		t.Skipf("two ports in a row are not free here: %v", a)
	}
	answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", first+1), "10.9.0.2")
	s.call(`{"execute":"remove_hostfwd","arguments":{"id":1}}`)
	s.forward(fmt.Sprintf(`"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_port":80`, first+1))
	answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", first+1), "10.9.0.2")
}

// What is closed is refused, at once.
func TestSlirpClosed(t *testing.T) {
	guest := stranger(t)
	newSlirp(t, nil, "-c", "--disable-host-loopback", "--disable-dns", "--macaddress=02:12:34:56:78:9a", "--netns-type=path", "--userns-path=/proc/"+itoa(guest.cmd.Process.Pid)+"/ns/user", guest.netns(), "tap7")
	for _, to := range []string{"10.0.2.2:" + hostServer(t), "10.0.2.3:53"} {
		if r := guest.inside("ask", "tcp", to); r.code != askRefused {
			t.Errorf("tcp %s: %+v", to, r)
		}
		if r := guest.inside("ask", "udp", to, "hello"); r.code != askRefused {
			t.Errorf("udp %s: %+v", to, r)
		}
	}
	if r := guest.inside("show"); !strings.Contains(r.out, "02:12:34:56:78:9a") || !strings.Contains(r.out, "tap7") {
		t.Errorf("its interface: %s", r.out)
	}
}

// A signal ends it as it ends any process, and the worker with it, be there time
// for a last word or not.
func TestSlirpEnds(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		guest := stranger(t)
		s := newSlirp(t, nil, "-c", itoa(guest.cmd.Process.Pid), "tap0")
		family := pidfds(t, family(s.cmd.Process.Pid))
		s.signal(sig)
		s.wait()
		if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
			t.Errorf("%v: it ended with %v", sig, s.cmd.ProcessState)
		}
		for _, fd := range family {
			eventually(t, "the end of its processes", func() bool { return !alive(fd) })
		}
		if _, err := os.Lstat(s.api); (err == nil) != (sig == unix.SIGKILL) {
			t.Errorf("%v: the API socket: %v", sig, err)
		}
		// The next one finds its way, whatever was left.
		again := newSlirp(t, nil, "-c", "-a", s.api, itoa(stranger(t).cmd.Process.Pid), "tap0")
		again.api = s.api
		again.call(`{"execute":"list_hostfwd"}`)
	}
}

// Where it cannot begin it says why, and the caller's pipe is closed without a
// word.
func TestSlirpFails(t *testing.T) {
	guest := stranger(t)
	newSlirp(t, nil, "-c", itoa(guest.cmd.Process.Pid), "tap0")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"2147483647", "tap0"}, "does not exist"},
		{[]string{itoa(guest.cmd.Process.Pid), "tap0"}, "another program has it open"},
		{[]string{itoa(guest.cmd.Process.Pid), "lo"}, "no TAP"},
		{[]string{itoa(guest.cmd.Process.Pid), "far-too-long-a-name"}, "1 to 15 characters"},
		{[]string{"--netns-type=path", "/dev/null", "tap0"}, "ordinary file"},
		{[]string{"--netns-type=path", "--userns-path=/proc/self/ns/net", guest.netns(), "tap1"}, "not a user namespace"},
		{[]string{"--netns-type=tapfd", "0"}, "TAP"},
		{[]string{"--api-socket=/nowhere/api", itoa(guest.cmd.Process.Pid), "tap2"}, "API socket"},
		{[]string{"--api-socket=" + strings.Repeat("x", 108), itoa(guest.cmd.Process.Pid), "tap3"}, "too long (>= 108)"},
	} {
		s := startSlirp(t, nil, c.args...)
		if b, _ := io.ReadAll(s.ready); len(b) != 0 {
			t.Errorf("%v: ready", c.args)
		}
		if code := s.wait(); code != 1 {
			t.Errorf("%v: exit code %d", c.args, code)
		}
		s.errs.await(t, c.want)
	}
}

// A TAP that somebody else has made and set up: by its descriptor, and by its
// name, persistent, as RootlessKit has it.
func TestSlirpForeignTAP(t *testing.T) {
	for _, how := range []string{"tapfd", "persistent"} {
		t.Run(how, func(t *testing.T) {
			guest := server(t)
			h, err := ns.OfPID(guest.cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			in, err := h.Enter()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			fd, err := in.CreateTAP("tap0", false)
			if err != nil {
				t.Fatal(err)
			}
			mac, err := ns.MACOf(fd)
			if err != nil {
				t.Fatal(err)
			}
			tap := os.NewFile(uintptr(fd), "tap0")
			defer tap.Close()
			if err := in.Configure(ns.Interface{Name: "tap0", MAC: mac, MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.2.100/24")}, Gateway: netip.MustParseAddr("10.0.2.2")}); err != nil {
				t.Fatal(err)
			}
			var s *slirpProc
			if how == "tapfd" {
				s = newSlirp(t, []*os.File{tap}, "--netns-type=tapfd", "5")
			} else {
				if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
					t.Fatal(err)
				}
				tap.Close()
				s = newSlirp(t, nil, itoa(guest.cmd.Process.Pid), "tap0")
			}
			port := freePort(t)
			s.forward(fmt.Sprintf(`"proto":"tcp","host_port":%d,"guest_port":80`, port))
			answers(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port), "10.0.2.2")
			if r := guest.inside("ask", "tcp", "10.0.2.2:"+hostServer(t)); r.out != "the host" {
				t.Errorf("to the host: %+v", r)
			}
		})
	}
}

// A virtual machine at a socket: it finds the gateway, is given an address, and
// its end is the program's.
func TestSlirpBess(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/s"
	s := startSlirp(t, nil, "--target-type=bess", path)
	s.errs.await(t, "Waiting for connection")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	vm := os.NewFile(uintptr(fd), "vm")
	defer vm.Close()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(s.ready); string(b) != "1" {
		t.Fatalf("not ready:\n%s", s.errs)
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x42}
	all := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	send := func(ls ...gopacket.SerializableLayer) gopacket.Packet {
		t.Helper()
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
			t.Fatal(err)
		}
		if _, err := vm.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		tv := unix.NsecToTimeval(int64(patience))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		in := make([]byte, 65536)
		n, err := unix.Read(fd, in)
		if err != nil {
			t.Fatalf("no answer: %v\n%s", err, s.errs)
		}
		return gopacket.NewPacket(in[:n], layers.LayerTypeEthernet, gopacket.Default)
	}
	q, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero.To4(), DstIP: net.IPv4bcast.To4()}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	_ = udp.SetNetworkLayerForChecksum(ip)
	answer := send(&layers.Ethernet{SrcMAC: mac, DstMAC: all, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(q.ToBytes()))
	if answer.TransportLayer() == nil {
		t.Fatalf("answered: %v", answer)
	}
	offer, err := dhcpv4.FromBytes(answer.TransportLayer().LayerPayload())
	if err != nil || offer.YourIPAddr.String() != "10.0.2.15" || offer.DNS()[0].String() != "10.0.2.3" {
		t.Fatalf("offered: %v, %v", offer, err)
	}
	own := net.IPv4(10, 0, 2, 15).To4()
	answer = send(&layers.Ethernet{SrcMAC: mac, DstMAC: all, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac, SourceProtAddress: own, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 0, 2, 2}})
	arp, ok := answer.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || arp.Operation != layers.ARPReply {
		t.Fatalf("answered: %v", answer)
	}
	// What is published leads to where it was heard.
	port := freePort(t)
	s.forward(fmt.Sprintf(`"proto":"udp","host_port":%d,"guest_addr":"10.0.2.15","guest_port":7`, port))
	u, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	fmt.Fprint(u, "hello")
	in := make([]byte, 65536)
	n, err := unix.Read(fd, in)
	if err != nil {
		t.Fatal(err)
	}
	got := gopacket.NewPacket(in[:n], layers.LayerTypeEthernet, gopacket.Default)
	eth, datagram := got.LinkLayer().(*layers.Ethernet), got.TransportLayer()
	if eth.DstMAC.String() != mac.String() || datagram == nil || string(datagram.LayerPayload()) != "hello" || got.NetworkLayer().NetworkFlow().String() != "10.0.2.2->10.0.2.15" || binary.BigEndian.Uint16(datagram.LayerContents()[2:]) != 7 {
		t.Errorf("the guest gets %v", got)
	}
	vm.Close()
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
	for _, f := range []string{path, s.api} {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("%s is left", f)
		}
	}
}

// Somebody outside is seen as who he is, and sees the address that was asked for.
func TestSlirpOutbound(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.9/32", "2001:db8::9/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	far := startProc(t, l.far("serve", "80"))
	far.expect("listening")
	for _, c := range []struct {
		args        []string
		from, from6 string
	}{
		{[]string{"--outbound-addr=192.0.2.9", "--outbound-addr6=2001:db8::9"}, "192.0.2.9", "2001:db8::9"},
		{[]string{"--outbound-addr=up0", "--outbound-addr6=up0"}, "192.0.2.1", "2001:db8::"},
	} {
		guest := server(t)
		s := newSlirp(t, nil, append(c.args, "-c6", itoa(guest.cmd.Process.Pid), "tap0")...)
		for _, network := range []string{"tcp", "udp"} {
			for to, from := range map[string]string{"192.0.2.2:80": "from " + c.from + ":", "[2001:db8::2]:80": "from [" + c.from6} {
				if r := guest.inside("ask", network, to, "hello"); !strings.HasPrefix(r.out, from) {
					t.Errorf("%s %s: %+v, want %s", network, to, r, from)
				}
			}
		}
		if r := guest.inside("ask", "tcp", "10.0.2.2:"+hostServer(t)); r.out != "the host" {
			t.Errorf("the host's loopback, from another address: %+v", r)
		}
		// And in: the client's address is kept.
		s.forward(`"proto":"tcp","host_port":8080,"guest_port":80`)
		s.forward(`"proto":"udp","host_port":8080,"guest_port":80`)
		for _, network := range []string{"tcp", "udp"} {
			out, err := l.far("ask", network, "192.0.2.1:8080", "hello").Output()
			if err != nil || !strings.HasPrefix(string(out), "from 192.0.2.2:") {
				t.Errorf("%s from outside: %q, %v", network, out, err)
			}
		}
		s.exit.Close()
		s.wait()
	}
}

// A guest that configures itself: its address is its own to make.
func TestSlirpAutoconf(t *testing.T) {
	guest := server(t)
	s := newSlirp(t, nil, "-6", itoa(guest.cmd.Process.Pid), "tap0")
	h, err := ns.OfPID(guest.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	in, err := h.Enter()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Up("tap0"); err != nil {
		t.Fatal(err)
	}
	// The kernel sends a router solicitation, and takes a second to be sure.
	eventually(t, "an address of the prefix", func() bool {
		return strings.Contains(guest.inside("show").out, `"fd00::`)
	})
	port := freePort(t)
	s.forward(fmt.Sprintf(`"proto":"tcp","host_addr":"::1","host_port":%d,"guest_port":80`, port))
	for end := time.Now().Add(patience); ; {
		got, err := ask("tcp", fmt.Sprintf("[::1]:%d", port), "hello", silence)
		if err == nil && strings.HasPrefix(got, "from [fd00::2]:") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("by its own address: %q, %v", got, err)
		}
	}
}
