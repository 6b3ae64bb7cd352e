package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// plain is a world in plain words: what the model decides by, and what switches
// are made of.
type plain struct {
	nets   []*plainNet
	ports  []*plainPort
	pubs   []*plainPub
	policy Policy
}

type plainNet struct {
	name            string
	subnets         []netip.Prefix
	gateways        []netip.Addr
	noICC, internal bool
	mtu             int
}

type plainPort struct {
	name, label string
	net         *plainNet
	addrs       []netip.Addr
	mac         vswitch.MAC
	spoof       bool // may send from any address
	finished    bool // takes finished frames only
}

type plainPub struct {
	proto     uint8
	host      netip.AddrPort
	port      *plainPort
	cport     uint16
	elsewhere bool // another shard keeps it
}

// The ports that everything in these tests speaks to.
var somePorts = []uint16{53, 80, 443, 853, 2049, 3306, 5432, 8080}

// Addresses of the host, and outside of it: public, private, and those that
// answers of ours have named.
var (
	hostAddrs    = addrs("192.0.2.1", "2001:db8::1")
	publicAddrs  = addrs("1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808")
	privateAddrs = addrs("10.9.9.9", "172.31.0.1", "192.168.7.7", "100.64.1.1", "198.19.0.1", "192.0.0.9", "192.88.99.1", "fc00::1", "fdff::1", "64:ff9b::a09:909")
	namedAddrs   = addrs("8.8.8.8", "10.8.8.8", "2001:4860:4860::8888")
)

// never are addresses that no policy opens, and why.
var never = map[netip.Addr]vswitch.Reason{}

