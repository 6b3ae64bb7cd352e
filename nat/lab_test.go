package nat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/ns"
)

// patience bounds whatever a test waits for. It is no expectation of speed.
const patience = 60 * time.Second

// lab is a switch with its NAT and containers whose network stack is the
// kernel's, in network namespaces of their own. The outside is the namespace
// that the tests run in.
type lab struct {
	testing.TB
	sw    *vswitch.Switch
	nat   *NAT
	out   *hooked
	ahead atomic.Int64 // added to the switch's clock
	boxes []*box
	seed  uint64
}

// hooked is the kernel's outside, with a look at each socket.
type hooked struct {
	Kernel
	onSocket func(fd, typ int)
	refuse   map[int]unix.Errno // by protocol
}

func (h *hooked) Socket(domain, typ, proto int) (int, unix.Errno) {
	if e := h.refuse[proto]; e != 0 {
		return -1, e
	}
	fd, e := h.Kernel.Socket(domain, typ, proto)
	if e == 0 && h.onSocket != nil {
		h.onSocket(fd, typ)
	}
	return fd, e
}

func newLab(t testing.TB, cfg Config) *lab {
	t.Helper()
	needKernel(t)
	l := &lab{TB: t, out: new(hooked), seed: uint64(time.Now().UnixNano())}
	if s := os.Getenv("NAT_SEED"); s != "" {
		l.seed, _ = strconv.ParseUint(s, 10, 64)
	}
	var err error
	l.sw, err = vswitch.New(vswitch.Config{
		Now:  func() int64 { return vswitch.Monotonic() + l.ahead.Load() },
		Logf: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Outside, cfg.Logf = l.out, t.Logf
	if l.nat, err = New(l.sw, cfg); err != nil {
		t.Fatal(err)
	}
	go l.sw.Run()
	t.Cleanup(l.close)
	return l
}

// close ends the switch, after what is over was seen to leave nothing behind.
func (l *lab) close() {
	if !l.Failed() {
		l.settle()
	}
	if l.Failed() {
		l.report()
	}
	for _, b := range l.boxes {
		l.do(func() { l.sw.RemovePort(b.port) })
	}
	l.sw.Close()
	for _, b := range l.boxes {
		b.dev.Close()
		b.space.close()
	}
}

// do runs f on the switch's thread.
func (l *lab) do(f func()) { l.sw.Do(f) }

// report says what the NAT knew when a test failed.
func (l *lab) report() {
	l.Logf("NAT_SEED=%d", l.seed)
	l.do(func() {
		for _, f := range l.nat.Flows() {
			l.Logf("flow %+v", f)
		}
		for i := uint32(0); i < l.nat.top; i++ {
			if f := &l.nat.flows[i]; f.kind == kindTCP {
				var m [9]uint32
				memInfo(int(f.fd), &m)
				l.Logf("  flags %#x due in %d ms %+v memory %d", f.flags, (f.due-l.sw.Now())/1e6, f.tcp, m)
			}
		}
		l.Logf("stats %+v", l.nat.Stats)
	})
	for _, b := range l.boxes {
		l.Logf("%s: lost %d doubled %d swapped %d drops %v", b.port.Name, b.dev.lost.Load(), b.dev.doubled.Load(), b.dev.swapped.Load(), l.drops(b))
	}
}

// pass lets time pass at once for the switch.
func (l *lab) pass(d time.Duration) {
	l.ahead.Add(int64(d))
	l.do(func() { l.sw.Schedule(1) })
	l.do(func() {})
}

// reaches waits for a number of the kernel's while the switch stands still, and says
// whether it came to what is wanted.
func (l *lab) reaches(what string, want int, f func() (int, error)) bool {
	l.Helper()
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		switch got, err := f(); {
		case err == nil && got == want:
			return true
		case err != nil || time.Now().After(end):
			l.Errorf("%s: %d, not %d: %v", what, got, want, err)
			return false
		}
	}
}

// eventually waits until f, run on the switch's thread, says yes.
func (l *lab) eventually(what string, f func() bool) {
	l.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		ok := false
		l.do(func() { ok = f() })
		if ok {
			return
		}
		if time.Now().After(end) {
			l.report()
			l.Fatalf("it never happened that %s", what)
		}
	}
}

// settle waits until no flow is left, which takes the time that records
// linger, and looks whether anything else was kept.
func (l *lab) settle() {
	l.Helper()
	for _, b := range l.boxes {
		b.dev.off.Store(true)
	}
	l.eventually("all TCP connections end", func() bool {
		l.ahead.Add(100e6)
		l.sw.Schedule(1)
		return l.nat.Counts()["tcp"] == 0
	})
	l.eventually("all other flows end", func() bool {
		l.ahead.Add(60e9)
		l.sw.Schedule(1)
		return l.nat.used == 0 || l.nat.Counts()["pair"] > 0
	})
	l.do(func() {
		n := l.nat
		if len(n.spills.free) != len(n.spills.blocks) {
			l.Errorf("%d of %d spill blocks are free", len(n.spills.free), len(n.spills.blocks))
		}
		for i := range n.perPort {
			if pp := &n.perPort[i]; pp.halfOpen != 0 || pp.count != 0 && n.Counts()["pair"] == 0 {
				l.Errorf("port %d: %d flows and %d half open are left", i, pp.count, pp.halfOpen)
			}
		}
		if n.used == 0 && n.wheel.count != 0 {
			l.Errorf("%d timers are left", n.wheel.count)
		}
	})
}

