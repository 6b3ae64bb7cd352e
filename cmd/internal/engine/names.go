package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
	"tapswitch/forward"
	"tapswitch/nat"
	"tapswitch/switch"
)

// nameTable is a snapshot of all names, read by DNS without a lock.
type nameTable struct {
	byBridge map[string]map[string][]netip.Addr
	reverse  map[string]map[netip.Addr]string
	subnets  []netip.Prefix
	internal map[string]bool // bridges
	scopes   map[string][]string
	owners   map[string]string // by scope: the container's name
}

// publishNames makes a new snapshot.
func (e *Engine) publishNames() {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &nameTable{byBridge: make(map[string]map[string][]netip.Addr), reverse: make(map[string]map[netip.Addr]string), internal: make(map[string]bool), scopes: make(map[string][]string), owners: make(map[string]string)}
	for _, n := range e.networks {
		t.byBridge[n.cfg.Name] = make(map[string][]netip.Addr)
		t.reverse[n.cfg.Name] = make(map[netip.Addr]string)
		t.internal[n.cfg.Name] = n.cfg.Internal
		if !n.cfg.NoIPv4 {
			t.subnets = append(t.subnets, n.cfg.Subnet)
		}
		if n.cfg.Subnet6.IsValid() {
			t.subnets = append(t.subnets, n.cfg.Subnet6)
		}
	}
	for _, c := range e.containers {
		if c.state != stateRunning {
			continue
		}
		var on []string
		for _, ep := range c.endpoints {
			t.add(c, ep)
			on = append(on, ep.net.cfg.Name)
			for _, a := range ep.addresses() {
				t.owners[scope(ep.net.cfg.Name, a)] = c.name
			}
		}
		if len(on) > 1 {
			for _, ep := range c.endpoints {
				for _, a := range ep.addresses() {
					t.scopes[scope(ep.net.cfg.Name, a)] = on
				}
			}
		}
	}
	e.table.Store(t)
}

// add enters an endpoint's names: its container's, its aliases, the short id and
// the hostname, each also with the network's name behind it.
func (t *nameTable) add(c *container, ep *endpoint) {
	br := ep.net.cfg.Name
	names := append([]string{c.name, c.id[:12]}, ep.aliases...)
	if h := c.create.Hostname; h != "" {
		names = append(names, h)
	}
	seen := make(map[string]bool)
	for _, n := range names {
		n = strings.ToLower(n)
		if seen[n] {
			continue
		}
		seen[n] = true
		for _, full := range []string{n, n + "." + strings.ToLower(br)} {
			if ep.ip.IsValid() {
				t.byBridge[br][full] = append(t.byBridge[br][full], ep.ip)
			}
			if ep.ip6.IsValid() {
				t.byBridge[br][full] = append(t.byBridge[br][full], ep.ip6)
			}
		}
	}
	if ep.ip.IsValid() {
		t.reverse[br][ep.ip] = c.name + "." + br
	}
	if ep.ip6.IsValid() {
		t.reverse[br][ep.ip6] = c.name + "." + br
	}
}

// addresses are those that an endpoint may ask from.
func (ep *endpoint) addresses() []netip.Addr {
	return []netip.Addr{ep.ip, ep.ip6, vswitch.LinkLocal(ep.mac)}
}

// scope names who asks: a container that is on several networks knows the names
// of all, whichever gateway it asks.
func scope(bridge string, client netip.Addr) string { return bridge + " " + client.String() }

// bridges are those whose names a scope knows; a bridge is a scope, too.
func (t *nameTable) bridges(s string) []string {
	if on := t.scopes[s]; on != nil {
		return on
	}
	bridge, _, _ := strings.Cut(s, " ")
	return []string{bridge}
}

// Lookup is forward.Names.
func (e *Engine) Lookup(scope, name string) (all []netip.Addr, ok bool) {
	t := e.table.Load()
	for _, bridge := range t.bridges(scope) {
		if a, is := t.byBridge[bridge][name]; is {
			all, ok = append(all, a...), true
		}
	}
	return all, ok
}

// Reverse is forward.Names.
func (e *Engine) Reverse(scope string, a netip.Addr) (string, bool) {
	t := e.table.Load()
	for _, bridge := range t.bridges(scope) {
		if n, is := t.reverse[bridge][a]; is {
			return n, true
		}
	}
	return "", false
}

// closed says whether other names than their own are not asked for: all of a
// scope's networks are internal.
func (e *Engine) closed(scope string) bool {
	t := e.table.Load()
	for _, bridge := range t.bridges(scope) {
		if !t.internal[bridge] {
			return false
		}
	}
	return true
}

