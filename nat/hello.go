package nat

import (
	"strings"

	"tapswitch/switch"
)

// A connection that an egress policy lets pass for a name says, as a rule, which
// name it means: TLS in its ClientHello (RFC 6066, 3), HTTP in its Host. Both are
// looked at before the first byte goes out, so that one address with many names
// opens none but those that the policy holds. An HTTP connection is let carry
// that one request (http.go). What is neither TLS nor HTTP passes, and what is
// inside of TLS is not seen: a server that answers there for other names than its
// ClientHello's does so. A connection whose first bytes could be a method is held
// until its first line is there.

// helloLimit is how much of a connection's beginning is waited for.
const helloLimit = 16 << 10

// said is what the beginning of a connection says.
type said uint8

const (
	saidMore  said = iota // not enough to tell
	saidName              // it means this name
	saidNone              // TLS or HTTP without a name
	saidOther             // something else
)

// saysName reads the name that a connection means from its first bytes; last
// says that there are no more. What it returns of a request goes out in its place.
func saysName(b []byte, last bool) (name string, s said, r httpHead) {
	switch {
	case len(b) == 0:
		return "", saidMore, r
	case b[0] == 0x16:
		name, s = tlsName(b)
		return name, s, r
	}
	r, name, s = httpRequest(b, last)
	return name, s, r
}

// tlsName reads a ClientHello, in one TLS record or several (RFC 8446, 4.1.2
// and 5.1).
func tlsName(b []byte) (string, said) {
	var hello []byte
	for len(b) > 0 {
		if b[0] != 0x16 || len(b) > 1 && b[1] != 3 {
			return "", saidOther
		}
		if len(b) < 5 {
			break
		}
		n := int(get16(b[3:]))
		if n == 0 || n > helloLimit {
			return "", saidOther
		}
		hello = append(hello, b[5:min(5+n, len(b))]...)
		if len(b) < 5+n {
			break
		}
		b = b[5+n:]
		if len(hello) >= 4 && len(hello) >= 4+helloSize(hello) {
			break
		}
	}
	if len(hello) > 0 && hello[0] != 1 {
		return "", saidOther
	}
	if len(hello) < 4 || len(hello) < 4+helloSize(hello) {
		return "", saidMore
	}
	r := reader{b: hello[4 : 4+helloSize(hello)]}
	r.skip(2 + 32)      // version, random
	r.skip(r.number(1)) // session
	r.skip(r.number(2)) // cipher suites
	r.skip(r.number(1)) // compression
	extensions := reader{b: r.take(r.number(2)), bad: r.bad}
	for !extensions.bad && len(extensions.b) > 0 {
		kind := extensions.number(2)
		e := reader{b: extensions.take(extensions.number(2))}
		if kind != 0 {
			continue
		}
		list := reader{b: e.take(e.number(2))}
		if list.number(1) != 0 { // host_name
			return "", saidNone
		}
		if name := string(list.take(list.number(2))); !list.bad && !e.bad && name != "" {
			return strings.ToLower(strings.TrimSuffix(name, ".")), saidName
		}
		return "", saidNone
	}
	return "", saidNone
}

func helloSize(b []byte) int { return int(b[1])<<16 | int(b[2])<<8 | int(b[3]) }

// reader takes a message apart; once it was too short it gives nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	t := r.b[:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) skip(n int) { r.take(n) }

func (r *reader) number(size int) (n int) {
	for _, x := range r.take(size) {
		n = n<<8 | int(x)
	}
	return n
}

// tcpInspect keeps data back until the connection has said which name it means.
// It reports false, as tcpToSocket does, if there is no room or the connection
// ended.
func (n *NAT) tcpInspect(i uint32, data []byte) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	if t.spill == none {
		if t.spill = n.spills.get(data); t.spill == none {
			return false
		}
		t.spillAt = 0
	} else if !n.spills.more(t.spill, data) {
		return false
	}
	t.rcvNxt += uint32(len(data))
	return n.tcpHeard(i, false)
}

// tcpHeard lets what has been kept back go if it says what it may. last says
// that nothing follows.
func (n *NAT) tcpHeard(i uint32, last bool) bool {
	fl := &n.flows[i]
	t := &fl.tcp
	b := n.spills.bytes(t.spill)
	name, s, r := saysName(b, last)
	switch {
	case s == saidMore && len(b) < helloLimit && !last:
		return true
	case s == saidName && len(r.line) > 0 && n.mayMean(fl, name) && n.spills.set(t.spill, r.alone()),
		s == saidName && len(r.line) == 0 && n.mayMean(fl, name), s == saidOther:
		fl.unset(fInspect)
		fl.set(fWantOut | fWritable)
		n.queue(i)
		return true
	}
	n.tcpForbid(i)
	return false
}

// mayMean says whether the container's egress policy holds a name that a flow
// means.
func (n *NAT) mayMean(fl *flow, name string) bool {
	q, _ := n.packetOf(fl)
	e := n.policy.egressOf(&q.from)
	return e == nil || e.Mode != EgressList || e.Holds == nil || e.Holds(name, q.proto, q.port)
}

// tcpForbid ends a connection that means what it may not.
func (n *NAT) tcpForbid(i uint32) {
	fl := &n.flows[i]
	n.lost(fl, vswitch.Egress, vswitch.StepEgress, fl.rule)
	n.tcpReset(fl)
	if fl.fd >= 0 {
		abort(int(fl.fd))
	}
	n.drop(i)
}
