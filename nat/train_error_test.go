package nat

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errorSocket is a container's socket that keeps the errors it is told.
func (b *box) errorSocket(level, recvErr, mtuDiscover int, at string) *net.UDPConn {
	pc := b.packets(at)
	raw(pc, func(fd int) {
		unix.SetsockoptInt(fd, level, recvErr, 1)
		unix.SetsockoptInt(fd, level, mtuDiscover, unix.IP_PMTUDISC_DO)
	})
	return pc
}

// told takes the errors of a socket until there are count of them.
func told(l *lab, pc *net.UDPConn, count int) (errs []toldError) {
	l.Helper()
	l.eventually(fmt.Sprintf("%d errors are told", count), func() bool {
		raw(pc, func(fd int) {
			for {
				var m message
				data := make([]byte, 2048)
				n, e := sysRecvmsg(fd, m.receive(data), unix.MSG_ERRQUEUE)
				if e != 0 {
					return
				}
				m.controls(func(level, typ int32, b []byte) {
					if x, ok := parseExtendedErr(b); ok && (typ == unix.IP_RECVERR || typ == unix.IPV6_RECVERR) {
						errs = append(errs, toldError{x, m.name.addrPort(), data[:n]})
					}
				})
			}
		})
		return len(errs) >= count
	})
	return errs
}

type toldError struct {
	extendedErr
	to   netip.AddrPort
	data []byte // the beginning of the datagram
}

// Among the datagrams of a burst some are too long for the way, or go where
// nobody listens: their sender is told of each, and the others arrive.
func TestUDPBurstErrors(t *testing.T) {
	for _, f := range families {
		t.Run(f.name+", the host refuses", func(t *testing.T) { burstErrors(t, f, false, false) })
		t.Run(f.name+", a router refuses", func(t *testing.T) { burstErrors(t, f, true, false) })
	}
}

// The same from a published port, whose socket is the listener.
func TestPublishedUDPBurstErrors(t *testing.T) {
	for _, f := range families {
		t.Run(f.name+", the host refuses", func(t *testing.T) { burstErrors(t, f, false, true) })
		t.Run(f.name+", a router refuses", func(t *testing.T) { burstErrors(t, f, true, true) })
	}
}

