package slirp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
)

// hostfwds is the API socket with what was published through it: one request
// a connection, one answer, and the connection is closed.
type hostfwds struct {
	sw *face.Switch
	n  network

	mu      sync.Mutex // one request is served after the other
	entries []*entry   // in their order
	last    int        // the highest id that one has had
}

// maxRequest is how long a request must not be, in bytes.
const maxRequest = 4096

// patience is how long the rest of a request may take.
const patience = 5 * time.Second

// listenAPI serves the socket at path until end is called, which removes it.
func listenAPI(path string, sw *face.Switch, n network) (end func(), err error) {
	if max := len(unix.RawSockaddrUnix{}.Path); len(path) >= max {
		return nil, fmt.Errorf("the specified API socket path is too long (>= %d): choose a shorter one", max)
	}
	if err := free(path); err != nil {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("API socket: %w", err)
	}
	h := &hostfwds{sw: sw, n: n}
	go h.serve(l)
	return func() { l.Close() }, nil // closing unlinks
}

func (h *hostfwds) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: API socket: %v\n", Name, err)
			time.Sleep(100 * time.Millisecond) // out of descriptors: they come back
			continue
		}
		go h.connection(c)
	}
}

func (h *hostfwds) connection(c *net.UnixConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	b, whole := receive(c)
	answer := failed("too large message")
	if whole {
		answer = h.answer(b)
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write(out)
}

// receive reads a request: up to where it is a whole JSON value or can be none
// any more, or the client has closed its side. It returns false if it is too long.
func receive(c *net.UnixConn) ([]byte, bool) {
	buf := make([]byte, maxRequest)
	for n := 0; n < len(buf); {
		k, err := c.Read(buf[n:])
		n += k
		if n >= len(buf) {
			break
		}
		var v json.RawMessage
		perr := json.Unmarshal(buf[:n], &v)
		var syntax *json.SyntaxError
		if err != nil || perr == nil || errors.As(perr, &syntax) && syntax.Offset < int64(n) {
			return buf[:n], true
		}
	}
	return nil, false
}

// entry is one published port, or a range of them.
type entry struct {
	ID        int        `json:"id"`
	Proto     string     `json:"proto"`
	HostAddr  netip.Addr `json:"host_addr"`
	HostPort  int        `json:"host_port"`
	HostEnd   int        `json:"host_port_end,omitempty"`
	GuestAddr netip.Addr `json:"guest_addr"`
	GuestPort int        `json:"guest_port"`

	to netip.Addr // as the switch is told: zero for the guest's own addresses
}

// spec is the entry in Docker's words.
func (e *entry) spec() string {
	host := e.HostAddr.String()
	if e.HostAddr.Is6() {
		host = "[" + host + "]"
	}
	if e.HostEnd > e.HostPort {
		return fmt.Sprintf("%s:%d-%d:%d-%d/%s", host, e.HostPort, e.HostEnd, e.GuestPort, e.GuestPort+e.HostEnd-e.HostPort, e.Proto)
	}
	return fmt.Sprintf("%s:%d:%d/%s", host, e.HostPort, e.GuestPort, e.Proto)
}

func (h *hostfwds) add(e *entry) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.sw.Publish([]string{e.spec()}, e.to); err != nil {
		fmt.Fprintf(os.Stderr, "%s: add_hostfwd: %v\n", Name, err)
		return failed("add_hostfwd: slirp_add_hostfwd failed")
	}
	h.last++
	e.ID = h.last
	h.entries = append(h.entries, e)
	return returned{Return: map[string]int{"id": e.ID}}
}

// list has both shapes: the one that slirp4netns documents, and the one that it
// sends.
func (h *hostfwds) list() any {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := append([]*entry{}, h.entries...)
	return struct {
		Entries []*entry            `json:"entries"`
		Return  map[string][]*entry `json:"return"`
	}{all, map[string][]*entry{"entries": all}}
}

func (h *hostfwds) remove(id int) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, e := range h.entries {
		if e.ID != id {
			continue
		}
		if err := h.sw.Unpublish([]string{e.spec()}); err != nil {
			fmt.Fprintf(os.Stderr, "%s: remove_hostfwd: %v\n", Name, err)
			return failed("remove_hostfwd: slirp_remove_hostfwd failed")
		}
		h.entries = append(h.entries[:i:i], h.entries[i+1:]...)
		return returned{Return: struct{}{}}
	}
	return failed("remove_hostfwd: bad arguments.id")
}
