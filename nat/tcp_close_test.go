package nat

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One side says that it has finished; the other goes on for as long as it
// likes. Nothing is left of the flow afterwards, which the lab's end looks at.
func TestHalfClose(t *testing.T) {
	for _, faulty := range []bool{false, true} {
		l := newLab(t, Config{})
		var c boxConfig
		if faulty {
			c = boxConfig{in: faults{30, 30, 30}, out: faults{30, 30, 30}}
		}
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), c)
		ln := l.listenOutside("tcp", outside4+":0", nil)
		for _, containerFirst := range []bool{true, false} {
			first, second := b.pair(ln, nil)
			if !containerFirst {
				first, second = second, first
			}
			if err := upload(first, 1, 1000); err != nil {
				t.Fatal(err)
			}
			if err := download(second, 1, 1000); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- download(first, 2, mib) }()
			for range 64 {
				if _, err := second.Write(make([]byte, 0)); err != nil {
					t.Fatal(err)
				}
			}
			if err := upload(second, 2, mib); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatalf("container first %v: %v", containerFirst, err)
			}
			first.Close()
			second.Close()
		}
	}
}

// The container's last bytes and its FIN wait for the socket to take them when
// the outside has finished long before: nothing else happens that would end the
// flow.
func TestLastBytesWaitInTheSpill(t *testing.T) {
	l := newLab(t, Config{})
	l.out.onSocket = func(fd, typ int) { unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 16384) }
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	in, out := b.pair(l.listenOutside("tcp", outside4+":0", small), nil)
	if err := out.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	l.eventually("the end of the outside is acknowledged", func() bool { return l.theTCP().has(fFinAcked) })
	const size = 52 << 10
	if err := upload(in, 1, size); err != nil {
		t.Fatal(err)
	}
	in.Close()
	// The FIN itself may still be on the other side, where the congestion window
	// waits for acknowledgements.
	l.eventually("the container's last bytes wait in the spill", func() bool {
		f := l.theTCP()
		return f.tcp.rcvNxt-f.tcp.peerISN > size && f.tcp.spill != none
	})
	if err := download(out, 1, size); err != nil {
		t.Fatal(err)
	}
	l.settle() // before the outside closes, too
}

func TestReset(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	for _, at := range []string{outside4, outside6} {
		ln := l.listenOutside("tcp", net.JoinHostPort(at, "0"), nil)
		for _, c := range []struct {
			name string
			do   func(mine, other net.Conn) (write error)
		}{
			{"a reset", func(mine, _ net.Conn) error { return mine.(*net.TCPConn).SetLinger(0) }},
			{"closed with bytes unread", func(mine, other net.Conn) error {
				other.Write([]byte("unread"))
				mine.Read(make([]byte, 1))
				return nil
			}},
			{"a reset amid a transfer", func(mine, other net.Conn) error {
				wrote := make(chan error)
				go func() {
					_, err := io.Copy(other, newStream(1, 1<<40))
					wrote <- err
				}()
				io.CopyN(io.Discard, mine, mib)
				mine.(*net.TCPConn).SetLinger(0)
				mine.Close()
				return <-wrote
			}},
			{"a reset of what is half closed", func(mine, other net.Conn) error {
				other.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, mine)
				return mine.(*net.TCPConn).SetLinger(0)
			}},
		} {
			for _, containerFirst := range []bool{true, false} {
				mine, other := b.pair(ln, nil)
				if !containerFirst {
					mine, other = other, mine
				}
				err := c.do(mine, other)
				mine.Close()
				if err == nil {
					_, err = io.Copy(io.Discard, other)
				}
				if e := errno(err); e != unix.ECONNRESET {
					t.Errorf("%s, %s, container first %v: the other end sees %v", at, c.name, containerFirst, err)
				}
				other.Close()
			}
		}
	}
}

