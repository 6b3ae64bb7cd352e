package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// Filter decides about frames; the zero one takes all. It means what the same
// words mean to libpcap on Ethernet, to the point of where a frame that is too
// short for a question is refused.
type Filter struct {
	root  test
	needs int
}

// Match says whether the filter takes a frame of length bytes, of which b is the
// beginning; received: the container has sent it. A frame of which less is there
// than is asked about is not taken, as in libpcap.
func (f *Filter) Match(b []byte, length int, received bool) bool {
	if f.root == nil {
		return true
	}
	v := frame{b: b, length: length, received: received}
	return f.root(&v) && !v.short
}

// Needs is how many bytes from a frame's beginning the filter may ask about.
func (f *Filter) Needs() int { return f.needs }

// SyntaxError points at the word that is not understood.
type SyntaxError struct {
	Text string
	At   int // byte of Text
	Why  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("filter: %s\n  %s\n  %s^", e.Why, e.Text, strings.Repeat(" ", len([]rune(e.Text[:e.At]))))
}

// maxFilter bounds a filter's text, and with it how deep it nests.
const maxFilter = 8 << 10

// ParseFilter reads a filter. names finds the addresses of a host by its name;
// nil takes each name for known, to check the rest.
func ParseFilter(text string, names func(name string) []netip.Addr) (Filter, error) {
	text = strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, text)
	p := &parser{text: text, names: names}
	if len(text) > maxFilter {
		return Filter{}, &SyntaxError{text[:60], 0, fmt.Sprintf("a filter has %d bytes at most", maxFilter)}
	}
	if p.words = split(text); len(p.words) == 0 {
		return Filter{}, nil
	}
	n, err := p.expression()
	if err != nil {
		return Filter{}, err
	}
	if p.at < len(p.words) {
		return Filter{}, p.wrong("and or or is expected here")
	}
	return Filter{n, p.needs}, nil
}

// word is one token with its place.
type word struct {
	text string
	at   int
}

// split takes text apart: words, and signs of one or two letters. A colon and a
// minus belong to a word, as in fd00::1, tcp-syn and 80-90, but for colons in
// brackets, as in ip[2:2].
func split(text string) (words []word) {
	brackets := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c == ' ' {
			i++
			continue
		}
		j := i
		for j < len(text) && (letter(text[j]) || text[j] == ':' && brackets == 0 || text[j] == '-' && j > i) {
			j++
		}
		if j == i {
			switch c {
			case '[':
				brackets++
			case ']':
				brackets--
			}
			j = i + 1
			if j < len(text) {
				switch text[i : i+2] {
				case "&&", "||", "==", "!=", "<=", ">=", "<<", ">>":
					j++
				}
			}
		}
		words = append(words, word{text[i:j], i})
		i = j
	}
	return words
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '\\' || c >= 0x80
}

// parser reads one filter.
type parser struct {
	text  string
	words []word
	at    int
	names func(string) []netip.Addr
	last  *qualifiers // of the last primitive: `port 80 or 443`
	tags  int         // VLAN tags that were asked for so far: what follows lies behind them
	needs int
}

// qualifiers are the words in front of a value.
type qualifiers struct{ proto, dir, kind string }

func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at].text
	}
	return ""
}

func (p *parser) take() string { w := p.peek(); p.at++; return w }

// is takes the next word if it is one of these.
func (p *parser) is(words ...string) bool {
	for _, w := range words {
		if p.peek() == w {
			p.at++
			return true
		}
	}
	return false
}

func (p *parser) wrong(format string, a ...any) error {
	at := len(p.text)
	if p.at < len(p.words) {
		at = p.words[p.at].at
	}
	return &SyntaxError{p.text, at, fmt.Sprintf(format, a...)}
}

// wrongAt is wrong about an earlier word.
func (p *parser) wrongAt(i int, format string, a ...any) error {
	p.at = i
	return p.wrong(format, a...)
}

