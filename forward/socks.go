package forward

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// A SOCKS5 proxy (RFC 1928) for programs of this host that want to reach
// containers by name. It has no authentication: whoever may connect to where it
// listens may use it, as with a published port.

const socksPatience = 10 * time.Second // for the client's part of the greeting

// Replies of RFC 1928, 6.
const (
	socksOK          = 0
	socksUnreachable = 4
	socksNoCommand   = 7
	socksNoAddress   = 8
)

// ServeSOCKS serves a listener until it is closed; dial reaches a host by name
// or address.
func ServeSOCKS(l net.Listener, dial func(host string, port uint16) (net.Conn, error)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors: some come back
			continue
		}
		go func() {
			if err := socks(c, dial); err != nil {
				c.Close()
			}
		}()
	}
}

// socks leads one client where it wants to. On error the client is still open.
func socks(c net.Conn, dial func(string, uint16) (net.Conn, error)) error {
	_ = c.SetDeadline(time.Now().Add(socksPatience))
	host, port, err := socksRequest(c)
	if err != nil {
		return err
	}
	server, err := dial(host, port)
	if err != nil {
		_ = socksReply(c, socksUnreachable)
		return err
	}
	_ = c.SetDeadline(time.Time{})
	if err := socksReply(c, socksOK); err != nil {
		server.Close()
		return err
	}
	Splice(c, server)
	return nil
}

func socksReply(c net.Conn, code byte) error {
	_, err := c.Write([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0})
	return err
}

// socksRequest reads the greeting and the request for a connection.
func socksRequest(c net.Conn) (host string, port uint16, err error) {
	var b [257]byte
	read := func(n int) error { _, err := io.ReadFull(c, b[:n]); return err }
	if err := read(2); err != nil || b[0] != 5 {
		return "", 0, errors.Join(err, errors.New("not SOCKS5"))
	}
	if err := read(int(b[1])); err != nil {
		return "", 0, err
	}
	if _, err := c.Write([]byte{5, 0}); err != nil { // no authentication
		return "", 0, err
	}
	if err := read(4); err != nil {
		return "", 0, err
	}
	if b[0] != 5 || b[1] != 1 {
		return "", 0, errors.Join(socksReply(c, socksNoCommand), errors.New("only CONNECT is served"))
	}
	switch b[3] {
	case 1:
		err = read(4)
		host = netip.AddrFrom4([4]byte(b[:4])).String()
	case 4:
		err = read(16)
		host = netip.AddrFrom16([16]byte(b[:16])).Unmap().String()
	case 3:
		if err = read(1); err == nil {
			n := int(b[0])
			err = read(n)
			host = string(b[:n])
		}
	default:
		return "", 0, errors.Join(socksReply(c, socksNoAddress), errors.New("unknown kind of address"))
	}
	if err != nil {
		return "", 0, err
	}
	if err := read(2); err != nil {
		return "", 0, err
	}
	return host, binary.BigEndian.Uint16(b[:]), nil
}

// Splice carries bytes between two stream connections until both directions
// have ended, and closes them.
func Splice(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(a, b)
		closeWrite(a)
		close(done)
	}()
	_, _ = io.Copy(b, a)
	closeWrite(b)
	<-done
	a.Close()
	b.Close()
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}
