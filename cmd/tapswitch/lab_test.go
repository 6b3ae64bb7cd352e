package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lab is a machine of the test's own, so that it has the addresses that a test
// needs and nothing else on it:
//
//	"host" namespace, where tapswitch runs        "outside" namespace
//	up0 192.0.2.1/24, 2001:db8::1/64  ==== veth ====  up0 192.0.2.2/24, 2001:db8::2/64
//	default routes to outside                         lo  198.51.100.1
//	203.0.113.0/24 unreachable
//
// Outside has no route to containers: it sees the host's address or nothing.
type lab struct {
	*bench
	outside string // its network namespace
}

const inLab = "TAPSWITCH_TEST_LAB"

// newLab runs the calling test once more, as uid 0 of a user namespace, and
// returns its lab there; out here it returns nil when that run is over.
func newLab(t *testing.T) *lab {
	t.Helper()
	need(t)
	if os.Getenv(inLab) == "" {
		t.Parallel() // a machine of its own; most of the time it waits for silence
		c := exec.Command(prog, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
		c.Env = append(os.Environ(), inLab+"=1")
		c.SysProcAttr = ownNamespaces()
		c.SysProcAttr.Pdeathsig = unix.SIGKILL
		text, err := c.CombinedOutput()
		t.Logf("in the lab:\n%s", text)
		if err != nil || !strings.Contains(string(text), "--- PASS: "+t.Name()) {
			t.Fatalf("the run in the lab failed: %v", err)
		}
		return nil
	}
	os.Unsetenv("XDG_RUNTIME_DIR")
	return furnish(t, newBench(t))
}

// furnish makes a lab of the namespace that we are in.
func furnish(t *testing.T, b *bench) *lab {
	t.Helper()
	l := &lab{bench: b}
	holder := exec.Command(prog, "hold")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	p := startProc(t, holder)
	p.expect("holding")
	l.outside = "/proc/" + strconv.Itoa(holder.Process.Pid) + "/ns/net"
	far, err := netns.GetFromPath(l.outside)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up0", PeerNamespace: netlink.NsFd(int(far))}
	if err := netlink.LinkAdd(veth); err != nil {
		skip(t, "no veth: "+err.Error())
	}
	l.setUp(t, netns.None(), "192.0.2.1/24", "2001:db8::1/64", "")
	l.setUp(t, far, "192.0.2.2/24", "2001:db8::2/64", "198.51.100.1/32")
	// Every group may ping, which here is one.
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
		t.Fatal(err)
	}
	return l
}

// ownNamespaces makes a process uid 0 of a user namespace, with a network of
// its own.
func ownNamespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}

// setUp sets up one side: here, or in the namespace at.
func (l *lab) setUp(t *testing.T, at netns.NsHandle, v4, v6, lo string) {
	t.Helper()
	h, err := netlink.NewHandle()
	if at.IsOpen() {
		h, err = netlink.NewHandleAt(at)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	up := func(name string, addrs ...string) netlink.Link {
		link, err := h.LinkByName(name)
		do(err)
		for _, a := range addrs {
			if a != "" {
				addr, err := netlink.ParseAddr(a)
				do(err)
				addr.Flags = unix.IFA_F_NODAD
				do(h.AddrAdd(link, addr))
			}
		}
		do(h.LinkSetUp(link))
		return link
	}
	up("lo", lo)
	link := up("up0", v4, v6)
	if lo == "" {
		for _, via := range []string{"192.0.2.2", "2001:db8::2"} {
			do(h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(via).AsSlice()}))
		}
		_, nowhere, _ := net.ParseCIDR("203.0.113.0/24")
		do(h.RouteAdd(&netlink.Route{Dst: nowhere, Type: unix.RTN_UNREACHABLE}))
	}
}

// far is one of our programs, run outside.
func (l *lab) far(args ...string) *exec.Cmd {
	return exec.Command(prog, append([]string{"within", l.outside}, args...)...)
}
