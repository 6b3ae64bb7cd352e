//go:build interop

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/capture"
)

// TestInteropCapture: tcpdump reads a capture while it runs; its end ends us.
func TestInteropCapture(t *testing.T) {
	tools(t, "tcpdump")
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	pipe := b.cmd()
	if err := os.Symlink(prog, filepath.Join(b.dir, "tapswitch")); err != nil {
		t.Fatal(err)
	}
	pipe.Path, pipe.Args = "/bin/sh", []string{"sh", "-c", "./tapswitch capture -w - -i c1 tcp port 80 | tcpdump -n -l -c 3 -r -"}
	p := startProc(t, pipe)
	eventually(t, "the capture to begin", func() bool { return strings.Contains(p.errs.String(), "capturing") })
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	p.expect("> 172.17.0.3.80: Flags [S]")
	p.expect("172.17.0.3.80 > 172.17.0.2.")
	p.expect("> 172.17.0.3.80: Flags [.]")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:") // which finds tcpdump gone
	if code := p.wait(); code != 0 {
		t.Errorf("tcpdump ends with %d: %s", code, p.errs)
	}
}

// TestInteropPrint: our lines are tcpdump's, with the interface in front and the
// fate behind, of the same packets.
func TestInteropPrint(t *testing.T) {
	tools(t, "tcpdump")
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	file := filepath.Join(b.dir, "x.pcapng")
	all := b.watch("-w", file, "-s", "0")
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c1", "tcp", "172.17.0.3:81", itoa(askRefused))
	b.asks("c1", "udp", "[fd00:17::3]:80", "from [fd00:17::2]:")
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	b.ok("exec", "c1", prog, "ping", "172.17.0.1")
	b.ok("exec", "c1", prog, "ping", "fd00:17::1")
	all.signal(unix.SIGINT)
	all.wait()
	for _, flags := range [][]string{{}, {"-e"}, {"-X"}, {"-v"}} {
		f := openFile(t, file)
		var ours strings.Builder
		w := capture.Printer{Ether: slices.Contains(flags, "-e"), Verbose: slices.Contains(flags, "-v")}
		if slices.Contains(flags, "-X") {
			w.Hex = 1
		}
		packets, _ := recorded(t, f)
		only := ""
		if w.Verbose { // of ICMPv6 tcpdump then lists options, a line each
			only = "not icmp6 and not ip6 multicast"
		}
		filter, err := capture.ParseFilter(only, nil)
		if err != nil {
			t.Fatal(err)
		}
		packets = slices.DeleteFunc(packets, func(p capture.Packet) bool { return !filter.Match(p.Data, p.Length, p.Received) })
		for i := range packets {
			packets[i].Comment = ""
			line := w.Line("x", &packets[i])
			_, line, _ = strings.Cut(line, " x ")
			ours.WriteString(line[2:] + "\n")
		}
		want := output(t, "tcpdump", append(flags, "-n", "-t", "-r", file, "--", only)...)
		theirs := strings.Split(want[strings.IndexByte(want, '\n')+1:], "\n") // behind what it says of the file
		for i, line := range strings.Split(strings.TrimSuffix(ours.String(), "\n"), "\n") {
			// What we do not decode further, and options that only one of us names, are
			// passed over.
			if i >= len(theirs) || line != theirs[i] && !strings.Contains(line, "multicast listener") && !strings.Contains(line, "ICMP6, router") && !strings.Contains(line, ": HTTP") && !strings.Contains(line, "next-header Options") && !strings.Contains(theirs[min(i, len(theirs)-1)], "HBH") {
				t.Errorf("%v, line %d:\nours   %q\ntheirs %q", flags, i, line, theirs[min(i, len(theirs)-1)])
			}
		}
		if len(packets) < 15 {
			t.Errorf("%d packets", len(packets))
		}
	}
}

// TestInteropTshark: what is written shows its fates, names and interfaces in
// tshark, and captures by our extcap program go into it, as Wireshark's do.
func TestInteropTshark(t *testing.T) {
	tools(t, "tshark")
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	file := filepath.Join(b.dir, "x.pcapng")
	all := b.watch("-w", file)
	b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	b.asks("c3", "tcp", "172.17.0.3:80", silent)
	all.signal(unix.SIGINT)
	all.wait()
	read := func(filter string, args ...string) string {
		t.Helper()
		return output(t, "tshark", append([]string{"-r", file, "-Y", filter}, args...)...)
	}
	if got := read("tcp.flags.syn==1", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment"); !strings.Contains(got, "c3:eth0\tdropped: isolated: The destination belongs to another bridge.") {
		t.Errorf("a drop: %s", got)
	}
	if got := read("udp.dstport==80", "-T", "fields", "-e", "frame.interface_description", "-e", "frame.comment", "-e", "ip.dst_host", "-N", "n"); !strings.Contains(got, "c1:eth0 on bridge, 172.17.0.2") ||
		!strings.Contains(got, "forwarded to c2:eth0") || !strings.Contains(got, "c2.bridge") {
		t.Errorf("a datagram: %s", got)
	}
	for _, dir := range []string{"config/wireshark/extcap", "home/.local/lib/wireshark/extcap"} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(prog, filepath.Join(b.dir, dir, ExtcapName)); err != nil {
			t.Fatal(err)
		}
	}
	tshark := func(args ...string) *exec.Cmd {
		c := b.cmd()
		c.Path, _ = exec.LookPath("tshark")
		c.Args = append([]string{"tshark"}, args...)
		c.Env = append(c.Env, "HOME="+filepath.Join(b.dir, "home"))
		return c
	}
	list, err := tshark("-D").CombinedOutput()
	if err != nil || !strings.Contains(string(list), "tapswitch:c3:eth0 (tapswitch, bridge2 172.18.0.2") || !strings.Contains(string(list), "tapswitch:bridge (tapswitch, network 172.17.0.0/16") {
		t.Errorf("tshark -D: %v\n%s", err, list)
	}
	p := startProc(t, tshark("-i", "tapswitch:c1:eth0", "-f", "udp port 80", "-n", "-l", "-c", "2", "-T", "fields", "-e", "udp.dstport", "-e", "frame.comment"))
	p.errs.await(t, "Capture started")
	for len(p.lines) == 0 { // it says so before our program runs
		b.asks("c1", "udp", "172.17.0.3:80", "from 172.17.0.2:")
	}
	if l := p.line(); !strings.HasPrefix(l, "80\tforwarded to c2:eth0") {
		t.Errorf("live: %q", l)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("tshark ends with %d: %s", code, p.errs)
	}
}
