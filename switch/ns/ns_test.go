package ns

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// holder starts a process in fresh user and network namespaces of ours.
func holder(t *testing.T) *exec.Cmd {
	t.Helper()
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		skip(t, "no /dev/net/tun: "+err.Error())
	} else {
		f.Close()
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		skip(t, "no user namespaces: "+err.Error())
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return cmd
}

// skip leaves out a test that this machine cannot run; on CI that is a failure.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func TestEnterAndConfigure(t *testing.T) {
	cmd := holder(t)
	h, err := OfPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	in, err := h.Enter()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	fd, err := in.CreateTAP("eth0", true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	err = in.Configure(Interface{
		Name: "eth0", MTU: 1400, MAC: net.HardwareAddr{2, 0x42, 172, 17, 0, 2},
		Addrs:   []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16"), netip.MustParsePrefix("fd00:17::2/64")},
		Gateway: netip.MustParseAddr("172.17.0.1"), Gateway6: netip.MustParseAddr("fd00:17::1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/net/dev")
	if err != nil || !strings.Contains(string(dev), "eth0") {
		t.Fatalf("no eth0 in the namespace: %s %v", dev, err)
	}
	route, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/net/route")
	if !strings.Contains(string(route), "eth0\t00000000\t010011AC") {
		t.Errorf("no default route via 172.17.0.1:\n%s", route)
	}
	inet6, _ := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/net/if_inet6")
	if !strings.Contains(string(inet6), "fd000017000000000000000000000002") || strings.Count(string(inet6), "eth0") != 2 {
		t.Errorf("want the address and a link-local one on eth0:\n%s", inet6)
	}
	if _, err := (&Inside{Tun: -1}).CreateTAP("far-too-long-a-name", true); err == nil {
		t.Error("a long name was taken")
	}
	in2, err := h.Enter()
	if err != nil {
		t.Fatal(err)
	}
	defer in2.Close()
	if _, err := in2.CreateTAP("eth0", true); err == nil || !strings.Contains(err.Error(), "--ifname") {
		t.Errorf("second eth0: %v", err)
	}
}

func TestMoveReportsTheEnd(t *testing.T) {
	cmd := holder(t)
	h, err := OfPID(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := h.EnterHub()
	if err != nil {
		t.Fatal(err)
	}
	defer hub.Close()
	fd, err := hub.CreateTAP("eth0", true)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := hub.MoveTo("eth0", int(h.Net)); err != nil {
		t.Fatal(err)
	}
	h.Close()
	cmd.Process.Kill()
	cmd.Process.Wait()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 5000); n != 1 || p[0].Revents&unix.POLLERR == 0 {
		t.Fatalf("the TAP does not report the end of its namespace: %d %v %#x", n, err, p[0].Revents)
	}
}

func TestSpawnInKeepsFiles(t *testing.T) {
	cmd := holder(t)
	user, err := os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	r, w, _ := os.Pipe()
	defer r.Close()
	pid, err := SpawnIn(int(user.Fd()), "/bin/sh", []string{"sh", "-c", "readlink /proc/self/ns/user; id -u"}, os.Environ(), []int{int(w.Fd()), int(w.Fd()), 2})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	var out []byte
	for {
		n, err := r.Read(b)
		out = append(out, b[:n]...)
		if err != nil {
			break
		}
	}
	var ws unix.WaitStatus
	unix.Wait4(pid, &ws, 0, nil)
	want, _ := os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
	if got := strings.Fields(string(out)); len(got) != 2 || got[0] != want || got[1] != "0" {
		t.Fatalf("got %q, want %s and uid 0", out, want)
	}
	if _, err := SpawnIn(-1, "/no/such/program", []string{"x"}, nil, []int{0, 1, 2}); err == nil || !strings.Contains(err.Error(), "execute") {
		t.Errorf("error for a program that is not there: %v", err)
	}
}

func TestOfPathSaysWhatIsWrong(t *testing.T) {
	f := t.TempDir() + "/ns"
	os.WriteFile(f, nil, 0o600)
	if _, err := OfPath(f); err == nil || !strings.Contains(err.Error(), "--pid") {
		t.Errorf("ordinary file: %v", err)
	}
	if _, err := OfPath("/proc/self/ns/uts"); err == nil || !strings.Contains(err.Error(), "not a network namespace") {
		t.Errorf("another kind of namespace: %v", err)
	}
}
