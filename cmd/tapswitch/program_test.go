package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// programs are what the test binary runs inside containers, by first argument;
// each returns its exit code.
var programs = map[string]func(args []string) int{
	"serve":  progServe,
	"ask":    progAsk,
	"chat":   progChat,
	"send":   progSend,
	"bulk":   progBulk,
	"ping":   progPing,
	"lookup": progLookup,
	"names":  progNames,
	"show":   progShow,
	"hold":   progHold,
	"route":  progRoute,
	"within": progWithin,
	"exit":   func(args []string) int { n, _ := strconv.Atoi(args[0]); return n },
	"die":    progDie,
}

// Exit codes of ask, chat and ping.
const (
	askFailed      = 1
	askRefused     = 10
	askSilence     = 11
	askUnreachable = 12
)

// silence is how long ask and ping wait for an answer, unless told: far more
// than an answer takes, so that only a missing one costs the time.
const silence = 10 * time.Second

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return askRefused
	case errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH):
		return askUnreachable
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return askSilence
	}
	return askFailed
}

// progServe PORT serves TCP and UDP: it tells each client its address, and
// sends back what it gets. What comes is printed, too.
func progServe(args []string) int {
	signal.Ignore(unix.SIGTERM) // as most servers do that are process 1
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return fail(err)
	}
	u, err := net.ListenPacket("udp", ":"+args[0])
	if err != nil {
		return fail(err)
	}
	fmt.Println("listening")
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			fmt.Printf("udp %s %s\n", plain(from), b[:n])
			_, _ = u.WriteTo(fmt.Appendf(nil, "from %s: %s", plain(from), b[:n]), from)
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return fail(err)
		}
		go func() {
			defer c.Close()
			fmt.Printf("tcp %s\n", plain(c.RemoteAddr()))
			fmt.Fprintf(c, "from %s\n", plain(c.RemoteAddr()))
			_, _ = io.Copy(c, c)
		}()
	}
}

// plain is an address without the v4-mapped form of dual-stack sockets.
func plain(a net.Addr) netip.AddrPort {
	p, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// progAsk NETWORK ADDR [TEXT [PATIENCE]] prints what the server answers.
func progAsk(args []string) int {
	limit := silence
	if len(args) > 3 {
		limit, _ = time.ParseDuration(args[3])
	}
	answer, err := ask(args[0], args[1], strings.Join(args[2:min(len(args), 3)], ""), limit)
	if err != nil {
		return fail(err)
	}
	fmt.Println(answer)
	return 0
}

// ask sends text to a server of ours, half-closes, and returns all that it
// answers.
func ask(network, addr, text string, limit time.Duration) (string, error) {
	d := net.Dialer{Timeout: limit, Control: func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { tellErrors(int(fd), strings.HasSuffix(network, "6")) })
	}}
	c, err := d.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
		b, err := io.ReadAll(c)
		return string(b), err
	}
	b := make([]byte, 65536)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// tellErrors makes a datagram socket tell of ICMP errors that the kernel takes
// for passing ones, such as an unreachable host.
func tellErrors(fd int, v6 bool) {
	if v6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}
}

// progChat ADDR holds a TCP connection: it prints the server's first line, then
// sends each line of its input and prints the answer.
func progChat(args []string) int {
	c, err := net.DialTimeout("tcp", args[0], silence)
	if err != nil {
		return fail(err)
	}
	in, answers := bufio.NewScanner(os.Stdin), bufio.NewScanner(c)
	for answers.Scan() {
		fmt.Println(answers.Text())
		if !in.Scan() {
			return 0
		}
		if _, err := fmt.Fprintln(c, in.Text()); err != nil {
			return fail(err)
		}
	}
	return fail(answers.Err())
}

// progSend ADDR TEXT GATEWAY sends one datagram and then pings the gateway: when
// the answer is there, the switch has seen the datagram.
func progSend(args []string) int {
	c, err := net.Dial("udp", args[0])
	if err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(c, args[1]); err != nil {
		return fail(err)
	}
	return progPing(args[2:])
}

// progBulk ADDR BYTES sends that much to a server of progServe and waits for all
// of it to come back.
func progBulk(args []string) int {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return fail(err)
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return fail(err)
	}
	go func() {
		_, _ = io.CopyN(c, zeros{}, n)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	if got, err := io.Copy(io.Discard, c); err != nil || got < n {
		return fail(fmt.Errorf("%d bytes came back: %w", got, err))
	}
	return 0
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// progPing ADDR [PATIENCE] sends one echo request by a ping socket.
func progPing(args []string) int {
	limit := silence
	if len(args) > 1 {
		limit, _ = time.ParseDuration(args[1])
	}
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return fail(err)
	}
	domain, proto, request, answer := unix.AF_INET6, unix.IPPROTO_ICMPV6, byte(128), byte(129)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.As16()}
	if to.Is4() {
		domain, proto, request, answer = unix.AF_INET, unix.IPPROTO_ICMP, 8, 0
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM, proto)
	if err != nil {
		return fail(err)
	}
	tellErrors(fd, to.Is6())
	tv := unix.NsecToTimeval(limit.Nanoseconds())
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	if err := unix.Sendto(fd, []byte{request, 0, 0, 0, 0, 0, 0, 1, 't', 'a', 'p'}, 0, sa); err != nil {
		return fail(err)
	}
	b := make([]byte, 256)
	n, _, err := unix.Recvfrom(fd, b, 0)
	switch {
	case err == unix.EAGAIN:
		return askSilence
	case err != nil:
		return fail(err)
	case n != 11 || b[0] != answer || string(b[8:n]) != "tap":
		return fail(fmt.Errorf("a strange answer: %x", b[:n]))
	}
	fmt.Println("answered")
	return 0
}