// counts is how many flows there are of each kind.
func (l *lab) counts() (c map[string]int) {
	l.do(func() { c = l.nat.Counts() })
	return c
}

// drops lists what frames of or to a container ended in.
func (l *lab) drops(b *box) map[string]uint64 {
	out := make(map[string]uint64)
	l.do(func() {
		for r, n := range b.port.Stats.Drops {
			if n > 0 {
				out[vswitch.Reason(r).String()] = n
			}
		}
	})
	return out
}

// bridge makes a network; 4 and 6 are its subnets, with the gateway at 1.
func (l *lab) bridge(name, subnet4, subnet6 string, mtu int) *vswitch.Bridge {
	c := vswitch.BridgeConfig{Name: name, MTU: mtu}
	if subnet4 != "" {
		c.Subnet = netip.MustParsePrefix(subnet4)
		c.Gateway = c.Subnet.Addr().Next()
	}
	if subnet6 != "" {
		c.Subnet6 = netip.MustParsePrefix(subnet6)
		c.Gateway6 = c.Subnet6.Addr().Next()
	}
	var br *vswitch.Bridge
	l.do(func() { br = l.sw.AddBridge(c) })
	return br
}

// box is a container: a network namespace with a TAP as its eth0.
type box struct {
	*space
	lab  *lab
	dev  *faulty
	port *vswitch.Port
	ip4  netip.Addr
	ip6  netip.Addr
}

// boxConfig is what differs between containers.
type boxConfig struct {
	host    int           // last byte of its addresses; 0 for 2
	plain   bool          // a TAP without offload
	delay   time.Duration // of each frame, either way
	out, in faults
}

func (l *lab) box(br *vswitch.Bridge, c boxConfig) *box {
	l.Helper()
	if c.host == 0 {
		c.host = 2
	}
	b := &box{lab: l}
	conf := ns.Interface{Name: "eth0", MTU: br.MTU, Offload: !c.plain}
	mac := vswitch.MAC{2, 0x42, 10, 0, byte(br.ID), byte(c.host)}
	conf.MAC = net.HardwareAddr(mac[:])
	var addrs []netip.Addr
	if br.Subnet.IsValid() {
		a := br.Subnet.Addr().As4()
		a[3] = byte(c.host)
		b.ip4 = netip.AddrFrom4(a)
		addrs = append(addrs, b.ip4)
		conf.Addrs, conf.Gateway = append(conf.Addrs, netip.PrefixFrom(b.ip4, br.Subnet.Bits())), br.Gateway
	}
	if br.Subnet6.IsValid() {
		a := br.Subnet6.Addr().As16()
		a[15] = byte(c.host)
		b.ip6 = netip.AddrFrom16(a)
		addrs = append(addrs, b.ip6)
		conf.Addrs, conf.Gateway6 = append(conf.Addrs, netip.PrefixFrom(b.ip6, br.Subnet6.Bits())), br.Gateway6
	}
	fd := -1
	var err error
	b.space, err = newSpace(func() error {
		in, err := ns.OpenInside()
		if err != nil {
			return err
		}
		defer in.Close()
		if fd, err = in.CreateTAP("eth0", !c.plain); err != nil {
			return err
		}
		for _, s := range []string{"ipv4/icmp_ratelimit", "ipv4/icmp_ratemask", "ipv6/icmp/ratelimit"} {
			os.WriteFile("/proc/sys/net/"+s, []byte("0"), 0)
		}
		return in.Configure(conf)
	})
	if err != nil {
		l.Fatal(err)
	}
	tap, err := vswitch.NewTAP(fd)
	if err != nil {
		l.Fatal(err)
	}
	var dev vswitch.Device = tap
	if c.delay > 0 {
		dev = newLateDevice(tap, c.delay)
	}
	b.dev = newFaulty(dev, c.out, c.in, l.seed+uint64(len(l.boxes)))
	l.do(func() {
		b.port, err = l.sw.AddPort(vswitch.PortConfig{Name: fmt.Sprintf("box%d:eth0", c.host), Device: b.dev, Bridge: br, MAC: mac, Addrs: addrs})
	})
	if err != nil {
		l.Fatal(err)
	}
	l.boxes = append(l.boxes, b)
	// The kernel notices a moment later that the link is up, and ignores what
	// neighbours say until then.
	for end := time.Now().Add(patience); !b.running(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.Fatal("the container's link does not come up")
		}
	}
	return b
}

