package configs

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is one value on its way into a Config: what was written, where, and under which key.
type value struct {
	node *yaml.Node
	origin
}

// origin is where a value comes from; the zero one is the default.
type origin struct {
	kind string // file, env, flag; "": default
	name string // path, variable, or flag with its dashes
	line int    // in a file
	key  string // as written; for an item of a list with its index
}

// String is what Show prints.
func (o origin) String() string {
	switch {
	case o.kind == "":
		return "default"
	case o.line > 0:
		return fmt.Sprintf("%s %s:%d", o.kind, o.name, o.line)
	}
	return o.kind + " " + o.name
}

// problem is one with the value of this origin.
func (o origin) problem(text string) *Problem {
	if o.kind == "file" {
		return &Problem{File: o.name, Line: o.line, Key: o.key, Text: text}
	}
	return &Problem{Key: o.key, Text: text}
}

// under is the value of a key of at, which is a mapping.
func (at value) under(key *yaml.Node, node *yaml.Node) value {
	at.node, at.line = node, key.Line
	if at.key != "" {
		at.key += "."
	}
	at.key += key.Value
	return at
}

// item is the value of an index of at, which is a sequence.
func (at value) item(i int) value {
	at.node = at.node.Content[i]
	if at.kind == "file" { // a comma list in a variable or flag is one thing to its writer
		at.line = at.node.Line
		at.key = fmt.Sprintf("%s[%d]", at.key, i)
	}
	return at
}

// decoder collects what values turn out to be: settings of a Config, each with its origin, or problems.
type decoder struct {
	problems []*Problem
	origins  map[string]origin
}

func (d *decoder) bad(at value, format string, args ...any) {
	d.problems = append(d.problems, at.problem(fmt.Sprintf(format, args...)))
}

// note records that the Config's key has its value from at.
func (d *decoder) note(key string, at value) {
	if at.kind == "" {
		return
	}
	if d.origins == nil {
		d.origins = map[string]origin{}
	}
	d.origins[key] = at.origin
}

// text reads one string. A number or word that the format has a type for is taken as it was written: the
// tag in `command: [sleep, 1.50]` is no reason for quotes.
func (d *decoder) text(at value) (string, bool) {
	switch {
	case at.node.Kind != yaml.ScalarNode || isNull(at.node):
		d.bad(at, "%s stands where one value should; write %s: VALUE", describe(at.node), at.lastKey())
	case strings.ContainsRune(at.node.Value, 0):
		d.bad(at, "%s holds a zero byte, which nothing in the system takes; leave it out", quote(at.node.Value))
	default:
		return at.node.Value, true
	}
	return "", false
}

// list reads a list; like is how one would be written after the key.
func (d *decoder) list(at value, like string) []value {
	if at.node.Kind != yaml.SequenceNode {
		d.bad(at, "%s stands where a list should; write %s: %s", describe(at.node), at.lastKey(), like)
		return nil
	}
	var items []value
	for i := range at.node.Content {
		item := at.item(i)
		if isNull(item.node) {
			d.bad(item, "is empty; write a value or take the line out")
			continue
		}
		items = append(items, item)
	}
	return items
}

// texts reads a list of strings.
func (d *decoder) texts(at value, like string) []string {
	var all []string
	for _, item := range d.list(at, like) {
		if s, ok := d.text(item); ok {
			d.note(item.key, item)
			all = append(all, s)
		}
	}
	return all
}

// word reads one of words and returns its index.
func (d *decoder) word(at value, words ...string) (int, bool) {
	s, ok := d.text(at)
	if !ok {
		return 0, false
	}
	for i, w := range words {
		if s == w {
			return i, true
		}
	}
	d.bad(at, "%s", notAWord(s, words))
	return 0, false
}

// yes reads true or false.
func (d *decoder) yes(at value) bool {
	i, _ := d.word(at, "false", "true")
	return i == 1
}

// integer reads a whole number in decimals, from least to most. Other bases are left out, since the formats
// disagree on what 010 is.
func (d *decoder) integer(at value, least, most int) (int, bool) {
	s, ok := d.text(at)
	if !ok {
		return 0, false
	}
	plain := strings.ReplaceAll(s, "_", "")
	digits := strings.TrimLeft(plain, "+-")
	number := digits != "" && strings.Trim(digits, "0123456789") == "" && (digits == "0" || digits[0] != '0')
	switch n, err := strconv.Atoi(plain); {
	case at.kind == "file" && at.node.ShortTag() == "!!str" && number:
		d.bad(at, "%s is text; write the number without quotes: %s", quote(s), plain)
	case !number:
		d.bad(at, "%s is not a whole number; write one from %d to %d", quote(s), least, most)
	case err != nil || n < least || n > most:
		d.bad(at, "%s is out of range; write %d to %d", s, least, most)
	default:
		return n, true
	}
	return 0, false
}

// prefix reads a subnet as it stands: Validate judges it.
func (d *decoder) prefix(at value, like string) (netip.Prefix, bool) {
	s, ok := d.text(at)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, e := netip.ParseAddr(s); e == nil && a.Is4() && like[0] == '1' {
			like = s + "/24" // only the length is missing
		}
		d.bad(at, "%s is not a subnet; write an address, a slash and a length, as %s", quote(s), like)
	}
	return p, err == nil
}

// addr reads an address of the family; what is given to the other family's key says so.
func (d *decoder) addr(at value, v6 bool) (netip.Addr, bool) {
	s, ok := d.text(at)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	like, family := "172.17.0.2", "IPv4"
	if v6 {
		like, family = "fd00:17::2", "IPv6"
	}
	switch key := at.lastKey(); {
	case err != nil && strings.Contains(s, "/"):
		d.bad(at, "%s has a prefix length, which is the subnet's; write the address alone, as %s", quote(s), like)
	case err != nil:
		d.bad(at, "%s is not an %s address; write one, as %s", quote(s), family, like)
	case a.Zone() != "":
		d.bad(at, "%s names an interface, which has no meaning here; write the address alone: %s", quote(s), a.WithZone(""))
	case !v6 && !a.Is4():
		d.bad(at, "%s is not an IPv4 address; IPv6 goes to %s", quote(s), key+"6")
	case v6 && (a.Is4() || a.Is4In6()):
		d.bad(at, "%s is not an IPv6 address; IPv4 goes to %s", quote(s), strings.TrimSuffix(key, "6"))
	default:
		return a, true
	}
	return netip.Addr{}, false
}

func (d *decoder) mac(at value) (net.HardwareAddr, bool) {
	s, ok := d.text(at)
	if !ok {
		return nil, false
	}
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		d.bad(at, "%s is not a MAC address; write six bytes, as 02:42:ac:11:00:02", quote(s))
		return nil, false
	}
	return m, true
}

// lastKey is the key alone: mtu of networks[0].mtu, also of an item of its list.
func (o origin) lastKey() string {
	key := o.key
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		key = key[i+1:]
	}
	if i := strings.IndexByte(key, '['); i >= 0 {
		key = key[:i]
	}
	return key
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a map"
	case isNull(n):
		return "nothing"
	}
	return quote(n.Value)
}

// quote is text in quotes, fit for one line of an error.
func quote(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(text)
}

func notAWord(got string, words []string) string {
	right := "write " + either(words)
	if near := nearest(got, words); near != "" && len(words) > 2 {
		right = "did you mean " + near + "? " + right
	}
	return quote(got) + " is not known here; " + right
}

// either is "a", "a or b", "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
