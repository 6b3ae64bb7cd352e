package demo

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// Serve answers probes on TCP and UDP ports until standard input ends. A client
// that says "who" hears its own address, "sum N" hands over N bytes and hears
// their hash, "give N" gets N bytes. With names it also answers DNS.
func Serve(ports []string, names bool) int {
	for _, p := range ports {
		if !strings.Contains(p, ":") {
			p = ":" + p
		}
		l, err := net.Listen("tcp", p)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go acceptAll(l)
		u, err := net.ListenPacket("udp", p)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go echoDatagrams(u)
	}
	if names {
		h := dns.HandlerFunc(answerName)
		for _, network := range []string{"udp", "tcp"} {
			s := &dns.Server{Addr: ":53", Net: network, Handler: h}
			up := make(chan struct{})
			s.NotifyStartedFunc = func() { close(up) }
			go func() {
				if err := s.ListenAndServe(); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
			}()
			<-up
		}
	}
	fmt.Println("listening")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func acceptAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serveStream(c)
	}
}

func serveStream(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	var n int64
	switch {
	case strings.HasPrefix(line, "who"):
		fmt.Fprintf(c, "%s\n", hostOf(c.RemoteAddr().String()))
	case scan(line, "sum %d", &n):
		h := sha256.New()
		if _, err := io.CopyN(h, r, n); err == nil {
			fmt.Fprintf(c, "%s\n", hex.EncodeToString(h.Sum(nil)))
		}
	case scan(line, "give %d", &n):
		_, _ = io.CopyN(c, pattern(), n)
	}
}

func scan(s, format string, v ...any) bool {
	k, err := fmt.Sscanf(s, format, v...)
	return err == nil && k == len(v)
}

func hostOf(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return strings.TrimPrefix(h, "::ffff:")
}

func echoDatagrams(u net.PacketConn) {
	b := make([]byte, 65536)
	for {
		n, from, err := u.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = u.WriteTo([]byte(fmt.Sprintf("%s %d", hostOf(from.String()), n)), from)
	}
}

// answerName knows one name: outside.test.
func answerName(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) == 1 && strings.EqualFold(q.Question[0].Name, "outside.test.") {
		hdr := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 60}
		switch q.Question[0].Qtype {
		case dns.TypeA:
			hdr.Rrtype = dns.TypeA
			m.Answer = append(m.Answer, &dns.A{Hdr: hdr, A: net.ParseIP(outsideIP)})
		case dns.TypeAAAA:
			hdr.Rrtype = dns.TypeAAAA
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: hdr, AAAA: net.ParseIP(outsideIP6)})
		}
	} else {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

// pattern is an endless stream of bytes, the same however it is read.
func pattern() io.Reader { return &stream{x: 0x9e3779b97f4a7c15} }

type stream struct {
	x    uint64
	left int
}

func (s *stream) Read(b []byte) (int, error) {
	for i := range b {
		if s.left == 0 {
			s.x ^= s.x << 13
			s.x ^= s.x >> 7
			s.x ^= s.x << 17
			s.left = 8
		}
		s.left--
		b[i] = byte(s.x >> (8 * s.left))
	}
	return len(b), nil
}