// expression is terms joined by and and or, which bind alike, from the left
// (pcap-filter(7)).
func (p *parser) expression() (test, error) {
	a, err := p.term()
	for err == nil {
		var b test
		left := a
		switch {
		case p.is("or", "||"):
			if b, err = p.term(); err == nil {
				a = func(v *frame) bool { return left(v) || b(v) }
			}
		case p.is("and", "&&"):
			if b, err = p.term(); err == nil {
				a = func(v *frame) bool { return left(v) && b(v) }
			}
		default:
			return a, nil
		}
	}
	return nil, err
}

func (p *parser) term() (test, error) {
	if p.is("not", "!") {
		a, err := p.term()
		return func(v *frame) bool { return !a(v) }, err
	}
	if r, is, err := p.relation(); is || err != nil {
		p.last = nil
		return r, err
	}
	if open := p.at; p.is("(") {
		a, err := p.expression()
		if err != nil {
			return nil, err
		}
		if !p.is(")") {
			if p.at >= len(p.words) {
				return nil, p.wrongAt(open, "this parenthesis is not closed")
			}
			return nil, p.wrong("and, or or a parenthesis is expected here")
		}
		return a, nil
	}
	return p.primitive()
}

// primitive is [PROTOCOL] [src|dst] [host|net|port|portrange|proto] VALUE, a
// protocol alone, or one of the words that need none of these.
func (p *parser) primitive() (test, error) {
	start := p.at
	switch w := p.peek(); w {
	case "":
		return nil, p.wrong("something is missing at the end")
	case ")", "]", "[", "and", "or", "&&", "||":
		return nil, p.wrong("a primitive is expected before this: a protocol, host, net, port")
	case "less", "greater", "inbound", "outbound", "vlan", "broadcast", "multicast":
		p.last = nil
		p.take()
		return p.alone(w)
	}
	if why := others[p.peek()]; why != "" {
		return nil, p.wrong("%s", why)
	}
	var q qualifiers
	if _, is := abbreviations[p.peek()]; is {
		q.proto = p.take()
	}
	if q.proto != "" {
		switch w := p.peek(); w {
		case "broadcast", "multicast":
			p.last = nil
			p.take()
			return p.group(q.proto, w)
		}
	}
	if p.peek() == "src" || p.peek() == "dst" {
		q.dir = p.direction()
	}
	switch w := p.peek(); w {
	case "host", "net", "port", "portrange", "proto":
		q.kind = p.take()
	case "protochain", "gateway":
		return nil, p.wrong("%s is not served here", w)
	}
	switch {
	case q == (qualifiers{}):
		if p.last == nil {
			if _, err := netip.ParseAddr(p.peek()); err != nil {
				return nil, p.wrong("this is no word of the language; an address or name has host, net or port in front of it")
			}
			p.last = &qualifiers{} // a bare address
		}
		q = *p.last
	case (q.proto == "ether" || q.proto == "link") && q.dir == "" && q.kind == "":
		return nil, p.wrong("%s goes with host, src, dst, proto, broadcast and multicast", q.proto)
	case q.proto != "" && q.dir == "" && q.kind == "":
		p.last = nil
		return p.protocol(q.proto), nil
	default:
		if p.last = &q; p.peek() == "(" {
			return p.term() // port (80 or 443)
		}
	}
	return p.value(q, start)
}

// direction reads src, dst, src or dst, src and dst.
func (p *parser) direction() string {
	first := p.take()
	if p.at+1 < len(p.words) {
		join, second := p.words[p.at].text, p.words[p.at+1].text
		if (second == "src" || second == "dst") && second != first {
			switch join {
			case "or", "||":
				p.at += 2
				return ""
			case "and", "&&":
				p.at += 2
				return "and"
			}
		}
	}
	return first
}

// others are words of pcap-filter(7) that are about what is not on this switch.
var others = map[string]string{"wlan": "there is no wlan here: write ether", "fddi": "there is no fddi here: write ether", "tr": "there is no token ring here: write ether",
	"mpls": "MPLS is not served here", "pppoed": "PPPoE is not served here", "pppoes": "PPPoE is not served here", "geneve": "Geneve is not served here",
	"iso": "OSI protocols are not served here", "decnet": "DECnet is not served here", "gateway": "gateway is not served here: write ether host and not host",
	"ifname": "an interface is chosen by -i", "on": "an interface is chosen by -i", "protochain": "protochain is not served here"}
