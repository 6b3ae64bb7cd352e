package demo

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/ns"
)

// Addresses of the world (RFC 5737, RFC 3849).
const (
	hostIP     = "192.0.2.2"
	hostIP6    = "2001:db8:1::2"
	routerIP   = "192.0.2.1"
	routerIP6  = "2001:db8:1::1"
	outsideIP  = "198.51.100.2"
	outsideIP6 = "2001:db8:2::2"
	// The last cable is narrower, so that path MTU discovery has something to find.
	narrowMTU = 1400
)

// world is a host, a router and an outside.
type world struct {
	dir     string // temporary files
	router  netns.NsHandle
	outside netns.NsHandle
	cables  *vswitch.Switch
	cleanup []func()
}

// newWorld makes the world. We are uid 0 of a fresh user namespace, and the
// network namespace we are in becomes the host.
func newWorld(dir string) (*world, error) {
	w := &world{dir: dir}
	if err := w.files(); err != nil {
		return nil, err
	}
	var err error
	if w.router, err = freshNetwork(); err != nil {
		return nil, err
	}
	if w.outside, err = freshNetwork(); err != nil {
		return nil, err
	}
	if w.cables, err = vswitch.New(vswitch.Config{}); err != nil {
		return nil, err
	}
	near := w.cables.AddBridge(vswitch.BridgeConfig{Name: "near", MTU: 1500})
	far := w.cables.AddBridge(vswitch.BridgeConfig{Name: "far", MTU: narrowMTU})
	host, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer host.Close()
	for i, c := range []struct {
		bridge *vswitch.Bridge
		net    netns.NsHandle
		name   string
		mtu    int
		addrs  []string
		gw     string
		gw6    string
	}{
		{near, host, "uplink0", 1500, []string{hostIP + "/24", hostIP6 + "/64"}, routerIP, routerIP6},
		{near, w.router, "near0", 1500, []string{routerIP + "/24", routerIP6 + "/64"}, "", ""},
		{far, w.router, "far0", narrowMTU, []string{"198.51.100.1/24", "2001:db8:2::1/64"}, "", ""},
		{far, w.outside, "eth0", narrowMTU, []string{outsideIP + "/24", outsideIP6 + "/64"}, "198.51.100.1", "2001:db8:2::1"},
	} {
		if err := w.plug(i, c.bridge, c.net, c.name, c.mtu, c.addrs, c.gw, c.gw6); err != nil {
			return nil, fmt.Errorf("cable %s: %w", c.name, err)
		}
	}
	go w.cables.Run()
	return w, w.sysctls()
}

// files gives the host its own resolv.conf, which names the outside's server.
func (w *world) files() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	resolv := filepath.Join(w.dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+outsideIP+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		return nil // names outside cannot be shown; the checks say so
	}
	if err := unix.Mount(resolv, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("resolv.conf of the demo's host: %w", err)
	}
	return nil
}

// freshNetwork makes a network namespace and stays in ours.
func freshNetwork() (h netns.NsHandle, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return h, fmt.Errorf("our network namespace: %w", err)
	}
	defer home.Close()
	if h, err = netns.New(); err != nil {
		return h, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := netns.Set(home); err != nil {
		return h, fmt.Errorf("come back from a network namespace: %w", err)
	}
	unix.CloseOnExec(int(h))
	return h, nil
}

// plug puts one end of a cable into a namespace.
func (w *world) plug(i int, b *vswitch.Bridge, n netns.NsHandle, name string, mtu int, addrs []string, gw, gw6 string) error {
	h := &ns.Handle{Net: n, User: netns.None(), Name: name}
	in, err := h.Enter()
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := in.CreateTAP(name, true)
	if err != nil {
		return err
	}
	mac := vswitch.MAC{0x02, 0, 0, 0, 1, byte(i)}
	c := ns.Interface{Name: name, MAC: net.HardwareAddr(mac[:]), MTU: mtu, Offload: true}
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParsePrefix(a))
	}
	if gw != "" {
		c.Gateway, c.Gateway6 = netip.MustParseAddr(gw), netip.MustParseAddr(gw6)
	}
	if err := in.Configure(c); err != nil {
		unix.Close(fd)
		return err
	}
	tap, err := vswitch.NewTAP(fd)
	if err != nil {
		return err
	}
	w.cleanup = append(w.cleanup, func() { tap.Close() })
	_, err = w.cables.AddPort(vswitch.PortConfig{Name: name, Device: tap, Bridge: b, MAC: mac, Spoof: true})
	return err
}

// sysctls lets the router forward, and answer every error at once, and the
// host's user ping.
func (w *world) sysctls() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
		return fmt.Errorf("ping_group_range of the demo's host: %w", err)
	}
	return within(w.router, func() error {
		for _, p := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
			_ = os.WriteFile("/proc/sys/net/"+p, []byte("0"), 0)
		}
		for _, p := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+p, []byte("1"), 0); err != nil && !strings.HasPrefix(p, "ipv6") {
				return fmt.Errorf("forwarding of the demo's router: %w", err)
			}
		}
		return nil
	})
}

// within runs f on a thread in the namespace.
func within(n netns.NsHandle, f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(n); err != nil {
			errc <- err
			return
		}
		errc <- f()
	}()
	return <-errc
}

// start starts ourselves as a probe in a namespace.
func (w *world) start(n netns.NsHandle, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !n.IsOpen() {
		return cmd.Start()
	}
	return within(n, cmd.Start)
}

func (w *world) close() {
	if w.cables != nil {
		w.cables.Close()
	}
	for _, f := range w.cleanup {
		f()
	}
}

// snapshot describes the host's network: addresses, routes, rules, sysctls. The
// switch must not change it.
func snapshot() string {
	var b strings.Builder
	links, _ := netlink.LinkList()
	for _, l := range links {
		fmt.Fprintf(&b, "link %s %s mtu %d\n", l.Attrs().Name, l.Attrs().HardwareAddr, l.Attrs().MTU)
	}
	addrs, _ := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for _, a := range addrs {
		fmt.Fprintf(&b, "address %s\n", a.IPNet)
	}
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, _ := netlink.RouteList(nil, f)
		for _, r := range routes {
			fmt.Fprintf(&b, "route %s via %s\n", r.Dst, r.Gw)
		}
		rules, _ := netlink.RuleList(f)
		for _, r := range rules {
			fmt.Fprintf(&b, "rule %s\n", r)
		}
	}
	for _, p := range []string{"ipv4/ip_forward", "ipv4/conf/all/forwarding", "ipv4/conf/all/route_localnet", "ipv4/ping_group_range",
		"ipv4/ip_unprivileged_port_start", "ipv4/ip_local_port_range", "ipv6/conf/all/forwarding"} {
		v, _ := os.ReadFile("/proc/sys/net/" + p)
		fmt.Fprintf(&b, "sysctl %s %s", p, v)
	}
	return b.String()
}
