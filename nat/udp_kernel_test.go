package nat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// echoUDP sends every datagram back to where it came from.
func echoUDP(pc *net.UDPConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		pc.WriteToUDPAddrPort(buf[:n], from)
	}
}

// pattern is size bytes that tell lost and swapped pieces.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i>>8 ^ i*7 ^ size)
	}
	return b
}

// ask sends a datagram and waits for the same to come back.
func ask(pc *net.UDPConn, to netip.AddrPort, msg []byte) error {
	if _, err := pc.WriteToUDPAddrPort(msg, to); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	n, from, err := pc.ReadFromUDPAddrPort(buf)
	if err != nil {
		return err
	}
	if netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != to {
		return fmt.Errorf("answered by %s, not %s", from, to)
	}
	if !bytes.Equal(buf[:n], msg) {
		return fmt.Errorf("%d bytes came back of %d, or others", n, len(msg))
	}
	return nil
}

func localPort(pc *net.UDPConn) netip.AddrPort {
	a := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func TestUDPSizes(t *testing.T) {
	for _, c := range []struct {
		name string
		box  boxConfig
		mtu  int
	}{{"offload", boxConfig{}, 1500}, {"MTU 1280", boxConfig{}, 1280}, {"MTU 65520", boxConfig{}, 65520}, {"plain TAP", boxConfig{plain: true}, 1500},
		{"reordered and doubled", boxConfig{out: faults{swap: 200, double: 0}}, 1500}} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", c.mtu), c.box)
			for _, v6 := range []bool{false, true} {
				host, any := outside4, "0.0.0.0:0"
				sizes := []int{0, 1, 100, 1232, 1233, 1452, 1453, 1472, 1473, 8000, 9001, 40000, 65507}
				if v6 {
					host, any = outside6, "[::]:0"
					sizes = append(sizes, 65527)
				}
				server := l.packetsOutside(net.JoinHostPort(host, "0"))
				go echoUDP(server)
				client := b.packets(any)
				for _, size := range sizes {
					if err := ask(client, localPort(server), pattern(size)); err != nil {
						t.Errorf("%s, %d bytes: %v %v", host, size, err, l.drops(b))
					}
				}
			}
			if d := l.drops(b); len(d) != 0 {
				t.Errorf("drops: %v", d)
			}
		})
	}
}

// Whatever its destinations, a container's port is one port outside, and the
// same number if that is free (RFC 4787).
func TestUDPMapping(t *testing.T) {
	l := newLab(t, Config{})
	br := l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500)
	one, two := l.box(br, boxConfig{host: 2}), l.box(br, boxConfig{host: 3})
	var servers []*net.UDPConn
	for _, at := range []string{outside4, outside4b, outside4} {
		servers = append(servers, l.packetsOutside(at+":0"))
	}
	seen := make(map[netip.AddrPort]bool)
	buf := make([]byte, 10)
	sources := func(pc *net.UDPConn) (ports []uint16) {
		for _, s := range servers {
			if _, err := pc.WriteToUDPAddrPort([]byte("x"), localPort(s)); err != nil {
				t.Fatal(err)
			}
			_, from, err := s.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			seen[from] = true
			ports = append(ports, from.Port())
		}
		return ports
	}
	a, b := one.packets("0.0.0.0:41234"), two.packets("0.0.0.0:41234")
	if p := sources(a); p[0] != 41234 || p[1] != 41234 || p[2] != 41234 {
		t.Errorf("the first container's port 41234 is %v outside", p)
	}
	if p := sources(b); p[0] == 41234 || p[1] != p[0] || p[2] != p[0] {
		t.Errorf("the second container's port 41234 is %v outside", p)
	}
	if n := l.counts()["udp"]; n != 6 {
		t.Errorf("%d flows, want 6", n)
	}
	// Nobody else gets in.
	stranger := l.packetsOutside(outside4 + ":0")
	stranger.WriteToUDPAddrPort([]byte("y"), netip.MustParseAddrPort(outside4+":41234"))
	l.eventually("the stranger's datagram is counted", func() bool { return one.port.Stats.Drops[vswitch.Unsolicited] == 1 })
	servers[0].WriteToUDPAddrPort([]byte("z"), netip.MustParseAddrPort(outside4+":41234"))
	if n, _, err := a.ReadFromUDPAddrPort(buf); err != nil || string(buf[:n]) != "z" {
		t.Errorf("%q %v", buf[:n], err)
	}
}

