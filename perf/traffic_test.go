package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The traffic programs are tried over the loopback of the machine that tests.

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func local(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

func TestRequestsAreAnswered(t *testing.T) {
	for _, mode := range []string{rrTCP, rrUDP, rrCRR} {
		t.Run(mode, func(t *testing.T) {
			port := freePort(t)
			ready, failed := make(chan struct{}), make(chan error, 1)
			// The server has no end but that of its process.
			go func() { failed <- serveRR(mode, port, 1, func() { close(ready) }) }()
			select {
			case <-ready:
			case err := <-failed:
				t.Fatal(err)
			}
			stats, err := askRR(mode, local(port), 1, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if stats.Count == 0 || stats.Lost != 0 || stats.Seconds < 0.05 {
				t.Errorf("%+v", stats)
			}
			if stats.P50Micro <= 0 || stats.P99Micro < stats.P50Micro {
				t.Errorf("percentiles %+v", stats)
			}
		})
	}
}

func TestAskingNobodyIsAnError(t *testing.T) {
	for _, mode := range []string{rrTCP, rrCRR, "smoke"} {
		if stats, err := askRR(mode, local(freePort(t)), 1, time.Millisecond); err == nil {
			t.Errorf("%s: %+v, want an error", mode, stats)
		}
	}
}

func TestFloodForwards(t *testing.T) {
	for _, f := range testFloods {
		port := freePort(t)
		got := make(chan sinkStats, 1)
		ready, failed := make(chan struct{}), make(chan error, 1)
		go func() {
			stats, err := f.sinkOn(port, 5*time.Second, func() { close(ready) })
			if err != nil {
				failed <- err
			}
			got <- stats
		}()
		select {
		case <-ready:
		case err := <-failed:
			t.Fatal(err)
		}
		sent, err := f.sourceTo(local(port))
		if err != nil {
			t.Fatal(err)
		}
		checkFlood(t, sent, <-got)
	}
}

func TestFloodReversed(t *testing.T) {
	for _, f := range testFloods {
		port := freePort(t)
		sent := make(chan sourceStats, 1)
		ready, failed := make(chan struct{}), make(chan error, 1)
		go func() {
			stats, err := f.sourceOn(port, 5*time.Second, func() { close(ready) })
			if err != nil {
				failed <- err
			}
			sent <- stats
		}()
		select {
		case <-ready:
		case err := <-failed:
			t.Fatal(err)
		}
		got, err := f.sinkFrom(local(port))
		if err != nil {
			t.Fatal(err)
		}
		checkFlood(t, <-sent, got)
	}
}

var testFloods = []flood{
	{Size: 100, Rate: 2000, For: 100 * time.Millisecond},
	{Size: 1000, Rate: 2000, For: 100 * time.Millisecond, Offload: true},
}

// checkFlood knows that a loopback with so few datagrams loses none.
func checkFlood(t *testing.T, sent sourceStats, got sinkStats) {
	t.Helper()
	if sent.Sent == 0 || sent.Sent > 200 || got.Received != sent.Sent || got.Twice != 0 || got.Buffer == 0 {
		t.Errorf("sent %+v, received %+v", sent, got)
	}
}

func TestSinkCountsEachDatagramOnce(t *testing.T) {
	var s sinkStats
	seen := make([]uint64, 2)
	packet := func(seq byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, seq} }
	for _, p := range [][]byte{packet(0), packet(1), packet(1), packet(127), packet(128), packet(0), []byte(floodHello)} {
		s.count(seen, p)
	}
	if s.Received != 3 || s.Twice != 2 {
		t.Errorf("%+v, want 3 received, 2 twice", s)
	}
}

func TestOutputTellsOfText(t *testing.T) {
	var o output
	o.Write([]byte("server li"))
	seen := o.await("listening")
	select {
	case <-seen:
		t.Fatal("seen too early")
	default:
	}
	o.Write([]byte("stening\n"))
	<-seen
	<-o.await("server") // printed before it was asked for
	o.Write(make([]byte, 2*keepOutput))
	if n := len(o.bytes()); n != keepOutput {
		t.Errorf("kept %d bytes, want %d", n, keepOutput)
	}
}

func TestBusyPassesFailureOn(t *testing.T) {
	for _, argv := range [][]string{nil, {"false"}, {"/no/such/program"}} {
		if err := runBusy(argv); err == nil {
			t.Errorf("%q: no error", argv)
		}
	}
	if err := runBusy([]string{"true"}); err != nil {
		t.Error(err)
	}
}

func TestFailuresReadShort(t *testing.T) {
	if got, want := inShort([]string{"/usr/bin/perf", "--socket", "/tmp/x/y.sock", "1/2", "-p"}), "perf --socket y.sock 1/2 -p"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"short", 5, "short"},
		{"panic: and so on until the end", 10, "panic ... e end"},
	} {
		if got := middleOut(c.text, c.n); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestMergedSize(t *testing.T) {
	oob := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(oob[unix.CmsgLen(0):], 1400)
	for _, c := range []struct {
		name        string
		level, kind int32
		oob         []byte
		want        int
	}{
		{"merged", unix.IPPROTO_UDP, unix.UDP_GRO, oob, 1400},
		{"of another kind", unix.IPPROTO_UDP, unix.UDP_SEGMENT, oob, 0},
		{"of another level", unix.SOL_SOCKET, unix.UDP_GRO, oob, 0},
		{"cut", unix.IPPROTO_UDP, unix.UDP_GRO, oob[:unix.CmsgLen(0)], 0},
		{"none", unix.IPPROTO_UDP, unix.UDP_GRO, nil, 0},
	} {
		h.Level, h.Type = c.level, c.kind
		if got := mergedSize(c.oob); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
