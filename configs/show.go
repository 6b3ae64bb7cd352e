package configs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Show is the effective configuration with each value's origin: "default", "file PATH:LINE", "env NAME" or
// "flag --NAME". As yaml the origin is a comment behind the value, and the whole is a file that Load takes; as json it is
// {"config": the same as a tree, "origins": {"networks[0].mtu": "default", ...}}. Keys that nothing sets and that have
// no default are left out.
func Show(c *Config, format string) ([]byte, error) {
	s := &shower{c: c, origins: map[string]string{}}
	root := s.config()
	switch format {
	case "yaml":
		return encodeYAML(root)
	case "json":
		var plain any
		if err := root.Decode(&plain); err != nil {
			return nil, fmt.Errorf("show the configuration: %w", err)
		}
		return encodeJSON(map[string]any{"config": plain, "origins": s.origins})
	}
	return nil, fmt.Errorf("show the configuration as %s: no such format; write yaml or json", quote(format))
}

func encodeYAML(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("show the configuration: %w", err)
	}
	return b.Bytes(), enc.Close()
}

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("show the configuration: %w", err)
	}
	return b.Bytes(), nil
}

// shower builds the tree that is shown.
type shower struct {
	c       *Config
	origins map[string]string
}

func (s *shower) config() *yaml.Node {
	c, root := s.c, section()
	nets := list()
	for i, n := range c.Networks {
		nets.Content = append(nets.Content, s.network(fmt.Sprintf("networks[%d]", i), n))
	}
	add(root, "networks", nets)
	containers := list()
	for i, ct := range c.Containers {
		containers.Content = append(containers.Content, s.container(fmt.Sprintf("containers[%d]", i), ct))
	}
	add(root, "containers", containers)
	s.rules(root, "rules", c.Rules)
	s.rules(root, "routes", c.Routes)
	if len(c.Egress) > 0 {
		all := list()
		for i, e := range c.Egress {
			m, path := section(), fmt.Sprintf("egress[%d]", i)
			s.put(m, path, "name", scalar(e.Name))
			s.texts(m, path, "allow", e.Allow)
			all.Content = append(all.Content, m)
		}
		add(root, "egress", all)
	}
	s.put(root, "", "ip_forward", boolean(c.Forward))

	host := section()
	s.put(host, "host", "loopback", ports(c.Host.Loopback))
	s.put(host, "host", "address", scalar(word(c.Host.Address, "allow", "deny")))
	add(root, "host", host)

	upstream := []string{}
	for _, u := range c.DNS.Upstream {
		upstream = append(upstream, u.String())
	}
	dns := section()
	s.put(dns, "dns", "upstream", flow(upstream))
	domains := []string{}
	for _, d := range c.DNS.Domains {
		for _, a := range d.Servers {
			domains = append(domains, d.Name+"="+a.String())
		}
	}
	s.put(dns, "dns", "domains", flow(domains))
	s.put(dns, "dns", "cache", number(c.DNS.Cache))
	s.put(dns, "dns", "intercept", boolean(c.DNS.Intercept))
	add(root, "dns", dns)

	s.put(root, "", "socks", scalar(c.SOCKS))

	limits := section()
	s.put(limits, "limits", "flows", number(c.Limits.Flows))
	s.put(limits, "limits", "half_open", number(c.Limits.HalfOpen))
	s.put(limits, "limits", "fdb", number(c.Limits.FDB))
	s.put(limits, "limits", "fragments", number(c.Limits.Fragments))
	add(root, "limits", limits)

	s.put(root, "", "threads", number(c.Threads))
	s.put(root, "", "capture_ring", number(c.CaptureRing))

	s.put(root, "", "sandbox", scalar(c.Sandbox))

	log := section()
	s.put(log, "log", "level", scalar(c.LogLevel))
	s.put(log, "log", "format", scalar(c.LogFormat))
	add(root, "log", log)

	s.put(root, "", "metrics", scalar(c.Metrics))
	s.put(root, "", "metrics_public", boolean(c.MetricsPublic))
	served := section()
	s.put(served, "api", "readonly", scalar(c.API.ReadOnly))
	s.put(served, "api", "mode", scalar(c.API.Mode))
	s.put(served, "api", "group", scalar(c.API.Group))
	add(root, "api", served)
	s.put(root, "", "pprof", boolean(c.Pprof))
	s.put(root, "", "state_file", scalar(c.StateFile))
	return root
}

