package capture

import (
	"math"
	"strconv"
	"strings"
)

// arith is an expression of numbers: of constants, the frame's length and its
// bytes, in 32 bits without a sign. Its checks say of which frames it can be
// asked at all; they come before any of it is worked out.
type arith struct {
	eval    func(v *frame) uint32
	checks  []test
	fixed   bool // a constant, whatever the frame
	literal bool // one that is written as such
	loads   bool // asks about bytes or the length
}

func constant(n uint32) arith {
	return arith{eval: func(*frame) uint32 { return n }, fixed: true, literal: true}
}

// relation reads EXPRESSION OPERATOR EXPRESSION, if that stands here; else
// nothing is taken.
func (p *parser) relation() (t test, is bool, err error) {
	start := p.at
	switch w := p.peek(); {
	case w == "(" || w == "-" || w == "len" || named[w] != nil || isNumber(w):
	case p.at+1 < len(p.words) && p.words[p.at+1].text == "[":
		if _, known := abbreviations[w]; !known {
			return nil, false, p.wrong("bytes are counted from ether, ip, ip6, arp, tcp, udp, icmp and their kin")
		}
	default:
		return nil, false, nil
	}
	left, err := p.bits()
	if err != nil {
		if w := p.words[start].text; w != "(" && (left.loads || !isNumber(w)) {
			return nil, false, err
		}
		p.at = start
		return nil, false, nil
	}
	op := p.peek()
	compare := comparisons[op]
	if compare == nil {
		if left.loads || start+1 < p.at && p.words[start].text != "(" {
			return nil, false, p.wrong("a comparison is expected here: =, !=, <, >, <= or >=")
		}
		p.at = start
		return nil, false, nil
	}
	p.take()
	right, err := p.bits()
	if err != nil {
		return nil, false, err
	}
	a, b := left.eval, right.eval
	checks := both(append(left.checks, right.checks...)...)
	return func(v *frame) bool { return checks(v) && compare(a(v), b(v)) }, true, nil
}

var comparisons = map[string]func(a, b uint32) bool{
	"=": func(a, b uint32) bool { return a == b }, "==": func(a, b uint32) bool { return a == b }, "!=": func(a, b uint32) bool { return a != b },
	"<": func(a, b uint32) bool { return a < b }, ">": func(a, b uint32) bool { return a > b },
	"<=": func(a, b uint32) bool { return a <= b }, ">=": func(a, b uint32) bool { return a >= b },
}

