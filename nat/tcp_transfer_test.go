package nat

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// Every way to carry bytes, with the kernel's TCP at both ends.
func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		name     string
		up, down int64
		mtu      int
		v6       bool
		box      boxConfig
		noPeek   bool
	}{
		{name: "upload", up: 32 * mib},
		{name: "download", down: 32 * mib},
		{name: "both", up: 32 * mib, down: 32 * mib},
		{name: "both, IPv6", up: 16 * mib, down: 16 * mib, v6: true},
		{name: "both, no SO_PEEK_OFF", up: 16 * mib, down: 16 * mib, noPeek: true},
		{name: "both, MTU 1280, IPv6", up: 16 * mib, down: 16 * mib, mtu: 1280, v6: true},
		{name: "both, MTU 65520", up: 32 * mib, down: 32 * mib, mtu: 65520},
		{name: "both, plain TAP", up: 8 * mib, down: 8 * mib, box: boxConfig{plain: true}},
		{name: "both, plain TAP, IPv6, MTU 1280", up: 8 * mib, down: 8 * mib, mtu: 1280, v6: true, box: boxConfig{plain: true}},
		{name: "upload, faults out", up: 64 * mib, box: boxConfig{out: usual}},
		{name: "upload, faults in", up: 64 * mib, box: boxConfig{in: usual}},
		{name: "download, faults out", down: 64 * mib, box: boxConfig{out: usual}},
		{name: "download, faults in", down: 64 * mib, box: boxConfig{in: usual}},
		{name: "both, faults both ways", up: 16 * mib, down: 16 * mib, box: boxConfig{out: usual, in: usual}},
		{name: "both, faults both ways, IPv6", up: 8 * mib, down: 8 * mib, v6: true, box: boxConfig{out: usual, in: usual}},
		{name: "both, faults both ways, no SO_PEEK_OFF", up: 8 * mib, down: 8 * mib, noPeek: true, box: boxConfig{out: usual, in: usual}},
		{name: "both, faults both ways, MTU 1280", up: 8 * mib, down: 8 * mib, mtu: 1280, box: boxConfig{out: usual, in: usual}},
		{name: "both, faults both ways, MTU 65520", up: 8 * mib, down: 8 * mib, mtu: 65520, box: boxConfig{out: usual, in: usual}},
		{name: "both, faults both ways, plain TAP", up: 4 * mib, down: 4 * mib, box: boxConfig{plain: true, out: usual, in: usual}},
		{name: "both, one frame in ten is lost", up: 1 * mib, down: 1 * mib, box: boxConfig{out: faults{lose: 100}, in: faults{lose: 100}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, Config{})
			l.nat.noPeekOffset = c.noPeek
			if c.mtu == 0 {
				c.mtu = 1500
			}
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", c.mtu), c.box)
			at := outside4
			if c.v6 {
				at = outside6
			}
			in, out := b.pair(l.listenOutside("tcp", net.JoinHostPort(at, "0"), nil), nil)
			if err := exchange(in, out, c.up, c.down); err != nil {
				l.report()
				t.Fatal(err)
			}
		})
	}
}

// The socket's end comes with its last bytes, in one event: it is seen once the
// container has acknowledged these.
func TestEndWithTheLastBytes(t *testing.T) {
	eachPeek(t, boxConfig{}, func(l *lab, in, out net.Conn) {
		l.do(func() {
			if err := upload(out, 1, 100); err != nil {
				l.Error(err)
			}
		})
		if err := equal(in, newStream(1, 100)); err != nil {
			l.Error(err)
		}
	})
}

// A download has as much of a turn as an upload: what four frames of 64 KiB carry,
// or one of 256 KiB.
func TestShareOfATurn(t *testing.T) {
	const most = 256 << 10
	for _, small := range []bool{false, true} {
		l := newLab(t, Config{})
		const buffers = "/proc/sys/net/ipv4/tcp_rmem"
		usual, err := os.ReadFile(buffers)
		if err == nil {
			err = os.WriteFile(buffers, []byte("4096 4194304 8388608"), 0) // so that the socket takes four shares that nobody reads
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.WriteFile(buffers, usual, 0) })
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
		in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
		l.do(func() {
			fl := l.theTCP()
			if err := upload(out, 1, 4*most); err != nil {
				t.Error(err)
				return
			}
			if !l.reaches("bytes that wait in the socket", 4*most, func() (int, error) { return unix.IoctlGetInt(int(fl.fd), unix.TIOCINQ) }) {
				return
			}
			if small {
				fl.set(fSmall)
			}
			fl.tcp.wnd, fl.tcp.cwnd = 4*most, 8*most // what the container may be sent
			begin := fl.tcp.sndNxt
			more := l.nat.tcpPump(l.indexTCP())
			if went := fl.tcp.sndNxt - begin; !more || went > most || went < most*3/4 {
				t.Errorf("in frames of 64 KiB %v: %d bytes went in a turn, more to do: %v", small, went, more)
			}
		})
		in.Close()
		out.Close()
	}
}