func (s *shower) network(path string, n Network) *yaml.Node {
	m := section()
	s.put(m, path, "name", scalar(n.Name))
	if n.NoIPv4 {
		s.put(m, path, "ipv4", boolean(false))
	} else {
		s.put(m, path, "subnet", scalar(n.Subnet.String()))
		s.put(m, path, "gateway", scalar(n.Gateway.String()))
	}
	if n.Subnet6.IsValid() {
		s.put(m, path, "subnet6", scalar(n.Subnet6.String()))
		s.put(m, path, "gateway6", scalar(n.Gateway6.String()))
	}
	s.put(m, path, "mtu", number(n.MTU))
	s.put(m, path, "internal", boolean(n.Internal))
	s.put(m, path, "icc", boolean(!n.NoICC))
	s.text(m, path, "gateway_mode", n.Mode4)
	s.text(m, path, "gateway_mode6", n.Mode6)
	if n.NoMasquerade {
		s.put(m, path, "masquerade", boolean(false))
	}
	if n.HostBinding.IsValid() {
		s.put(m, path, "host_binding", scalar(n.HostBinding.String()))
	}
	s.text(m, path, "interface_prefix", n.IfPrefix)
	if n.Range.IsValid() {
		s.put(m, path, "range", scalar(n.Range.String()))
	}
	if n.Range6.IsValid() {
		s.put(m, path, "range6", scalar(n.Range6.String()))
	}
	if n.NoDHCP {
		s.put(m, path, "dhcp", boolean(false))
	}
	if n.Advertise {
		s.put(m, path, "advertise", boolean(true))
	}
	s.text(m, path, "egress", n.Egress)
	if n.NoSnooping {
		s.put(m, path, "multicast_snooping", boolean(false))
	}
	if n.NoAddress4 {
		s.put(m, path, "inhibit_ipv4", boolean(true))
	}
	if n.Mirror.IsValid() {
		s.put(m, path, "mirror", scalar(n.Mirror.String()))
	}
	s.text(m, path, "mirror_ports", string(n.MirrorPorts))
	s.text(m, path, "host_interface", n.HostInterface)
	if n.Outbound.IsValid() {
		s.put(m, path, "outbound", scalar(n.Outbound.String()))
	}
	if n.Outbound6.IsValid() {
		s.put(m, path, "outbound6", scalar(n.Outbound6.String()))
	}
	return m
}

func (s *shower) rules(root *yaml.Node, key string, rules []Rule) {
	if len(rules) == 0 {
		return
	}
	all := list()
	for i, r := range rules {
		m, path := section(), fmt.Sprintf("%s[%d]", key, i)
		from, to := r.From, r.To
		if r.Action == ActionRoute {
			from, to = strings.TrimPrefix(from, "network:"), strings.TrimPrefix(to, "network:")
		}
		s.text(m, path, "from", from)
		s.text(m, path, "to", to)
		s.text(m, path, "direction", r.Direction)
		s.text(m, path, "proto", r.Proto)
		s.texts(m, path, "ports", r.Ports)
		if r.Action != ActionRoute {
			s.text(m, path, "action", r.Action)
		}
		s.text(m, path, "comment", r.Comment)
		all.Content = append(all.Content, m)
	}
	add(root, key, all)
}

