package configs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// field is one key of a mapping and what its value does to the T that is read from it.
type field[T any] struct {
	key string
	set func(d *decoder, at value, t *T)
}

// keys applies the fields to the mapping at. A key without a value counts as absent, as it does when all
// lines below it are commented out.
func keys[T any](d *decoder, at value, fields []field[T], t *T) {
	if at.node.Kind != yaml.MappingNode {
		d.bad(at, "%s stands where a map should; write %s as keys", describe(at.node), strings.Join(names(fields), ", "))
		return
	}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, node := at.node.Content[i], at.node.Content[i+1]
		below := at.under(key, node)
		f := slices.IndexFunc(fields, func(f field[T]) bool { return f.key == key.Value })
		switch {
		case f < 0:
			d.unknown(below, key.Value, names(fields))
		case !isNull(node):
			d.note(below.key, below)
			fields[f].set(d, below, t)
		}
	}
}

func (d *decoder) unknown(at value, key string, known []string) {
	above := strings.TrimSuffix(at.key, key)
	at.key = above + oneLine(key)
	p := at.problem("unknown key; known here: " + strings.Join(known, ", "))
	if near := nearest(key, known); near != "" {
		p.Text, p.meant = "unknown key; did you mean "+near+"?", above+near
	}
	d.problems = append(d.problems, p)
}

func names[T any](fields []field[T]) []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.key)
	}
	return all
}

// sources are the values of a file by the key that viper knows them under: networks, containers, host.loopback, ...
type sources map[string]any

// top are a file's keys. Sections' keys become viper keys of their own (log: {level: x} is log.level), so that
// viper lays the environment and the flags over each.
var top = topFields()

func topFields() []field[sources] {
	keep := func(name string) func(*decoder, value, *sources) {
		return func(_ *decoder, at value, to *sources) { (*to)[name] = at }
	}
	fields := []field[sources]{{"networks", keep("networks")}, {"containers", keep("containers")}, {"rules", keep("rules")}, {"routes", keep("routes")}, {"egress", keep("egress")}}
	for _, s := range settings {
		section, _, nested := strings.Cut(s.key, ".")
		if !nested {
			fields = append(fields, field[sources]{s.key, keep(s.key)})
			continue
		}
		if slices.Contains(names(fields), section) {
			continue
		}
		var inner []field[sources]
		for _, s := range settings {
			if rest, ok := strings.CutPrefix(s.key, section+"."); ok {
				inner = append(inner, field[sources]{rest, keep(s.key)})
			}
		}
		fields = append(fields, field[sources]{section, func(d *decoder, at value, to *sources) { keys(d, at, inner, to) }})
	}
	return fields
}

func topKeys() []string { return names(top) }

const networksLike = "[{name: bridge, subnet: 172.17.0.0/16}]"

var networkFields = []field[Network]{
	{"name", func(d *decoder, at value, n *Network) { n.Name, _ = d.text(at) }},
	{"subnet", func(d *decoder, at value, n *Network) { n.Subnet, _ = d.prefix(at, "172.17.0.0/16") }},
	{"gateway", func(d *decoder, at value, n *Network) { n.Gateway, _ = d.addr(at, false) }},
	{"subnet6", func(d *decoder, at value, n *Network) { n.Subnet6, _ = d.prefix(at, "fd00:17::/64") }},
	{"gateway6", func(d *decoder, at value, n *Network) { n.Gateway6, _ = d.addr(at, true) }},
	{"mtu", func(d *decoder, at value, n *Network) { n.MTU, _ = d.integer(at, minMTU, maxMTU) }},
	{"internal", func(d *decoder, at value, n *Network) { n.Internal = d.yes(at) }},
	{"icc", func(d *decoder, at value, n *Network) { n.NoICC = !d.yes(at) }},
	{"gateway_mode", func(d *decoder, at value, n *Network) { n.Mode4, _ = d.text(at) }},
	{"gateway_mode6", func(d *decoder, at value, n *Network) { n.Mode6, _ = d.text(at) }},
	{"masquerade", func(d *decoder, at value, n *Network) { n.NoMasquerade = !d.yes(at) }},
	{"host_binding", func(d *decoder, at value, n *Network) {
		if s, ok := d.text(at); ok {
			a, err := netip.ParseAddr(s)
			if err != nil || a.Zone() != "" {
				d.bad(at, "%s is not an address; write one of the host's, as 127.0.0.1", quote(s))
			}
			n.HostBinding = a
		}
	}},
	{"interface_prefix", func(d *decoder, at value, n *Network) { n.IfPrefix, _ = d.text(at) }},
	{"range", func(d *decoder, at value, n *Network) { n.Range, _ = d.prefix(at, "172.17.4.0/24") }},
	{"range6", func(d *decoder, at value, n *Network) { n.Range6, _ = d.prefix(at, "fd00:17::4:0/112") }},
	{"dhcp", func(d *decoder, at value, n *Network) { n.NoDHCP = !d.yes(at) }},
	{"advertise", func(d *decoder, at value, n *Network) { n.Advertise = d.yes(at) }},
	{"egress", func(d *decoder, at value, n *Network) { n.Egress, _ = d.text(at) }},
	{"multicast_snooping", func(d *decoder, at value, n *Network) { n.NoSnooping = !d.yes(at) }},
	{"ipv4", func(d *decoder, at value, n *Network) { n.NoIPv4 = !d.yes(at) }},
	{"inhibit_ipv4", func(d *decoder, at value, n *Network) { n.NoAddress4 = d.yes(at) }},
	{"mirror", func(d *decoder, at value, n *Network) { n.Mirror, _ = d.prefix(at, "127.17.0.0/16") }},
	{"mirror_ports", func(d *decoder, at value, n *Network) { n.MirrorPorts = d.mirrorPorts(at) }},
	{"host_interface", func(d *decoder, at value, n *Network) { n.HostInterface, _ = d.text(at) }},
	{"outbound", func(d *decoder, at value, n *Network) { n.Outbound, _ = d.addr(at, false) }},
	{"outbound6", func(d *decoder, at value, n *Network) { n.Outbound6, _ = d.addr(at, true) }},
}

