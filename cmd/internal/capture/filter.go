package capture

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tapswitch/switch"
)

// Filter decides about packets; the zero one takes all.
type Filter struct{ root node }

// node is a part of a filter.
type node interface{ match(p *view) bool }

// SyntaxError points at the word that is not understood.
type SyntaxError struct {
	Text string
	At   int // byte of Text
	Why  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("filter: %s\n  %s\n  %s^", e.Why, e.Text, strings.Repeat(" ", e.At))
}

// word is one token with its place.
type word struct {
	text string
	at   int
}

// ParseFilter reads a filter: primitives of host, net, port, portrange with src
// and dst, protocols, less and greater, tcp[13] & 2 != 0, joined by and, or, not
// and parentheses.
func ParseFilter(text string) (Filter, error) {
	p := &parser{text: text, words: split(text)}
	if len(p.words) == 0 {
		return Filter{}, nil
	}
	n, err := p.or()
	if err != nil {
		return Filter{}, err
	}
	if p.at < len(p.words) {
		return Filter{}, p.wrong("nothing of the kind is expected here")
	}
	return Filter{n}, nil
}

// split takes text apart: words, and signs of one or two letters.
func split(text string) (words []word) {
	const signs = "()[]&|!=<>:+*"
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			i++
		case c == ':' || !strings.ContainsRune(signs, rune(c)):
			j := i
			for j < len(text) && text[j] != ' ' && text[j] != '\t' && text[j] != '\n' && (text[j] == ':' || !strings.ContainsRune(signs, rune(text[j]))) {
				j++
			}
			words = append(words, word{text[i:j], i})
			i = j
		default:
			n := 1
			if i+1 < len(text) {
				switch text[i : i+2] {
				case "&&", "||", "==", "!=", "<=", ">=", "<<", ">>":
					n = 2
				}
			}
			words = append(words, word{text[i : i+n], i})
			i += n
		}
	}
	return words
}

type parser struct {
	text  string
	words []word
	at    int
	last  []string // qualifiers of the last primitive: `port 80 or 443`
}

func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at].text
	}
	return ""
}

func (p *parser) take() string { w := p.peek(); p.at++; return w }

func (p *parser) wrong(why string) error {
	at := len(p.text)
	if p.at < len(p.words) {
		at = p.words[p.at].at
	}
	return &SyntaxError{p.text, at, why}
}

type (
	and struct{ a, b node }
	or  struct{ a, b node }
	not struct{ a node }
)

func (n and) match(p *view) bool { return n.a.match(p) && n.b.match(p) }
func (n or) match(p *view) bool  { return n.a.match(p) || n.b.match(p) }
func (n not) match(p *view) bool { return !n.a.match(p) }

// or and and are of one precedence in pcap-filter(7), from left to right; not
// binds closer.
func (p *parser) or() (node, error) {
	a, err := p.not()
	for err == nil {
		var b node
		switch p.peek() {
		case "or", "||":
			p.take()
			b, err = p.not()
			a = or{a, b}
		case "and", "&&":
			p.take()
			b, err = p.not()
			a = and{a, b}
		default:
			return a, nil
		}
	}
	return nil, err
}

func (p *parser) not() (node, error) {
	switch p.peek() {
	case "not", "!":
		p.take()
		n, err := p.not()
		return not{n}, err
	case "(":
		open := p.at
		p.take()
		n, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.take() != ")" {
			p.at = open
			return nil, p.wrong("this parenthesis is not closed")
		}
		return n, nil
	}
	return p.primitive()
}

var protocols = map[string]func(*view) bool{
	"ip": func(v *view) bool { return v.etherType == vswitch.EtherIPv4 }, "ip6": func(v *view) bool { return v.etherType == vswitch.EtherIPv6 },
	"arp": func(v *view) bool { return v.etherType == vswitch.EtherARP }, "vlan": func(v *view) bool { return v.etherType == vswitch.EtherVLAN },
	"tcp": func(v *view) bool { return v.proto == vswitch.ProtoTCP }, "udp": func(v *view) bool { return v.proto == vswitch.ProtoUDP },
	"icmp": func(v *view) bool { return v.proto == vswitch.ProtoICMP }, "icmp6": func(v *view) bool { return v.proto == vswitch.ProtoICMPv6 },
	"igmp": func(v *view) bool { return v.proto == 2 }, "sctp": func(v *view) bool { return v.proto == 132 },
	"broadcast": func(v *view) bool { return v.dstMAC == vswitch.Broadcast }, "multicast": func(v *view) bool { return v.dstMAC.Multicast() },
}

