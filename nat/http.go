package nat

import (
	"bytes"
	"strings"
)

// A request of HTTP/1 (RFC 9112) to an address that only a name has opened. Its
// whole head is looked at, as strictly as servers do, since what a server reads
// otherwise than we would name another site. And its connection carries that
// request alone: what would keep it open is taken out of the head and
// "Connection: close" put in (RFC 9112, 9.6), so that the server answers no
// further httpHead, which might name another, too. Clients open a new connection.

// maxMethod is how long a word may be that begins a request.
const maxMethod = 32

var methods = []string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI"}

// httpHead is the head of a request, taken apart. Its parts are borrowed.
type httpHead struct {
	line    []byte
	fields  [][]byte // without those that are about the connection
	upgrade bool     // to a WebSocket
	body    []byte   // what has come behind the head
}

// httpRequest reads the beginning of a connection. last says that nothing
// follows.
func httpRequest(b []byte, last bool) (r httpHead, name string, s said) {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		b = b[1:] // RFC 9112, 2.2
	}
	n := 0
	for n < len(b) && isToken(b[n]) {
		n++
	}
	word := string(b[:n])
	known := isMethod(word)
	undecided := saidMore
	if last && !known {
		undecided = saidOther // no server takes a part of a request for one
	}
	switch {
	case n > maxMethod || n == 0 && len(b) > 0:
		return r, "", saidOther
	case n == len(b):
		return r, "", undecided
	case b[n] != ' ' && known:
		return r, "", saidNone
	case b[n] != ' ':
		return r, "", saidOther
	}
	head, whole := cutHead(b)
	line, _, lineWhole := bytes.Cut(head, []byte("\n"))
	if !whole && !lineWhole {
		return r, "", undecided
	}
	r.line = bytes.TrimSuffix(line, []byte("\r"))
	parts := bytes.Split(r.line, []byte(" "))
	if !bytes.Contains(bytes.ToUpper(r.line), []byte("HTTP/")) && !known {
		return r, "", saidOther
	}
	if len(parts) != 3 || len(parts[1]) == 0 || string(parts[2]) != "HTTP/1.1" && string(parts[2]) != "HTTP/1.0" || bytes.ContainsAny(r.line, "\r\x00\t\v\f") {
		return r, "", saidNone // HTTP/2 without TLS among it: its names are packed
	}
	if !whole {
		return r, "", saidMore
	}
	r.body = b[len(head):]
	name, ok := r.readFields(head[len(line)+1:])
	if target := targetName(word, string(parts[1])); !ok || name == "" || target != "" && target != name {
		return r, "", saidNone
	}
	return r, name, saidName
}

// cutHead is b up to the end of the empty line, and whether there is one.
func cutHead(b []byte) ([]byte, bool) {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return b, false
		}
		line := b[at : at+i]
		if at += i + 1; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return b[:at], true
		}
	}
}

// readFields reads the lines behind the first, and returns the one host that
// they name. It is false for what servers read in several ways.
func (r *httpHead) readFields(b []byte) (host string, ok bool) {
	hosts := 0
	var asks []byte // what is to be upgraded to
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		if line, b = bytes.TrimSuffix(line, []byte("\r")), rest; len(line) == 0 {
			break
		}
		key, value, colon := bytes.Cut(line, []byte(":"))
		if !colon || len(key) == 0 || bytes.ContainsAny(line, "\r\x00") {
			return "", false
		}
		for _, c := range key {
			if !isToken(c) {
				return "", false
			}
		}
		value = bytes.TrimSpace(value)
		switch strings.ToLower(string(key)) {
		case "connection", "keep-alive", "proxy-connection", "http2-settings":
			continue
		case "upgrade":
			asks = value
			continue
		case "host":
			if hosts++; hosts > 1 {
				return "", false
			}
			host = hostName(string(value))
		}
		r.fields = append(r.fields, line)
	}
	r.upgrade = bytes.EqualFold(asks, []byte("websocket"))
	return host, true
}

// targetName is the name in the target of a request, which goes before its Host
// (RFC 9112, 3.2.2); "" if there is none.
func targetName(method, target string) string {
	if method == "CONNECT" {
		return hostName(target)
	}
	if strings.HasPrefix(target, "/") || target == "*" {
		return ""
	}
	_, rest, ok := strings.Cut(target, "://")
	if !ok {
		return target // no form of a target that there is: no Host is like it
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return hostName(rest[strings.LastIndexByte(rest, '@')+1:])
}

// hostName is the name of HOST[:PORT].
func hostName(s string) string {
	s = strings.ToLower(s)
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		s = s[:i]
	}
	return strings.TrimSuffix(s, ".")
}

// alone is the request as the only one of its connection.
func (r *httpHead) alone() []byte {
	out := append([]byte(nil), r.line...)
	if r.upgrade {
		out = append(out, "\r\nConnection: close, upgrade\r\nUpgrade: websocket"...)
	} else {
		out = append(out, "\r\nConnection: close"...)
	}
	for _, f := range r.fields {
		out = append(append(out, "\r\n"...), f...)
	}
	return append(append(out, "\r\n\r\n"...), r.body...)
}

func isMethod(word string) bool {
	for _, m := range methods {
		if strings.EqualFold(m, word) {
			return true
		}
	}
	return false
}

// isToken says whether c may stand in a token (RFC 9110, 5.6.2).
func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c != 0 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