// The same for echo requests, which share a socket, too.
func TestPingBurstErrors(t *testing.T) {
	l := newLab(t, Config{})
	newNarrow(t, newFar(t))
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	fd := -1
	err := b.do(func() (err error) {
		if err = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err == nil {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(beyond).As4()}
	send := func(sizes ...int) {
		for _, n := range sizes {
			if err := unix.Sendto(fd, append([]byte{8}, make([]byte, n-1)...), 0, to); err != nil {
				t.Error(err)
			}
		}
	}
	var got []int
	answered := func(count int) {
		l.eventually("echo requests are answered", func() bool {
			if n, _, e := unix.Recvfrom(fd, make([]byte, 2000), 0); e == nil {
				got = append(got, n)
			}
			return len(got) == count
		})
	}
	send(64)
	answered(1)
	goOn := l.hold()
	send(100, 1400, 200, 300)
	goOn()
	answered(4)
	if want := []int{64, 100, 200, 300}; !slices.Equal(got, want) {
		t.Errorf("answers of %v bytes, want %v", got, want)
	}
}

// burstErrors sends a burst that is partly refused: by a router, or by the host
// itself; from a published port or another.
func burstErrors(t *testing.T, f family, router, published bool) {
	l := newLab(t, Config{})
	far := newFar(t)
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	where, at := far.space, f.farAddr
	if router {
		where, at = newNarrow(t, far), f.beyond
	} else {
		setMTU(t, "far0", 1300)
	}
	var outs []*net.UDPConn
	var to []netip.AddrPort
	for range 2 {
		var pc *net.UDPConn
		if err := where.do(func() (err error) { pc, err = packets(net.JoinHostPort(at, "0")); return }); err != nil {
			t.Fatal(err)
		}
		outs, to = append(outs, l.keep(pc)), append(to, localPort(pc))
	}
	const long, closed = 2, 3
	to = append(to, to[1], netip.AddrPortFrom(netip.MustParseAddr(f.outside), 9))
	in := b.errorSocket(f.level, f.recvErr, f.mtuDiscover, f.any)
	if published {
		l.publish("udp", f.any, b, localPort(in).Port())
	}
	greet(t, in, outs[0], to[0])
	var burst []car
	add := func(to, count, size int) {
		for range count {
			burst = append(burst, car{to: to, b: append([]byte{byte(len(burst))}, pattern(size)[1:]...)})
		}
	}
	add(0, 20, 1000)
	add(long, 1, 1400)
	add(0, 1, 700)
	add(1, 1, 600)
	add(0, 1, 500)
	add(closed, 1, 400)
	add(1, 1, 400)
	add(0, 20, 1000)
	add(long, 1, 1400)
	add(0, 1, 1000)
	add(1, 20, 1000)
	add(0, 1, 1300-f.overhead)
	add(closed, 1, 300)
	add(0, 30, 64)
	goOn := l.hold()
	for k := range burst {
		if _, err := in.WriteToUDPAddrPort(burst[k].b, to[burst[k].to]); err != nil {
			t.Error(k, err)
		}
	}
	goOn()
	var want []car
	for k, d := range burst {
		if d.to == long || d.to == closed {
			want = append(want, d)
			continue
		}
		outs[d.to].SetReadDeadline(time.Now().Add(patience))
		if err := d.arrives(outs[d.to], netip.AddrPort{}, 1); err != nil {
			t.Fatalf("datagram %d of %d bytes to %d: %v; %v", k, len(d.b), d.to, err, l.drops(b))
		}
	}
	for _, e := range told(l, in, len(want)) {
		ok := false
		for k, d := range want {
			if len(e.data) > 0 && e.data[0] == d.b[0] && e.to == to[d.to] {
				if d.to == closed && e.errno != unix.ECONNREFUSED || d.to == long && (e.errno != unix.EMSGSIZE || e.info != 1300) {
					t.Errorf("datagram of %d bytes: %v, MTU %d", len(d.b), e.errno, e.info)
				}
				want, ok = append(want[:k], want[k+1:]...), true
				break
			}
		}
		if !ok {
			t.Errorf("an error about what should have arrived, %d bytes to %s: %v, MTU %d", len(e.data), e.to, e.errno, e.info)
		}
	}
	for _, d := range want {
		t.Errorf("nobody told of datagram %d of %d bytes", d.b[0], len(d.b))
	}
}

// newNarrow is a namespace behind the far one, with beyond and beyond6 on it,
// that a link of 1300 bytes leads to.
func newNarrow(t testing.TB, far *far) *space {
	t.Helper()
	// Without it nobody has a link-local address for a second, nor asks for neighbours.
	trustAddrs := func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0) }
	s, err := newSpace(trustAddrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	far.run(t, func(t testing.TB) {
		if err := trustAddrs(); err != nil {
			t.Error(err)
		}
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "narrow0", MTU: 1300}, PeerName: "narrow1", PeerNamespace: netlink.NsFd(s.fd)}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Error(err)
			return
		}
		addAddrs(t, "narrow0", "10.99.0.1/24", "2001:db8:99::1/64")
		routeVia(t, beyond+"/32", "10.99.0.2")
		routeVia(t, beyond6+"/128", "2001:db8:99::2")
	})
	err = s.do(func() error {
		addAddrs(t, "lo", beyond+"/32", beyond6+"/128")
		addAddrs(t, "narrow1", "10.99.0.2/24", "2001:db8:99::2/64")
		routeVia(t, farNet+"0/24", "10.99.0.1")
		routeVia(t, farNet6+"/64", "2001:db8:99::1")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