type is func(*view) bool

func (f is) match(v *view) bool { return f(v) }

// primitive reads [proto] [src|dst] [host|net|port|portrange] VALUE, a protocol
// alone, a length, or a comparison of bytes.
func (p *parser) primitive() (node, error) {
	first := p.peek()
	if n, ok := p.comparison(); ok {
		return n()
	}
	switch first {
	case "":
		return nil, p.wrong("something is missing at the end")
	case "less", "greater":
		p.take()
		n, err := p.number()
		if err != nil {
			return nil, err
		}
		if first == "less" {
			return is(func(v *view) bool { return v.length <= n }), nil
		}
		return is(func(v *view) bool { return v.length >= n }), nil
	}
	var q []string
	for qualifiers[p.peek()] {
		w := p.take()
		if q = append(q, w); w == "host" || w == "net" || w == "port" || w == "portrange" || w == "proto" {
			break // what follows is the value
		}
	}
	proto := ""
	if len(q) > 0 && protocols[q[0]] != nil {
		proto = q[0]
		if next := p.peek(); len(q) == 1 && (next == "" || next == "and" || next == "or" || next == ")" || next == "&&" || next == "||") {
			return is(protocols[proto]), nil
		}
	}
	if len(q) == 0 {
		if q = p.last; q == nil {
			q = []string{"host"} // a bare address
		}
	}
	p.last = q
	n, err := p.value(q)
	if err != nil || proto == "" {
		return n, err
	}
	return and{is(protocols[proto]), n}, nil
}

// qualifiers are the words that stand before a value.
var qualifiers = map[string]bool{"src": true, "dst": true, "host": true, "net": true, "port": true, "portrange": true, "proto": true, "ether": true,
	"ip": true, "ip6": true, "arp": true, "tcp": true, "udp": true, "icmp": true, "icmp6": true, "vlan": true, "igmp": true, "sctp": true, "broadcast": true, "multicast": true}

// value reads what the qualifiers q are about.
func (p *parser) value(q []string) (node, error) {
	kind, src, dst := "", true, true
	for i, w := range q {
		switch w {
		case "src":
			dst = false
			if len(q) > i+1 && q[i+1] == "dst" {
				dst = true
			}
		case "dst":
			src = len(q) > i-1 && i > 0 && q[i-1] == "src"
		case "host", "net", "port", "portrange", "proto":
			kind = w
		case "ether":
			return nil, p.wrong("ether is not served here: write host, net, port or a protocol")
		}
	}
	text := p.peek()
	if text == "" {
		return nil, p.wrong("a value is missing at the end")
	}
	switch kind {
	case "port", "portrange":
		first, last, ok := portRange(text)
		if !ok {
			return nil, p.wrong("this is no port, nor a range of them")
		}
		p.take()
		in := func(x uint16) bool { return first <= x && x <= last }
		return is(func(v *view) bool { return v.ports && (src && in(v.srcPort) || dst && in(v.dstPort)) }), nil
	case "proto":
		n, err := strconv.ParseUint(text, 0, 8)
		if f := protocols[text]; f != nil {
			p.take()
			return is(f), nil
		}
		if err != nil {
			return nil, p.wrong("this is no protocol")
		}
		p.take()
		return is(func(v *view) bool { return v.ip && v.proto == uint8(n) }), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if a, e := netip.ParseAddr(text); e == nil {
		prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		if kind == "" || kind == "host" {
			return nil, p.wrong("this is no address and no word of the language")
		}
		return nil, p.wrong("this is no network: write it as 10.0.0.0/8")
	}
	p.take()
	return is(func(v *view) bool { return src && prefix.Contains(v.src) || dst && prefix.Contains(v.dst) }), nil
}

func portRange(s string) (first, last uint16, ok bool) {
	a, b, is := strings.Cut(s, "-")
	if !is {
		b = a
	}
	if known := map[string]string{"http": "80", "https": "443", "domain": "53", "ssh": "22", "smtp": "25"}; known[a] != "" && !is {
		a, b = known[a], known[a]
	}
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	return uint16(x), uint16(y), err1 == nil && err2 == nil && x <= y
}

func (p *parser) number() (int, error) {
	n, err := strconv.ParseUint(p.peek(), 0, 32)
	if err != nil {
		return 0, p.wrong("a number is expected here")
	}
	p.take()
	return int(n), nil
}
