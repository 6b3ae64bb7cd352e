package forward

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsIdle     = 30 * time.Second
	dnsMaxQuery = 4096 // bytes; a query with padding and a signature has some hundred
)

var errTooLarge = errors.New("message too large")

// ServeTCP answers the queries that arrive on conn, each behind its length
// (RFC 1035 4.2.2), in their order and one at a time. It returns, with conn
// closed, when the client is done, sends nothing whole or takes nothing for
// 30 s, sends a query of more than 4096 bytes or one without an answer (nil),
// or when ctx is done.
func ServeTCP(ctx context.Context, conn net.Conn, answer func(query []byte) (reply []byte)) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		conn.SetReadDeadline(time.Now().Add(dnsIdle))
		query, err := readTCP(conn, dnsMaxQuery)
		if err != nil {
			return
		}
		reply := answer(query)
		if reply == nil || len(reply) > dns.MaxMsgSize {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(dnsIdle))
		if err := writeTCP(conn, reply); err != nil {
			return
		}
	}
}