// Errors reach the socket that sent the datagram, each time.
func TestUDPRefused(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	routes(t, "unreachable", "198.51.100.1/32", "2001:db8:1::1/128")
	routes(t, "prohibit", "198.51.100.2/32", "2001:db8:1::2/128")
	for _, c := range []struct {
		to   string
		want unix.Errno
	}{
		{outside4 + ":9", unix.ECONNREFUSED},
		{"[" + outside6 + "]:9", unix.ECONNREFUSED},
		{"172.17.0.1:9", unix.ECONNREFUSED},
		{"[fd00:17::1]:9", unix.ECONNREFUSED},
		{"198.51.100.1:9", unix.EHOSTUNREACH},
		{"[2001:db8:1::1]:9", unix.EHOSTUNREACH},
		{"198.51.100.2:9", unix.EHOSTUNREACH},
		{"[2001:db8:1::2]:9", unix.EACCES},
		{"169.254.169.254:9", unix.EHOSTUNREACH},
		{"127.0.0.1:9", unix.ECONNREFUSED},
	} {
		conn, err := b.dialWith("udp", c.to, func(fd int) { // unreachable is told to who asks only
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
		})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		for k := range 3 {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Errorf("%s: write: %v", c.to, err)
			}
			if _, err := conn.Read(make([]byte, 1)); errno(err) != c.want {
				t.Errorf("%s, datagram %d: %v, want %v; drops %v", c.to, k, err, c.want, l.drops(b))
			}
		}
		conn.Close()
	}
}

// More than a turn's share of errors comes at once and all are told.
func TestUDPManyErrors(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	pc := b.packets("0.0.0.0:0")
	raw(pc, func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1) })
	const count = 48
	hold := make(chan struct{})
	busy := make(chan struct{})
	go l.do(func() { close(busy); <-hold })
	<-busy
	for i := range count {
		for {
			_, err := pc.WriteToUDPAddrPort([]byte{byte(i)}, netip.AddrPortFrom(netip.MustParseAddr(outside4), uint16(100+i)))
			if err == nil {
				break
			}
		}
	}
	close(hold)
	ports := make(map[int]bool)
	for end := time.Now().Add(patience); len(ports) < count && time.Now().Before(end); {
		ok := false
		raw(pc, func(fd int) {
			oob := make([]byte, 512)
			_, _, _, to, err := unix.Recvmsg(fd, make([]byte, 64), oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if a, is := to.(*unix.SockaddrInet4); err == nil && is {
				ports[a.Port], ok = true, true
			}
		})
		if !ok {
			time.Sleep(time.Millisecond)
		}
	}
	if len(ports) != count {
		t.Errorf("%d of %d errors were told: %v", len(ports), count, ports)
	}
}

// A published port serves several clients and keeps their addresses; answers
// come from the address that was asked.
func TestPublishedUDP(t *testing.T) {
	l := newLab(t, Config{})
	br := l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500)
	br4 := l.bridge("bridge4", "172.18.0.0/16", "", 1500)
	br6 := l.bridge("bridge6", "", "fd00:19::/64", 1500)
	dual, only4, only6 := l.box(br, boxConfig{}), l.box(br4, boxConfig{}), l.box(br6, boxConfig{})
	for _, c := range []struct {
		name     string
		b        *box
		any      string
		from, to string
		seen     string
	}{
		{"IPv4", dual, "0.0.0.0:0", outside4b, outside4, outside4b},
		{"IPv4, asked at another address", dual, "0.0.0.0:0", outside4, outside4b, outside4},
		{"IPv6", dual, "[::]:0", outside6b, outside6, outside6b},
		{"loopback", dual, "0.0.0.0:0", "127.0.0.1", "127.0.0.1", "172.17.0.1"},
		{"loopback, IPv6", dual, "[::]:0", "::1", "::1", "fd00:17::1"},
		{"one address", dual, outside4 + ":0", outside4b, outside4, outside4b},
		{"IPv6 to a container without", only4, "[::]:0", outside6b, outside6, "172.18.0.1"},
		{"IPv4 to a container without", only6, "0.0.0.0:0", outside4b, outside4, "fd00:19::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := "0.0.0.0:53535"
			if !c.b.ip4.IsValid() || netip.MustParseAddr(c.to).Is6() && c.b.ip6.IsValid() {
				at = "[::]:53535"
			}
			server := c.b.packets(at)
			defer server.Close()
			pub, id := l.publish("udp", c.any, c.b, 53535)
			defer l.do(func() { l.nat.Unpublish(id) })
			to := netip.AddrPortFrom(netip.MustParseAddr(c.to), pub.Port())
			froms := make(chan netip.AddrPort, 100)
			go func() {
				buf := make([]byte, 65536)
				for {
					n, from, err := server.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					froms <- from
					server.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
			var clients []*net.UDPConn
			for range 5 {
				clients = append(clients, l.packetsOutside(net.JoinHostPort(c.from, "0")))
			}
			for round := range 2 {
				for k, client := range clients {
					if err := ask(client, to, pattern(1000*k+round)); err != nil {
						t.Fatalf("client %d: %v; %v", k, err, l.drops(c.b))
					}
					if from := <-froms; from.Addr().Unmap().String() != c.seen || from.Port() != localPort(client).Port() {
						t.Errorf("the server sees %s, want %s with port %d", from, c.seen, localPort(client).Port())
					}
				}
			}
			if n := l.counts()["udp"]; n != len(clients) {
				t.Errorf("%d flows, want %d", n, len(clients))
			}
		})
		l.eventually("flows end with their listener", func() bool { return l.nat.Counts()["udp"] == 0 })
	}
}

