package nat

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// worked counts what the switch asks of its gateway.
type worked struct {
	vswitch.Gateway
	frames, events, runs int
}

func (w *worked) Resolve(f *vswitch.Frame) vswitch.Action {
	w.frames++
	return w.Gateway.Resolve(f)
}

func (w *worked) Deliver(f *vswitch.Frame, flow, gen uint32) bool {
	w.frames++
	return w.Gateway.Deliver(f, flow, gen)
}

func (w *worked) Event(t vswitch.Token, events uint32) {
	w.events++
	w.Gateway.Event(t, events)
}

func (w *worked) Run(t vswitch.Token) bool {
	w.runs++
	return w.Gateway.Run(t)
}

// tiny gives a socket the smallest segments and the smallest buffers.
func tiny(fd int) {
	small(fd)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 88)
}

// tinySegments are those of 88 bytes alone.
func tinySegments(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 88) }

// Windows, segments and MTUs at their extremes, and readers that take byte by
// byte: all arrives, and the switch does no more than the segments ask for. Its
// work is counted, since one that spins is not seen in what arrives.
func TestExtremes(t *testing.T) {
	const (
		slot  = 960 // half of the smallest receive buffer: what a window of it lets through
		short = 76  // 88, less the timestamps
	)
	for _, c := range []struct {
		name     string
		mtu      int
		v6       bool
		plain    bool
		up, down int64
		in, out  func(fd int) // of the container's socket, and of the outside's
		piece    int64        // bytes that each frame carries at least, but for a few
		slow     int64        // bytes that the reader takes one by one
		host     func(fd int) // of the host's socket
	}{
		{name: "a tiny container sends", mtu: 1500, up: 256 << 10, in: tiny, piece: slot},
		{name: "a tiny container receives", mtu: 1500, down: 256 << 10, in: tiny, piece: slot},
		{name: "a tiny container sends, MTU 65520", mtu: 65520, up: 256 << 10, in: tiny, piece: slot},
		{name: "a tiny container receives, MTU 65520", mtu: 65520, down: 256 << 10, in: tiny, piece: slot},
		{name: "a tiny outside receives", mtu: 1500, up: 256 << 10, out: tiny, piece: slot},
		{name: "a tiny outside sends", mtu: 1500, down: 256 << 10, out: tiny, piece: slot},
		{name: "a tiny outside receives, MTU 65520", mtu: 65520, up: 256 << 10, out: tiny, piece: slot},
		{name: "a tiny outside sends, MTU 1280", mtu: 1280, v6: true, down: 256 << 10, out: tiny, piece: slot},
		{name: "tiny segments", mtu: 1500, up: mib, down: mib, in: tinySegments, piece: slot},
		{name: "tiny segments, plain TAP", mtu: 1500, plain: true, up: 128 << 10, down: 128 << 10, in: tinySegments, piece: short},
		{name: "tiny segments, plain TAP, MTU 65520", mtu: 65520, plain: true, up: 128 << 10, down: 128 << 10, in: tinySegments, piece: short},
		{name: "both tiny, MTU 1280", mtu: 1280, v6: true, up: 128 << 10, down: 128 << 10, in: tiny, out: tiny, piece: slot},
		{name: "both tiny, MTU 65520", mtu: 65520, v6: true, up: 128 << 10, down: 128 << 10, in: tiny, out: tiny, piece: slot},
		{name: "both tiny, plain TAP", mtu: 1500, plain: true, up: 64 << 10, down: 64 << 10, in: tiny, out: tiny, piece: short},
		{name: "both tiny, plain TAP, MTU 65520", mtu: 65520, plain: true, v6: true, up: 64 << 10, down: 64 << 10, in: tiny, out: tiny, piece: short},
		{name: "the container reads bytes", mtu: 1500, down: 64 << 10, in: tiny, piece: slot, slow: 2000},
		{name: "the container reads bytes, MTU 65520", mtu: 65520, down: 64 << 10, in: small, piece: slot, slow: 2000},
		{name: "the container reads bytes, plain TAP", mtu: 1500, plain: true, down: 64 << 10, in: tiny, piece: short, slow: 2000},
		{name: "the outside reads bytes", mtu: 1500, up: 64 << 10, out: tiny, piece: slot, slow: 2000},
		{name: "the outside reads bytes, MTU 65520", mtu: 65520, up: 64 << 10, out: small, piece: slot, slow: 2000},
		{name: "the outside reads bytes, the host is small", mtu: 1500, up: 64 << 10, out: tiny, host: small, piece: slot, slow: 2000},
		{name: "the outside reads bytes, all are tiny", mtu: 1500, up: 64 << 10, in: tiny, out: tiny, host: tiny, piece: slot, slow: 2000},
		{name: "the outside reads bytes, plain TAP", mtu: 1500, plain: true, up: 64 << 10, out: tiny, piece: slot, slow: 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			w := &worked{Gateway: l.nat}
			l.do(func() { l.sw.SetGateway(w) })
			if c.host != nil {
				l.out.onSocket = func(fd, typ int) { c.host(fd) }
			}
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", c.mtu), boxConfig{plain: c.plain})
			at := outside4
			if c.v6 {
				at = outside6
			}
			in, out := b.pair(l.listenOutside("tcp", net.JoinHostPort(at, "0"), c.out), c.in)
			var err error
			switch {
			case c.slow == 0:
				err = exchange(in, out, c.up, c.down)
			case c.up > 0:
				err = l.trickle(in, out, c.up, c.slow)
			default:
				err = l.trickle(out, in, c.down, c.slow)
			}
			if err != nil {
				l.report()
				t.Fatal(err)
			}
			l.do(func() {
				writes := int(b.dev.writes.Load())
				if did, may := writes+w.frames+w.events+w.runs, int(3*(c.up+c.down)/c.piece)+1000; did > may {
					t.Errorf("%d frames read, %d written, %d events and %d turns for %d bytes: more than %d", w.frames, writes, w.events, w.runs, c.up+c.down, may)
				}
			})
		})
	}
}

// trickle sends size bytes to a reader that takes the first of them one by one.
// The switch has a turn between each two, in which it could do something.
func (l *lab) trickle(from, to net.Conn, size, slow int64) error {
	sent := make(chan error, 1)
	go func() { sent <- upload(from, 1, size) }()
	r := io.MultiReader(&byBytes{to, slow, func() { l.do(func() {}) }}, to)
	if err := download(r, 1, size); err != nil {
		from.SetDeadline(time.Now())
		return errors.Join(err, <-sent)
	}
	return errors.Join(<-sent, to.Close())
}

// byBytes reads the first left bytes of r one by one, with pause after each.
type byBytes struct {
	r     io.Reader
	left  int64
	pause func()
}

func (b *byBytes) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	b.left--
	defer b.pause()
	return b.r.Read(p[:1])
}
