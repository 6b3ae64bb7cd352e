package nat

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// theTCP is the lab's only TCP flow. It runs on the switch's thread.
func (l *lab) theTCP() *flow {
	if i := l.indexTCP(); i != none {
		return &l.nat.flows[i]
	}
	return &flow{tcp: tcpState{wnd: 1}}
}

// indexTCP is its number, or none.
func (l *lab) indexTCP() uint32 {
	for i := range l.nat.top {
		if l.nat.flows[i].kind == kindTCP {
			return i
		}
	}
	return none
}

// A container that does not read for minutes closes its window. It is probed,
// nothing is sent beyond it, and all arrives once it reads.
func TestContainerStopsReading(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     faults
		out    faults
		noPeek bool
	}{{name: "clean"}, {name: "with faults", in: usual, out: usual}, {name: "no SO_PEEK_OFF", noPeek: true}} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			l.nat.noPeekOffset = c.noPeek
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{in: c.in, out: c.out})
			in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), small)
			const size = 512 << 10
			sent, want := make(chan error, 1), newStream(1, size)
			go func() { sent <- upload(out, 1, size) }()
			for round := range 3 {
				l.eventually("the window closes", func() bool { return l.theTCP().tcp.wnd == 0 })
				before := b.dev.writes.Load()
				for range 10 {
					l.pass(9 * time.Second) // more than the longest pause between two probes
				}
				if n := b.dev.writes.Load() - before; n < 5 {
					t.Errorf("round %d: %d frames in 90 seconds of a closed window: who probes?", round, n)
				}
				l.do(func() {
					f := l.theTCP()
					if beyond := int32(f.tcp.sndNxt - f.tcp.sndUna - f.tcp.wnd); beyond > 0 {
						t.Errorf("round %d: %d bytes were sent beyond the window", round, beyond)
					}
				})
				part := int64(64 << 10)
				if round == 2 {
					part = size
				}
				if err := equal(io.LimitReader(in, part), io.LimitReader(want, part)); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// equal compares what r has until its end with what it should.
func equal(r, want io.Reader) error {
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; ; {
		n, err := r.Read(a)
		io.ReadFull(want, b[:n])
		if !bytes.Equal(a[:n], b[:n]) {
			return errorAt(at)
		}
		at += n
		if err == io.EOF {
			if n, _ := want.Read(b); n > 0 {
				return errorAt(at)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type errorAt int

func (e errorAt) Error() string {
	return fmt.Sprintf("not the bytes that were sent, around %d", int(e))
}

// countingGateway counts what epoll reports.
type countingGateway struct {
	vswitch.Gateway
	events int
}

func (c *countingGateway) Event(t vswitch.Token, events uint32) {
	c.events++
	c.Gateway.Event(t, events)
}

// An outside that does not read fills the socket; the container's window
// closes, nothing spins meanwhile, and all arrives once it reads.
func TestOutsideStopsReading(t *testing.T) {
	for _, c := range []struct {
		name   string
		mtu    int
		sndbuf int // of the host's socket; 0 for the kernel's choice
		box    boxConfig
	}{
		{name: "clean", mtu: 1500},
		{name: "MTU 65520", mtu: 65520},
		{name: "plain TAP, MTU 65520", mtu: 65520, box: boxConfig{plain: true}},
		{name: "small socket", mtu: 1500, sndbuf: 16384},
		{name: "small socket, MTU 65520", mtu: 65520, sndbuf: 16384},
		{name: "tiny socket", mtu: 1500, sndbuf: 1},
		{name: "tiny socket, plain TAP, MTU 65520", mtu: 65520, sndbuf: 1, box: boxConfig{plain: true}},
		{name: "with faults", mtu: 1500, box: boxConfig{in: faults{20, 20, 20}, out: faults{20, 20, 20}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			gw := &countingGateway{Gateway: l.nat}
			l.do(func() { l.sw.SetGateway(gw) })
			if c.sndbuf > 0 {
				l.out.onSocket = func(fd, typ int) { unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, c.sndbuf) }
			}
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "", c.mtu), c.box)
			in, out := b.pair(l.listenOutside("tcp", outside4+":0", small), nil)
			size := int64(16 * mib) // more than both kernels' buffers hold
			if c.sndbuf > 0 {
				size = 4 * mib
			}
			sent := make(chan error, 1)
			go func() { sent <- upload(in, 1, size) }()
			same, last := 0, uint32(0)
			l.eventually("the socket is full", func() bool {
				f := l.theTCP()
				if same++; f.tcp.rcvNxt != last {
					same, last = 0, f.tcp.rcvNxt
				}
				return f.has(fWantOut) && same == 100
			})
			quiet := 0
			l.do(func() { quiet = gw.events })
			for range 100 {
				l.pass(time.Millisecond)
			}
			l.do(func() {
				if n := gw.events - quiet; n > 50 {
					t.Errorf("%d events of a socket that is full", n)
				}
			})
			if err := equal(out, newStream(1, size)); err != nil {
				t.Fatal(err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Both ends have the smallest buffers and write before they read.
func TestSmallBuffersBothWays(t *testing.T) {
	l := newLab(t, Config{})
	l.out.onSocket = func(fd, typ int) { small(fd) }
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{in: usual, out: usual})
	for _, at := range []string{outside4, outside6} {
		in, out := b.pair(l.listenOutside("tcp", net.JoinHostPort(at, "0"), small), small)
		if err := exchange(in, out, 1*mib, 1*mib); err != nil {
			t.Fatal(err)
		}
	}
}

// Single bytes each way, each answered before the next.
func TestSingleBytes(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
	go func() {
		defer out.Close()
		var one [1]byte
		for {
			if _, err := out.Read(one[:]); err != nil {
				return
			}
			one[0] ^= 0x55
			out.Write(one[:])
		}
	}()
	for i := range 2000 {
		if _, err := in.Write([]byte{byte(i)}); err != nil {
			t.Fatal(i, err)
		}
		var got [1]byte
		if _, err := in.Read(got[:]); err != nil || got[0] != byte(i)^0x55 {
			t.Fatal(i, got, err)
		}
	}
	// And as fast as they go, without an answer.
	go func() {
		for i := range 5000 {
			in.Write([]byte{byte(i)})
		}
		in.Close()
	}()
}

// A window with less than a segment in steps of 256 bytes, which are what the container
// sees, is shut, and the socket's room is waited for.
func TestShutAsTheContainerSees(t *testing.T) {
	for _, c := range []struct {
		left uint32
		shut bool
	}{{1460 - 1, true}, {1460 + 75, true}, {1460 + 76, false}} { // 6 steps are 1536
		l := newLab(t, Config{})
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
		in, out := b.pair(l.listenOutside("tcp", outside4+":0", small), nil)
		l.do(func() {
			f := l.theTCP()
			e := unix.Errno(0)
			for e == 0 { // until it is full
				_, e = sysSend(int(f.fd), make([]byte, 4096))
			}
			if e != unix.EAGAIN {
				t.Error(e)
				return
			}
			f.unset(fWantOut)
			f.tcp.edge, f.tcp.space = f.tcp.rcvNxt+c.left, spillSize
			l.nat.tcpOfferWindow(l.indexTCP())
			if f.has(fWantOut) != c.shut || f.tcp.space != 0 {
				t.Errorf("%d bytes left: the socket's room is waited for: %v; it has %d bytes", c.left, f.has(fWantOut), f.tcp.space)
			}
		})
		in.Close()
		out.Close()
	}
}
