package ns

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sockets is a socket of the kernel's socket monitor (sock_diag(7)) in a
// namespace: whoever has it may ask what is bound there, from anywhere and
// without privileges. It pins the namespace until it is closed.
type Sockets struct{ fd int }

// SocketsOf takes a descriptor over that Handle.Sockets opened.
func SocketsOf(fd int) *Sockets { return &Sockets{fd} }

// Close lets the namespace go.
func (s *Sockets) Close() { unix.Close(s.fd) }

// Sockets opens such a socket in the namespace and returns its descriptor.
func (h *Handle) Sockets() (int, error) {
	tun, diag, _, err := enter(&entry{user: int32(h.User), net: int32(h.Net), monitor: true})
	if err != nil {
		return -1, explain(h.Name, err)
	}
	unix.Close(tun)
	return diag, nil
}

// Bound is where a socket takes connections, or datagrams from anybody.
type Bound struct {
	Addr   netip.AddrPort // unspecified: all addresses of its family
	UDP    bool
	V6Only bool
}

const (
	sockDiagByFamily = 20
	tcpListen        = 10
	tcpClose         = 7  // UDP that is not connected
	diagV6Only       = 11 // INET_DIAG_SKV6ONLY
	diagMsgLen       = 72 // struct inet_diag_msg (include/uapi/linux/inet_diag.h)
)

// Bound lists what is bound in the namespace.
func (s *Sockets) Bound() ([]Bound, error) {
	var all []Bound
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for proto, state := range map[byte]uint32{unix.IPPROTO_TCP: 1 << tcpListen, unix.IPPROTO_UDP: 1 << tcpClose} {
			var err error
			if all, err = s.dump(all, family, proto, state); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func (s *Sockets) dump(all []Bound, family, proto byte, states uint32) ([]Bound, error) {
	var req [16 + 56]byte // struct nlmsghdr, struct inet_diag_req_v2
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[16], req[17] = family, proto
	binary.NativeEndian.PutUint32(req[20:], states)
	if err := unix.Sendto(s.fd, req[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for sockets: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask for sockets: %w", err)
		}
		more, found, err := readDiag(buf[:n], proto == unix.IPPROTO_UDP)
		if all = append(all, found...); err != nil {
			return nil, err
		}
		if !more {
			return all, nil
		}
	}
}

// readDiag reads the messages of one datagram, and says whether more come.
func readDiag(b []byte, udp bool) (more bool, all []Bound, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		l := int(binary.NativeEndian.Uint32(b))
		if l < unix.NLMSG_HDRLEN || l > len(b) {
			return false, all, unix.EBADMSG
		}
		switch body := b[unix.NLMSG_HDRLEN:l]; binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return false, all, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, all, unix.EBADMSG
			}
			return false, all, fmt.Errorf("ask for sockets: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
		case sockDiagByFamily:
			if x, ok := boundOf(body, udp); ok {
				all = append(all, x)
			}
		}
		b = b[min((l+3)&^3, len(b)):]
	}
	return true, all, nil
}

// boundOf reads a struct inet_diag_msg: family, state, timer, retransmissions,
// ports, addresses, and attributes behind it.
func boundOf(m []byte, udp bool) (Bound, bool) {
	if len(m) < diagMsgLen {
		return Bound{}, false
	}
	x := Bound{UDP: udp}
	port := binary.BigEndian.Uint16(m[4:])
	switch m[0] {
	case unix.AF_INET:
		x.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m[8:12])), port)
	case unix.AF_INET6:
		x.Addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte(m[8:24])), port)
	default:
		return x, false
	}
	for a := m[diagMsgLen:]; len(a) >= 5; {
		l := int(binary.NativeEndian.Uint16(a))
		if l < 4 || l > len(a) {
			break
		}
		if binary.NativeEndian.Uint16(a[2:])&0x3fff == diagV6Only && l >= 5 {
			x.V6Only = a[4] != 0
		}
		a = a[min((l+3)&^3, len(a)):]
	}
	return x, port != 0
}