// Local is forward.Names.
func (e *Engine) Local(_ string, a netip.Addr) bool {
	for _, p := range e.table.Load().subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// told is forward.DNSConfig.Told: what a container has been told it may use, if
// its egress policy holds the name.
func (e *Engine) told(scope, name string, addrs []netip.Addr, ttl time.Duration) {
	e.hub.dnsTold(name, addrs)
	e.memory.hear(name, addrs)
	owner := e.table.Load().owners[scope]
	bridge, _, _ := strings.Cut(scope, " ")
	if f := e.askerOf(owner, bridge); f != nil && owner != "" {
		e.openings.Add(owner, name, addrs, ttl)
	}
}

// upstreamSet are resolvers that the configuration names instead of the host's.
type upstreamSet struct {
	fixed   []netip.AddrPort
	domains []configs.Domain
}

// resolvers are those that questions about other names go to.
func (e *Engine) resolvers() []netip.AddrPort {
	if u := e.upstreams.Load(); len(u.fixed) > 0 {
		return u.fixed
	}
	return e.resolv.Upstreams()
}

// split are the resolvers of the longest domain that holds name.
func (e *Engine) split(name string) (servers []netip.AddrPort) {
	best := ""
	for _, d := range e.upstreams.Load().domains {
		if (name == d.Name || strings.HasSuffix(name, "."+d.Name)) && len(d.Name) > len(best) {
			best, servers = d.Name, d.Servers
		}
	}
	return servers
}

// maxAsking bounds questions in flight over all bridges.
const maxAsking = 4096

// Datagram is nat.Local: a question over UDP.
func (e *Engine) Datagram(q nat.Query, b []byte) bool {
	if e.asking.Add(1) > maxAsking {
		e.asking.Add(-1)
		return false
	}
	query := append([]byte(nil), b...)
	go func() {
		defer e.asking.Add(-1)
		if a := e.dns.Answer(e.ctx, scope(q.Bridge, q.Client.Addr()), true, query, 0); a != nil {
			q.Reply(a)
		}
	}()
	return true
}

// Stream is nat.Local: a question over TCP. The gateway's TCP needs a host
// socket to translate to, so each connection gets a pair over the host's
// loopback, whose listener is gone before anybody else could find it.
func (e *Engine) Stream(q nat.Query, ready func(fd int)) {
	go func() {
		fd, conn, err := tcpPair()
		if err != nil {
			e.log.Warn("dns over tcp", "err", err)
			ready(-1)
			return
		}
		ready(fd)
		forward.ServeTCP(e.ctx, conn, func(query []byte) []byte {
			return e.dns.Answer(e.ctx, scope(q.Bridge, q.Client.Addr()), false, query, 0)
		})
	}()
}

// tcpPair connects two TCP sockets: a non-blocking descriptor and a Conn.
func tcpPair() (int, net.Conn, error) {
	lc := net.ListenConfig{}
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return -1, nil, err
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	at := l.Addr().(*net.TCPAddr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	me, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			unix.Close(fd)
			return -1, nil, err
		}
		if conn.RemoteAddr().(*net.TCPAddr).Port == me.(*unix.SockaddrInet4).Port {
			return fd, conn, unix.SetNonblock(fd, true)
		}
		conn.Close() // a stranger on this host was quicker
	}
}

// nameServer is the gateway that a container asks: the default route's, else the
// first that there is.
func nameServer(eps []*endpoint) netip.Addr {
	if gw := gatewayOf(eps); gw != nil {
		if v4, _ := gw.net.gateways(); v4.IsValid() {
			return v4
		}
	}
	for _, ep := range eps {
		v4, v6 := ep.net.gateways()
		if v4.IsValid() {
			return v4
		}
		if v6.IsValid() && ep.ip6.IsValid() {
			return v6
		}
	}
	return netip.Addr{}
}

// files are the contents of a container's resolv.conf and hosts.
func (e *Engine) files(c *container, host string) (resolv, hosts string) {
	var r, h strings.Builder
	h.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, ep := range c.endpoints {
		names := host
		if c.name != host {
			names += " " + c.name
		}
		if ep.ip.IsValid() {
			fmt.Fprintf(&h, "%s\t%s\n", ep.ip, names)
		}
		if ep.ip6.IsValid() {
			fmt.Fprintf(&h, "%s\t%s\n", ep.ip6, names)
		}
	}
	h.WriteString(e.linkLines(c))
	if at := nameServer(c.endpoints); at.IsValid() {
		fmt.Fprintf(&r, "nameserver %s\n", at)
	}
	if s := e.resolv.Search(); len(s) > 0 {
		fmt.Fprintf(&r, "search %s\n", strings.Join(s, " "))
	}
	r.WriteString("options ndots:0\n")
	return r.String(), h.String()
}

// openFile opens a file of the host by way of the porter: the worker's own eyes
// may end at its directories.
func (e *Engine) openFile(path string) (*os.File, error) {
	_, fds, err := e.porter.Call(porter.Message{Op: porter.OpOpen, Name: path})
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		closeFDs(fds)
		return nil, fmt.Errorf("%s has not come", path)
	}
	return os.NewFile(uintptr(fds[0]), path), nil
}
