package nat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// car is a datagram of a burst.
type car struct {
	to       int // which of the destinations
	ttl, tos int
	b        []byte
}

// cars makes a burst to as many destinations: runs of datagrams that are alike
// and may travel together, and what ends such runs.
func cars(rng *rand.Rand, destinations, count int) (burst []car) {
	sizes := []int{0, 1, 18, 64, 512, 1200, 1400, 1452, 1472, 2048, 2049, 3000}
	for len(burst) < count {
		c := car{to: rng.IntN(destinations), ttl: 2 + rng.IntN(254), tos: rng.IntN(256)}
		size := sizes[rng.IntN(len(sizes))]
		for range min(1+rng.IntN(40), count-len(burst)) {
			d, n := c, size
			switch rng.IntN(20) {
			case 0: // the last of its train
				n = rng.IntN(size + 1)
			case 1: // and one that is too long for it
				n = size + 1
			case 2:
				d.to = rng.IntN(destinations)
			case 3:
				d.ttl--
			case 4:
				d.tos ^= 1 << rng.IntN(8)
			}
			d.b = make([]byte, n)
			for k := range d.b {
				d.b[k] = byte(rng.Uint32())
			}
			d.ttl = max(d.ttl, 2)
			burst = append(burst, d)
		}
	}
	return burst
}

// send sends a datagram with its TTL and TOS.
func (c *car) send(pc *net.UDPConn, to netip.AddrPort) error {
	level, ttl, tos := int32(unix.IPPROTO_IP), int32(unix.IP_TTL), int32(unix.IP_TOS)
	if to.Addr().Is6() {
		level, ttl, tos = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, unix.IPV6_TCLASS
	}
	var m message
	n := m.control(0, level, ttl, binary.NativeEndian.AppendUint32(nil, uint32(c.ttl)))
	n = m.control(n, level, tos, binary.NativeEndian.AppendUint32(nil, uint32(c.tos)))
	_, _, err := pc.WriteMsgUDPAddrPort(c.b, m.ctl[:n], to)
	return err
}

// arrives receives the next datagram, which is to be this one from there; hops
// is how many routers it passed.
func (c *car) arrives(pc *net.UDPConn, from netip.AddrPort, hops int) error {
	buf, oob := make([]byte, 65536), make([]byte, 256)
	n, ctl, _, who, err := pc.ReadMsgUDPAddrPort(buf, oob)
	if err != nil {
		return err
	}
	if who = netip.AddrPortFrom(who.Addr().Unmap(), who.Port()); from.IsValid() && who != from {
		return fmt.Errorf("it comes from %s, not %s", who, from)
	}
	if !bytes.Equal(buf[:n], c.b) {
		return fmt.Errorf("%d bytes arrived instead of %d, or others", n, len(c.b))
	}
	ttl, tos := -1, -1
	eachControl(oob[:ctl], func(level, typ int32, data []byte) {
		switch {
		case level == unix.IPPROTO_IP && typ == unix.IP_TTL || level == unix.IPPROTO_IPV6 && typ == unix.IPV6_HOPLIMIT:
			ttl = int(binary.NativeEndian.Uint32(data))
		case level == unix.IPPROTO_IP && typ == unix.IP_TOS, level == unix.IPPROTO_IPV6 && typ == unix.IPV6_TCLASS:
			tos = int(data[0])
		}
	})
	if c.ttl != 0 && (ttl != c.ttl-hops || tos != c.tos) {
		return fmt.Errorf("TTL %d and TOS %#x arrived of %d and %#x", ttl, tos, c.ttl, c.tos)
	}
	return nil
}

// showHeaders lets a socket tell TTL and TOS of what it receives.
func showHeaders(pc *net.UDPConn) {
	raw(pc, func(fd int) {
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
	})
}

// hold stops the switch: what is sent waits until it goes on.
func (l *lab) hold() (goOn func()) {
	held, end := make(chan struct{}), make(chan struct{})
	go l.do(func() { close(held); <-end })
	<-held
	return func() { close(end) }
}

