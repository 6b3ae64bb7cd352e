package nat

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinger is a ping socket inside a container.
type pinger struct {
	fd int
	v6 bool
}

func (b *box) pinger(v6 bool) *pinger {
	b.lab.Helper()
	p := &pinger{-1, v6}
	err := b.do(func() (err error) {
		if err = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
			return err
		}
		domain, proto, level, opt := unix.AF_INET, unix.IPPROTO_ICMP, unix.IPPROTO_IP, unix.IP_RECVERR
		if v6 {
			domain, proto, level, opt = unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
		}
		if p.fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, proto); err != nil {
			return err
		}
		unix.SetsockoptInt(p.fd, level, opt, 1)
		return unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	})
	if err != nil {
		b.lab.Fatal(err)
	}
	b.lab.Cleanup(func() { unix.Close(p.fd) })
	return p
}

func (p *pinger) ttl(n int) {
	if p.v6 {
		unix.SetsockoptInt(p.fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, n)
	} else {
		unix.SetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_TTL, n)
	}
}

// ping sends an echo request and returns what comes back, or the error.
func (p *pinger) ping(to string, seq uint16, data []byte) (netip.Addr, error) {
	msg := append([]byte{8, 0, 0, 0, 0, 0, byte(seq >> 8), byte(seq)}, data...)
	if p.v6 {
		msg[0] = 128
	}
	if err := unix.Sendto(p.fd, msg, 0, sockaddrOf(netip.AddrPortFrom(netip.MustParseAddr(to), 0))); err != nil {
		return netip.Addr{}, err
	}
	buf := make([]byte, 65536)
	n, from, err := unix.Recvfrom(p.fd, buf, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	if want := msg[0] & 128; buf[0] != want|want>>7 || !bytes.Equal(buf[6:n], msg[6:]) { // 0 answers 8, 129 answers 128
		return netip.Addr{}, unix.EBADMSG
	}
	return addrOf(from), nil
}

func sockaddrOf(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrOf(s unix.Sockaddr) netip.Addr {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(s.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(s.Addr)
	}
	return netip.Addr{}
}

func TestPing(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	for _, to := range []string{outside4, "172.17.0.1", outside6, "fd00:17::1"} {
		p := b.pinger(netip.MustParseAddr(to).Is6())
		for i, size := range []int{0, 1, 56, 1400, 1500, 8000, 60000} {
			from, err := p.ping(to, uint16(i), pattern(size))
			if err != nil || from.String() != to {
				t.Errorf("%s, %d bytes: %v from %s; %v", to, size, err, from, l.drops(b))
			}
		}
		// Two at a time do not get each other's answers.
		q := b.pinger(p.v6)
		if _, err := q.ping(to, 7, []byte("other")); err != nil {
			t.Errorf("%s: the second socket: %v", to, err)
		}
	}
	if d := l.drops(b); len(d) != 0 {
		t.Errorf("drops: %v", d)
	}
	l.eventually("there are flows for the outside only", func() bool { return l.nat.Counts()["ping"] == 4 })
}

// offender reads a socket's error queue: who reported which error.
func offender(fd int) (from netip.Addr, errno unix.Errno) {
	p := []unix.PollFd{{Fd: int32(fd)}} // errors are always reported
	unix.Poll(p, int(patience/time.Millisecond))
	oob := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 2048), oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return from, err.(unix.Errno)
	}
	msgs, _ := unix.ParseSocketControlMessage(oob[:n])
	for _, m := range msgs {
		if len(m.Data) >= 16+8 && (m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR) {
			e, _ := parseExtendedErr(append(append([]byte(nil), m.Data...), make([]byte, 32)...))
			return e.offender, unix.Errno(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return from, 0
}

// Each hop of a traceroute answers with its own address: the gateway, then the
// routers that the host's kernel hears of.
func TestTraceroute(t *testing.T) {
	l := newLab(t, Config{})
	far := newFar(t)
	_ = far
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	for _, c := range []struct {
		to   string
		hops []string
	}{
		{beyond, []string{"172.17.0.1", farRouter}},
		{beyond6, []string{"fd00:17::1", farAddr6}},
	} {
		dst := netip.MustParseAddr(c.to)
		for i, hop := range c.hops {
			ttl := i + 1
			p := b.pinger(dst.Is6())
			p.ttl(ttl)
			msg := []byte{8, 0, 0, 0, 0, 0, 0, 1, 'x'}
			if dst.Is6() {
				msg[0] = 128
			}
			if err := unix.Sendto(p.fd, msg, 0, sockaddrOf(netip.AddrPortFrom(dst, 0))); err != nil {
				t.Fatal(err)
			}
			if from, e := offender(p.fd); from.String() != hop || e != unix.EHOSTUNREACH {
				t.Errorf("%s, ping, hop %d: %s says %v, want %s; %v", c.to, ttl, from, e, hop, l.drops(b))
			}
			for _, network := range []string{"udp", "tcp"} {
				fd := -1
				err := b.do(func() (err error) {
					domain, typ := unix.AF_INET, unix.SOCK_DGRAM
					if dst.Is6() {
						domain = unix.AF_INET6
					}
					if network == "tcp" {
						typ = unix.SOCK_STREAM
					}
					fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				setTTL(fd, dst.Is6(), uint8(ttl))
				l.nat.wantErrors(fd, dst.Is6())
				if err := unix.Connect(fd, sockaddrOf(netip.AddrPortFrom(dst, 33434))); err != nil && err != unix.EINPROGRESS {
					t.Fatal(err)
				}
				if network == "udp" {
					unix.Write(fd, []byte("x"))
				}
				if from, e := offender(fd); from.String() != hop || e != unix.EHOSTUNREACH {
					t.Errorf("%s, %s, hop %d: %s says %v, want %s; %v", c.to, network, ttl, from, e, hop, l.drops(b))
				}
				unix.Close(fd)
			}
		}
	}
}

// A host that lets nobody ping says so.
func TestPingDenied(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	p := b.pinger(false)
	l.do(func() { l.out.refuse = map[int]unix.Errno{unix.IPPROTO_ICMP: unix.EACCES} })
	for range 2 {
		if _, err := p.ping(outside4, 1, nil); err != unix.EHOSTUNREACH {
			t.Errorf("%v; %v", err, l.drops(b))
		}
	}
	if n := l.drops(b)["ping-denied"]; n != 2 {
		t.Errorf("drops: %v", l.drops(b))
	}
	if _, err := p.ping("172.17.0.1", 1, nil); err != nil {
		t.Errorf("the gateway: %v", err)
	}
}