func (s *shower) container(path string, c Container) *yaml.Node {
	m := section()
	s.put(m, path, "name", scalar(c.Name))
	nets := list()
	for i, a := range c.Networks {
		nets.Content = append(nets.Content, s.attachment(fmt.Sprintf("%s.networks[%d]", path, i), a))
	}
	add(m, "networks", nets)
	s.texts(m, path, "publish", c.Publish)
	s.texts(m, path, "command", c.Command)
	s.texts(m, path, "env", c.Env)
	s.text(m, path, "workdir", c.Workdir)
	s.text(m, path, "hostname", c.Hostname)
	s.texts(m, path, "links", c.Links)
	s.texts(m, path, "expose", c.Expose)
	s.text(m, path, "egress", c.Egress)
	if c.Shape != (Shape{}) {
		h, at := section(), path+".shape"
		s.text(h, at, "rate_in", c.Shape.RateIn)
		s.text(h, at, "rate_out", c.Shape.RateOut)
		s.text(h, at, "burst", c.Shape.Burst)
		s.text(h, at, "delay", c.Shape.Delay)
		s.text(h, at, "jitter", c.Shape.Jitter)
		s.text(h, at, "loss", c.Shape.Loss)
		if c.Shape.Flows != 0 {
			s.put(h, at, "flows", number(c.Shape.Flows))
		}
		add(m, "shape", h)
	}
	s.put(m, path, "offload", scalar(word(c.Offload, "on", "off")))
	s.put(m, path, "spoof", scalar(word(c.Spoof, "allow", "deny")))
	if c.Pid != 0 {
		s.put(m, path, "pid", number(c.Pid))
	}
	s.text(m, path, "netns", c.Netns)
	s.text(m, path, "ifname", c.IfName)
	return m
}

func (s *shower) attachment(path string, a Attachment) *yaml.Node {
	m := section()
	s.put(m, path, "name", scalar(a.Network))
	if a.IP.IsValid() {
		s.put(m, path, "ip", scalar(a.IP.String()))
	}
	if a.IP6.IsValid() {
		s.put(m, path, "ip6", scalar(a.IP6.String()))
	}
	s.text(m, path, "mac", a.MAC.String())
	s.texts(m, path, "aliases", a.Aliases)
	if a.GwPriority != 0 {
		s.put(m, path, "gw_priority", number(a.GwPriority))
	}
	s.texts(m, path, "sysctls", a.Sysctls)
	return m
}

// put adds a value and its origin.
func (s *shower) put(m *yaml.Node, path, key string, val *yaml.Node) {
	full := strings.TrimPrefix(path+"."+key, ".")
	from := s.c.origins[full].String()
	s.origins[full] = from
	val.LineComment = "# " + printable(from)
	add(m, key, val)
}

func (s *shower) text(m *yaml.Node, path, key, val string) {
	if val != "" {
		s.put(m, path, key, scalar(val))
	}
}

func (s *shower) texts(m *yaml.Node, path, key string, val []string) {
	if len(val) > 0 {
		s.put(m, path, key, flow(val))
	}
}

func add(m *yaml.Node, key string, val *yaml.Node) { m.Content = append(m.Content, scalar(key), val) }

func section() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

func list() *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"} }

func number(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}

func boolean(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

// scalar is a string; quoted where it holds what would break the line or the comment behind it.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if s == "" || printable(s) != s {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func flow(texts []string) *yaml.Node {
	n := list()
	n.Style = yaml.FlowStyle
	for _, t := range texts {
		n.Content = append(n.Content, scalar(t))
	}
	return n
}

func ports(p Ports) *yaml.Node {
	if p.All || len(p.List) == 0 {
		return scalar(word(p.All, "all", "none"))
	}
	n := flow(nil)
	for _, port := range p.List {
		n.Content = append(n.Content, number(int(port)))
	}
	return n
}

func word(yes bool, ifYes, ifNo string) string {
	if yes {
		return ifYes
	}
	return ifNo
}

// printable is s, in Go's quotes if it holds a control character.
func printable(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return strconv.Quote(s)
	}
	return s
}
