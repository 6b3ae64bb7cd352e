package configs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// setting is a single value that the environment and flags reach too.
type setting struct {
	key      string // host.loopback: in the file loopback under host, TAPSWITCH_HOST_LOOPBACK, --host-loopback
	standard string // default, as in the environment
	usage    string // of the flag
	split    func(text string) *yaml.Node
	set      func(d *decoder, at value, c *Config)
}

var settings = []setting{
	{"host.loopback", "none", "ports of the host's loopback that containers may reach: none, all, or a comma list", portsNode,
		func(d *decoder, at value, c *Config) { c.Host.Loopback = d.ports(at) }},
	{"host.address", "allow", "may containers reach the host's other addresses: allow, deny", textNode,
		func(d *decoder, at value, c *Config) {
			if i, ok := d.word(at, "deny", "allow"); ok {
				c.Host.Address = i == 1
			}
		}},
	{"ip_forward", "true", "route between containers and the outside: true, false", textNode,
		func(d *decoder, at value, c *Config) { c.Forward = d.yes(at) }},
	{"dns.upstream", "", "name servers to ask, a comma list (default: the host's)", commaNode,
		func(d *decoder, at value, c *Config) { c.DNS.Upstream = d.servers(at) }},
	{"dns.domains", "", "name servers of domains, a comma list of DOMAIN=SERVER (default: none)", commaNode,
		func(d *decoder, at value, c *Config) { c.DNS.Domains = d.domains(at) }},
	{"dns.cache", "4096", "replies of name servers that are kept; 0 for none", textNode,
		func(d *decoder, at value, c *Config) { c.DNS.Cache, _ = d.integer(at, 0, maxLimit) }},
	{"dns.intercept", "false", "answer containers' questions to any name server here: true, false", textNode,
		func(d *decoder, at value, c *Config) { c.DNS.Intercept = d.yes(at) }},
	{"socks", "", "`ADDRESS:PORT` of a SOCKS5 proxy that reaches containers by name (default: none)", textNode,
		func(d *decoder, at value, c *Config) {
			s, ok := d.text(at)
			if a, err := netip.ParseAddrPort(s); ok && s != "" && err != nil {
				d.bad(at, "%s is no address with a port; write one, as 127.0.0.1:1080", quote(s))
			} else if ok && s != "" {
				c.SOCKS = a.String()
			}
		}},
	{"limits.flows", "8192", "flows per container", textNode, limit(func(c *Config) *int { return &c.Limits.Flows })},
	{"limits.half_open", "1024", "half-open TCP connections per container", textNode, limit(func(c *Config) *int { return &c.Limits.HalfOpen })},
	{"limits.fdb", "4096", "forwarding entries per network", textNode, limit(func(c *Config) *int { return &c.Limits.FDB })},
	{"limits.fragments", "256", "datagrams in reassembly", textNode, limit(func(c *Config) *int { return &c.Limits.Fragments })},
	{"threads", "0", "threads that switch, up to 16; 0 for two a processor, 8 at most; takes effect at the next start", textNode,
		func(d *decoder, at value, c *Config) {
			if n, ok := d.integer(at, 0, maxThreads); ok {
				c.Threads = n
			}
		}},
	{"capture_ring", "0", "memory for the headers of the last packets, as 16MB, for capture --last; 0 for none", textNode,
		func(d *decoder, at value, c *Config) {
			s, ok := d.text(at)
			if !ok || s == "0" {
				return
			}
			n, err := ParseSize(s)
			if err == nil && n < minCaptureRing {
				err = fmt.Errorf("%s is too small; write 0 for none, or a size from 64kb up, as 16MB", quote(s))
			}
			if err != nil {
				d.bad(at, "%s", err)
			}
			c.CaptureRing = int(n)
		}},
	{"sandbox", "on", "what the process that carries the traffic gives up: on, strict, off; takes effect at the next start", textNode,
		func(d *decoder, at value, c *Config) {
			if i, ok := d.word(at, sandboxModes...); ok {
				c.Sandbox = sandboxModes[i]
			}
		}},
	{"log.level", "info", "what is logged: debug, info, warn, error", textNode,
		func(d *decoder, at value, c *Config) {
			if i, ok := d.word(at, logLevels...); ok {
				c.LogLevel = logLevels[i]
			}
		}},
	{"log.format", "text", "how it is logged: text, json", textNode,
		func(d *decoder, at value, c *Config) {
			if i, ok := d.word(at, logFormats...); ok {
				c.LogFormat = logFormats[i]
			}
		}},
	{"metrics", "", "serve metrics at `ADDRESS:PORT` or unix:PATH (default: nowhere)", textNode,
		func(d *decoder, at value, c *Config) { c.Metrics = d.listenAddress(at) }},
	{"metrics_public", "false", "metrics may be served at an address that is no loopback: true, false", textNode,
		func(d *decoder, at value, c *Config) { c.MetricsPublic = d.yes(at) }},
	{"api.readonly", "", "`PATH` of a socket that answers questions and changes nothing (default: none)", textNode,
		func(d *decoder, at value, c *Config) { c.API.ReadOnly, _ = d.text(at) }},
	{"api.mode", "", "mode of that socket (default: 0600, with a group 0660)", textNode,
		func(d *decoder, at value, c *Config) { c.API.Mode, _ = d.text(at) }},
	{"api.group", "", "group of that socket (default: the user's own)", textNode,
		func(d *decoder, at value, c *Config) { c.API.Group, _ = d.text(at) }},
	{"pprof", "false", "profiles of the switch itself on the control socket, under /debug/pprof/: true, false", textNode,
		func(d *decoder, at value, c *Config) { c.Pprof = d.yes(at) }},
	{"state_file", "", "file that keeps what was made by command (default: the user's state directory)", textNode,
		func(d *decoder, at value, c *Config) {
			if s, ok := d.text(at); ok {
				c.StateFile = s
			}
		}},
}