// networks reads the list; a network's open values get their defaults.
func (d *decoder) networks(at value) []Network {
	var all []Network
	for _, item := range d.list(at, networksLike) {
		n := Network{Line: item.line}
		d.note(item.key, item)
		keys(d, item, networkFields, &n)
		all = append(all, n.WithDefaults())
	}
	return all
}

var containerFields = []field[draft]{
	{"name", func(d *decoder, at value, c *draft) { c.Name, _ = d.text(at) }},
	{"networks", func(d *decoder, at value, c *draft) { c.Networks, c.named = d.attachments(at), true }},
	{"ip", short}, {"ip6", short}, {"mac", short}, {"aliases", short},
	{"publish", func(d *decoder, at value, c *draft) { c.Publish = d.texts(at, `["8080:80"]`) }},
	{"command", func(d *decoder, at value, c *draft) { c.Command = d.texts(at, commandLike(at.node)) }},
	{"env", func(d *decoder, at value, c *draft) { c.Env = d.texts(at, "[NAME=VALUE]") }},
	{"workdir", func(d *decoder, at value, c *draft) { c.Workdir, _ = d.text(at) }},
	{"hostname", func(d *decoder, at value, c *draft) { c.Hostname, _ = d.text(at) }},
	{"links", func(d *decoder, at value, c *draft) { c.Links = d.texts(at, "[db]") }},
	{"expose", func(d *decoder, at value, c *draft) { c.Expose = d.texts(at, "[5432]") }},
	{"egress", func(d *decoder, at value, c *draft) { c.Egress, _ = d.text(at) }},
	{"shape", func(d *decoder, at value, c *draft) { keys(d, at, shapeFields, &c.Shape) }},
	{"offload", func(d *decoder, at value, c *draft) {
		if i, ok := d.word(at, "on", "off"); ok {
			c.Offload = i == 0
		}
	}},
	{"spoof", func(d *decoder, at value, c *draft) {
		if i, ok := d.word(at, "deny", "allow"); ok {
			c.Spoof = i == 1
		}
	}},
	{"pid", func(d *decoder, at value, c *draft) { c.Pid, _ = d.integer(at, 1, maxPid) }},
	{"netns", func(d *decoder, at value, c *draft) { c.Netns, _ = d.text(at) }},
	{"ifname", func(d *decoder, at value, c *draft) { c.IfName, _ = d.text(at) }},
}

// maxPid is PID_MAX_LIMIT of include/linux/threads.h on 64 bits.
const maxPid = 1 << 22

// draft is a container whose networks are not settled yet.
type draft struct {
	Container
	named bool    // has a key networks
	short []value // keys of the one attachment that stand at the container: ip: is networks: [{name: ..., ip: }]
}

func short(_ *decoder, at value, c *draft) { c.short = append(c.short, at) }

// commandLike is the list that a command given as one line was probably meant to be.
func commandLike(n *yaml.Node) string {
	if words := strings.Fields(n.Value); n.Kind == yaml.ScalarNode && len(words) > 0 && len(n.Value) <= 60 {
		return "[" + strings.Join(words, ", ") + "]"
	}
	return "[sleep, infinity]"
}

// containers reads the list. A container that names no network is on `bridge`, or on the one that there is.
func (d *decoder) containers(at value, networks []Network) []Container {
	var all []Container
	for _, item := range d.list(at, "[{name: web, networks: [bridge]}]") {
		c := draft{Container: Container{Offload: true, Line: item.line}}
		d.note(item.key, item)
		keys(d, item, containerFields, &c)
		if !c.named && item.node.Kind == yaml.MappingNode {
			d.usual(item, &c, networks)
		}
		d.spread(&c, item)
		all = append(all, c.Container)
	}
	return all
}

// usual attaches c to the network that is meant when none is named.
func (d *decoder) usual(at value, c *draft, networks []Network) {
	switch {
	case slices.ContainsFunc(networks, func(n Network) bool { return n.Name == "bridge" }):
		c.Networks = []Attachment{{Network: "bridge"}}
	case len(networks) == 1:
		c.Networks = []Attachment{{Network: networks[0].Name}}
	default:
		at.key += ".networks"
		d.bad(at, "is missing, and no network is called bridge; write networks: [%s]", networks[0].Name)
	}
}

