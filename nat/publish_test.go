package nat

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom connects from the host's address from to a published port.
func dialFrom(from, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, KeepAlive: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	d.Control = control(func(fd int) { unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	c, err := d.Dial("tcp", to)
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// hostPort is the host's address with the port of a publication.
func hostPort(host string, at netip.AddrPort) string {
	return net.JoinHostPort(host, strconv.Itoa(int(at.Port())))
}

// Who the server sees as its client: the client, wherever it can answer it.
func TestPublishedClientAddress(t *testing.T) {
	l := newLab(t, Config{})
	br := l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500)
	br4 := l.bridge("bridge4", "172.18.0.0/16", "", 1500)
	br6 := l.bridge("bridge6", "", "fd00:19::/64", 1500)
	addAddrs(t, "lo", "172.17.0.77/32", "fd00:17::77/128") // as a docker0 of the host might have
	both, only4, only6 := l.box(br, boxConfig{}), l.box(br4, boxConfig{}), l.box(br6, boxConfig{})
	for _, c := range []struct {
		name     string
		b        *box
		at       string // where the port is published
		from, to string
		seen     string
	}{
		{"IPv4", both, "0.0.0.0", outside4b, outside4, outside4b},
		{"IPv6", both, "[::]", outside6b, outside6, outside6b},
		{"one address of the host", both, outside4, outside4b, outside4, outside4b},
		{"the host to itself", both, "0.0.0.0", outside4, outside4, outside4},
		{"loopback", both, "0.0.0.0", "127.0.0.1", "127.0.0.1", "172.17.0.1"},
		{"another loopback address", both, "0.0.0.0", "127.8.8.8", "127.0.0.1", "172.17.0.1"},
		{"loopback, IPv6", both, "[::]", "::1", "::1", "fd00:17::1"},
		{"on the container's own link", both, "0.0.0.0", "172.17.0.77", outside4, "172.17.0.1"},
		{"on the container's own link, IPv6", both, "[::]", "fd00:17::77", outside6, "fd00:17::1"},
		{"IPv6 to a container without", only4, "[::]", outside6b, outside6, "172.18.0.1"},
		{"IPv4 to a container without", only6, "0.0.0.0", outside4b, outside4, "fd00:19::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln := c.b.listen("tcp", ":80", nil)
			defer ln.Close()
			at, id := l.publish("tcp", c.at+":0", c.b, 80)
			defer l.do(func() { l.nat.Unpublish(id) })
			to := hostPort(c.to, at)
			client, err := dialFrom(net.JoinHostPort(c.from, "0"), to)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			seen := server.RemoteAddr().(*net.TCPAddr).AddrPort()
			if seen.Addr().Unmap().String() != c.seen {
				t.Errorf("the server sees %s, want %s", seen, c.seen)
			}
			if port := client.LocalAddr().(*net.TCPAddr).Port; int(seen.Port()) != port {
				t.Errorf("the server sees port %d of the client, want %d", seen.Port(), port)
			}
			if err := exchange(client, server, 100_000, 100_000); err != nil {
				t.Error(err)
			}
		})
	}
}

// Clients whose tuples fall together in the container get different ports.
func TestPublishedTuplesCollide(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	one, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	two, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	seen := make(map[string]bool)
	for _, c := range []struct {
		from string
		to   netip.AddrPort
	}{{"127.0.0.1", one}, {"127.0.0.2", one}, {"127.0.0.1", two}, {"127.0.0.2", two}} {
		client, err := dialFrom(c.from+":23456", hostPort("127.0.0.1", c.to))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if a := server.RemoteAddr().String(); seen[a] || !strings.HasPrefix(a, "172.17.0.1:") {
			t.Errorf("client %s was seen before or is not the gateway: %v", a, seen)
		} else {
			seen[a] = true
		}
		msg := []byte(c.from + c.to.String())
		client.Write(msg)
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != string(msg) {
			t.Errorf("%q %v", got, err)
		}
	}
}

func TestPublishedTransfer(t *testing.T) {
	for _, c := range []struct {
		name string
		box  boxConfig
		v6   bool
		mtu  int
	}{
		{name: "clean", mtu: 1500},
		{name: "IPv6", mtu: 1500, v6: true},
		{name: "MTU 65520", mtu: 65520},
		{name: "plain TAP", mtu: 1500, box: boxConfig{plain: true}},
		{name: "with faults", mtu: 1500, box: boxConfig{in: usual, out: usual}},
		{name: "with many faults", mtu: 1500, box: boxConfig{in: faults{50, 50, 50}, out: faults{50, 50, 50}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", c.mtu), c.box)
			ln := b.listen("tcp", ":80", nil)
			any, host := "0.0.0.0:0", outside4
			if c.v6 {
				any, host = "[::]:0", outside6
			}
			at, _ := l.publish("tcp", any, b, 80)
			for range 3 {
				client, err := net.Dial("tcp", hostPort(host, at))
				if err != nil {
					t.Fatal(err)
				}
				server, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if err := exchange(client, server, 4*mib, 4*mib); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// The host accepts before the container is asked, so that a refusal comes as a
// reset; so does silence, after a while.
func TestPublishedWithoutServer(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	to := hostPort(outside4, at)
	if err := resetBy(to); err != nil {
		t.Errorf("the container refuses: %v", err)
	}
	if n := l.drops(b)["refused"]; n != 1 {
		t.Errorf("drops: %v", l.drops(b))
	}
	b.dev.down.Store(true)
	silent := make(chan error, 1)
	go func() { silent <- resetBy(to) }()
	l.eventually("the container is given up", func() bool {
		l.ahead.Add(1e9)
		l.sw.Schedule(1)
		return l.nat.Stats.TCPTimeouts == 1
	})
	if err := <-silent; err != nil {
		t.Errorf("the container is silent: %v", err)
	}
	gone, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("it is accepted", func() bool { return l.nat.Counts()["tcp"] == 1 })
	gone.(*net.TCPConn).SetLinger(0)
	gone.Close()
	l.eventually("a client that went away is forgotten", func() bool { return l.nat.Counts()["tcp"] == 0 })
}

// resetBy connects and expects a reset, which may come before the connection is
// seen to be one.
func resetBy(to string) error {
	c, err := net.DialTimeout("tcp", to, patience)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if errno(err) != unix.ECONNRESET {
		return fmt.Errorf("want a reset, not %v", err)
	}
	return nil
}

// The container closed a connection of a long upload a moment ago and keeps it
// in TIME_WAIT with a high sequence number; the same client port comes again.
func TestPublishedPortUsedAgain(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	for round := range 2 {
		client, err := dialFrom(outside4b+":34567", hostPort(outside4, at))
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		var server net.Conn
		for server == nil {
			select {
			case server = <-accepted:
			case <-time.After(10 * time.Millisecond):
				l.pass(100 * time.Millisecond) // the SYN comes again
			}
			gaveUp := false
			l.do(func() { gaveUp = l.nat.Stats.TCPTimeouts > 0 })
			if gaveUp {
				t.Fatalf("round %d: the container does not take the connection", round)
			}
		}
		const size = 16 * mib // 67 seconds of the clock that sequence numbers begin with
		go upload(client, 1, size)
		if err := download(io.LimitReader(server, size), 1, size); err != nil {
			t.Fatal(err)
		}
		server.Close()
		io.Copy(io.Discard, client)
		client.Close()
		l.eventually("the connection ends", func() bool {
			l.ahead.Add(10e6)
			l.sw.Schedule(1)
			return l.nat.Counts()["tcp"] == 0
		})
	}
}

// Without descriptors a listener waits for some instead of spinning, and goes
// on where it was.
func TestPublishedOutOfDescriptors(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	at, _ := l.publish("tcp", "0.0.0.0:0", b, 80)
	client, err := net.Dial("tcp", hostPort(outside4, at))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if server, err := ln.Accept(); err != nil {
		t.Fatal(err)
	} else {
		server.Close()
	}
	l.settle()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var lim unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	low := lim
	low.Cur = 3 // all that are open stay so
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var sa sockaddr
	sa.set(netip.AddrPortFrom(netip.MustParseAddr(outside4), at.Port()))
	e := sysConnect(fd, &sa)
	errs := uint64(0)
	for end := time.Now().Add(patience); errs == 0 && time.Now().Before(end); {
		l.do(func() { errs = l.nat.Stats.Errors })
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	if e != 0 || errs == 0 {
		t.Fatal(e, errs)
	}
	l.pass(time.Second)
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	l.do(func() {
		if n := l.nat.Stats.Errors; n != errs {
			t.Errorf("%d failures to accept, want 1", n)
		}
	})
}

// A listener is asked once for a connection, and for more where one has just come.
func TestClientsAtOnce(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := b.listen("tcp", ":80", nil)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	at, id := l.publish("tcp", "0.0.0.0:0", b, 80)
	const clients = 20
	l.do(func() {
		for range clients {
			c, err := dialFrom(outside4b+":0", hostPort(outside4, at))
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
		}
		p := l.nat.pub.byID(id)
		if !l.reaches("clients that wait", clients, func() (int, error) { // the last one may be on its way still
			info, err := unix.GetsockoptTCPInfo(p.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				return 0, err
			}
			return int(info.Unacked), nil // of a listener: how many wait
		}) {
			return
		}
		p.acceptedAt = l.sw.Turns() - 2 // long ago
		for look, want := range []uint64{1, 3, 7, 15, 20} {
			if l.nat.publishedConnections(p); p.accepts != want {
				t.Errorf("%d are accepted after look %d, not %d", p.accepts, look+1, want)
			}
		}
	})
}
