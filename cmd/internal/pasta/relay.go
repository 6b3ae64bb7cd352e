package pasta

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// relays lead ports of the namespace's loopback to the host's: what a program
// sends to 127.0.0.1 never leaves its namespace, so that no switch sees it. TCP
// goes by splice(2), which io.Copy uses between sockets.
type relays struct {
	helper *helper
	mu     sync.Mutex
	made   map[relayKey]func()
}

type relayKey struct {
	proto string
	port  uint16
}

const (
	relayPeers = 256             // clients of one UDP port at a time
	relayIdle  = 2 * time.Minute // without a datagram until a client is forgotten
)

// add leads a port; of IPv6 as well where the namespace has it.
func (r *relays) add(proto string, port, to uint16) error {
	var stops []func()
	for _, v6 := range []bool{false, true} {
		fd, err := r.helper.open(proto, v6, port)
		if err != nil {
			if v6 {
				break
			}
			return err
		}
		host := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to)
		if v6 {
			host = netip.AddrPortFrom(netip.IPv6Loopback(), to)
		}
		f := os.NewFile(uintptr(fd), "listener")
		stop, err := serveRelay(proto, f, host.String())
		f.Close()
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	r.mu.Lock()
	r.made[relayKey{proto, port}] = func() {
		for _, s := range stops {
			s()
		}
	}
	r.mu.Unlock()
	return nil
}

func (r *relays) remove(proto string, port uint16) {
	r.mu.Lock()
	stop := r.made[relayKey{proto, port}]
	delete(r.made, relayKey{proto, port})
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
}

func (r *relays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, stop := range r.made {
		stop()
		delete(r.made, k)
	}
}

func serveRelay(proto string, f *os.File, to string) (stop func(), err error) {
	if proto == "udp" {
		c, err := net.FilePacketConn(f)
		if err != nil {
			return nil, err
		}
		go relayDatagrams(c, to)
		return func() { c.Close() }, nil
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relayStream(c.(*net.TCPConn), to)
		}
	}()
	return func() { l.Close() }, nil
}

// relayStream carries a connection both ways, each way until its end.
func relayStream(a *net.TCPConn, to string) {
	defer a.Close()
	x, err := net.DialTimeout("tcp", to, 10*time.Second)
	if err != nil {
		_ = a.SetLinger(0) // refused there is reset here
		return
	}
	b := x.(*net.TCPConn)
	defer b.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(b, a)
		_ = b.CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(a, b)
	_ = a.CloseWrite()
	<-done
}

// relayDatagrams has a socket of the host for each client.
func relayDatagrams(c net.PacketConn, to string) {
	var mu sync.Mutex
	peers := make(map[string]net.Conn)
	buf := make([]byte, 65535)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			break
		}
		mu.Lock()
		p := peers[from.String()]
		if p == nil && len(peers) < relayPeers {
			if p, err = net.Dial("udp", to); err == nil {
				peers[from.String()] = p
				go func() {
					relayAnswers(c, from, p)
					mu.Lock()
					delete(peers, from.String())
					mu.Unlock()
					p.Close()
				}()
			}
		}
		mu.Unlock()
		if p != nil {
			_ = p.SetReadDeadline(time.Now().Add(relayIdle))
			_, _ = p.Write(buf[:n])
		}
	}
	mu.Lock()
	for _, p := range peers {
		p.Close()
	}
	mu.Unlock()
}

func relayAnswers(c net.PacketConn, to net.Addr, p net.Conn) {
	buf := make([]byte, 65535)
	for {
		n, err := p.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.WriteTo(buf[:n], to); err != nil {
			return
		}
	}
}