// What the outside sent before its reset is read before the reset, though the
// container goes on writing meanwhile.
func TestBytesBeforeReset(t *testing.T) {
	const size = 48 << 10 // less than the host's socket takes
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), small)
	if err := upload(out, 1, size); err != nil {
		t.Fatal(err)
	}
	l.eventually("the host's socket has all bytes", func() bool {
		left := 1
		raw(out, func(fd int) { left, _ = unix.IoctlGetInt(fd, unix.SIOCOUTQ) })
		return left == 0
	})
	if err := out.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	out.Close()
	for range 3 { // the first tells the switch, the others do not change its mind
		if _, err := in.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually("the reset is noticed", func() bool { return l.theTCP().has(fGone) })
	if err := download(io.LimitReader(in, size), 1, size); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 1)); errno(err) != unix.ECONNRESET {
		t.Errorf("behind the bytes comes %v", err)
	}
}

// A connection that does not come about fails in the container as it failed
// here, and at once.
func TestConnectFails(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	routes(t, "unreachable", "198.51.100.1/32", "2001:db8:1::1/128")
	routes(t, "prohibit", "198.51.100.2/32", "2001:db8:1::2/128")
	for _, c := range []struct {
		to     string
		want   []unix.Errno
		reason string
	}{
		{outside4 + ":9", []unix.Errno{unix.ECONNREFUSED}, "refused"},
		{"[" + outside6 + "]:9", []unix.Errno{unix.ECONNREFUSED}, "refused"},
		{"198.51.100.1:80", []unix.Errno{unix.EHOSTUNREACH}, "no-route"},
		{"[2001:db8:1::1]:80", []unix.Errno{unix.EHOSTUNREACH}, "no-route"},
		{"198.51.100.2:80", []unix.Errno{unix.EHOSTUNREACH}, "refused"},
		{"[2001:db8:1::2]:80", []unix.Errno{unix.EACCES}, "refused"},
		{"203.0.113.250:80", []unix.Errno{unix.EHOSTUNREACH}, "no-route"}, // no route at all
		{"[2001:db8:9::9]:80", []unix.Errno{unix.EHOSTUNREACH}, "no-route"},
		{"127.0.0.1:80", []unix.Errno{unix.ECONNREFUSED}, ""}, // its own loopback
		{"172.17.0.1:80", []unix.Errno{unix.ECONNREFUSED}, "refused"},
		{"[fd00:17::1]:80", []unix.Errno{unix.ECONNREFUSED}, "refused"},
		{"169.254.169.254:80", []unix.Errno{unix.EHOSTUNREACH}, "link-local"},
		{"[fd00:ec2::254]:80", []unix.Errno{unix.EACCES}, "link-local"},
	} {
		before := l.drops(b)[c.reason]
		var conn net.Conn
		err := b.do(func() (err error) {
			d := net.Dialer{Timeout: 3 * time.Second}
			conn, err = d.Dial("tcp", c.to)
			return err
		})
		if err == nil {
			conn.Close()
		}
		ok := false
		for _, e := range c.want {
			ok = ok || errno(err) == e
		}
		if !ok {
			t.Errorf("%s: %v, want one of %v", c.to, err, c.want)
		}
		if n := l.drops(b)[c.reason]; c.reason != "" && n == before {
			t.Errorf("%s: no drop was counted under %s: %v", c.to, c.reason, l.drops(b))
		}
	}
}

// Nobody answers: the container hears nothing, and its own timer ends it. The
// host's socket ends, too.
func TestConnectTimesOut(t *testing.T) {
	l := newLab(t, Config{})
	hole := blackHole(t, "198.51.100.128/25")
	defer hole.Close()
	l.out.onSocket = func(fd, typ int) {
		if typ == unix.SOCK_STREAM {
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1)
		}
	}
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	_, err := b.dialWith("tcp", "198.51.100.129:80", func(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1) })
	if errno(err) != unix.ETIMEDOUT {
		t.Errorf("want a timeout: %v", err)
	}
	l.eventually("the host gives up, too", func() bool { return l.nat.Counts()["tcp"] == 0 && l.nat.Stats.TCPTimeouts == 1 })
}

