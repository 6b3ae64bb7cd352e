package vswitch_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/ns"
)

// skip leaves out a test that this machine cannot run; on CI that is a failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// program is this test's binary in a user and network namespace of its own.
type program struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startContainer(t *testing.T) *program {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		skip(t, "no /dev/net/tun: "+err.Error())
	}
	f.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), containerVariable+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		skip(t, "no user namespaces: "+err.Error())
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &program{cmd, in, bufio.NewReader(out)}
}

// do lets the program obey and fails the test unless it says "ok".
func (p *program) do(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	fmt.Fprintln(p.in, line)
	answer, err := p.out.ReadString('\n')
	if err != nil || answer != "ok\n" {
		t.Fatalf("%s: %s%v", line, answer, err)
	}
}

// plug opens a TAP in the program's namespace.
func (p *program) plug(t *testing.T, offload bool, last byte) (*vswitch.TAP, vswitch.MAC, []netip.Addr) {
	t.Helper()
	h, err := ns.OfPID(p.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	in, err := h.Enter()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fd, err := in.CreateTAP("eth0", offload)
	if err != nil {
		t.Fatal(err)
	}
	mac := vswitch.MAC{0x02, 0x42, 172, 17, 0, last}
	a4, a6 := netip.AddrFrom4([4]byte{172, 17, 0, last}), netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x17, 15: last})
	err = in.Configure(ns.Interface{Name: "eth0", MTU: 1500, MAC: net.HardwareAddr(mac[:]), Offload: offload,
		Addrs: []netip.Prefix{netip.PrefixFrom(a4, 16), netip.PrefixFrom(a6, 64)}})
	if err != nil {
		unix.Close(fd)
		t.Fatal(err)
	}
	tap, err := vswitch.NewTAP(fd)
	if err != nil {
		t.Fatal(err)
	}
	return tap, mac, []netip.Addr{a4, a6}
}

// TestRealTAPs carries real traffic between two namespaces with and without
// offload. Where one side has none, the other kernel's verdict on each checksum
// and segment that was made in software is whether the data arrives.
func TestRealTAPs(t *testing.T) {
	for _, c := range []struct{ from, to bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(fmt.Sprintf("offload %t to %t", c.from, c.to), func(t *testing.T) {
			client, server := startContainer(t), startContainer(t)
			sw, err := vswitch.New(vswitch.Config{Logf: t.Logf})
			if err != nil {
				t.Fatal(err)
			}
			br := sw.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1500})
			var ports []*vswitch.Port
			for i, x := range []struct {
				p       *program
				offload bool
			}{{client, c.from}, {server, c.to}} {
				tap, mac, addrs := x.p.plug(t, x.offload, byte(2+i))
				p, err := sw.AddPort(vswitch.PortConfig{Name: []string{"client", "server"}[i], Device: tap, Bridge: br, MAC: mac, Addrs: addrs})
				if err != nil {
					t.Fatal(err)
				}
				ports = append(ports, p)
				if got := tap.Caps(); (got != 0) != x.offload {
					t.Errorf("offload %t, capabilities %d", x.offload, got)
				}
				t.Cleanup(func() { tap.Close() })
			}
			go sw.Run()
			t.Cleanup(sw.Close) // before the TAPs close
			server.do(t, "serve")
			// sends lets the client send and says how long its frames are.
			sends := func(format string, args ...any) (mean uint64) {
				t.Helper()
				var before, after vswitch.PortStats
				sw.Do(func() { before = ports[0].Stats })
				client.do(t, format, args...)
				sw.Do(func() { after = ports[0].Stats })
				return (after.TxBytes - before.TxBytes) / (after.TxFrames - before.TxFrames)
			}
			uso := ports[0].Device.Caps()&vswitch.CapUSO != 0 // Linux 6.2
			for _, to := range ports[1].Addrs {
				if mean := sends("tcp %s %d", to, 4<<20); c.from != (mean > 3*1500) {
					t.Errorf("TCP to %s: frames of %d bytes on average", to, mean)
				}
				if mean := sends("udp %s %d %d", to, 30_005, 1200); uso != (mean > 3*1500) {
					t.Errorf("UDP to %s: frames of %d bytes on average", to, mean)
				}
				sends("udp %s %d %d", to, 700, 1200)
			}
			sw.Do(func() {
				for _, p := range ports {
					for r, n := range p.Stats.Drops {
						if n != 0 {
							t.Errorf("%s: %d frames dropped as %s", p.Name, n, vswitch.Reason(r))
						}
					}
				}
				if p := ports[0]; p.Stats.Hits*10 < p.Stats.TxFrames*8 {
					t.Errorf("%d of %d frames hit the cache", p.Stats.Hits, p.Stats.TxFrames)
				}
			})
		})
	}
}

// TestNewTAPRefuses what is no TAP, and owns the descriptor nevertheless.
func TestNewTAPRefuses(t *testing.T) {
	fds := make([]int, 2)
	if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	if _, err := vswitch.NewTAP(fds[0]); err == nil || !strings.Contains(err.Error(), "no TAP device") {
		t.Errorf("a pipe: %v", err)
	}
	if err := unix.Close(fds[0]); err != unix.EBADF {
		t.Errorf("the refused descriptor was left open: %v", err)
	}
	if _, err := vswitch.NewTAP(-1); err == nil {
		t.Error("descriptor -1 was taken")
	}
}

func TestTAPClosesOnce(t *testing.T) {
	tap, _, _ := startContainer(t).plug(t, true, 2)
	fd := tap.FD()
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	if tap.Close() == nil || tap.FD() == fd {
		t.Error("closed twice: the number may be somebody else's by now")
	}
}

// longWrites counts frames of more than 64 KiB that a TAP is given.
type longWrites struct {
	*vswitch.TAP
	n atomic.Int64
}

func (l *longWrites) Write(b []byte) unix.Errno {
	if len(b) > vswitch.VnetLen+vswitch.MaxFrame {
		l.n.Add(1)
	}
	return l.TAP.Write(b)
}

// TestMergedFramesReachTheKernel: what was put together is, for the receiver's kernel,
// what was sent.
func TestMergedFramesReachTheKernel(t *testing.T) {
	client, server := startContainer(t), startContainer(t)
	sw, err := vswitch.New(vswitch.Config{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	br := sw.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1500})
	var to *longWrites
	var address netip.Addr
	var first *vswitch.Port
	for i, x := range []*program{client, server} {
		tap, mac, addrs := x.plug(t, true, byte(2+i))
		t.Cleanup(func() { tap.Close() })
		to, address = &longWrites{TAP: tap}, addrs[0]
		p, err := sw.AddPort(vswitch.PortConfig{Name: fmt.Sprint(i), Device: to, Bridge: br, MAC: mac, Addrs: addrs})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = p
		}
	}
	go sw.Run()
	t.Cleanup(sw.Close) // before the TAPs close
	if to.Caps()&vswitch.CapBig == 0 {
		t.Skip("this kernel takes no frames of more than 64 KiB (before 6.6)")
	}
	server.do(t, "serve")
	const size = 16 << 20
	sent := 0
	for i := 0; i < 50 && to.n.Load() == 0; i++ { // a switch that is quicker than its sender has nothing to put together
		client.do(t, "tcp %s %d", address, size)
		sent += size
	}
	if to.n.Load() == 0 {
		t.Error("nothing was merged")
	}
	var stats vswitch.PortStats
	sw.Do(func() { stats = first.Stats })
	if stats.TxBytes > uint64(sent+sent/20) {
		t.Errorf("%d bytes were sent for %d: the kernel did not take the %d long frames", stats.TxBytes, sent, to.n.Load())
	}
}