// What a container sends from its published port leaves by the listener: its
// mapping is one.
func TestPublishedUDPSends(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	pub, _ := l.publish("udp", "0.0.0.0:0", b, 5000)
	pc := b.packets("0.0.0.0:5000")
	server := l.packetsOutside(outside4 + ":0")
	go echoUDP(server)
	if err := ask(pc, localPort(server), []byte("out")); err != nil {
		t.Fatal(err)
	}
	var host netip.AddrPort
	l.do(func() { host = l.nat.Flows()[0].Host })
	if host.Port() != pub.Port() {
		t.Errorf("it leaves from %s, want port %d", host, pub.Port())
	}
}

// sendSegments sends data with one call, cut into datagrams by the kernel.
func sendSegments(pc *net.UDPConn, to netip.AddrPort, data []byte, size int) error {
	oob := make([]byte, unix.CmsgSpace(2))
	h := []byte(nil)
	h = binary.NativeEndian.AppendUint64(h, uint64(unix.CmsgLen(2)))
	h = binary.NativeEndian.AppendUint32(h, unix.SOL_UDP)
	h = binary.NativeEndian.AppendUint32(h, udpSegment)
	h = binary.NativeEndian.AppendUint16(h, uint16(size))
	copy(oob, h)
	_, _, err := pc.WriteMsgUDPAddrPort(data, oob, to)
	return err
}

// One call with many datagrams (UDP_SEGMENT) stays one frame through the
// switch, either way, and arrives as the datagrams it was.
func TestUDPSegments(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) {
			l := newLab(t, Config{})
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{plain: plain})
			for _, host := range []string{outside4, outside6} {
				any := "0.0.0.0:0"
				if strings.Contains(host, ":") {
					any = "[::]:0"
				}
				outside, inside := l.packetsOutside(net.JoinHostPort(host, "0")), b.packets(any)
				for _, size := range []int{100, 1000, 1200} {
					data := pattern(40*size + 17)
					var frames uint64
					l.do(func() { frames = b.port.Stats.TxFrames })
					if err := sendSegments(inside, localPort(outside), data, size); err != nil {
						t.Fatal(err)
					}
					back, err := collect(outside, data, size)
					if err != nil {
						t.Fatalf("%s, out, %d: %v; %v", host, size, err, l.drops(b))
					}
					l.do(func() { frames = b.port.Stats.TxFrames - frames })
					if !plain && frames > 5 {
						t.Errorf("%s, out, %d: 41 datagrams took %d frames", host, size, frames)
					}
					if err := sendSegments(outside, back, data, size); err != nil {
						t.Fatal(err)
					}
					if _, err := collect(inside, data, size); err != nil {
						t.Fatalf("%s, in, %d: %v; %v", host, size, err, l.drops(b))
					}
				}
			}
		})
	}
}

// collect receives datagrams until data is complete.
func collect(pc *net.UDPConn, data []byte, size int) (from netip.AddrPort, err error) {
	buf := make([]byte, 65536)
	for at := 0; at < len(data); {
		var n int
		if n, from, err = pc.ReadFromUDPAddrPort(buf); err != nil {
			return from, err
		}
		if want := min(size, len(data)-at); n != want || !bytes.Equal(buf[:n], data[at:at+n]) {
			return from, fmt.Errorf("a datagram of %d bytes at %d, want %d, or other bytes", n, at, want)
		}
		at += n
	}
	return from, nil
}