// The container gives up a connection that the host still tries, and uses the
// port again: the second one must not be taken for the first.
func TestPortUsedAgainWhileConnecting(t *testing.T) {
	l := newLab(t, Config{})
	hole := blackHole(t, "198.51.100.128/25")
	defer hole.Close()
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	seen := make(map[uint32]bool)
	for range 3 {
		err := b.do(func() error {
			d := net.Dialer{Timeout: 50 * time.Millisecond, LocalAddr: &net.TCPAddr{Port: 12345}}
			_, err := d.Dial("tcp", "198.51.100.130:80")
			return err
		})
		if e, ok := err.(net.Error); !ok || !e.Timeout() {
			t.Fatal(err)
		}
		l.do(func() { seen[l.theTCP().tcp.peerISN] = true })
	}
	if len(seen) != 3 {
		t.Errorf("3 connections began with %d sequence numbers: %v", len(seen), seen)
	}
	l.pass(connectLimit)
}

// An ICMP error about an established connection is a hint: the connection
// survives a route that is gone for a while, as the host's own do.
func TestEstablishedSurvivesUnreachable(t *testing.T) {
	l := newLab(t, Config{})
	far := newFar(t)
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	var ln net.Listener
	if err := far.do(func() (err error) { ln, err = listen("tcp", farAddr+":0", nil); return }); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	in, out := b.pair(ln, nil)
	far.vanish(t)
	before := snmp(t, "Icmp", "InDestUnreachs")
	if _, err := in.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	for snmp(t, "Icmp", "InDestUnreachs") == before {
		time.Sleep(time.Millisecond)
	}
	l.do(func() {})
	far.appear(t)
	got := make([]byte, 3)
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "one" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := out.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "two" {
		t.Fatalf("%q %v", got, err)
	}
}

// snmp reads a counter of this namespace.
func snmp(t *testing.T, group, name string) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != group+":" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := range f {
			if names[i] == name {
				fmt.Sscan(f[i], &n)
				return n
			}
		}
	}
	t.Fatalf("no counter %s %s", group, name)
	return 0
}

// Thousands of short connections leave nothing behind: no flow, no spill, no
// descriptor.
func TestManyShortConnections(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	var addrs []string
	for _, at := range []string{outside4, outside4b, outside6, outside6b} {
		ln := l.listenOutside("tcp", net.JoinHostPort(at, "0"), nil)
		addrs = append(addrs, ln.Addr().String())
		go serveShort(ln)
	}
	run := func(count int) {
		var wg sync.WaitGroup
		work := make(chan int)
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				b.do(func() error {
					for i := range work {
						if err := short(addrs[i%len(addrs)], i); err != nil {
							t.Error(i, err)
						}
					}
					return nil
				})
			}()
		}
		for i := range count {
			work <- i
		}
		close(work)
		wg.Wait()
	}
	run(50) // the runtime's own descriptors are open then
	l.settle()
	before := descriptors(t)
	run(2000)
	l.settle()
	for end := time.Now().Add(patience); descriptors(t) != before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors are open, %d were", descriptors(t), before)
		}
	}
	if l.nat.Stats.TCPOpened != 2050 {
		t.Errorf("%d connections were counted", l.nat.Stats.TCPOpened)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// serveShort answers a line; lines with an odd number are not waited behind.
func serveShort(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 64)
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(buf[:n])
			if n > 0 && buf[0]&1 == 0 {
				io.Copy(io.Discard, c) // the client closes first
			}
		}()
	}
}

func short(to string, i int) error {
	c, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	line := fmt.Sprintf("%c question %d", 'a'+i%2, i)
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	buf := make([]byte, len(line))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != line {
		return fmt.Errorf("%q %w", buf, err)
	}
	if i%2 == 0 { // 'a' is odd: the server closes first
		_, err := c.Read(buf)
		if err != io.EOF {
			return fmt.Errorf("expected the end: %v", err)
		}
	}
	return nil
}
