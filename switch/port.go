package vswitch

import (
	"net/netip"
	"slices"
)

// PortID is the index of a port in its switch; 0 is never a port.
type PortID uint16

// MaxPorts bounds the ports of one switch.
const MaxPorts = 4096

// PortConfig says what is attached to a bridge.
type PortConfig struct {
	Name   string // "busybox1:eth0", for people
	Owner  string // whose it is, for the control plane
	Label  string // the container's name, by which policies know it
	Device Device
	Bridge *Bridge
	MAC    MAC
	Addrs  []netip.Addr // the container's own addresses on this bridge
	// Spoof lets frames pass with any source and makes the port one that the FDB
	// learns from: for routers, nested bridges and virtual machines.
	Spoof bool
	// Host makes it the host's own interface on the bridge (host.go): MAC and Addrs
	// are then the gateway's.
	Host  bool
	Flows int // of the gateway's that it may have at a time; 0: as any port
	Shape Shape

	in *meter // of a group, what its shards fill Shape.RateIn from; nil for the switch's own
}

// Port is where a device meets a bridge (towards users: an interface). The
// loop's thread owns it.
type Port struct {
	ID PortID
	PortConfig

	sw     *Switch
	bridge *Bridge
	caps   Caps
	gen    uint64 // grows with each change to this port and with its reuse
	cache  *flowCache
	queued bool // in the run queue
	look   bool // and to be read when its turn comes
	greedy bool // had more than its share when it was read last
	wake   uint32
	shape  *shaper // nil: no limits
	heard  *heard  // nil: nothing
	peers  []*Port // the port as each shard of a group has it; at home only

	linkLocal    netip.Addr // EUI-64 of MAC
	oldest       uint32     // learned FDB entries
	newest       uint32
	learnedCount int
	oldestGroup  uint32 // memberships of multicast groups
	newestGroup  uint32
	groupCount   int
	blockedUntil uint32 // seconds; a loop was noticed
	alone        uint32 // seconds; until then nothing is merged for it

	Stats PortStats
}

// PortStats counts frames and bytes as the container sees them: Rx is what it
// received, Tx what it sent. Bytes exclude the virtio header.
type PortStats struct {
	RxFrames, RxBytes uint64
	TxFrames, TxBytes uint64
	Upcalls, Hits     uint64
	Drops             [NumReasons]uint64
}

// Gen tells a port from those that had or will have its number.
func (p *Port) Gen() uint32 { return p.wake }

// Bridge is the bridge the port is on.
func (p *Port) Bridge() *Bridge { return p.bridge }

// owns says whether a is one of the port's own addresses, its link-local one
// among them.
func (p *Port) owns(a netip.Addr) bool {
	return a == p.linkLocal || slices.Contains(p.Addrs, a)
}

// Has4 and Has6 say whether the container has an address of the family.
func (p *Port) Has4() bool { return slices.ContainsFunc(p.Addrs, netip.Addr.Is4) }

// Has6 says whether the container has an IPv6 address on this bridge.
func (p *Port) Has6() bool { return slices.ContainsFunc(p.Addrs, netip.Addr.Is6) }

// Super says whether the port takes TCP super-frames as they are.
func (p *Port) Super() bool { return p.caps&(CapCsum|CapTSO) == CapCsum|CapTSO }

// Big says whether the port is given TCP super-frames of IPv4 of more than 64 KiB: not one
// that may spoof, behind which are others, since to pass them on its kernel would
// cut them to packets.
func (p *Port) Big() bool { return p.caps&CapBig != 0 && !p.Spoof }

// LinkLocal is the EUI-64 link-local address of m (RFC 4291, appendix A).
func LinkLocal(m MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// BridgeConfig describes a network's L2 domain and its gateway.
type BridgeConfig struct {
	Name     string
	Subnet   netip.Prefix // IPv4; invalid if there is none
	Gateway  netip.Addr
	Subnet6  netip.Prefix
	Gateway6 netip.Addr
	MTU      int
	MaxFDB   int
	NoICC    bool // containers of the bridge do not reach each other
	Internal bool // nothing is routed off the bridge
	NoDHCP   bool // the gateway leaves DHCP to others
	// NoSnooping sends all multicast to everybody, and asks nobody.
	NoSnooping bool
	// Advertise answers router solicitations: with the gateway as the router, and
	// addresses by DHCPv6.
	Advertise bool
	Service   Service
}

// Bridge is an L2 domain: ports that see each other, and a gateway. The
// loop's thread owns it; its configuration never changes, but for Ask.
type Bridge struct {
	BridgeConfig
	ID  uint16
	MAC MAC // the gateway's
	// Ask lets the gateway decide about IP packets between the bridge's ports, too.
	Ask bool

	sw      *Switch
	ports   []*Port
	fdb     *fdb
	groups  *groupTable // nil: the bridge does not snoop
	gen     uint64      // grows with membership and with what the FDB learns
	trusted int         // ports that may spoof: unknown unicast goes to them only
	host    *Port       // the host's own interface; nil: it has none here
}

// Ports are the members; the slice is borrowed and changes with the bridge.
func (b *Bridge) Ports() []*Port { return b.ports }

// PortOf is the port whose container has address a, or nil.
func (b *Bridge) PortOf(a netip.Addr) *Port {
	for _, p := range b.ports {
		if slices.Contains(p.Addrs, a) {
			return p
		}
	}
	return nil
}

// Contains says whether a lies in one of the bridge's subnets.
func (b *Bridge) Contains(a netip.Addr) bool {
	return b.Subnet.IsValid() && b.Subnet.Contains(a) || b.Subnet6.IsValid() && b.Subnet6.Contains(a)
}

// IsGateway says whether a is one of the gateway's own addresses.
func (b *Bridge) IsGateway(a netip.Addr) bool {
	return a.IsValid() && (a == b.Gateway || a == b.Gateway6 || a == b.LinkLocal() || b.OnlyResolver(a))
}

// LinkLocal is the gateway's link-local address.
func (b *Bridge) LinkLocal() netip.Addr { return LinkLocal(b.MAC) }

// FDB lists the forwarding database.
func (b *Bridge) FDB() []FDBEntry { return b.fdb.dump(b.sw.seconds()) }

// gatewayMAC follows Docker's rule for addresses: 02:42 and four bytes.
func gatewayMAC(c BridgeConfig) MAC {
	m := MAC{0x02, 0x42}
	if c.Gateway.Is4() {
		a := c.Gateway.As4()
		copy(m[2:], a[:])
	} else if c.Gateway6.IsValid() {
		a := c.Gateway6.As16()
		for i, x := range a {
			m[2+i%4] ^= x
		}
	}
	return m
}
