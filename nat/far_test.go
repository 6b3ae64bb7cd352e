package nat

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"tapswitch/switch/ns"
)

// far is a namespace behind the host: a router with a server on it, which can
// go away and answers with ICMP errors then.
type far struct{ *space }

const (
	farNet    = "203.0.113."
	farHost   = farNet + "1"
	farRouter = farNet + "3"
	farAddr   = farNet + "2"
	farNet6   = "2001:db8:2::"
	farHost6  = farNet6 + "1"
	farAddr6  = farNet6 + "2"
	// beyond is routed through the far namespace, where each hop limit ends.
	beyond  = "198.18.0.1"
	beyond6 = "2001:db8:3::1"
)

// newFar connects a far namespace by a veth pair.
func newFar(t testing.TB) *far {
	t.Helper()
	needKernel(t)
	f := new(far)
	var err error
	f.space, err = newSpace(func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far0", MTU: 1500}, PeerName: "far1", PeerNamespace: netlink.NsFd(f.fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		f.close()
		t.Skip("no veth devices: ", err)
	}
	t.Cleanup(func() {
		netlink.LinkDel(veth)
		f.close()
	})
	addAddrs(t, "far0", farHost+"/24", farHost6+"/64")
	routeVia(t, beyond+"/32", farAddr)
	routeVia(t, beyond6+"/128", farAddr6)
	f.run(t, func(t testing.TB) {
		addAddrs(t, "lo")
		addAddrs(t, "far1", farRouter+"/24", farAddr+"/24", farAddr6+"/64")
		routeVia(t, beyond+"/32", farNet+"9")
		routeVia(t, beyond6+"/128", farNet6+"9")
		for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+s, []byte("1"), 0); err != nil {
				t.Error(err)
			}
		}
		// Errors are limited to one a second for each peer otherwise.
		for _, s := range []string{"ipv4/icmp_ratelimit", "ipv4/icmp_ratemask", "ipv6/icmp/ratelimit"} {
			os.WriteFile("/proc/sys/net/"+s, []byte("0"), 0)
		}
	})
	return f
}

// run runs f in the namespace; failures there fail the test.
func (f *far) run(t testing.TB, do func(t testing.TB)) {
	t.Helper()
	if err := f.do(func() error { do(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// vanish takes the server's address away: what is sent to it is answered with
// host unreachable.
func (f *far) vanish(t testing.TB) {
	t.Helper()
	f.run(t, func(t testing.TB) {
		a, _ := netlink.ParseAddr(farAddr + "/24")
		link, err := netlink.LinkByName("far1")
		if err == nil {
			err = netlink.AddrDel(link, a)
		}
		if err != nil {
			t.Error(err)
		}
		routes(t, "unreachable", farAddr+"/32")
	})
}

// appear brings it back.
func (f *far) appear(t testing.TB) {
	t.Helper()
	f.run(t, func(t testing.TB) {
		_, dst, _ := net.ParseCIDR(farAddr + "/32")
		if err := netlink.RouteDel(&netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE}); err != nil {
			t.Error(err)
		}
		addAddrs(t, "far1", farAddr+"/24")
	})
}

// addAddrs sets an interface up and gives it addresses.
func addAddrs(t testing.TB, name string, addrs ...string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err == nil {
			a.Flags = unix.IFA_F_NODAD
			err = netlink.AddrReplace(link, a)
		}
		if err != nil {
			t.Errorf("%s: %s: %v", name, s, err)
		}
	}
}

func routeVia(t testing.TB, dst, via string) {
	t.Helper()
	_, d, _ := net.ParseCIDR(dst)
	if err := netlink.RouteReplace(&netlink.Route{Dst: d, Gw: net.ParseIP(via)}); err != nil {
		t.Errorf("route to %s: %v", dst, err)
	}
}

// routes makes routes that lead nowhere, until the test ends.
func routes(t testing.TB, kind string, dsts ...string) {
	t.Helper()
	typ := map[string]int{"unreachable": unix.RTN_UNREACHABLE, "prohibit": unix.RTN_PROHIBIT}[kind]
	for _, s := range dsts {
		_, dst, _ := net.ParseCIDR(s)
		r := &netlink.Route{Dst: dst, Type: typ}
		if dst.IP.To4() == nil {
			r.Family = nl.FAMILY_V6
			r.LinkIndex = 1
		}
		if err := netlink.RouteAdd(r); err != nil {
			t.Errorf("route to %s: %v", s, err)
		}
		t.Cleanup(func() { netlink.RouteDel(r) })
	}
}

// blackHole is a network device that swallows what is sent to a network.
func blackHole(t testing.TB, dst string) *os.File {
	t.Helper()
	needKernel(t)
	in, err := ns.OpenInside()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := fmt.Sprintf("hole%d", os.Getpid()%1000)
	fd, err := in.CreateTAP(name, false)
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err == nil {
		err = netlink.LinkSetARPOff(link)
	}
	if err == nil {
		_, d, _ := net.ParseCIDR(dst)
		err = netlink.RouteAdd(&netlink.Route{Dst: d, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK})
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

func setMTU(t testing.TB, name string, mtu int) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetMTU(link, mtu)
	}
	if err != nil {
		t.Fatal(err)
	}
}
