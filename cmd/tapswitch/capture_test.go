package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/capture"
)

// watch starts a capture and returns when it has begun.
func (b *bench) watch(args ...string) *proc {
	b.t.Helper()
	p := b.start(append([]string{"capture"}, args...)...)
	p.errs.await(b.t, "capturing")
	return p
}

// recorded are the packets of a file.
func recorded(t *testing.T, from io.Reader) (all []capture.Packet, r *capture.Reader) {
	t.Helper()
	r = capture.NewReader(from)
	for {
		p, err := r.Next()
		if err == io.EOF {
			return all, r
		}
		if err != nil {
			t.Fatalf("after %d packets: %v", len(all), err)
		}
		x := *p
		x.Data = bytes.Clone(p.Data)
		all = append(all, x)
	}
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A capture says what became of each packet, to as many as ask, each with a
// filter of its own, and goes on when one has gone.
func TestCapture(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	file := filepath.Join(b.dir, "all.pcapng")
	all := b.watch("-w", file, "-s", "0")
	text, drops, one, few := b.watch("-n", "tcp port 80 or udp port 80"), b.watch("-n", "--drops"), b.watch("-n", "-i", "c3"), b.watch("-c", "2", "-i", "c1", "udp")
	named, out := b.watch("-e", "-v", "-X", "host c2 and tcp"), b.watch("-n", "-Q", "out", "icmp")
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	b.ok("exec", "c1", prog, "ping", "172.17.0.1")
	if l := text.line(); !strings.Contains(l, "c1:eth0 > IP 172.17.0.2.") || !strings.Contains(l, "> 172.17.0.3.80: UDP, length 5") || !strings.Contains(l, "| forwarded to c2:eth0") {
		t.Errorf("the first line is %q", l)
	}
	text.expect("Flags [S]")
	text.expect("c3:eth0 > IP 172.18.0.2.")
	if l := drops.line(); !strings.Contains(l, "c3:eth0 > IP 172.18.0.2.") || !strings.Contains(l, "dropped: isolated") {
		t.Errorf("drops begin with %q", l)
	}
	if l := one.line(); !strings.Contains(l, "c3:eth0") {
		t.Errorf("c3 alone begins with %q", l)
	}
	if l := named.line(); !strings.Contains(l, " > 02:42:ac:11:00:03, ethertype IPv4 (0x0800), length 74: (tos 0x0, ttl 64, id ") {
		t.Errorf("with -e and -v the first line is %q", l)
	}
	if l := named.line(); !strings.HasPrefix(l, "    c1.bridge.") || !strings.Contains(l, "> c2.bridge.80: Flags [S], cksum 0x") {
		t.Errorf("the second is %q", l)
	}
	if l := named.line(); !strings.HasPrefix(l, "\t0x0000:  4500 003c ") {
		t.Errorf("and the third %q", l)
	}
	if l := out.line(); !strings.Contains(l, "c1:eth0 < IP 172.17.0.1 > 172.17.0.2: ICMP echo reply") {
		t.Errorf("what is sent to containers begins with %q", l)
	}
	if code := few.wait(); code != 0 || !strings.Contains(few.errs.String(), "2 packets captured, 0 missed") {
		t.Errorf("two packets: exit code %d: %s", code, few.errs)
	}
	for _, p := range []*proc{text, drops, one, all, named, out} {
		p.cmd.Process.Signal(unix.SIGINT)
		if code := p.wait(); code != 0 {
			t.Errorf("%v ends with %d: %s", p.cmd.Args, code, p.errs)
		}
	}
	fates := map[string]int{}
	packets, r := recorded(t, openFile(t, file))
	for _, p := range packets {
		fate, _, _ := strings.Cut(p.Comment, ":")
		fates[r.Interfaces[p.Interface]+" "+fate]++
	}
	for _, want := range []string{"c1:eth0 forwarded to c2", "c2:eth0 forwarded to c1", "c3:eth0 dropped", "c1:eth0 answered by the gateway", "c1:eth0 from the gateway"} {
		if fates[want] == 0 {
			t.Errorf("nothing was %s: %v", want, fates)
		}
	}
	if !strings.Contains(strings.Join(r.Interfaces, " "), "plain:eth0") || r.Names[netip.MustParseAddr("172.17.0.3")] != "c2.bridge" {
		t.Errorf("interfaces: %v, names: %v", r.Interfaces, r.Names)
	}
	list := b.ok("capture", "-D")
	if !strings.Contains(list, "bridge2\tnetwork 172.18.0.0/16") || !strings.Contains(list, "c1:eth0\tbridge 172.17.0.2") {
		t.Errorf("what can be watched: %s", list)
	}
	b.fails(2, []string{"this is no port", "^"}, "capture", "port", "x")
	b.fails(2, []string{"-w FILE"}, "capture", "-C", "1")
	b.fails(2, []string{"in or out"}, "capture", "-Q", "up")
	b.fails(3, []string{"nosuch"}, "capture", "-i", "nosuch")
	b.fails(3, []string{"c1:eth7"}, "capture", "-i", "c1:eth7")
	b.fails(1, []string{"no container of that name", "^"}, "capture", "host", "nosuch")
	b.fails(1, []string{"the past is not kept", "capture_ring: "}, "capture", "--last", "60s")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:") // with nobody watching
}

// Where a flow of the gateway carries it, a packet says that with both its sides,
// in either direction; a frame is seen where it leaves the switch, too, and
// super-frames are cut.
func TestCaptureFlows(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	l := b.start("run", "--rm", "--name", "pub", "-p", "127.0.0.1:0:80", "--", prog, "serve", "80")
	l.expect("listening")
	gate := b.watch("-n", "-i", "pub", "tcp")
	exits := b.watch("-n", "--exits", "host c1 and host c2 and tcp[tcpflags] & tcp-syn != 0")
	file := filepath.Join(b.dir, "split.pcapng")
	split := b.watch("-w", file, "-s", "100", "--split", "tcp port 80 and host c2")
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port("pub", "tcp", 80)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := gate.line(); !strings.Contains(p, "pub:eth0 < ") || !strings.Contains(p, "| from the gateway: tcp ") || !strings.Contains(p, "127.0.0.1:") || strings.Contains(p, "invalid") {
		t.Errorf("to a published port: %q", p)
	}
	if p := gate.line(); !strings.Contains(p, "pub:eth0 > ") || !strings.Contains(p, "| to the host: tcp ") {
		t.Errorf("and back: %q", p)
	}
	b.ok("exec", "c1", "--", prog, "bulk", "172.17.0.3:80", "300000")
	if p := exits.expect("c2:eth0 < IP 172.17.0.2."); !strings.Contains(p, "Flags [S]") || !strings.Contains(p, "| from c1:eth0") {
		t.Errorf("where it leaves: %q", p)
	}
	eventually(t, "200 packets are in the file", func() bool { i, err := os.Stat(file); return err == nil && i.Size() > 200*100 })
	split.cmd.Process.Signal(unix.SIGINT)
	split.wait()
	packets, _ := recorded(t, openFile(t, file))
	bulk := 0
	for _, p := range packets {
		if p.Length > 1514 || len(p.Data) > 100 || strings.Contains(p.Comment, "missed") {
			t.Errorf("a packet of %d bytes, %d of them there", p.Length, len(p.Data))
		}
		if p.Length == 1514 {
			bulk++
		}
	}
	if bulk < 200 {
		t.Errorf("%d full frames of 300,000 bytes", bulk)
	}
}

// Whose a packet is, is told where it can be known: of a server it can.
func TestCaptureProcess(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	p := b.watch("-n", "-i", "c2", "-Q", "in", "tcp")
	name := filepath.Base(prog)
	eventually(t, "the server to be named", func() bool {
		b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
		l := p.line()
		for len(p.lines) > 0 {
			l += p.line()
		}
		return strings.Contains(l, "| forwarded to c1:eth0; by "+name[:min(len(name), 15)]+"[")
	})
}

// The headers of the last moments are there afterwards, with fates, within the
// filter and the time that are asked for; a reload begins and ends it.
func TestCapturePast(t *testing.T) {
	b := newBench(t)
	config := b.write("c.yaml", "capture_ring: 1mb\n"+twoBridges)
	b.up("--ephemeral", "-c", config)
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	var got string
	eventually(t, "the past to be kept", func() bool {
		got = b.ok("capture", "-n", "--last", "60s", "tcp")
		return strings.Contains(got, "dropped")
	})
	for _, want := range []string{"c1:eth0 > IP 172.17.0.2.", "Flags [S]", "| forwarded to c2:eth0", "c3:eth0 > IP 172.18.0.2.", "| dropped: isolated"} {
		if !strings.Contains(got, want) {
			t.Errorf("the past lacks %q:\n%s", want, got)
		}
	}
	if got = b.ok("capture", "-n", "--last", "60s", "--drops"); strings.Contains(got, "forwarded") || !strings.Contains(got, "isolated") {
		t.Errorf("drops of the past:\n%s", got)
	}
	if got = b.ok("capture", "-n", "--last", "1ns"); got != "" {
		t.Errorf("of no time: %s", got)
	}
	b.fails(2, []string{"--split"}, "capture", "--last", "1s", "--split")
	b.write("c.yaml", twoBridges)
	b.ok("reload")
	b.fails(1, []string{"the past is not kept"}, "capture", "--last", "60s")
}

// Who does not read holds up nobody: traffic goes on, and the file says what it
// misses. A full disk and a closed pipe end the capture alone.
func TestCaptureSlowReader(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := b.cmd("capture", "-w", "-", "-s", "0", "tcp port 80")
	log := newLineLog()
	c.Stdout, c.Stderr = w, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	t.Cleanup(func() { c.Process.Kill(); <-ended })
	log.await(t, "capturing")
	b.ok("exec", "c1", "--", prog, "bulk", "172.17.0.3:80", "40000000")
	if full := b.start("capture", "-w", "/dev/full", "arp or udp"); true {
		full.errs.await(t, "capturing")
		b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
		if code := full.wait(); code != 1 || !strings.Contains(full.errs.String(), "no space left") {
			t.Errorf("on a full disk: exit code %d: %s", code, full.errs)
		}
	}
	from := capture.NewReader(r)
	for from.Missed == 0 {
		if err := from.Skip(); err != nil {
			t.Fatalf("none was missed: %v", err)
		}
	}
	r.Close()
	select {
	case <-ended: // with the pipe, without another packet
	case <-time.After(patience):
		t.Error("it goes on without a reader")
	}
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
}

// A capture goes over to the next file when one is full; each is one by itself,
// and no more are kept than is asked for.
func TestCaptureRotation(t *testing.T) {
	for _, tt := range []struct {
		files int
		want  []string
	}{{0, []string{"x", "x1", "x2", "x3"}}, {3, []string{"x0", "x1", "x2"}}, {11, []string{"x00", "x01", "x02", "x03"}}} {
		var whole bytes.Buffer
		w := capture.NewWriter(&whole, "test", 500)
		w.Interface(capture.Interface{Name: "web:eth0"})
		for i := range 40 {
			if i == 20 {
				w.Interface(capture.Interface{Name: "late:eth0"})
			}
			w.Packet(&capture.Packet{Interface: i / 20, Time: time.Unix(int64(i), 0), Length: 200, Data: make([]byte, 200)})
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r := &rotation{name: filepath.Join(dir, "x"), limit: 3000, files: tt.files}
		if err := r.next(nil); err != nil {
			t.Fatal(err)
		}
		var f captureFlags
		if err := f.copyBlocks(&whole, r); err != nil {
			t.Fatal(err)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		total := 0
		var names []string
		list, _ := os.ReadDir(dir)
		for _, e := range list {
			names = append(names, e.Name())
			packets, _ := recorded(t, openFile(t, filepath.Join(dir, e.Name())))
			total += len(packets)
			if st, _ := e.Info(); st.Size() > 3000 || len(packets) == 0 {
				t.Errorf("%s has %d bytes, %d packets", e.Name(), st.Size(), len(packets))
			}
		}
		if fmt.Sprint(names) != fmt.Sprint(tt.want) || tt.files != 3 && total != 40 {
			t.Errorf("-W %d: files %v with %d packets, want %v", tt.files, names, total, tt.want)
		}
	}
}

// What Wireshark asks of its extcap programs is answered, also when no switch
// runs.
func TestExtcap(t *testing.T) {
	b := newBench(t)
	ask := func(args ...string) (string, string, int) {
		c := b.cmd(args...)
		c.Args[0] = ExtcapName
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		_ = c.Run()
		return out.String(), errs.String(), c.ProcessState.ExitCode()
	}
	if out, errs, code := ask("--extcap-interfaces", "--extcap-version=4.0"); code != 0 || strings.Contains(out, "interface {") || !strings.HasPrefix(out, "extcap {version=") || !strings.Contains(errs, "no switch is running") {
		t.Errorf("without a switch: exit code %d: %s%s", code, out, errs)
	}
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	out, errs, code := ask("--extcap-interfaces")
	for _, want := range []string{"interface {value=tapswitch}{display=tapswitch, all containers}\n", "interface {value=tapswitch:bridge2}{", "interface {value=tapswitch:c1:eth0}{display=tapswitch, bridge 172.17.0.2"} {
		if code != 0 || errs != "" || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q: %s%s", code, want, out, errs)
		}
	}
	if out, _, code := ask("--extcap-interface", "tapswitch:c1:eth0", "--extcap-dlts"); code != 0 || out != "dlt {number=1}{name=EN10MB}{display=Ethernet}\n" {
		t.Errorf("link types: %s", out)
	}
	if out, _, code := ask("--extcap-interface", "tapswitch", "--extcap-config"); code != 0 || !strings.Contains(out, "arg {number=0}{call=--drops}{display=Drops only}{type=boolflag}") {
		t.Errorf("options: %s", out)
	}
	if out, _, code := ask("--extcap-interface", "tapswitch", "--extcap-capture-filter", "tcp port 80"); code != 0 || out != "" {
		t.Errorf("a good filter: %q", out)
	}
	if out, _, code := ask("--extcap-interface", "tapswitch", "--extcap-capture-filter", "tcp prt 80"); code != 0 || !strings.Contains(out, "\n      ^") {
		t.Errorf("a bad one: %q", out)
	}
	if _, errs, code := ask("--capture", "--extcap-interface", "tapswitch:nosuch", "--fifo", "/dev/null"); code == 0 || !strings.Contains(errs, "nosuch") {
		t.Errorf("of nobody: exit code %d: %s", code, errs)
	}
	if _, errs, code := ask("run"); code == 0 || !strings.Contains(errs, "for Wireshark to call") {
		t.Errorf("by hand: exit code %d: %s", code, errs)
	}
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	c := b.cmd("--capture", "--extcap-interface", "tapswitch:c3:eth0", "--fifo", fifo, "--drops", "--extcap-capture-filter", "tcp")
	c.Args[0] = ExtcapName
	p := startProc(t, c)
	f, err := os.OpenFile(fifo, os.O_RDONLY, 0) // when it has been opened, too
	if err != nil {
		t.Fatal(err)
	}
	r := capture.NewReader(f)
	for len(r.Interfaces) == 0 { // until it has begun
		if err := r.Skip(); err != nil {
			t.Fatal(err)
		}
	}
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	if x, err := r.Next(); err != nil || !strings.HasPrefix(x.Comment, "dropped: isolated") {
		t.Errorf("captured: %+v, %v", x, err)
	}
	f.Close()
	if code := p.wait(); code != 0 {
		t.Errorf("without a reader it ends with %d: %s", code, p.errs)
	}
}