// running says whether the container's link is up, and its IPv6 address its own:
// the kernel's worker makes it so behind Configure.
func (b *box) running() (up bool) {
	err := b.do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		up = err == nil && ifi.Flags&net.FlagRunning != 0
		if up && b.ip6.IsValid() {
			r, err := netlink.RouteGet(b.ip6.AsSlice())
			up = err == nil && len(r) > 0 && r[0].Type == unix.RTN_LOCAL
		}
		return err
	})
	return err == nil && up
}

// space is a network namespace. Sockets made in it stay in it, so that tests
// use them from anywhere.
type space struct{ fd int }

// newSpace makes a network namespace and runs setup in it.
func newSpace(setup func() error) (*space, error) {
	s := &space{-1}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace: %w", err)
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.fd = fd
		return setup()
	})
	return s, err
}

// do runs f in the namespace.
func (s *space) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (s *space) close() { unix.Close(s.fd) }

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}

// dial connects from inside the container.
func (b *box) dial(network, to string) (net.Conn, error) {
	return b.dialWith(network, to, nil)
}

// dialWith connects with a socket that tune has seen.
func (b *box) dialWith(network, to string, tune func(fd int)) (c net.Conn, err error) {
	err = b.do(func() error {
		d := net.Dialer{Timeout: patience, KeepAlive: -1, Control: control(tune)}
		c, err = d.Dial(network, to)
		return err
	})
	return c, err
}

// listen listens inside the container.
func (b *box) listen(network, at string, tune func(fd int)) (ln net.Listener) {
	b.lab.Helper()
	err := b.do(func() (err error) { ln, err = listen(network, at, tune); return })
	if err != nil {
		b.lab.Fatal(err)
	}
	b.lab.Cleanup(func() { ln.Close() })
	return ln
}

// listenOutside listens where the switch's own sockets are.
func (l *lab) listenOutside(network, at string, tune func(fd int)) net.Listener {
	l.Helper()
	ln, err := listen(network, at, tune)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { ln.Close() })
	return ln
}

func listen(network, at string, tune func(fd int)) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1, Control: control(tune)}
	return c.Listen(context.Background(), network, at)
}

// packets opens a UDP socket inside the container.
func (b *box) packets(at string) *net.UDPConn {
	b.lab.Helper()
	var pc *net.UDPConn
	err := b.do(func() (err error) { pc, err = packets(at); return })
	if err != nil {
		b.lab.Fatal(err)
	}
	return b.lab.keep(pc)
}

// packetsOutside opens a UDP socket where the switch's own are.
func (l *lab) packetsOutside(at string) *net.UDPConn {
	l.Helper()
	pc, err := packets(at)
	if err != nil {
		l.Fatal(err)
	}
	return l.keep(pc)
}

func (l *lab) keep(pc *net.UDPConn) *net.UDPConn {
	l.Cleanup(func() { pc.Close() })
	pc.SetDeadline(time.Now().Add(patience))
	return pc
}

func packets(at string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		return nil, err
	}
	network := "udp4"
	if a.IP.To4() == nil {
		network = "udp6"
	}
	pc, err := net.ListenUDP(network, a)
	if err == nil {
		pc.SetReadBuffer(4 << 20)
		pc.SetWriteBuffer(4 << 20)
	}
	return pc, err
}

// publish opens a listener on the host for a port of the container.
func (l *lab) publish(network, at string, b *box, port uint16) (netip.AddrPort, uint32) {
	l.Helper()
	fd, host, err := rawListener(network, at)
	if err != nil {
		l.Fatal(err)
	}
	p := Publish{Proto: vswitch.ProtoTCP, Host: host, FD: fd, Port: b.port, ContainerPort: port, Target4: b.ip4, Target6: b.ip6}
	if network[:3] == "udp" {
		p.Proto = vswitch.ProtoUDP
	}
	var id uint32
	l.do(func() { id, err = l.nat.Publish(p) })
	if err != nil {
		l.Fatal(err)
	}
	return host, id
}

// rawListener makes the descriptor that a caller of Publish brings.
func rawListener(network, at string) (int, netip.AddrPort, error) {
	a := netip.MustParseAddrPort(at)
	domain, typ := unix.AF_INET, unix.SOCK_STREAM
	if a.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if network[:3] == "udp" {
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, a, err
	}
	if domain == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	var sa sockaddr
	sa.set(a)
	if e := sysBind(fd, &sa); e != 0 {
		unix.Close(fd)
		return -1, a, fmt.Errorf("bind %s: %w", a, e)
	}
	if typ == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 512); err != nil {
			unix.Close(fd)
			return -1, a, err
		}
	}
	return fd, netip.AddrPortFrom(a.Addr(), sysSockname(fd).Port()), nil
}

// errno is the system's error inside err, or 0.
func errno(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return 0
}
