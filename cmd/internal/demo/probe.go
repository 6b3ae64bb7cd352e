package demo

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a probe waits before it calls an absence silence.
const patience = 1200 * time.Millisecond

// ProbeName is argv[0] of ourselves as a client or server of the demo.
const ProbeName = "tapswitch-demo-probe"

// Probe runs one probe and prints what was seen, one line a result.
func Probe(args []string) int {
	if len(args) == 0 {
		return 2
	}
	if args[0] == "serve" {
		names := len(args) > 1 && args[1] == "dns"
		if names {
			args = args[1:]
		}
		return Serve(args[1:], names)
	}
	for _, a := range args[1:] {
		fmt.Println(probe(args[0], a))
	}
	return 0
}

// probe does one thing and says what was seen in a word or two.
func probe(kind, to string) string {
	switch kind {
	case "ping":
		return ping(to)
	case "tcp":
		return who(to)
	case "udp":
		return datagram(to, []byte("who"))
	case "big":
		return datagram(to, make([]byte, 60000))
	case "up":
		return upload(to)
	case "down":
		return download(to)
	case "name":
		return resolve(to)
	case "trace":
		return trace(to)
	case "mtu":
		return pathMTU(to)
	}
	return "unknown probe " + kind
}

// word makes one of an error.
func word(err error) string {
	var t interface{ Timeout() bool }
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "unreachable"
	case errors.Is(err, unix.ECONNRESET):
		return "reset"
	case errors.As(err, &t) && t.Timeout():
		return "silence"
	}
	return err.Error()
}

func dial(to string) (net.Conn, error) { return net.DialTimeout("tcp", to, patience) }

// who asks a TCP server which address it sees.
func who(to string) string {
	c, err := dial(to)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(c, "who")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return word(err)
	}
	return "seen as " + strings.TrimSpace(line)
}

// datagram sends a payload and says how the server saw it.
func datagram(to string, payload []byte) string {
	c, err := net.Dial("udp", to)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(payload); err != nil {
		return word(err)
	}
	b := make([]byte, 2048)
	n, err := c.Read(b)
	if err != nil {
		return word(err)
	}
	from, size, _ := strings.Cut(string(b[:n]), " ")
	if size != strconv.Itoa(len(payload)) {
		return "cut to " + size + " bytes"
	}
	return "seen as " + from
}

const bulk = 8 << 20

func upload(to string) string {
	c, err := dial(to)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "sum %d\n", bulk)
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(c, h), pattern(), bulk); err != nil {
		return word(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return word(err)
	}
	if strings.TrimSpace(line) != hex.EncodeToString(h.Sum(nil)) {
		return "bytes differ"
	}
	return "8 MiB exact"
}

func download(to string) string {
	c, err := dial(to)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "give %d\n", bulk)
	got, want := sha256.New(), sha256.New()
	if _, err := io.CopyN(got, c, bulk); err != nil {
		return word(err)
	}
	_, _ = io.CopyN(want, pattern(), bulk)
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		return "bytes differ"
	}
	return "8 MiB exact"
}

// resolve asks for all addresses of a name, of the server in resolv.conf.
func resolve(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	r := &net.Resolver{PreferGo: true}
	addrs, err := r.LookupHost(ctx, name)
	if err != nil {
		var d *net.DNSError
		if errors.As(err, &d) && d.IsNotFound {
			return "no such name"
		}
		return word(err)
	}
	sort.Strings(addrs)
	return strings.Join(addrs, " ")
}

// ping sends an echo request through a ping socket and says what came back.
func ping(to string) string {
	a, err := netip.ParseAddr(to)
	if err != nil {
		return err.Error()
	}
	network, typ := "udp4", byte(8)
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if a.Is6() {
		network, typ = "udp6", 128
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return word(err)
	}
	f := os.NewFile(uintptr(fd), network)
	c, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		return word(err)
	}
	defer c.Close()
	msg := []byte{typ, 0, 0, 0, 0, 0, 0, 1, 't', 'a', 'p', 's'}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.WriteTo(msg, &net.UDPAddr{IP: a.AsSlice()}); err != nil {
		return word(err)
	}
	b := make([]byte, 256)
	n, from, err := c.ReadFrom(b)
	if err != nil {
		return word(err)
	}
	if n != len(msg) || hostOf(from.String()) != a.String() {
		return "a wrong answer"
	}
	return "reply"
}

// trace finds the hops to an address with UDP, as traceroute does, by the
// errors that the kernel queues; no capability is needed.
func trace(to string) string {
	a, err := netip.ParseAddr(to)
	if err != nil {
		return err.Error()
	}
	var hops []string
	for ttl := 1; ttl <= 6; ttl++ {
		hop, last := traceHop(a, ttl)
		hops = append(hops, hop)
		if last {
			break
		}
	}
	return strings.Join(hops, " ")
}

func traceHop(a netip.Addr, ttl int) (string, bool) {
	domain, level, opt, want := unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL, unix.IP_RECVERR
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: 33434 + ttl, Addr: [4]byte(a.AsSlice()[:4])}
	if a.Is6() {
		domain, level, opt, want = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_RECVERR
		sa = &unix.SockaddrInet6{Port: 33434 + ttl, Addr: a.As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return word(err), true
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, level, opt, ttl)
	_ = unix.SetsockoptInt(fd, level, want, 1)
	if err := unix.Sendto(fd, []byte("trace"), 0, sa); err != nil {
		return word(err), true
	}
	p := []unix.PollFd{{Fd: int32(fd)}}
	if n, _ := unix.Poll(p, int(patience.Milliseconds())); n == 0 {
		return "*", ttl == 6
	}
	e, ok := queued(fd)
	if !ok {
		return "?", true
	}
	return e.from.String(), e.errno == unix.ECONNREFUSED
}

// pathMTU sends a datagram that does not fit and says which MTU is told.
func pathMTU(to string) string {
	ap, err := netip.ParseAddrPort(to)
	if err != nil {
		return err.Error()
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return word(err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	sa := &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	// The first may find out for the host, the second for us.
	for range 3 {
		_ = unix.Sendto(fd, make([]byte, 1472), 0, sa)
		p := []unix.PollFd{{Fd: int32(fd)}}
		if n, _ := unix.Poll(p, int(patience.Milliseconds())); n == 0 {
			continue
		}
		if e, ok := queued(fd); ok && e.errno == unix.EMSGSIZE {
			return "mtu " + strconv.Itoa(int(e.info))
		}
	}
	return "silence"
}

type queuedErr struct {
	errno unix.Errno
	info  uint32
	from  netip.Addr
}

// queued takes one error off a socket's queue.
func queued(fd int) (e queuedErr, ok bool) {
	b, oob := make([]byte, 2048), make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, b, oob, unix.MSG_ERRQUEUE)
	if err != nil {
		return e, false
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return e, false
	}
	for _, m := range msgs {
		if m.Header.Type != unix.IP_RECVERR && m.Header.Type != unix.IPV6_RECVERR || len(m.Data) < 24 {
			continue
		}
		e.errno = unix.Errno(binary.NativeEndian.Uint32(m.Data))
		e.info = binary.NativeEndian.Uint32(m.Data[8:])
		switch binary.NativeEndian.Uint16(m.Data[16:]) {
		case unix.AF_INET:
			e.from = netip.AddrFrom4([4]byte(m.Data[20:24]))
		case unix.AF_INET6:
			if len(m.Data) >= 40 {
				e.from = netip.AddrFrom16([16]byte(m.Data[24:40]))
			}
		}
		ok = true
	}
	return e, ok
}
