package nat

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// A path of 100 ms that loses one packet in a hundred: connections of every
// kind at once, and each carries what it should.
func TestSlowPath(t *testing.T) {
	l := newLab(t, Config{})
	slow := newSlowPath(l, 50*time.Millisecond, 10)
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
	const size = 512 << 10
	var conns sync.WaitGroup
	for _, c := range []struct {
		name      string
		v6        bool
		published bool
		carry     func(in, out net.Conn) error
	}{
		{"upload", false, false, carries(size, 0)},
		{"download", false, false, carries(0, size)},
		{"both", false, false, carries(size, size)},
		{"both, IPv6", true, false, carries(size, size)},
		{"a request first", false, false, request},
		{"a request first, IPv6", true, false, request},
		{"the outside asks", false, false, func(in, out net.Conn) error { return request(out, in) }},
		{"published, upload", false, true, carries(size, 0)},
		{"published, download", false, true, carries(0, size)},
		{"published, both, IPv6", true, true, carries(size, size)},
		{"published, a request first", false, true, func(in, out net.Conn) error { return request(out, in) }},
	} {
		var ln net.Listener
		to, far, any := farHost, farAddr, "0.0.0.0:0"
		if c.v6 {
			to, far, any = farHost6, farAddr6, "[::]:0"
		}
		if c.published {
			ln = b.listen("tcp", ":0", nil)
			pub, _ := l.publish("tcp", any, b, uint16(ln.Addr().(*net.TCPAddr).Port))
			to = netip.AddrPortFrom(netip.MustParseAddr(to), pub.Port()).String()
		} else {
			ln = slow.listen(l, net.JoinHostPort(far, "0"))
			to = ln.Addr().String()
		}
		conns.Go(func() {
			dial := slow.dial
			if !c.published {
				dial = func(to string) (net.Conn, error) { return b.dial("tcp", to) }
			}
			in, out, err := meet(ln, func() (net.Conn, error) { return dial(to) })
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			if !c.published {
				in, out = out, in
			}
			defer in.Close()
			defer out.Close()
			if err := c.carry(in, out); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
	conns.Wait()
	if slow.lost.Load() == 0 {
		t.Errorf("none of %d packets was lost", slow.passed.Load())
	}
}

// listen listens at the far end.
func (s *slowPath) listen(l *lab, at string) (ln net.Listener) {
	l.Helper()
	if err := s.do(func() (err error) { ln, err = listen("tcp", at, nil); return }); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { ln.Close() })
	return ln
}

// dial connects from the far end.
func (s *slowPath) dial(to string) (c net.Conn, err error) {
	err = s.do(func() error {
		d := net.Dialer{Timeout: patience, KeepAlive: -1}
		c, err = d.Dial("tcp", to)
		return err
	})
	return c, err
}

// meet dials ln's address and returns both ends.
func meet(ln net.Listener, dial func() (net.Conn, error)) (accepted, dialed net.Conn, err error) {
	type result struct {
		c   net.Conn
		err error
	}
	there := make(chan result, 1)
	go func() {
		c, err := dial()
		there <- result{c, err}
	}()
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	accepted, err = ln.Accept()
	r := <-there
	if err = errors.Join(err, r.err); err != nil {
		return nil, nil, err
	}
	for _, c := range []net.Conn{accepted, r.c} {
		c.SetDeadline(time.Now().Add(patience))
	}
	return accepted, r.c, nil
}

// carries is an exchange of up bytes from the container and down to it.
func carries(up, down int64) func(in, out net.Conn) error {
	return func(in, out net.Conn) error { return exchange(in, out, up, down) }
}

// request lets client ask and end its half; server reads to the end and then
// answers at length.
func request(client, server net.Conn) error {
	const question, answer = 64 << 10, 192 << 10
	served := make(chan error, 1)
	go func() {
		err := download(server, 1, question)
		if err == nil {
			err = upload(server, 2, answer)
		}
		if err != nil {
			client.SetDeadline(time.Now())
		}
		served <- err
	}()
	err := upload(client, 1, question)
	if err == nil {
		err = download(client, 2, answer)
	}
	if err != nil {
		server.SetDeadline(time.Now())
	}
	if e := <-served; e != nil {
		err = errors.Join(err, fmt.Errorf("at the server: %w", e))
	}
	if n, e := server.Read(make([]byte, 1)); err == nil && e != io.EOF {
		err = fmt.Errorf("the server reads %d bytes more: %v", n, e)
	}
	return err
}

// The long way lies between the switch and the container: here it is our own
// TCP that has to bear it.
func TestSlowContainer(t *testing.T) {
	one := faults{lose: 10}
	var ends sync.WaitGroup // they wait most of the time, so all do at once
	for _, c := range []struct {
		name     string
		long     time.Duration // each way
		up, down int64
		box      boxConfig
		v6       bool
		noPeek   bool
	}{
		{name: "100 ms", long: 50 * time.Millisecond, up: 4 * mib, down: 4 * mib},
		{name: "100 ms and losses", long: 50 * time.Millisecond, up: 2 * mib, down: 2 * mib, box: boxConfig{out: one, in: one}, v6: true},
		{name: "100 ms and losses, plain TAP", long: 50 * time.Millisecond, up: 256 << 10, down: 256 << 10, box: boxConfig{plain: true, out: one, in: one}},
		{name: "100 ms and losses, no SO_PEEK_OFF", long: 50 * time.Millisecond, up: 2 * mib, down: 2 * mib, box: boxConfig{out: one, in: one}, noPeek: true},
		{name: "longer than the timer", long: 150 * time.Millisecond, up: 128 << 10, down: 128 << 10},
	} {
		l := newLab(t, Config{})
		l.nat.noPeekOffset = c.noPeek
		c.box.delay = c.long
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), c.box)
		at := outside4
		if c.v6 {
			at = outside6
		}
		ln := l.listenOutside("tcp", net.JoinHostPort(at, "0"), nil)
		ends.Go(func() {
			out, in, err := meet(ln, func() (net.Conn, error) { return b.dial("tcp", ln.Addr().String()) })
			if err == nil {
				err = exchange(in, out, c.up, c.down)
			}
			if err != nil {
				l.report()
				t.Errorf("%s: %v", c.name, err)
			}
			// Nothing went more than three times, whoever it was that lost it.
			l.do(func() {
				if got := b.port.Stats.RxBytes; got > uint64(3*c.down+c.up/2+256<<10) {
					t.Errorf("%s: %d bytes went to the container for %d", c.name, got, c.down)
				}
			})
		})
	}
	ends.Wait()
}
