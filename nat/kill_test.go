package nat

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// ended is how a connection ends that somebody has killed.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); errno(err) != unix.ECONNRESET {
		t.Errorf("a killed connection ends with %v", err)
	}
}

// kill ends all flows that want takes.
func (l *lab) kill(want func(*Flow) bool) (n int) {
	l.do(func() { n, _ = l.nat.Kill(0, want) })
	return n
}

// A connection that is killed is reset on both sides; others go on. What is
// listed says what the host's kernel knows, and followers hear of the end.
func TestKill(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("br", "10.1.0.0/24", "fd00:1::/64", 1500), boxConfig{})
	ln := l.listenOutside("tcp", outside4+":0", nil)
	log := NewFlowLog()
	l.do(func() { l.nat.SetFlowLog(log) })
	pair := func() (in, out net.Conn) {
		in, err := b.dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		out, err = ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = in.Write([]byte("x")); err == nil {
			_, err = io.ReadFull(out, make([]byte, 1))
		}
		if err == nil {
			_, err = out.Write([]byte("y"))
		}
		if err == nil {
			_, err = io.ReadFull(in, make([]byte, 1))
		}
		if err != nil {
			t.Fatal(err)
		}
		return in, out
	}
	in, out := pair()
	keptIn, keptOut := pair()
	mine := netip.MustParseAddrPort(in.LocalAddr().String())
	var list []Flow
	l.do(func() { list, _ = l.nat.List(0, func(f *Flow) bool { return f.Local == mine }) })
	if len(list) != 1 || list[0].State != "established" || list[0].HostRTT == 0 || list[0].Host != netip.MustParseAddrPort(out.RemoteAddr().String()) {
		t.Fatalf("listed: %+v", list)
	}
	if n := l.kill(func(f *Flow) bool { return f.Local == mine }); n != 1 {
		t.Errorf("%d flows were ended", n)
	}
	ended(t, in)
	ended(t, out)
	if _, err := keptIn.Write([]byte("z")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(keptOut, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	keptIn.Close()
	keptOut.Close()
	l.settle()
	opened, ends := 0, map[string]int{}
	events, missed := log.Take()
	for _, e := range events {
		if e.Proto != vswitch.ProtoTCP {
			continue
		}
		if !e.Closed {
			opened++
		} else if ends[e.End]++; e.Packets[0] < 2 || e.Bytes[0] == 0 || e.Bytes[1] != 1 || e.Interface != b.port.Name || e.Network != "br" {
			t.Errorf("the end: %+v", e)
		}
	}
	if opened != 2 || ends["reset"] != 1 || ends["finished"] != 1 || len(ends) != 2 || missed != 0 {
		t.Errorf("%d were opened, they ended %v, %d events were missed", opened, ends, missed)
	}
}

// A connection between containers, which the gateway does not speak for, is reset
// with the next segment; a new one with the same numbers is another.
func TestKillPair(t *testing.T) {
	for _, way := range []string{"published", "bridge"} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t, Config{})
			br := l.bridge("br", "10.1.0.0/24", "", 1500)
			a, b := l.box(br, boxConfig{host: 2}), l.box(br, boxConfig{host: 3})
			ln := b.listen("tcp4", ":80", nil)
			to := b.ip4.String() + ":80"
			if way == "published" {
				host, _ := l.publish("tcp4", "0.0.0.0:0", b, 80)
				to = netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), host.Port()).String()
			} else {
				l.do(func() { l.nat.SetPolicy(Policy{Rules: []Rule{{ID: 100, Action: RuleAccept}}}) })
			}
			for range 2 {
				in, err := a.dialWith("tcp4", to, func(fd int) {
					unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
					unix.Bind(fd, &unix.SockaddrInet4{Port: 4000})
				})
				if err != nil {
					t.Fatal(err)
				}
				out, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if n := l.kill(func(f *Flow) bool { return f.Kind == "pair" }); n != 1 {
					t.Fatalf("%d flows were ended", n)
				}
				in.Write([]byte("x"))
				ended(t, in)
				out.Write([]byte("x"))
				ended(t, out)
			}
		})
	}
}