func init() {
	for why, list := range map[vswitch.Reason][]netip.Addr{
		vswitch.HostLoopback:    addrs("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:1.1.1.1", "64:ff9b::7f00:1", "::127.0.0.1"),
		vswitch.LinkLocalOnly:   addrs("169.254.169.254", "fe80::1234", "fd00:ec2::254", "::ffff:169.254.0.1", "64:ff9b::a9fe:a9fe"),
		vswitch.MulticastRouted: addrs("240.0.0.1", "255.255.255.255", "::ffff:224.0.0.1"),
	} {
		for _, a := range list {
			never[a] = why
		}
	}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// rarely is true once in n times.
func rarely(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// randomNets makes three networks, each with one or both families.
func randomNets(r *rand.Rand) *plain {
	w := new(plain)
	for i, name := range []string{"front", "back", "inner"} {
		n := &plainNet{name: name, noICC: rarely(r, 2), internal: rarely(r, 4), mtu: []int{1500, 1500, 1280}[i]}
		families := r.IntN(6)
		if families != 0 {
			n.subnets = append(n.subnets, netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", 18+i)))
		}
		if families != 1 {
			n.subnets = append(n.subnets, netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", 18+i)))
		}
		for _, s := range n.subnets {
			n.gateways = append(n.gateways, s.Addr().Next())
		}
		w.nets = append(w.nets, n)
	}
	return w
}

// randomPorts gives each of the containers one or two ports.
func (w *plain) randomPorts(r *rand.Rand) {
	for k, label := range someNames {
		for i, n := range r.Perm(len(w.nets))[:1+r.IntN(2)] {
			p := &plainPort{name: fmt.Sprintf("%s:eth%d", label, i), label: label, net: w.nets[n], mac: boxMAC(k), finished: rarely(r, 2)}
			for _, a := range p.net.addressesOf(k) {
				if len(p.addrs) == 0 || !rarely(r, 4) { // some have one family less than their network
					p.addrs = append(p.addrs, a)
				}
			}
			w.ports = append(w.ports, p)
		}
	}
}

var someNames = []string{"web", "db", "cache", "mail", "proxy"}

func boxMAC(k int) vswitch.MAC { return vswitch.MAC{2, 0, 0, 0, 1, byte(k)} }

// addressesOf are the addresses that the container of number k has on n.
func (n *plainNet) addressesOf(k int) (out []netip.Addr) {
	for _, s := range n.subnets {
		b := s.Addr().AsSlice()
		b[len(b)-1] = byte(10 + k)
		a, _ := netip.AddrFromSlice(b)
		out = append(out, a)
	}
	return out
}

// randomPubs publishes a few ports, each at a port of the host's own.
func (w *plain) randomPubs(r *rand.Rand) {
	for range r.IntN(4) {
		p := pick(r, w.ports)
		if p.net.internal {
			continue // nothing of it can be published
		}
		host := pick(r, append(addrs("0.0.0.0", "::"), hostAddrs...))
		at := netip.AddrPortFrom(host, uint16(9000+len(w.pubs)))
		proto := pick(r, []uint8{vswitch.ProtoTCP, vswitch.ProtoUDP})
		w.pubs = append(w.pubs, &plainPub{proto, at, p, pick(r, somePorts), rarely(r, 3)})
	}
}

// randomPolicy makes rules and settings that speak of this world.
func (w *plain) randomPolicy(r *rand.Rand) Policy {
	p := Policy{LoopbackAll: rarely(r, 8), HostAddress: rarely(r, 2), NoForward: rarely(r, 8), HostAddrs: map[netip.Addr]struct{}{}}
	for _, a := range hostAddrs {
		p.HostAddrs[a] = struct{}{}
	}
	if rarely(r, 3) {
		p.LoopbackPorts = []uint16{pick(r, somePorts)}
	}
	for i := range r.IntN(6) {
		x := Rule{ID: uint32(FirstRule + i), From: w.randomMatch(r), To: w.randomMatch(r), Proto: randomProto(r), Ports: randomRanges(r), Action: Action(r.IntN(3))}
		if rarely(r, 2) {
			x.Direction = Direction(r.IntN(4))
		}
		p.Rules = append(p.Rules, x)
	}
	for range r.IntN(4) {
		p.Links = append(p.Links, Link{pick(r, someNames), pick(r, someNames)})
	}
	for i := range r.IntN(3) {
		x := Route{From: pick(r, w.nets).name, To: pick(r, w.nets).name, Proto: randomProto(r), Ports: randomRanges(r)}
		if rarely(r, 2) {
			x.ID = uint32(200 + i)
		}
		p.Routes = append(p.Routes, x)
	}
	p.Nets, p.Open, p.Public, p.Egress = map[string]NetPolicy{}, map[string][]OpenPort{}, map[string][]OpenPort{}, map[string]*Egress{}
	for _, n := range w.nets {
		if rarely(r, 2) {
			p.Nets[n.name] = NetPolicy{Mode4: GatewayMode(r.IntN(3)), Mode6: GatewayMode(r.IntN(3)), NoMasquerade: rarely(r, 4)}
		}
		if rarely(r, 4) {
			p.Egress["network/"+n.name] = w.randomEgress(r)
		}
	}
	for _, name := range someNames {
		for range r.IntN(3) {
			p.Open[name] = append(p.Open[name], OpenPort{pick(r, []uint8{vswitch.ProtoTCP, vswitch.ProtoUDP}), pick(r, somePorts)})
		}
		if open := p.Open[name]; len(open) > 0 {
			p.Public[name] = open[:r.IntN(len(open)+1)] // the rest is exposed only
		}
		if rarely(r, 5) {
			p.Egress[name] = w.randomEgress(r)
		}
	}
	return p
}

func (w *plain) randomMatch(r *rand.Rand) Match {
	if rarely(r, 3) {
		return Match{}
	}
	m := Match{Kind: MatchKind(1 + r.IntN(5)), Not: rarely(r, 3)}
	switch m.Kind {
	case MatchPrefix:
		m.Prefix = w.randomPrefix(r)
	case MatchContainer:
		m.Name = pick(r, someNames)
	case MatchNetwork:
		m.Name = pick(r, w.nets).name
	}
	return m
}

// randomPrefix holds one address of this world, a subnet, half of all addresses
// of a family, or all.
func (w *plain) randomPrefix(r *rand.Rand) netip.Prefix {
	a := w.randomAddr(r)
	bits := []int{0, 1, 8, 16, 64, a.BitLen()}[r.IntN(6)]
	p, _ := a.Prefix(min(bits, a.BitLen()))
	return p
}

// randomAddr is an address somewhere in this world.
func (w *plain) randomAddr(r *rand.Rand) netip.Addr {
	switch r.IntN(12) {
	case 0:
		return pick(r, hostAddrs)
	case 1:
		return pick(r, publicAddrs)
	case 2:
		return pick(r, privateAddrs)
	case 3:
		return pick(r, namedAddrs)
	case 4, 5:
		return pick(r, pick(r, w.nets).gateways)
	}
	return pick(r, pick(r, w.nets).addressesOf(r.IntN(len(someNames))))
}

func randomProto(r *rand.Rand) uint8 {
	return pick(r, []uint8{0, 0, vswitch.ProtoTCP, vswitch.ProtoUDP, vswitch.ProtoICMP})
}

func randomRanges(r *rand.Rand) (out []PortRange) {
	if rarely(r, 2) {
		return nil
	}
	for range r.IntN(3) {
		first := pick(r, somePorts)
		out = append(out, PortRange{first, first + pick(r, []uint16{0, 0, 500})})
	}
	return out
}

func (w *plain) randomEgress(r *rand.Rand) *Egress {
	e := &Egress{Name: "some", Mode: EgressMode(r.IntN(4))}
	if e.Mode != EgressList {
		return e
	}
	for range r.IntN(4) {
		e.Allow = append(e.Allow, Allowed{w.randomPrefix(r), randomProto(r), randomRanges(r)})
	}
	if rarely(r, 2) {
		e.Named = answered
	}
	return e
}

// answered stands for a DNS that has given the even containers some addresses.
func answered(container string, a netip.Addr, _ uint8, port uint16, _ bool) string {
	for i, x := range namedAddrs {
		if x == a && len(container)%2 == 0 && port != 443 {
			return fmt.Sprintf("name%d.example", i)
		}
	}
	return ""
}

// real is a switch with its NAT, made of a plain world.
type real struct {
	*switchtest.Net
	nat     *NAT
	dns     int // questions
	bridges map[*plainNet]*vswitch.Bridge
	hosts   map[*plainPort]*switchtest.Host
}

// closedOutside is an outside without descriptors, so that no test depends on
// the kernel's sockets.
type closedOutside struct{ Kernel }

func (closedOutside) Socket(int, int, int) (int, unix.Errno) { return -1, unix.EMFILE }

// Datagram swallows a question.
func (w *real) Datagram(Query, []byte) bool { w.dns++; return true }

// Stream never comes about.
func (w *real) Stream(Query, func(fd int)) {}

func newReal(t testing.TB, p *plain, dns bool) *real {
	w := &real{Net: switchtest.NewNet(t), bridges: map[*plainNet]*vswitch.Bridge{}, hosts: map[*plainPort]*switchtest.Host{}}
	cfg := Config{Outside: closedOutside{}, MaxFlows: 4096}
	if dns {
		cfg.Local = w
	}
	var err error
	if w.nat, err = New(w.Switch, cfg); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.nets {
		w.addBridge(n)
	}
	t.Cleanup(func() { // descriptors of what is published
		for id := range w.nat.pub.list {
			w.nat.Unpublish(uint32(id))
		}
	})
	return w
}

func (w *real) addBridge(n *plainNet) {
	c := vswitch.BridgeConfig{Name: n.name, MTU: n.mtu, NoICC: n.noICC, Internal: n.internal}
	for i, s := range n.subnets {
		if s.Addr().Is4() {
			c.Subnet, c.Gateway = s, n.gateways[i]
		} else {
			c.Subnet6, c.Gateway6 = s, n.gateways[i]
		}
	}
	w.bridges[n] = w.AddBridge(c)
	w.nat.BridgeAdded(w.bridges[n])
}

func (w *real) attach(p *plainPort) {
	caps := switchtest.All
	if p.finished {
		caps = 0
	}
	c := vswitch.PortConfig{Name: p.name, Label: p.label, Bridge: w.bridges[p.net], MAC: p.mac, Addrs: p.addrs, Spoof: p.spoof}
	w.hosts[p] = w.Attach(c, switchtest.NewDevice(w.T, caps))
	w.Hosts = nil
}

// publish publishes x. Nobody outside ever asks: any descriptor will do that is
// never ready.
func (w *real) publish(x *plainPub) {
	c := Publish{Proto: x.proto, Host: x.host, FD: -1, Port: w.hosts[x.port].Port, ContainerPort: x.cport, Target4: x.port.source(false), Target6: x.port.source(true)}
	if x.elsewhere {
		w.nat.PublishElsewhere(c, 1)
		return
	}
	var err error
	if c.FD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		w.T.Fatal(err)
	}
	if _, err = w.nat.Publish(c); err != nil {
		w.T.Fatal(err)
	}
}

// source is the address that p uses for a family; invalid if it has none.
func (p *plainPort) source(v6 bool) netip.Addr {
	for _, a := range p.addrs {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}