// greet sends a first datagram, and returns whom the receiver saw. Neighbours
// know each other then, and have no reason to hold a burst back or lose it.
func greet(t testing.TB, from, receiver *net.UDPConn, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte("hello"), to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 9)
	n, who, err := receiver.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "hello" {
		t.Fatalf("greeted with %q: %v", buf[:n], err)
	}
	return netip.AddrPortFrom(who.Addr().Unmap(), who.Port())
}

// family is what differs between IPv4 and IPv6.
type family struct {
	name                        string
	outside, outsideB, any      string
	farAddr, beyond             string
	overhead                    int // of IP and UDP
	level, recvErr, mtuDiscover int
}

var families = []family{
	{"IPv4", outside4, outside4b, "0.0.0.0:0", farAddr, beyond, 28, unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_MTU_DISCOVER},
	{"IPv6", outside6, outside6b, "[::]:0", farAddr6, beyond6, 48, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_MTU_DISCOVER},
}

// A burst of the container arrives once, in order at each destination, and with
// the headers that it was sent with, however the datagrams travelled.
func TestUDPBurstOut(t *testing.T) {
	for _, f := range families {
		for _, published := range []bool{false, true} {
			for _, plain := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, published %v, plain %v", f.name, published, plain), func(t *testing.T) {
					l := newLab(t, Config{})
					b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{plain: plain})
					var outs []*net.UDPConn
					var to []netip.AddrPort
					for _, at := range []string{f.outside, f.outside, f.outsideB} {
						pc := l.packetsOutside(net.JoinHostPort(at, "0"))
						showHeaders(pc)
						outs, to = append(outs, pc), append(to, localPort(pc))
					}
					in := b.packets(f.any)
					from := make([]netip.AddrPort, len(outs)) // as each destination sees the container
					if published {
						pub, _ := l.publish("udp", f.any, b, localPort(in).Port())
						for k, at := range []string{f.outsideB, f.outside, f.outside} {
							from[k] = netip.AddrPortFrom(netip.MustParseAddr(at), pub.Port())
							greet(t, outs[k], in, from[k])
							greet(t, in, outs[k], to[k])
						}
					} else {
						for k := range outs {
							from[k] = greet(t, in, outs[k], to[k])
						}
					}
					rng := rand.New(rand.NewPCG(l.seed, 0))
					for range 4 {
						burst := cars(rng, len(outs), 100)
						for k := range outs { // nothing comes but what was sent
							burst = append(burst, car{to: k, ttl: 64, b: []byte("the end")})
						}
						goOn := l.hold()
						for k := range burst {
							if err := burst[k].send(in, to[burst[k].to]); err != nil {
								t.Error(err)
							}
						}
						goOn()
						for k, c := range burst {
							if err := c.arrives(outs[c.to], from[c.to], 1); err != nil {
								t.Fatalf("datagram %d of %d bytes to %d: %v; %v", k, len(c.b), c.to, err, l.drops(b))
							}
						}
					}
					if d := l.drops(b); len(d) != 0 {
						t.Errorf("drops: %v", d)
					}
				})
			}
		}
	}
}

// Datagrams that are alike do travel together: a receiver that asks for it
// (UDP_GRO) gets them as they came.
func TestUDPTrainsForm(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := newLab(t, Config{})
			b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{})
			out, in := l.packetsOutside(net.JoinHostPort(f.outside, "0")), b.packets(f.any)
			raw(out, func(fd int) { unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1) })
			greet(t, in, out, localPort(out))
			const count, size = 100, 700
			data := pattern(count * size)
			goOn := l.hold()
			for k := range count {
				if _, err := in.WriteToUDPAddrPort(data[k*size:(k+1)*size], localPort(out)); err != nil {
					t.Error(err)
				}
			}
			goOn()
			buf, got, pieces := make([]byte, 65536), []byte(nil), 0
			for len(got) < len(data) {
				n, _, err := out.ReadFromUDPAddrPort(buf)
				if err != nil {
					t.Fatal(err)
				}
				got, pieces = append(got, buf[:n]...), pieces+1
			}
			if !bytes.Equal(got, data) {
				t.Error("other bytes arrived")
			}
			if pieces > count/10 {
				t.Errorf("%d datagrams came in %d pieces", count, pieces)
			}
		})
	}
}

