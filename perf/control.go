package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
	"tapswitch/switch/ns"
)

// control speaks tapswitch's API as any program might: HTTP and JSON on a unix
// socket.
type control struct{ socket string }

// reservation is the part of an answer of the API that is used.
type reservation struct {
	ID         string `json:"id"`
	Interfaces []struct {
		Name    string   `json:"name"`
		MAC     string   `json:"mac"`
		MTU     int      `json:"mtu"`
		Addrs   []string `json:"addrs"`
		Gateway string   `json:"gateway"`
		Offload bool     `json:"offload"`
	} `json:"interfaces"`
}

// join puts the namespace of a process on the switch for as long as the process
// lives: it asks for addresses, makes the interface, and hands its TAP over.
func (c control) join(ctx context.Context, pid int, name string) error {
	var r reservation
	if err := c.post(ctx, "/v1/reservations", map[string]any{"name": name, "pid": pid, "lifetime": "pidfd"}, &r); err != nil {
		return err
	}
	tap, err := r.attach(pid)
	if err != nil {
		return err
	}
	defer unix.Close(tap)
	process, err := ns.PIDFD(pid)
	if err != nil {
		return err
	}
	defer process.Close()
	return c.post(ctx, "/v1/ports", map[string]any{"reservation": r.ID, "pid": pid}, nil, tap, int(process.Fd()))
}

// attach makes the interface that was promised in the namespace of a process and
// returns its TAP.
func (r reservation) attach(pid int) (int, error) {
	cfg, err := r.device()
	if err != nil {
		return -1, err
	}
	h, err := ns.OfPID(pid)
	if err != nil {
		return -1, err
	}
	defer h.Close()
	inside, err := h.Enter()
	if err != nil {
		return -1, err
	}
	defer inside.Close()
	tap, err := inside.CreateTAP(cfg.Name, cfg.Offload)
	if err != nil {
		return -1, err
	}
	if err := inside.Configure(cfg); err != nil {
		unix.Close(tap)
		return -1, err
	}
	return tap, nil
}

// device reads the only interface of a reservation.
func (r reservation) device() (ns.Interface, error) {
	if len(r.Interfaces) != 1 {
		return ns.Interface{}, fmt.Errorf("reservation %q of %d interfaces, want 1", r.ID, len(r.Interfaces))
	}
	in := r.Interfaces[0]
	mac, err1 := net.ParseMAC(in.MAC)
	gateway, err2 := netip.ParseAddr(in.Gateway)
	cfg := ns.Interface{Name: in.Name, MAC: mac, MTU: in.MTU, Gateway: gateway, Offload: in.Offload}
	wrong := []error{err1, err2}
	for _, a := range in.Addrs {
		p, err := netip.ParsePrefix(a)
		cfg.Addrs, wrong = append(cfg.Addrs, p), append(wrong, err)
	}
	return cfg, errors.Join(wrong...)
}

// post makes one request on a connection of its own, with descriptors beside it,
// which stay the caller's.
func (c control) post(ctx context.Context, path string, in, out any, fds ...int) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, "POST", "http://tapswitch"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket)
		if err != nil {
			return nil, err
		}
		return &carrier{conn.(*net.UnixConn), fds}, nil
	}}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s: %s", path, answer.Status, strings.TrimSpace(string(text)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// A carrier attaches descriptors to what is written first.
type carrier struct {
	*net.UnixConn
	fds []int
}

func (c *carrier) Write(b []byte) (int, error) {
	if len(c.fds) == 0 {
		return c.UnixConn.Write(b)
	}
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(c.fds...), nil)
	c.fds = nil
	return n, err
}
