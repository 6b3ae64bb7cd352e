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
	"time"
)

// gvisor is gvisor-tap-vsock: gvproxy is a switch with gVisor's network stack as
// its gateway, gvforwarder carries the frames of a TAP to it. No Debian package:
//
//	go install github.com/containers/gvisor-tap-vsock/cmd/{gvproxy,vm}@latest
//
// and rename vm to gvforwarder, as its own makefile does.
type gvisor struct{ mtu int }

// gvproxy's subnet and gateway are fixed.
const (
	gvisorGateway = "192.168.127.1"
	gvisorA       = "192.168.127.3"
	gvisorB       = "192.168.127.4"
)

func (g gvisor) name() string    { return fmt.Sprintf("gvisor-tap-vsock-%d", g.mtu) }
func (gvisor) paths() []pathName { return pathNames }
func (gvisor) version() string   { return firstLine("gvproxy", "-version") }

func (g gvisor) about() string {
	return fmt.Sprintf("gvproxy -mtu %d, in each container gvforwarder with a TAP", g.mtu)
}

func (gvisor) missing() string {
	const from = "none; go install github.com/containers/gvisor-tap-vsock/cmd/{gvproxy,vm}@latest, and rename vm to gvforwarder"
	if why := needs("gvproxy", from); why != "" {
		return why
	}
	return needs("gvforwarder", from)
}

func (g gvisor) start(ctx context.Context, l *lab) (*topology, error) {
	var running children
	paths, err := g.build(ctx, l, &running)
	if err != nil {
		running.stop()
		return nil, err
	}
	return &topology{paths: paths, stop: running.stop, died: running.died, roots: running.pids()}, nil
}

func (g gvisor) build(ctx context.Context, l *lab, running *children) (map[pathName]path, error) {
	control := l.file("control.sock")
	ready, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.file("ready.sock"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	proxy, err := place{ns: l.host}.start(ctx, []string{"gvproxy", "-mtu", fmt.Sprint(g.mtu),
		"-listen", "unix://" + control, "-notification", "unix://" + l.file("ready.sock")})
	if err != nil {
		return nil, err
	}
	*running = append(*running, proxy)
	if err := awaitNotification(ready, proxy); err != nil {
		return nil, err
	}
	a, err := g.plug(ctx, l, running, "container1", gvisorA, control)
	if err != nil {
		return nil, err
	}
	b, err := g.plug(ctx, l, running, "container2", gvisorB, control)
	if err != nil {
		return nil, err
	}
	if err := exposeByGvproxy(ctx, control); err != nil {
		return nil, proxy.failure(err)
	}
	paths := natPaths(l, a)
	paths[pathContainer] = path{client: a, server: b, address: gvisorB}
	return paths, nil
}

// awaitNotification waits for gvproxy's first message, which says it listens.
func awaitNotification(ready *net.UnixListener, c *child) error {
	if err := ready.SetDeadline(time.Now().Add(readyLimit)); err != nil {
		return err
	}
	go func() {
		<-c.exited
		ready.Close()
	}()
	conn, err := ready.Accept()
	if err != nil {
		return c.failure(fmt.Errorf("not ready: %w", err))
	}
	return conn.Close()
}

// plug makes a container whose TAP is there and configured before gvforwarder
// takes it, which otherwise needs a DHCP client. Its own -mtu is the size of its
// buffer, the header included.
func (g gvisor) plug(ctx context.Context, l *lab, running *children, name, addr, control string) (place, error) {
	n, _, err := l.container(name)
	if err != nil {
		return place{}, err
	}
	err = errors.Join(n.tap("tap0", g.mtu), n.address("tap0", addr+"/24"), n.setUp("tap0"), n.defaultRoute(gvisorGateway))
	if err != nil {
		return place{}, err
	}
	inside := place{ns: n}
	c, err := inside.start(ctx, []string{"gvforwarder", "-url", "unix://" + control, "-preexisting",
		"-iface", "tap0", "-mtu", fmt.Sprint(g.mtu + 14), "-stop-if-exist", "none"})
	if err != nil {
		return place{}, err
	}
	*running = append(*running, c)
	return inside, c.awaitError("waiting for packets")
}

// exposeByGvproxy publishes the ports through gvproxy's API.
func exposeByGvproxy(ctx context.Context, control string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", control)
	}
	client := &http.Client{Timeout: readyLimit, Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	for _, p := range publishedPorts {
		for port := p.first; port < p.first+p.count; port++ {
			request, err := json.Marshal(map[string]string{
				"local": fmt.Sprintf("0.0.0.0:%d", port), "remote": fmt.Sprintf("%s:%d", gvisorA, port), "protocol": p.proto,
			})
			if err != nil {
				return err
			}
			if err := post(ctx, client, "http://gvproxy/services/forwarder/expose", request); err != nil {
				return fmt.Errorf("gvproxy: publish %d/%s: %w", port, p.proto, err)
			}
		}
	}
	return nil
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 400))
		return fmt.Errorf("%s: %s", answer.Status, bytes.TrimSpace(said))
	}
	return nil
}
