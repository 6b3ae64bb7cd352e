package pasta

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"encoding/hex"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/switch/ns"
)

// HelperName is argv[0] of the process that lives in the namespace.
const HelperName = "tapswitch-pasta-inside"

// helper is the process that opens ports on the namespace's loopback for us and
// says which listen there. It ends with us, since its connection then does.
type helper struct {
	conn *fdpass.Conn
	pid  int
}

// request of the helper: the ports that listen, or one to open.
type request struct {
	Open  bool
	Proto string
	V6    bool
	Port  uint16
}

type reply struct {
	Err       string
	Listening []listening
}

// listening is a socket that waits for others.
type listening struct {
	Proto string
	Addr  netip.AddrPort
}

func startHelper(in *ns.Handle) (*helper, error) {
	conn, child, err := fdpass.Pair()
	if err != nil {
		return nil, err
	}
	defer child.Close()
	user := -1
	if in.User.IsOpen() {
		user = int(in.User)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer null.Close()
	pid, err := ns.SpawnIn(user, "/proc/self/exe", []string{HelperName}, nil,
		[]int{int(null.Fd()), int(null.Fd()), 2, int(child.Fd()), int(in.Net)})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("enter %s: %w", in.Name, err)
	}
	h := &helper{conn, pid}
	var r reply
	if _, err := conn.Receive(&r); err != nil || r.Err != "" {
		h.close()
		if r.Err != "" {
			err = fmt.Errorf("enter %s: %s", in.Name, r.Err)
		}
		return nil, err
	}
	return h, nil
}

func (h *helper) close() {
	h.conn.Close()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(h.pid, &ws, 0, nil); err != unix.EINTR {
			return
		}
	}
}

func (h *helper) ask(q request) (reply, []int, error) {
	var r reply
	if err := h.conn.Send(q); err != nil {
		return r, nil, err
	}
	fds, err := h.conn.Receive(&r)
	if err == nil && r.Err != "" {
		err = fmt.Errorf("%s", r.Err)
	}
	return r, fds, err
}

// open is a socket that listens, or for UDP is bound, on the namespace's
// loopback.
func (h *helper) open(proto string, v6 bool, port uint16) (int, error) {
	_, fds, err := h.ask(request{Open: true, Proto: proto, V6: v6, Port: port})
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		fdpass.CloseAll(fds)
		return -1, fmt.Errorf("no socket came")
	}
	return fds[0], nil
}

// Helper is the program HelperName: descriptor 3 is the connection, 4 the
// network namespace.
func Helper() int {
	runtime.LockOSThread() // the namespace is this thread's
	conn := fdpass.New(os.NewFile(3, "pasta"))
	if err := unix.Setns(4, unix.CLONE_NEWNET); err != nil {
		_ = conn.Send(reply{Err: err.Error()})
		return 1
	}
	unix.Close(4)
	if conn.Send(reply{}) != nil {
		return 1
	}
	for {
		var q request
		if _, err := conn.Receive(&q); err != nil {
			return 0
		}
		if !q.Open {
			if conn.Send(reply{Listening: listeners("/proc/thread-self/net")}) != nil {
				return 0
			}
			continue
		}
		fd, err := bind(q)
		if err != nil {
			err = conn.Send(reply{Err: err.Error()})
		} else {
			err = conn.Send(reply{}, fd)
			unix.Close(fd)
		}
		if err != nil {
			return 0
		}
	}
}

func bind(q request) (int, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(q.Port), Addr: [4]byte{127, 0, 0, 1}}
	if q.V6 {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(q.Port), Addr: netip.IPv6Loopback().As16()}
	}
	if q.Proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err = unix.Bind(fd, sa); err == nil && q.Proto == "tcp" {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// listeners reads the tables of a network namespace (proc_net(5)): TCP sockets in
// state LISTEN, UDP sockets without a peer.
func listeners(dir string) (out []listening) {
	for _, t := range []struct{ file, proto, state string }{{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"}} {
		f, err := os.Open(dir + "/" + t.file)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan() && len(out) < 4096; {
			w := strings.Fields(sc.Text())
			if len(w) < 4 || w[3] != t.state {
				continue
			}
			if a, ok := tableAddr(w[1]); ok {
				out = append(out, listening{t.proto, a})
			}
		}
		f.Close()
	}
	return out
}

// tableAddr reads an address of those tables: words of the machine's order in
// hexadecimal, a colon, the port.
func tableAddr(s string) (netip.AddrPort, bool) {
	a, p, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(a)
	port, perr := strconv.ParseUint(p, 16, 16)
	if !ok || err != nil || perr != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	if little {
		for i := 0; i < len(b); i += 4 {
			b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
		}
	}
	ip, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), true
}
