package switchtest

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tapswitch/switch"
)

// Clock is a clock that moves when it is told.
type Clock struct{ ns atomic.Int64 }

// NewClock makes a clock that shows 1000 s.
func NewClock() *Clock {
	c := new(Clock)
	c.ns.Store(int64(1000 * time.Second))
	return c
}

// Now is for Config.Now.
func (c *Clock) Now() int64 { return c.ns.Load() }

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.ns.Add(int64(d)) }

// All is the capabilities of a TAP on a current kernel.
const All = vswitch.CapCsum | vswitch.CapTSO | vswitch.CapUSO | vswitch.CapBig

// Net is a switch that is driven by hand, with a clock, a gateway and hosts.
type Net struct {
	*vswitch.Switch
	T       testing.TB
	Clock   *Clock
	Gateway *Gateway
	Hosts   []*Host
}

// NewNet makes a switch without bridges. It is closed when the test ends.
func NewNet(t testing.TB) *Net {
	t.Helper()
	n := &Net{T: t, Clock: NewClock(), Gateway: new(Gateway)}
	sw, err := vswitch.New(vswitch.Config{Now: n.Clock.Now, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sw.Close)
	sw.SetGateway(n.Gateway)
	n.Switch = sw
	return n
}

// Bridge adds a bridge; subnets are "172.17.0.0/16" or "fd00:17::/64" and the
// gateway has the first address of each.
func (n *Net) Bridge(name string, subnets ...string) *vswitch.Bridge {
	n.T.Helper()
	c := vswitch.BridgeConfig{Name: name, MTU: 1500}
	for _, s := range subnets {
		p := netip.MustParsePrefix(s)
		if p.Addr().Is4() {
			c.Subnet, c.Gateway = p, p.Addr().Next()
		} else {
			c.Subnet6, c.Gateway6 = p, p.Addr().Next()
		}
	}
	return n.AddBridge(c)
}

// Host is what stands behind a port in memory.
type Host struct {
	*vswitch.Port
	Dev *Device
	net *Net
}

// Host attaches a host with an offloading device. Its MAC is 02:42 and its
// first address's last four bytes.
func (n *Net) Host(b *vswitch.Bridge, name string, addrs ...string) *Host {
	n.T.Helper()
	return n.Attach(vswitch.PortConfig{Name: name, Bridge: b}, NewDevice(n.T, All), addrs...)
}

// Trusted attaches a host that may send from any address.
func (n *Net) Trusted(b *vswitch.Bridge, name string, addrs ...string) *Host {
	n.T.Helper()
	return n.Attach(vswitch.PortConfig{Name: name, Bridge: b, Spoof: true}, NewDevice(n.T, All), addrs...)
}

// Plain attaches a host whose device takes finished frames only.
func (n *Net) Plain(b *vswitch.Bridge, name string, addrs ...string) *Host {
	n.T.Helper()
	return n.Attach(vswitch.PortConfig{Name: name, Bridge: b}, NewDevice(n.T, 0), addrs...)
}

// Attach attaches a device with what c says and the addresses. d may stand
// behind a Fault that c.Device holds.
func (n *Net) Attach(c vswitch.PortConfig, d *Device, addrs ...string) *Host {
	n.T.Helper()
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParseAddr(a))
	}
	if c.MAC == (vswitch.MAC{}) {
		c.MAC = MACOf(c.Addrs[0])
	}
	if c.Device == nil {
		c.Device = d
	}
	p, err := n.AddPort(c)
	if err != nil {
		n.T.Fatal(err)
	}
	h := &Host{p, d, n}
	n.Hosts = append(n.Hosts, h)
	return h
}

// MACOf is 02:42 and the last four bytes of a.
func MACOf(a netip.Addr) vswitch.MAC {
	b := a.AsSlice()
	return vswitch.MAC(append([]byte{0x02, 0x42}, b[len(b)-4:]...))
}

// To starts a packet from h's first address to other's first of the family.
func (h *Host) To(other *Host) Packet {
	h.net.T.Helper()
	for _, a := range h.Addrs {
		for _, b := range other.Addrs {
			if a.Is4() == b.Is4() {
				return Packet{SrcMAC: h.MAC, DstMAC: other.MAC, Src: a, Dst: b}
			}
		}
	}
	h.net.T.Fatalf("%s and %s have no family in common", h.Name, other.Name)
	return Packet{}
}

// Out starts a packet from h to an address behind its gateway.
func (h *Host) Out(dst string) Packet {
	h.net.T.Helper()
	d := netip.MustParseAddr(dst)
	for _, a := range h.Addrs {
		if a.Is4() == d.Is4() {
			return Packet{SrcMAC: h.MAC, DstMAC: h.Bridge().MAC, Src: a, Dst: d}
		}
	}
	h.net.T.Fatalf("%s has no address of the family of %s", h.Name, dst)
	return Packet{}
}

// Send lets h send frames, one turn of the switch for each.
func (h *Host) Send(frames ...[]byte) {
	for _, f := range frames {
		h.Dev.Push(f)
		h.net.Poll()
	}
}

// Dropped is what the port counted under reasons, without those of none.
func (h *Host) Dropped() map[vswitch.Reason]uint64 {
	m := map[vswitch.Reason]uint64{}
	for r, n := range h.Stats.Drops {
		if n != 0 {
			m[vswitch.Reason(r)] = n
		}
	}
	return m
}

// Failures are what the host's switch remembers.
func (h *Host) Failures() []vswitch.Failure { return h.net.Failures() }
