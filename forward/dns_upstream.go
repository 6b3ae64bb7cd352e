package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// dnsUDPBuffer takes more than servers send: 4096 was the largest EDNS size in
// use before 1232. What fills it counts as truncated.
const dnsUDPBuffer = 4096 + 1

var (
	errNotOurs = errors.New("reply to another question")
	aLongAgo   = time.Unix(1, 0)
)

// forward asks the upstreams in order, with the client's own message, so that
// flags and EDNS options reach them as they are. An upstream that fails,
// refuses or is silent is passed over; any other reply is final, NXDOMAIN too.
func (d *DNS) forward(ctx context.Context, q *dns.Msg, query []byte, limit int, a *Answered) []byte {
	if d.inflight.Add(1) > d.maxInflight {
		d.inflight.Add(-1)
		d.stats.refused.Add(1)
		a.By = ByLimit
		d.log.Debug("dns: query refused: too many wait for an upstream", "limit", d.maxInflight)
		return pack(query, newReply(q, dns.RcodeRefused), limit)
	}
	defer d.inflight.Add(-1)

	upstreams := d.upstreams()
	if d.split != nil {
		if own := d.split(strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))); len(own) > 0 {
			upstreams = own
		}
	}
	for _, up := range upstreams[:min(len(upstreams), dnsMaxUpstreams)] {
		begin := time.Now()
		reply, err := d.exchange(ctx, up, query)
		if ctx.Err() != nil {
			break
		}
		d.asked.note(up, reply, err, time.Since(begin))
		if err != nil {
			a.TimedOut = a.TimedOut || timedOut(err)
			d.log.Debug("dns: upstream did not answer", "upstream", up, "name", q.Question[0].Name, "err", err)
			continue
		}
		if rcode := rcodeOf(reply); rcode == dns.RcodeServerFailure || rcode == dns.RcodeRefused {
			a.Upstream = up
			d.log.Debug("dns: upstream failed", "upstream", up, "name", q.Question[0].Name, "rcode", dns.RcodeToString[rcode])
			continue
		}
		d.stats.forwarded.Add(1)
		a.By, a.Upstream, a.TimedOut = ByUpstream, up, false
		d.cache.put(q, reply)
		return finish(q, query, reply, limit)
	}
	d.stats.failed.Add(1)
	a.By = ByNobody
	d.log.Debug("dns: no upstream answered", "upstreams", len(upstreams), "name", q.Question[0].Name)
	return pack(query, newReply(q, dns.RcodeServerFailure), limit)
}

// exchange asks one upstream over UDP and, if the reply is truncated, again
// over TCP. Where TCP fails the truncated reply stands: a part and the TC bit
// are better than nothing.
func (d *DNS) exchange(ctx context.Context, up netip.AddrPort, query []byte) ([]byte, error) {
	reply, err := d.ask(ctx, "udp", up, query)
	if err != nil || !isTruncated(reply) {
		return reply, err
	}
	whole, err := d.ask(ctx, "tcp", up, query)
	if err != nil {
		d.log.Debug("dns: upstream truncated its reply and did not answer over TCP", "upstream", up, "err", err)
		return reply, nil
	}
	return whole, nil
}

// ask is one exchange under one timeout. It has a socket of its own, so that
// the source port is a random one of the kernel's, and a random id: both must
// be guessed by who wants to forge a reply, RFC 5452.
func (d *DNS) ask(ctx context.Context, network string, up netip.AddrPort, query []byte) ([]byte, error) {
	query = slices.Clone(query)
	binary.BigEndian.PutUint16(query, dns.Id())

	asking, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	reply, err := func() ([]byte, error) {
		conn, err := d.dial(asking, network, up.String())
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		defer context.AfterFunc(asking, func() { conn.SetDeadline(aLongAgo) })()
		if network == "tcp" {
			return askTCP(conn, query)
		}
		return askUDP(conn, query)
	}()
	// ctx itself being done is the client's end, not the upstream's.
	if err != nil && ctx.Err() == nil && (asking.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded)) {
		d.stats.timeouts.Add(1)
	}
	return reply, err
}

// askUDP waits for the reply to query among whatever else arrives.
func askUDP(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, dnsUDPBuffer)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if reply := buf[:n]; answers(query, reply) {
			if n == len(buf) {
				return cutReply(reply), nil
			}
			return reply, nil
		}
	}
}

func askTCP(conn net.Conn, query []byte) ([]byte, error) {
	if err := writeTCP(conn, query); err != nil {
		return nil, err
	}
	reply, err := readTCP(conn, dns.MaxMsgSize)
	if err != nil {
		return nil, err
	}
	if !answers(query, reply) {
		return nil, errNotOurs
	}
	return reply, nil
}

// answers reports whether reply belongs to query: its id and its question. An
// error may come without the question; some servers send the header alone.
func answers(query, reply []byte) bool {
	if len(reply) < dnsHeaderSize || !isReply(reply) || reply[0] != query[0] || reply[1] != query[1] {
		return false
	}
	if !hasQuestion(reply) {
		rcode := rcodeOf(reply)
		return rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError
	}
	qEnd, _ := questionEnd(query)
	rEnd, ok := questionEnd(reply)
	return ok && rEnd == qEnd && equalQuestion(query[dnsHeaderSize:qEnd], reply[dnsHeaderSize:rEnd])
}

// finish makes an upstream's reply the client's: its id, its question in its
// own letters (names in the answer often point there), and its size.
func finish(q *dns.Msg, query, reply []byte, limit int) []byte {
	if !hasQuestion(reply) {
		return pack(query, newReply(q, rcodeOf(reply)), limit)
	}
	end, _ := questionEnd(query)
	copy(reply[dnsHeaderSize:end], query[dnsHeaderSize:end])
	copy(reply, query[:2])
	if len(reply) <= limit {
		return reply
	}
	// Nothing can be taken out of what is signed, or not understood.
	var r dns.Msg
	if r.Unpack(reply) == nil {
		r.Truncate(limit)
		if b, err := r.Pack(); err == nil && len(b) <= limit {
			return b
		}
	}
	return cutReply(reply)
}

// writeTCP writes one message behind its length, RFC 1035 4.2.2, in one piece.
func writeTCP(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// readTCP reads one message of at most maxSize bytes.
func readTCP(r io.Reader, maxSize int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > maxSize {
		return nil, errTooLarge
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(r, msg); err != nil {
		return nil, err
	}
	return msg, nil
}