// progNames ADDR NAME=A... is a name server for these names.
func progNames(args []string) int {
	mux := dns.NewServeMux()
	mux.HandleFunc(".", func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		r.Rcode = dns.RcodeNameError
		for _, a := range args[1:] {
			name, addr, _ := strings.Cut(a, "=")
			if strings.EqualFold(q.Question[0].Name, name+".") {
				r.Rcode = dns.RcodeSuccess
				if q.Question[0].Qtype == dns.TypeA {
					r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(addr)})
				}
			}
		}
		_ = w.WriteMsg(r)
	})
	return fail((&dns.Server{Addr: args[0], Net: "udp", Handler: mux, NotifyStartedFunc: func() { fmt.Println("listening") }}).ListenAndServe())
}

// progLookup NAME [SERVER] prints a name's addresses, or an address's names.
func progLookup(args []string) int {
	r := net.Resolver{PreferGo: true}
	if len(args) > 1 {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(args[1], "53"))
		}
	}
	look := r.LookupHost
	if _, err := netip.ParseAddr(args[0]); err == nil {
		look = r.LookupAddr
	}
	ctx, done := context.WithTimeout(context.Background(), silence)
	defer done()
	found, err := look(ctx, args[0])
	if err != nil {
		return fail(err)
	}
	slices.Sort(found)
	fmt.Println(strings.Join(found, " "))
	return 0
}

// shown is what a program sees around it.
type shown struct {
	UID, Pid int
	Dir      string
	Host     string
	Env      []string
	FDs      []string // beyond 0, 1 and 2
	TTY      bool
	Resolv   string
	Hosts    string
	Sysctl   map[string]string
	Ifaces   map[string][]string
	Hidden   map[string]string // what stands at each argument
	Args     []string
}

// progShow PATH... prints a shown as JSON.
func progShow(args []string) int {
	s := shown{UID: os.Getuid(), Pid: os.Getpid(), Env: os.Environ(), Sysctl: map[string]string{}, Ifaces: map[string][]string{}, Hidden: map[string]string{}}
	s.Dir, _ = os.Getwd()
	s.Host, _ = os.Hostname()
	s.TTY = term.IsTerminal(0)
	text := func(path string) string { b, _ := os.ReadFile(path); return strings.TrimSpace(string(b)) }
	s.Resolv, s.Hosts = text("/etc/resolv.conf"), text("/etc/hosts")
	for _, k := range []string{"ipv4/ip_unprivileged_port_start", "ipv4/ping_group_range", "ipv6/conf/default/accept_dad"} {
		s.Sysctl[k] = text("/proc/sys/net/" + k)
	}
	for fd := 3; fd < 1024; fd++ {
		// Those that close at exec are this program's own.
		if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && f&unix.FD_CLOEXEC == 0 {
			l, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			s.FDs = append(s.FDs, l)
		}
	}
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			s.Ifaces[i.Name] = append(s.Ifaces[i.Name], a.String())
		}
		s.Ifaces[i.Name] = append(s.Ifaces[i.Name], i.HardwareAddr.String())
	}
	for _, path := range args {
		switch st, err := os.Stat(path); {
		case err != nil:
			s.Hidden[path] = "nothing"
		case st.IsDir():
			entries, _ := os.ReadDir(path)
			for _, e := range entries {
				s.Hidden[path] += e.Name() + " "
			}
		default:
			s.Hidden[path] = st.Mode().Type().String()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return fail(err)
	}
	return 0
}

// progHold says that it runs, and ends with its input, or by SIGTERM with exit
// code 7.
func progHold([]string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	fmt.Println("holding")
	if st, err := os.Stdin.Stat(); err == nil && st.Mode()&os.ModeNamedPipe != 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	<-stop
	return 7
}

// progDie SIGNAL kills itself.
func progDie(args []string) int {
	n, _ := strconv.Atoi(args[0])
	_ = unix.Kill(os.Getpid(), syscall.Signal(n))
	select {}
}

// progWithin PATH PROGRAM ARGS... runs a program of this list in the network
// namespace at PATH.
func progWithin(args []string) int {
	runtime.LockOSThread()
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fail(err)
	}
	return fail(unix.Exec(prog, append([]string{prog}, args[1:]...), os.Environ()))
}

// progRoute GATEWAY adds a default route.
func progRoute(args []string) int {
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(args[0])}); err != nil {
		return fail(err)
	}
	return 0
}