// A path with a smaller MTU: the container hears of it and sends what fits.
func TestUDPPathMTU(t *testing.T) {
	l := newLab(t, Config{})
	far := newFar(t)
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	setMTU(t, "far0", 1300)
	var servers [2]*net.UDPConn
	far.run(t, func(t testing.TB) {
		for i, at := range []string{farAddr + ":0", "[" + farAddr6 + "]:0"} {
			pc, err := packets(at)
			if err != nil {
				t.Error(err)
				return
			}
			servers[i] = pc
		}
	})
	for i, header := range []int{28, 48} {
		pc := l.keep(servers[i])
		go echoUDP(pc)
		c, err := b.dialWith("udp", pc.LocalAddr().String(), func(fd int) {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, 1400)); err != nil {
			t.Fatal(err)
		}
		mtu := 0
		for end := time.Now().Add(patience); mtu != 1300 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			raw(c, func(fd int) {
				if header == 28 {
					mtu, _ = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
				} else {
					mtu, _ = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
				}
			})
		}
		if mtu != 1300 {
			t.Fatalf("the container believes in %d bytes; %v", mtu, l.drops(b))
		}
		raw(c, func(fd int) { unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) })
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(make([]byte, 1300-header)); err != nil {
			t.Errorf("what fits: %v", err)
		}
		if n, err := c.Read(make([]byte, 2000)); n != 1300-header || err != nil {
			t.Errorf("what fits: %d %v", n, err)
		}
	}
}

// The same for TCP, which the host's kernel deals with.
func TestTCPPathMTU(t *testing.T) {
	l := newLab(t, Config{})
	far := newFar(t)
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	setMTU(t, "far0", 1300)
	for _, at := range []string{farAddr, farAddr6} {
		var ln net.Listener
		if err := far.do(func() (err error) { ln, err = listen("tcp", net.JoinHostPort(at, "0"), nil); return }); err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		in, out := b.pair(ln, nil)
		if err := exchange(in, out, mib, mib); err != nil {
			t.Fatal(err)
		}
	}
}

// Flows that are silent end after the time that conntrack gives them, and their
// socket with the last of them.
func TestUDPExpires(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	silent, talks := l.packetsOutside(outside4+":0"), l.packetsOutside(outside4b+":0")
	go echoUDP(talks)
	pc := b.packets("0.0.0.0:0")
	pc.WriteToUDPAddrPort([]byte("x"), localPort(silent))
	if err := ask(pc, localPort(talks), []byte("x")); err != nil {
		t.Fatal(err)
	}
	counts := func() (flows, records int) {
		l.do(func() { flows, records = l.nat.Counts()["udp"], l.nat.used })
		return
	}
	l.eventually("both flows are there", func() bool { return l.nat.Counts()["udp"] == 2 })
	for _, c := range []struct {
		pass          time.Duration
		flows, record int
	}{{25 * time.Second, 2, 3}, {10 * time.Second, 1, 2}, {75 * time.Second, 1, 2}, {15 * time.Second, 0, 0}} {
		l.pass(c.pass)
		if f, r := counts(); f != c.flows || r != c.record {
			t.Errorf("after %s more: %d flows and %d records, want %d and %d", c.pass, f, r, c.flows, c.record)
		}
	}
}

// The host's loopback is reached through the gateway's address, where it is
// opened and only then.
func TestHostLoopback(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	ln := l.listenOutside("tcp", "127.0.0.1:0", nil)
	pc := l.packetsOutside("127.0.0.1:0")
	go echoUDP(pc)
	tcp, udp := uint16(ln.Addr().(*net.TCPAddr).Port), localPort(pc).Port()
	gw := netip.MustParseAddr("172.17.0.1")
	open := func(port uint16) error {
		c, err := b.dial("tcp", net.JoinHostPort(gw.String(), strconv.Itoa(int(port))))
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := open(tcp); errno(err) != unix.ECONNREFUSED {
		t.Errorf("closed: %v", err)
	}
	l.do(func() { l.nat.SetPolicy(Policy{HostAddress: true, LoopbackPorts: []uint16{tcp, udp}}) })
	if err := open(tcp); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := open(tcp + 1); errno(err) != unix.ECONNREFUSED {
		t.Errorf("another port: %v", err)
	}
	if err := ask(b.packets("0.0.0.0:0"), netip.AddrPortFrom(gw, udp), []byte("question")); err != nil {
		t.Errorf("udp: %v", err)
	}
}
