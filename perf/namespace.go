package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A namespace is a network namespace with a mount namespace of its own, and the
// operating-system thread that lives in both. Neither has a name outside, so the
// kernel removes them when the thread and the last process inside have gone:
// nothing stays behind even if perf is killed.
type namespace struct {
	name   string
	handle netns.NsHandle
	links  *netlink.Handle
	calls  chan func()
	gone   chan struct{}
}

// newNamespace makes a network namespace with its loopback interface up.
// It needs CAP_SYS_ADMIN.
func newNamespace(name string) (*namespace, error) {
	n := &namespace{name: name, calls: make(chan func()), gone: make(chan struct{})}
	made := make(chan error)
	go n.live(made)
	if err := <-made; err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", name, err)
	}
	if err := n.setUp("lo"); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// live is the thread of the namespace. It never unlocks: a thread in a foreign
// namespace must not go back to the Go scheduler, and children that die with
// their parent thread (Pdeathsig) need a thread that stays.
func (n *namespace) live(made chan<- error) {
	runtime.LockOSThread()
	defer close(n.gone)
	var err error
	if n.handle, err = netns.New(); err != nil {
		made <- err
		return
	}
	defer n.handle.Close()
	if err = privateMounts(); err != nil {
		made <- err
		return
	}
	if n.links, err = netlink.NewHandleAt(n.handle); err != nil {
		made <- err
		return
	}
	defer n.links.Close()
	made <- nil
	for call := range n.calls {
		call()
	}
}

// do runs f on the thread of the namespace: sockets it opens, processes it starts
// and /proc/sys/net it writes belong to the namespace.
func (n *namespace) do(f func() error) error {
	result := make(chan error, 1)
	n.calls <- func() { result <- f() }
	return <-result
}

// close gives the namespace up. Its processes must have ended before.
func (n *namespace) close() {
	close(n.calls)
	<-n.gone
}

// privateMounts gives the calling thread a mount namespace, from which nothing
// reaches the one it came from, and the interfaces of its network in /sys.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}

// showAt binds the other namespace to a file that only programs in n see. Its
// descriptor below /proc would not do: pasta, with fewer capabilities than perf,
// may not look there.
func (n *namespace) showAt(file string, other *namespace) error {
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return err
	}
	from := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(other.handle))
	err := n.do(func() error { return unix.Mount(from, file, "", unix.MS_BIND, "") })
	return n.explain("show "+other.name+" at "+file, err)
}

// sysctl writes a value below /proc/sys, as seen from inside the namespace.
func (n *namespace) sysctl(key, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	return n.do(func() error { return os.WriteFile(path, []byte(value), 0) })
}

// setUp brings an interface up.
func (n *namespace) setUp(ifname string) error {
	link, err := n.links.LinkByName(ifname)
	if err == nil {
		err = n.links.LinkSetUp(link)
	}
	return n.explain("set up "+ifname, err)
}

// awaitLink waits until a child has made an interface.
func (n *namespace) awaitLink(ifname string, by *child) error {
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &n.handle, ListExisting: true})
	if err != nil {
		return n.explain("watch interfaces", err)
	}
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for {
		select {
		case u := <-updates:
			if u.Link != nil && u.Attrs().Name == ifname {
				return nil
			}
		case <-by.exited:
			return by.died(readyLimit)
		case <-limit.C:
			return by.failure(fmt.Errorf("made no %s within %s", ifname, readyLimit))
		}
	}
}

// address gives an interface an address in CIDR form; "" gives none.
func (n *namespace) address(ifname, cidr string) error {
	if cidr == "" {
		return nil
	}
	link, err := n.links.LinkByName(ifname)
	if err != nil {
		return n.explain("find "+ifname, err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err == nil {
		err = n.links.AddrAdd(link, addr)
	}
	return n.explain("give "+ifname+" the address "+cidr, err)
}

// defaultRoute sends everything to a gateway.
func (n *namespace) defaultRoute(gateway string) error {
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	err := n.links.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP(gateway)})
	return n.explain("route to "+gateway, err)
}

// bridge makes a kernel bridge.
func (n *namespace) bridge(ifname, cidr string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ifname
	if err := n.links.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return n.explain("make the bridge "+ifname, err)
	}
	if err := n.address(ifname, cidr); err != nil {
		return err
	}
	return n.setUp(ifname)
}

// tap makes a TAP that stays when no program has it open.
func (n *namespace) tap(ifname string, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ifname
	link := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI}
	// LinkAdd opens the device in the namespace of the calling thread.
	err := n.do(func() error { return netlink.LinkAdd(link) })
	if err == nil {
		err = n.links.LinkSetMTU(link, mtu)
	}
	return n.explain("make the TAP "+ifname, err)
}

// enslave puts an interface on a kernel bridge.
func (n *namespace) enslave(ifname, bridge string) error {
	link, err := n.links.LinkByName(ifname)
	if err != nil {
		return n.explain("find "+ifname, err)
	}
	master, err := n.links.LinkByName(bridge)
	if err == nil {
		err = n.links.LinkSetMaster(link, master)
	}
	return n.explain("put "+ifname+" on "+bridge, err)
}

func (n *namespace) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("network namespace %q: %s: %w", n.name, what, err)
}

// An end is one end of a veth pair: where it is, its name, and its address in
// CIDR form or "".
type end struct {
	ns     *namespace
	ifname string
	cidr   string
}

// joinVeth makes a veth pair, both ends up.
func joinVeth(a, b end) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.ifname
	err := a.ns.links.LinkAdd(&netlink.Veth{
		LinkAttrs:     attrs,
		PeerName:      b.ifname,
		PeerNamespace: netlink.NsFd(b.ns.handle),
	})
	if err != nil {
		return a.ns.explain("make the veth pair "+a.ifname+" and "+b.ifname, err)
	}
	for _, e := range []end{a, b} {
		if err := e.ns.address(e.ifname, e.cidr); err != nil {
			return err
		}
		if err := e.ns.setUp(e.ifname); err != nil {
			return err
		}
	}
	return nil
}