var (
	sandboxModes = []string{"on", "strict", "off"}
	logLevels    = []string{"debug", "info", "warn", "error"}
	logFormats   = []string{"text", "json"}
)

// maxLimit bounds each limit: what it counts is memory of the switch.
const maxLimit = 1 << 20

// minCaptureRing holds some hundred packets.
const minCaptureRing = 64 << 10

// maxThreads bounds the threads that switch.
const maxThreads = 16

func limit(field func(*Config) *int) func(*decoder, value, *Config) {
	return func(d *decoder, at value, c *Config) {
		if n, ok := d.integer(at, 1, maxLimit); ok {
			*field(c) = n
		}
	}
}

func (s setting) env() string {
	return "TAPSWITCH_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

func (s setting) fallback() value { return value{s.split(s.standard), origin{key: s.key}} }

func (s setting) fromEnv(text string) value {
	return value{s.split(text), origin{kind: "env", name: s.env(), key: s.env()}}
}

func (s setting) fromFlag(text string) value {
	name := "--" + s.flag()
	return value{s.split(text), origin{kind: "flag", name: name, key: name}}
}

// AddFlags adds to fs a flag for each setting that Load takes from Options.Flags. Their values are text, so
// that Load judges them as it does the file's.
func AddFlags(fs *pflag.FlagSet) {
	for _, s := range settings {
		fs.String(s.flag(), s.standard, s.usage)
	}
	fs.Lookup("pprof").NoOptDefVal = "true"
}

func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(text)}
}

// commaNode is the list that a,b is; nothing is the empty one.
func commaNode(text string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for part := range strings.SplitSeq(text, ",") {
		if n := textNode(part); n.Value != "" {
			list.Content = append(list.Content, n)
		}
	}
	return list
}

// portsNode is a word, or the list that 80,443 is, with the file's brackets or without.
func portsNode(text string) *yaml.Node {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
	} else if text == "" || text[0] < '0' || text[0] > '9' {
		return textNode(text)
	}
	return commaNode(text)
}

// ports reads none, all, or a list of ports.
func (d *decoder) ports(at value) Ports {
	if at.node.Kind == yaml.ScalarNode {
		switch s := at.node.Value; s {
		case "none":
		case "all":
			return Ports{All: true}
		default:
			d.bad(at, "%s is neither none, all nor a list; write a list of ports, as %s", quote(s), at.way("[8080, 5432]", "8080,5432"))
		}
		return Ports{}
	}
	var p Ports
	for _, item := range d.list(at, "[8080, 5432]") {
		if n, ok := d.integer(item, 1, 65535); ok {
			p.List = append(p.List, uint16(n))
		}
	}
	return p
}

// servers reads name servers: ADDRESS or ADDRESS:PORT, IPv6 with a port in brackets; the port is 53 unless given.
func (d *decoder) servers(at value) []netip.AddrPort {
	var all []netip.AddrPort
	for _, item := range d.list(at, `["192.0.2.53"]`) {
		s, ok := d.text(item)
		if !ok {
			continue
		}
		server, err := parseServer(s)
		if err != nil {
			d.bad(item, "%s is not a name server's address; write one, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::1]:5353", quote(s))
			continue
		}
		d.note(item.key, item)
		all = append(all, server)
	}
	return all
}

func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}

// domains reads DOMAIN=SERVER; a domain may stand several times.
func (d *decoder) domains(at value) (all []Domain) {
	for _, item := range d.list(at, `["corp.example=192.0.2.53"]`) {
		s, ok := d.text(item)
		if !ok {
			continue
		}
		name, server, _ := strings.Cut(s, "=")
		name = strings.ToLower(strings.Trim(name, "."))
		a, err := parseServer(server)
		if err != nil || !hostName(name) || a.Port() == 0 {
			d.bad(item, "%s is not a domain with its name server; write one, as corp.example=192.0.2.53", quote(s))
			continue
		}
		if i := slices.IndexFunc(all, func(x Domain) bool { return x.Name == name }); i >= 0 {
			all[i].Servers = append(all[i].Servers, a)
			continue
		}
		d.note(item.key, item)
		all = append(all, Domain{name, []netip.AddrPort{a}})
	}
	return all
}

// way is how a thing is written in a file, or in a variable or flag.
func (o origin) way(file, text string) string {
	if o.kind == "file" {
		return file
	}
	return text
}
