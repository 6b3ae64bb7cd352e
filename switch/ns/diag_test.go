package ns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBound: what is bound here is listed, what is connected is not.
func TestBound(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Fatal(err)
	}
	s := SocketsOf(fd)
	defer s.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	asker, err := net.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	all, err := s.Bound()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		a    net.Addr
		udp  bool
		want bool
	}{{l.Addr(), false, true}, {u.LocalAddr(), true, true}, {client.LocalAddr(), false, false}, {asker.LocalAddr(), true, false}} {
		if got := slices.Contains(all, Bound{Addr: netip.MustParseAddrPort(x.a.String()), UDP: x.udp}); got != x.want {
			t.Errorf("%s (udp: %t) is listed: %t", x.a, x.udp, got)
		}
	}
	if v6, err := net.Listen("tcp6", "[::]:0"); err == nil {
		defer v6.Close()
		if all, err = s.Bound(); err != nil || !slices.Contains(all, Bound{Addr: v6.Addr().(*net.TCPAddr).AddrPort(), V6Only: true}) {
			t.Errorf("%s is not listed as IPv6 only: %v %v", v6.Addr(), all, err)
		}
	}
}

func FuzzDiag(f *testing.F) {
	msg := make([]byte, 16+diagMsgLen+8)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	binary.NativeEndian.PutUint16(msg[4:], sockDiagByFamily)
	msg[16] = unix.AF_INET6
	msg[20+16], msg[16+4] = 1, 31
	binary.NativeEndian.PutUint16(msg[16+diagMsgLen:], 5)
	binary.NativeEndian.PutUint16(msg[16+diagMsgLen+2:], diagV6Only)
	f.Add(msg, true)
	f.Add(append(slices.Clone(msg), 20, 0, 0, 0, unix.NLMSG_DONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), false)
	f.Fuzz(func(t *testing.T, b []byte, udp bool) {
		_, all, _ := readDiag(b, udp)
		if len(all) > len(b)/diagMsgLen {
			t.Errorf("%d sockets in %d bytes", len(all), len(b))
		}
		for _, x := range all {
			if !x.Addr.IsValid() || x.Addr.Port() == 0 || x.UDP != udp {
				t.Errorf("%+v is no bound socket", x)
			}
		}
	})
}