// levels are the operators, those that bind least first. ^ and % are not among
// them: in libpcap 1.10.3 their right side is all that follows (tcpdump -d shows
// it), and whoever has a filter from tcpdump means that.
var levels = [][]string{{"|"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/"}}

func (p *parser) bits() (arith, error) { return p.level(0) }

func (p *parser) level(n int) (arith, error) {
	if n == len(levels) {
		return p.greedy()
	}
	a, err := p.level(n + 1)
	for err == nil {
		at, op := p.at, p.peek()
		if !p.is(levels[n]...) {
			return a, nil
		}
		var b arith
		if b, err = p.level(n + 1); err == nil {
			a, err = p.join(op, at, a, b)
		}
		a.loads = a.loads || b.loads
	}
	return a, err
}

// greedy reads an operand, and what follows it behind ^ or %.
func (p *parser) greedy() (arith, error) {
	a, err := p.unary()
	if err != nil {
		return a, err
	}
	at, op := p.at, p.peek()
	if !p.is("^", "%") {
		return a, nil
	}
	b, err := p.bits()
	if err != nil {
		a.loads = a.loads || b.loads
		return a, err
	}
	return p.join(op, at, a, b)
}

// join is a op b. What the frame decides may be a division by zero, which makes
// it one that is not taken.
func (p *parser) join(op string, at int, a, b arith) (arith, error) {
	x, y := a.eval, b.eval
	if b.fixed {
		switch k := y(nil); {
		case k == 0 && (op == "/" || op == "%"):
			return a, p.wrongAt(at, "this divides by zero")
		case k > 31 && b.literal && (op == "<<" || op == ">>"):
			return a, p.wrongAt(at, "this shifts by more than 31 bits")
		}
	}
	r := arith{checks: append(a.checks[:len(a.checks):len(a.checks)], b.checks...), fixed: a.fixed && b.fixed, loads: a.loads || b.loads}
	switch op {
	case "|":
		r.eval = func(v *frame) uint32 { return x(v) | y(v) }
	case "^":
		r.eval = func(v *frame) uint32 { return x(v) ^ y(v) }
	case "&":
		r.eval = func(v *frame) uint32 { return x(v) & y(v) }
	case "<<":
		r.eval = func(v *frame) uint32 { return x(v) << y(v) }
	case ">>":
		r.eval = func(v *frame) uint32 { return x(v) >> y(v) }
	case "+":
		r.eval = func(v *frame) uint32 { return x(v) + y(v) }
	case "-":
		r.eval = func(v *frame) uint32 { return x(v) - y(v) }
	case "*":
		r.eval = func(v *frame) uint32 { return x(v) * y(v) }
	default:
		r.eval = func(v *frame) uint32 {
			n, d := x(v), y(v)
			switch {
			case d == 0:
				v.short = true
				return 0
			case op == "/":
				return n / d
			}
			return n % d
		}
	}
	if r.fixed {
		r.eval = constant(r.eval(nil)).eval
	}
	return r, nil
}

func (p *parser) unary() (arith, error) {
	at := p.at
	switch w := p.peek(); {
	case p.is("-"):
		a, err := p.unary()
		if err != nil {
			return a, err
		}
		x := a.eval
		a.eval = func(v *frame) uint32 { return -x(v) }
		return a, nil
	case p.is("("):
		a, err := p.bits()
		if err != nil {
			return a, err
		}
		if !p.is(")") {
			return a, p.wrongAt(at, "this parenthesis is not closed, or holds what cannot be counted with")
		}
		return a, nil
	case p.is("len"):
		return arith{eval: func(v *frame) uint32 { return uint32(v.length) }, loads: true}, nil
	case named[w] != nil:
		p.take()
		return constant(*named[w]), nil
	}
	if _, is := abbreviations[p.peek()]; is && p.at+1 < len(p.words) && p.words[p.at+1].text == "[" {
		return p.bytes()
	}
	n, err := p.number()
	return constant(n), err
}

// bytes reads PROTOCOL[AT[:SIZE]], where AT is counted with itself.
func (p *parser) bytes() (arith, error) {
	proto := p.take()
	p.take()
	at, err := p.bits()
	if at.loads = true; err != nil {
		return at, err
	}
	size := 1
	if p.is(":") {
		switch p.take() {
		case "1":
		case "2":
			size = 2
		case "4":
			size = 4
		default:
			return at, p.wrongAt(p.at-1, "a size is 1, 2 or 4")
		}
	}
	if !p.is("]") {
		return at, p.wrong("] is expected here")
	}
	return p.access(proto, at, size), nil
}

// access is size bytes of a protocol's header. Of TCP and its kin it is that
// behind an IPv4 header, of ICMPv6 that right behind an IPv6 header.
func (p *parser) access(proto string, at arith, size int) arith {
	l3, eval := p.payload(), at.eval
	base, checks := 0, []test{}
	a := abbreviations[proto]
	behindIP := false
	switch {
	case proto == "ether" || proto == "link":
	case a.ether != 0:
		base, checks = l3, []test{p.linkType(a.ether)}
	case proto == "icmp6":
		base, checks = l3+40, []test{p.ip6()}
	default:
		base, behindIP, checks = l3, true, []test{p.ip()}
	}
	checks = append(checks, at.checks...)
	if proto == "icmp6" {
		checks = append(checks, p.equals(l3+6, 1, 0xff, a.proto))
	}
	r := arith{loads: true, eval: func(v *frame) uint32 { return v.load(uint64(base)+uint64(eval(v)), size) }}
	if behindIP {
		checks = append(checks, p.protocol(proto), p.fragment0())
		r.eval = func(v *frame) uint32 { return v.load(uint64(base)+uint64(eval(v)+v.ipHeader(l3)), size) }
	}
	r.checks = checks
	reach := uint64(math.MaxUint32)
	if at.fixed {
		reach = uint64(base) + uint64(eval(nil)) + uint64(size)
		if behindIP {
			reach += 60
		}
	}
	p.needs = max(p.needs, int(min(reach, MaxSnap)))
	return r
}

func isNumber(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' && parsed(s) }

func parsed(s string) bool { _, ok := parseNumber(s); return ok }

// parseNumber reads a number as C writes it.
func parseNumber(s string) (uint32, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' || strings.ContainsAny(s, "_bBoO") && !strings.HasPrefix(strings.ToLower(s), "0x") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 0, 32)
	return uint32(n), err == nil
}

func (p *parser) number() (uint32, error) {
	n, ok := parseNumber(p.peek())
	if !ok {
		return 0, p.wrong("a number is expected here")
	}
	p.take()
	return n, nil
}

// named are the numbers that have names (pcap-filter(7)).
var named = func() map[string]*uint32 {
	m := make(map[string]*uint32)
	for name, n := range map[string]uint32{"tcpflags": 13, "icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1,
		"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
		"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10,
		"icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
		"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129,
		"icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
		"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137, "icmp6-multicastlistenerreportv2": 143} {
		m[name] = &n
	}
	return m
}()