// spread puts what stands at the container itself into its one attachment.
func (d *decoder) spread(c *draft, item value) {
	for _, at := range c.short {
		switch key := at.lastKey(); {
		case len(c.Networks) != 1:
			d.bad(at, "stands at a container with %d networks; write it where it belongs: networks: [{name: %s, %s: ...}]",
				len(c.Networks), firstName(c.Networks), key)
		case d.origins[item.key+".networks[0]."+key].kind != "":
			d.bad(at, "is given twice, here and under networks; keep one of the two")
		default:
			f := slices.IndexFunc(attachmentFields, func(f field[Attachment]) bool { return f.key == key })
			attachmentFields[f].set(d, at, &c.Networks[0])
			d.note(item.key+".networks[0]."+key, at)
		}
	}
}

func firstName(on []Attachment) string {
	if len(on) == 0 || on[0].Network == "" {
		return "bridge"
	}
	return on[0].Network
}

var attachmentFields = []field[Attachment]{
	{"name", func(d *decoder, at value, a *Attachment) { a.Network, _ = d.text(at) }},
	{"ip", func(d *decoder, at value, a *Attachment) { a.IP, _ = d.addr(at, false) }},
	{"ip6", func(d *decoder, at value, a *Attachment) { a.IP6, _ = d.addr(at, true) }},
	{"mac", func(d *decoder, at value, a *Attachment) { a.MAC, _ = d.mac(at) }},
	{"aliases", func(d *decoder, at value, a *Attachment) { a.Aliases = d.texts(at, "[www]") }},
	{"gw_priority", func(d *decoder, at value, a *Attachment) { a.GwPriority, _ = d.integer(at, -maxLimit, maxLimit) }},
	{"sysctls", func(d *decoder, at value, a *Attachment) {
		a.Sysctls = d.texts(at, "[net.ipv4.conf.IFNAME.log_martians=1]")
	}},
}

// attachments reads a list of names, or of maps with a name.
func (d *decoder) attachments(at value) []Attachment {
	var all []Attachment
	for _, item := range d.list(at, "[bridge]") {
		var a Attachment
		d.note(item.key, item)
		if item.node.Kind == yaml.MappingNode {
			keys(d, item, attachmentFields, &a)
		} else if s, ok := d.text(item); ok {
			a.Network = s
			d.note(fmt.Sprintf("%s.name", item.key), item)
		}
		all = append(all, a)
	}
	return all
}

var ruleFields = []field[Rule]{
	{"from", func(d *decoder, at value, r *Rule) { r.From, _ = d.text(at) }},
	{"to", func(d *decoder, at value, r *Rule) { r.To, _ = d.text(at) }},
	{"direction", func(d *decoder, at value, r *Rule) { r.Direction, _ = d.text(at) }},
	{"proto", func(d *decoder, at value, r *Rule) { r.Proto, _ = d.text(at) }},
	{"ports", func(d *decoder, at value, r *Rule) { r.Ports = d.texts(at, "[80, 8000-9000]") }},
	{"action", func(d *decoder, at value, r *Rule) { r.Action, _ = d.text(at) }},
	{"comment", func(d *decoder, at value, r *Rule) { r.Comment, _ = d.text(at) }},
}

var routeFields = []field[Rule]{
	{"from", func(d *decoder, at value, r *Rule) { r.From = d.networkParty(at) }},
	{"to", func(d *decoder, at value, r *Rule) { r.To = d.networkParty(at) }},
	{"proto", func(d *decoder, at value, r *Rule) { r.Proto, _ = d.text(at) }},
	{"ports", func(d *decoder, at value, r *Rule) { r.Ports = d.texts(at, "[80, 8000-9000]") }},
	{"comment", func(d *decoder, at value, r *Rule) { r.Comment, _ = d.text(at) }},
}

// networkParty reads a network's name.
func (d *decoder) networkParty(at value) string {
	s, ok := d.text(at)
	if !ok {
		return ""
	}
	return "network:" + s
}

// rules reads a list of rules, or of routes.
func (d *decoder) rules(at value, fields []field[Rule], action string) []Rule {
	var all []Rule
	for _, item := range d.list(at, "[{from: outside, to: \"container:web\", action: drop}]") {
		r := Rule{Line: item.line, Action: action}
		d.note(item.key, item)
		keys(d, item, fields, &r)
		all = append(all, r)
	}
	return all
}

var egressFields = []field[Egress]{
	{"name", func(d *decoder, at value, e *Egress) { e.Name, _ = d.text(at) }},
	{"allow", func(d *decoder, at value, e *Egress) { e.Allow = d.texts(at, `["*.example.org:443"]`) }},
}

func (d *decoder) egress(at value) []Egress {
	var all []Egress
	for _, item := range d.list(at, `[{name: updates, allow: ["*.debian.org:443"]}]`) {
		e := Egress{Line: item.line}
		d.note(item.key, item)
		keys(d, item, egressFields, &e)
		all = append(all, e)
	}
	return all
}
