package nat

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pairLab is two bridges, the second container of the first with a published
// TCP and UDP port.
type pairLab struct {
	*lab
	one, two, three *box // one and two on the first bridge
	port            uint16
}

func newPairLab(t *testing.T, c boxConfig) *pairLab {
	l := newLab(t, Config{})
	first := l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500)
	second := l.bridge("bridge2", "172.18.0.0/16", "fd00:18::/64", 1400)
	p := &pairLab{lab: l, one: l.box(first, c), port: 8080}
	c.host = 3
	p.two = l.box(first, c)
	p.three = l.box(second, boxConfig{in: c.in, out: c.out})
	hosts := make(map[netip.Addr]struct{})
	for _, a := range []string{outside4, outside4b, outside6, outside6b} {
		hosts[netip.MustParseAddr(a)] = struct{}{}
	}
	l.do(func() { l.nat.SetPolicy(Policy{HostAddress: true, HostAddrs: hosts}) })
	for _, any := range []string{"0.0.0.0:8080", "[::]:8080"} {
		l.publish("tcp", any, p.two, 80)
		l.publish("udp", any, p.two, 80)
	}
	return p
}

// ways are who reaches the published port how, and who the server sees.
func (p *pairLab) ways() (ways []struct {
	name     string
	from     *box
	to, seen string
}) {
	add := func(name string, from *box, to, seen string) {
		ways = append(ways, struct {
			name     string
			from     *box
			to, seen string
		}{name, from, to, seen})
	}
	add("neighbour, by the gateway", p.one, "172.17.0.1", "172.17.0.1")
	add("neighbour, by the host", p.one, outside4, "172.17.0.1")
	add("itself, by the gateway", p.two, "172.17.0.1", "172.17.0.1")
	add("itself, by the host", p.two, outside4b, "172.17.0.1")
	add("another bridge, by its gateway", p.three, "172.18.0.1", "172.17.0.1")
	add("another bridge, by the other gateway", p.three, "172.17.0.1", "172.17.0.1")
	add("another bridge, by the host", p.three, outside4, "172.17.0.1")
	add("neighbour, by the gateway, IPv6", p.one, "fd00:17::1", "fd00:17::1")
	add("itself, by the host, IPv6", p.two, outside6, "fd00:17::1")
	add("another bridge, by its gateway, IPv6", p.three, "fd00:18::1", "fd00:17::1")
	return ways
}

func TestPairTCP(t *testing.T) {
	for _, c := range []struct {
		name string
		box  boxConfig
	}{{"offload", boxConfig{}}, {"plain TAPs on one bridge", boxConfig{plain: true}}, {"with faults", boxConfig{in: usual, out: usual}}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPairLab(t, c.box)
			ln := p.two.listen("tcp", ":80", nil)
			for _, w := range p.ways() {
				accepted := make(chan net.Conn, 1)
				go func() {
					c, _ := ln.Accept()
					accepted <- c
				}()
				client, err := w.from.dial("tcp", net.JoinHostPort(w.to, fmt.Sprint(p.port)))
				if err != nil {
					t.Fatalf("%s: %v; %v", w.name, err, p.drops(w.from))
				}
				server := <-accepted
				if a := server.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); a.String() != w.seen {
					t.Errorf("%s: the server sees %s, want %s", w.name, a, w.seen)
				}
				if err := exchange(client, server, 2*mib, 2*mib); err != nil {
					t.Fatalf("%s: %v; %v %v", w.name, err, p.drops(w.from), p.drops(p.two))
				}
			}
			if n := p.nat.Counts()["tcp"]; n != 0 {
				t.Errorf("%d flows through sockets", n)
			}
			for _, b := range p.boxes {
				b.dev.off.Store(true)
			}
			p.pass(15 * time.Second)
			p.eventually("pairs end after both FINs", func() bool {
				p.ahead.Add(1e9)
				p.sw.Schedule(1)
				return p.nat.used == 0
			})
		})
	}
}

func TestPairUDP(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain %v", plain), func(t *testing.T) { pairUDP(t, newPairLab(t, boxConfig{plain: plain})) })
	}
}

func pairUDP(t *testing.T, p *pairLab) {
	for _, w := range p.ways() {
		any := "0.0.0.0:80"
		if netip.MustParseAddr(w.to).Is6() {
			any = "[::]:80"
		}
		server := p.two.packets(any)
		froms := make(chan netip.Addr, 100)
		go func() {
			buf := make([]byte, 65536)
			for {
				n, from, err := server.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				froms <- from.Addr().Unmap()
				server.WriteToUDPAddrPort(buf[:n], from)
			}
		}()
		client := w.from.packets(any[:len(any)-2] + "0")
		to := netip.AddrPortFrom(netip.MustParseAddr(w.to), p.port)
		for _, size := range []int{0, 1, 1000, 1300} {
			if err := ask(client, to, pattern(size)); err != nil {
				t.Fatalf("%s, %d bytes: %v; %v %v", w.name, size, err, p.drops(w.from), p.drops(p.two))
			}
			if from := <-froms; from.String() != w.seen {
				t.Errorf("%s: the server sees %s, want %s", w.name, from, w.seen)
			}
		}
		// Fragments out, put together at the gateway, and a super-frame.
		if err := ask(client, to, pattern(9000)); err != nil {
			t.Fatalf("%s, 9000 bytes: %v; %v %v", w.name, err, p.drops(w.from), p.drops(p.two))
		}
		<-froms
		data := pattern(10*1000 + 5)
		if err := sendSegments(client, to, data, 1000); err != nil {
			t.Fatal(err)
		}
		var got []byte
		buf := make([]byte, 2000)
		for len(got) < len(data) {
			n, err := client.Read(buf)
			if err != nil {
				t.Fatalf("%s: %v after %d bytes of a super-frame; %v", w.name, err, len(got), p.drops(p.two))
			}
			got = append(got, buf[:n]...)
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s: other bytes came back of a super-frame", w.name)
		}
		server.Close()
		// Nobody listens any more: the server's kernel says so, and the client's.
		conn, err := w.from.dial("udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		conn.Write([]byte("x"))
		if _, err := conn.Read(buf); errno(err) != unix.ECONNREFUSED {
			t.Errorf("%s: closed: %v; %v %v", w.name, err, p.drops(w.from), p.drops(p.two))
		}
		conn.Close()
	}
}

// What is not published stays out of reach, silently between bridges.
func TestPairIsolation(t *testing.T) {
	p := newPairLab(t, boxConfig{})
	p.two.listen("tcp", ":80", nil)
	p.two.listen("tcp", ":81", nil)
	for _, c := range []struct {
		to   string
		want unix.Errno
	}{
		{"172.17.0.3:80", 0},
		{"172.17.0.3:81", 0},
		{"172.17.0.1:81", 0}, // another bridge's gateway: published ports only
		{"172.18.0.1:81", unix.ECONNREFUSED},
	} {
		before := p.drops(p.three)["isolated"]
		err := p.three.do(func() error {
			d := net.Dialer{Timeout: 100 * time.Millisecond}
			c, err := d.Dial("tcp", c.to)
			if err == nil {
				c.Close()
			}
			return err
		})
		e, ok := err.(net.Error)
		timeout := ok && e.Timeout()
		if c.want != 0 && errno(err) != c.want || c.want == 0 && !timeout {
			t.Errorf("%s: %v", c.to, err)
		}
		if got := p.drops(p.three)["isolated"] - before; (c.want == 0) != (got == 1) {
			t.Errorf("%s: %d frames were counted as isolated", c.to, got)
		}
	}
}