// Bursts from outside: known senders and strangers, single datagrams and such
// as came in one call, all of which wait when the switch looks.
func TestUDPBurstIn(t *testing.T) {
	for _, f := range families {
		for _, published := range []bool{false, true} {
			for _, plain := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, published %v, plain %v", f.name, published, plain), func(t *testing.T) {
					l := newLab(t, Config{})
					b := l.box(l.bridge("bridge", "172.17.0.0/16", "fd00:17::/64", 1500), boxConfig{plain: plain})
					in := b.packets(f.any)
					var senders []*net.UDPConn
					for k := range 6 {
						senders = append(senders, l.packetsOutside(net.JoinHostPort([]string{f.outside, f.outsideB}[k%2], "0")))
					}
					known := len(senders)
					var target netip.AddrPort
					if published {
						pub, id := l.publish("udp", f.any, b, localPort(in).Port())
						l.do(func() { setInt(l.nat.pub.byID(id).fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) })
						target = netip.AddrPortFrom(netip.MustParseAddr(f.outside), pub.Port())
						greet(t, senders[0], in, target)
					} else {
						known = 4
						for _, s := range senders[:known] {
							target = greet(t, in, s, localPort(s))
						}
						target = netip.AddrPortFrom(netip.MustParseAddr(f.outside), target.Port())
					}
					rng := rand.New(rand.NewPCG(l.seed, 0))
					unsolicited := uint64(0)
					for range 3 {
						due := make(map[netip.AddrPort][][]byte)
						count := 0
						goOn := l.hold()
						for range 80 { // more than one call takes
							k := rng.IntN(len(senders))
							size := []int{0, 1, 64, 300, 512, 1400, 1472, 3000}[rng.IntN(8)]
							pieces := 1
							if k < known && rng.IntN(8) == 0 {
								size, pieces = 100+rng.IntN(1200), 2+rng.IntN(15)
							}
							data := make([]byte, size*pieces-min(size*pieces, rng.IntN(50))*min(pieces-1, 1))
							for k := range data {
								data[k] = byte(rng.Uint32())
							}
							var err error
							if pieces > 1 {
								err = sendSegments(senders[k], target, data, size)
							} else {
								_, err = senders[k].WriteToUDPAddrPort(data, target)
							}
							if err != nil {
								t.Error(err)
							}
							if k >= known {
								unsolicited++
								continue
							}
							at := localPort(senders[k])
							for first := true; first || len(data) > 0; first = false {
								n := min(size, len(data))
								due[at] = append(due[at], data[:n])
								data = data[n:]
								count++
							}
						}
						goOn()
						buf := make([]byte, 65536)
						for ; count > 0; count-- {
							in.SetReadDeadline(time.Now().Add(patience))
							n, from, err := in.ReadFromUDPAddrPort(buf)
							if err != nil {
								t.Fatalf("%d are missing: %v; %v", count, err, l.drops(b))
							}
							from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
							if q := due[from]; len(q) == 0 || !bytes.Equal(q[0], buf[:n]) {
								t.Fatalf("%d bytes from %s, which has %d still to come, are not its next", n, from, len(q))
							}
							due[from] = due[from][1:]
						}
						l.eventually("the unsolicited are counted", func() bool {
							return b.port.Stats.Drops[vswitch.Unsolicited] == unsolicited
						})
					}
					if d := l.drops(b); len(d) > 1 || published && len(d) > 0 {
						t.Errorf("drops: %v", d)
					}
				})
			}
		}
	}
}
