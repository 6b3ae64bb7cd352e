package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// slirp is slirp4netns, one process for one container.
type slirp struct{ mtu int }

func (s slirp) name() string { return fmt.Sprintf("slirp4netns-%d", s.mtu) }
func (s slirp) about() string {
	return fmt.Sprintf("slirp4netns --configure --mtu %d, ports published through its API socket", s.mtu)
}
func (slirp) missing() string { return needs("slirp4netns", "slirp4netns") }
func (slirp) version() string { return firstLine("slirp4netns", "--version") }

func (slirp) paths() []pathName { return oneSided }

func (s slirp) start(ctx context.Context, l *lab) (*topology, error) {
	n, netns, err := l.container("container")
	if err != nil {
		return nil, err
	}
	ready, inform, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	socket := l.file("slirp.sock")
	c, err := place{ns: l.host}.start(ctx, []string{
		"slirp4netns", "--configure", "--mtu", fmt.Sprint(s.mtu), "--ready-fd", "3",
		"--api-socket", socket, "--netns-type", "path", netns, "tap0",
	}, inform)
	inform.Close()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(awaitByte(ready, c), publishBySlirp(socket)); err != nil {
		c.stop()
		return nil, err
	}
	return &topology{
		paths: natPaths(l, place{ns: n}), stop: c.stop, died: c.died, roots: children{c}.pids(),
		guests: &guests{
			lab:     l,
			gateway: "10.0.2.2",
			from:    place{ns: l.host},
			command: func(pid int, _, _ string) []string {
				return []string{"slirp4netns", "--configure", "--mtu", fmt.Sprint(s.mtu), fmt.Sprint(pid), "tap0"}
			},
			stays: true,
		},
	}, nil
}

// awaitByte waits until a child writes to a pipe that says it is ready.
func awaitByte(ready *os.File, c *child) error {
	if err := ready.SetReadDeadline(time.Now().Add(readyLimit)); err != nil {
		return err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return c.failure(fmt.Errorf("not ready: %w", err))
	}
	return nil
}

func publishBySlirp(socket string) error {
	for _, p := range publishedPorts {
		for port := p.first; port < p.first+p.count; port++ {
			if err := addForward(socket, p.proto, port); err != nil {
				return fmt.Errorf("slirp4netns: publish %d/%s: %w", port, p.proto, err)
			}
		}
	}
	return nil
}

// addForward speaks the API: one request and one answer for each connection.
func addForward(socket, proto string, port uint16) error {
	conn, err := net.DialTimeout("unix", socket, readyLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(readyLimit)); err != nil {
		return err
	}
	request, err := json.Marshal(map[string]any{
		"execute": "add_hostfwd",
		"arguments": map[string]any{
			"proto": proto, "host_addr": "0.0.0.0", "host_port": port, "guest_port": port,
		},
	})
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && strings.Contains(string(answer), `"error"`) {
		err = errors.New(strings.TrimSpace(string(answer)))
	}
	return err
}
