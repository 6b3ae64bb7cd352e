package engine

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/forward"
)

// The host reaches containers that have published nothing: by `dial`, as ssh's
// ProxyCommand takes it, and by a SOCKS5 proxy that knows containers' names.

// dialFor is how long a container may take to answer.
const dialFor = 30 * time.Second

// Reach connects to a container's port. The connection's end is the caller's to
// close.
func (e *Engine) Reach(ctx context.Context, name string, port uint16) (net.Conn, error) {
	c, ep, a, err := e.reachable(name)
	if err != nil {
		return nil, err
	}
	fd, conn, err := tcpPair()
	if err != nil {
		return nil, api.Errorf(api.Failed, "dial %s: %v", c.name, err)
	}
	answer := make(chan error, 1)
	c.wiring.Lock()
	if seat := ep.seat; seat == nil {
		unix.Close(fd)
		answer <- errors.New("it is just leaving its network")
	} else if !e.path.Shards[seat.Shard].Do(func() {
		e.path.nats[seat.Shard].Dial(seat.Port, fd, netip.AddrPortFrom(a, port), func(err error) { answer <- err })
	}) {
		unix.Close(fd)
		answer <- errors.New("the switch has stopped")
	}
	c.wiring.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dialFor)
	defer cancel()
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, api.Errorf(api.Failed, "%s port %d: %v", c.name, port, err)
	}
	return conn, nil
}

// reachable finds a running container by its name, or by an address of its, and
// the address to use.
func (e *Engine) reachable(name string) (*container, *endpoint, netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, c := range e.containers {
			for _, ep := range c.endpoints {
				if c.state == stateRunning && (ep.ip == a || ep.ip6 == a) {
					return c, ep, a, nil
				}
			}
		}
		return nil, nil, a, api.Errorf(api.NotFound, "no container has %s", a)
	}
	// name.network, as our DNS has it
	bare, network, dotted := strings.Cut(name, ".")
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(name)
	if err != nil && dotted {
		c, err = e.find(bare)
	}
	if err != nil {
		return nil, nil, netip.Addr{}, err
	}
	if c.guest() {
		if c, err = e.find(strings.TrimPrefix(modeOf(c.create.Networks), modeContainer)); err != nil {
			return nil, nil, netip.Addr{}, err
		}
	}
	if c.state != stateRunning || len(c.endpoints) == 0 {
		return nil, nil, netip.Addr{}, api.Errorf(api.Conflict, "container %s is not running, or on no network", c.name)
	}
	ep := c.endpoints[0]
	if gw := gatewayOf(c.endpoints); gw != nil {
		ep = gw
	}
	if i := slices.IndexFunc(c.endpoints, func(x *endpoint) bool { return x.net.cfg.Name == network }); dotted && i >= 0 {
		ep = c.endpoints[i]
	}
	return c, ep, ep.first(), nil
}

// Dial joins a stream socket with a container's port; file is taken over.
func (e *Engine) Dial(name string, port uint16, files []int) error {
	defer func() { fdpass.CloseAll(files) }()
	if len(files) != 1 {
		return api.Errorf(api.BadRequest, "dial needs one stream socket beside the request")
	}
	if port == 0 {
		return api.Errorf(api.BadRequest, "dial needs a port from 1 to 65535")
	}
	client, err := fdpass.StreamOf(files[0])
	files = nil
	if err != nil {
		return api.Errorf(api.BadRequest, "dial: %v", err)
	}
	server, err := e.Reach(e.ctx, name, port)
	if err != nil {
		client.Close()
		return err
	}
	go forward.Splice(client, server)
	return nil
}

// applySOCKS opens, moves or closes the SOCKS5 proxy.
func (e *Engine) applySOCKS(at string) error {
	if e.socksAt == at {
		return nil
	}
	if e.socks != nil {
		e.socks.Close()
		e.socks, e.socksAt = nil, ""
	}
	if at == "" {
		return nil
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return api.Errorf(api.Conflict, "socks: %v", err).WithHint("choose another address, or none")
	}
	e.socks, e.socksAt = l, at
	go forward.ServeSOCKS(l, func(host string, port uint16) (net.Conn, error) { return e.Reach(e.ctx, host, port) })
	e.log.Info("socks proxy", "address", l.Addr().String())
	return nil
}
