package face

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
	"tapswitch/switch/ns"
)

// GuestName is the guest's name on the switch.
const GuestName = "guest"

// Guest is an interface of the caller's namespace.
type Guest struct {
	FD  int              // the TAP, or a packet socket; the switch has a copy once it is attached
	MAC net.HardwareAddr // of the interface
	IP  netip.Addr       // where published ports lead to, and what Configure gives it
	IP6 netip.Addr
	// Foreign lets the guest use any addresses, and others behind it: we have not
	// configured it.
	Foreign bool
}

// Open opens the TAP name in h, which may be there already, and reads its
// hardware address.
func Open(h *ns.Handle, name string) (*Guest, error) {
	in, err := h.Enter()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	fd, err := in.OpenTAP(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	g := &Guest{FD: fd, Foreign: true}
	if g.MAC, err = ns.MACOf(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return g, nil
}

// Configure sets lo and the guest's interface name in h up: hardware address,
// MTU, addresses and default routes as the network and the guest say.
func (g *Guest) Configure(h *ns.Handle, name string, n configs.Network) error {
	in, err := h.Enter()
	if err != nil {
		return err
	}
	defer in.Close()
	n = n.WithDefaults()
	i := ns.Interface{Name: name, MAC: g.MAC, MTU: n.MTU, Addrs: []netip.Prefix{netip.PrefixFrom(g.IP, n.Subnet.Bits())}, Gateway: n.Gateway, Offload: true}
	if g.IP6.IsValid() {
		i.Addrs = append(i.Addrs, netip.PrefixFrom(g.IP6, n.Subnet6.Bits()))
		i.Gateway6 = n.Gateway6
	}
	return in.Configure(i)
}

// Attach puts the guest on the switch. Its descriptor stays the caller's to
// close.
func (s *Switch) Attach(name string, g *Guest) error {
	at := api.Attachment{Network: s.cfg.Network.Name, IP: g.IP.String(), MAC: g.MAC.String(), IfName: name}
	if g.IP6.IsValid() {
		at.IP6 = g.IP6.String()
	}
	var r api.Reservation
	err := s.worker.Do("POST", "/reservations", api.Reserve{Name: GuestName, Networks: []api.Attachment{at}, Spoof: g.Foreign, Lifetime: "until_del", Origin: "face"}, &r)
	if err != nil {
		return err
	}
	return s.worker.Do("POST", "/ports", api.Join{Reservation: r.ID}, nil, g.FD)
}

// Gone returns when the guest has left the switch by itself: its device has
// ended. The error says that the switch has.
func (s *Switch) Gone() error {
	return s.worker.Do("POST", "/containers/"+GuestName+"/wait", nil, nil)
}

// Worker asks the switch's control API.
func (s *Switch) Worker() *porter.Worker { return &s.worker }

// SLAAC is the address that a guest with that hardware address makes for itself
// (RFC 4862, 5.5.3; RFC 4291, appendix A).
func SLAAC(prefix netip.Prefix, mac net.HardwareAddr) netip.Addr {
	a := prefix.Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a)
}
