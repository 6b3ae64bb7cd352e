// Package configs is the configuration of the switch: its types, where they are read from, what makes
// them valid, and how they are shown. It is the only user of viper and knows nothing of the switch.
//
// A value comes from, in falling order: a flag, the environment (TAPSWITCH_*), the file (YAML, TOML or
// JSON), the defaults. Load layers them with viper, decodes them, and keeps for each where it came from,
// so that an error names the line and Show the origin. Networks and containers are lists, since viper
// lower-cases the keys of maps and names keep their case.
//
//	load.go      Load: find the file, layer the sources
//	parse.go     a file's bytes -> nodes with lines (yaml.go, json.go, toml.go: one format each)
//	decode.go    nodes -> Config (settings.go: the single values, value.go: one value)
//	validate.go  is the Config one that the switch can bring up?
//	show.go      Config -> text
package configs

import (
	"net"
	"net/netip"
	"reflect"
)

// Config is everything the switch is told. Load and Default return it complete: nothing in it waits for a default.
type Config struct {
	Networks    []Network
	Containers  []Container
	Rules       []Rule   // in their order; the first that matches decides
	Routes      []Rule   // between networks
	Egress      []Egress // policies that networks and containers name
	Forward     bool     // false: nothing is routed, outside or between networks
	Host        Host
	DNS         DNS
	SOCKS       string // where a SOCKS5 proxy to containers listens, ADDRESS:PORT; "": nowhere
	Limits      Limits
	Threads     int    // that switch, 0 for what the machine suggests; takes effect at the next start
	CaptureRing int    // bytes for the headers of the last packets; 0: none are kept
	Sandbox     string // on, strict, off: what the process that carries the traffic gives up; takes effect at the next start
	LogLevel    string // debug, info, warn, error
	LogFormat   string // text, json
	Metrics     string // where they are served: ADDRESS:PORT or unix:PATH; "": nowhere
	API         API
	Pprof       bool   // profiles of the switch itself on the control socket
	StateFile   string // "": the default place; a relative path is the switch's working directory's
	Path        string // file it was read from as it was named; "" for defaults alone

	MetricsPublic bool // may they be served at an address that is no loopback?

	origins map[string]origin // by key ("networks[0].mtu"); a default has none
}

// Network is a bridge: one L2 domain with its subnets and gateway.
type Network struct {
	Name     string
	Subnet   netip.Prefix // IPv4, masked; zero exactly if NoIPv4
	Gateway  netip.Addr
	Subnet6  netip.Prefix // zero: no IPv6 on this bridge
	Gateway6 netip.Addr   // zero exactly if Subnet6 is
	MTU      int          // bytes, 1280 to 65520
	Internal bool         // nothing is routed off it
	NoICC    bool         // its containers do not reach each other

	Mode4, Mode6 string     // gateway mode: nat, routed, nat-unprotected; "" is nat
	NoMasquerade bool       // nothing of it reaches the outside
	HostBinding  netip.Addr // where ports are published that name no address; zero: everywhere
	IfPrefix     string     // of its interfaces' names; "": eth
	Egress       string     // what its containers reach outside: a policy's name, all, internet, none; "": all

	NoDHCP    bool // the gateway answers no DHCP
	Advertise bool // it answers router solicitations

	NoSnooping  bool         // multicast goes to everybody, whoever has asked for it
	NoIPv4      bool         // IPv6 alone
	NoAddress4  bool         // the gateway has no IPv4 address of its own (Docker's inhibit_ipv4)
	Mirror      netip.Prefix // loopback addresses of the host that stand for its containers'; zero: none
	MirrorPorts MirrorPorts  // at which ports

	HostInterface string // the host's own interface there, which only root may make; "": none

	Outbound, Outbound6 netip.Addr // source address of what goes outside; zero: the host's kernel chooses

	Range, Range6 netip.Prefix // from which addresses are chosen; zero: from the subnet

	// What no file says: the network of a program that tapswitch stands for has it.
	Resolver, Resolver6   netip.Addr // where the gateway answers DNS, instead of at its own address
	NoDNS                 bool       // it answers none
	LeaseFirst, LeaseLast netip.Addr // what its DHCP gives to guests that it does not know
	Autoconf              bool       // advertised prefixes are for guests' own addresses
	Proxy                 bool       // the gateway stands for every address that is not a guest's
	Maps                  [4]Mapping // addresses that stand for some of the host's

	Line int // in Config.Path; 0: not from a file
}

// Mapping is an address by which containers reach one of the host's.
type Mapping struct{ Guest, Host netip.Addr }

// Container is a namespace with a name: one of ours (Pid 0, Netns ""), or one to join.
type Container struct {
	Name     string
	Networks []Attachment // empty: no interface but lo
	Publish  []string     // as docker's -p; the engine knows the grammar, see CheckPublish
	Command  []string     // empty: the namespace is held open
	Env      []string     // NAME=VALUE
	Workdir  string       // absolute; "": the switch chooses
	Hostname string       // "": the name
	Links    []string     // CONTAINER[:ALIAS] that it may reach in spite of icc being off, at what that exposes
	Expose   []string     // PORT[-PORT][/udp] for links and routed networks
	Egress   string       // as a network's, and before that
	Shape    Shape        // what its interfaces are held to
	Offload  bool         // TAP with virtio headers and super-frames; true unless the file says off
	Spoof    bool         // may send from addresses that are not its own
	Pid      int          // join the network namespace of this process; 0: none
	Netns    string       // join the network namespace of this path; "": none
	IfName   string       // interface on the first network; "": the switch chooses (eth0, eth1, ...)
	Line     int          // in Config.Path; 0: not from a file
}

// Attachment is a container's place on one network. Zero addresses and a nil MAC are the switch's to choose.
type Attachment struct {
	Network string
	IP, IP6 netip.Addr
	Aliases []string // further DNS names on this network
	MAC     net.HardwareAddr

	GwPriority int      // the network with the highest has the default route, the first of several
	Sysctls    []string // of the interface: net.ipv4.conf.IFNAME.log_martians=1
}

// Host is what containers may see of the host.
type Host struct {
	Loopback Ports // ports of the host's own loopback, reached at the gateway's address
	Address  bool  // may the host's other addresses be reached?
}

// Ports is a set of TCP and UDP ports: none (the zero value), those of a list, or all.
type Ports struct {
	All  bool
	List []uint16
}

// DNS says whom to ask for names that are not containers'. Upstream empty: whom the host asks.
type DNS struct {
	Upstream  []netip.AddrPort
	Domains   []Domain // whom to ask for the names of a domain
	Cache     int      // replies that are kept at most; 0: none
	Intercept bool     // questions to any address are answered here
}

// Domain is a domain with its own name servers.
type Domain struct {
	Name    string // in lower case, without dots around it; it and all below it are meant
	Servers []netip.AddrPort
}

// Limits bound what a container or a network can make the switch hold.
type Limits struct {
	Flows     int // flows per container
	HalfOpen  int // half-open TCP connections per container
	FDB       int // forwarding entries per network
	Fragments int // datagrams in reassembly, in the whole switch
}

// DefaultMTU is what a network has that names none, in bytes.
const DefaultMTU = 1500

// Default is the configuration without file, environment and flags: one network `bridge`, no container.
func Default() *Config {
	c := &Config{Networks: defaultNetworks()}
	d := &decoder{}
	for _, s := range settings {
		s.set(d, s.fallback(), c)
	}
	return c
}

func defaultNetworks() []Network {
	return []Network{Network{Name: "bridge", Subnet: netip.MustParsePrefix("172.17.0.0/16")}.WithDefaults()}
}

// WithDefaults returns n with what it leaves open filled in: each gateway is its subnet's first address,
// the MTU is DefaultMTU. What is set is kept, valid or not.
func (n Network) WithDefaults() Network {
	if !n.Gateway.IsValid() && n.Subnet.IsValid() {
		n.Gateway = n.Subnet.Masked().Addr().Next()
	}
	if !n.Gateway6.IsValid() && n.Subnet6.IsValid() {
		n.Gateway6 = n.Subnet6.Masked().Addr().Next()
	}
	if n.MTU == 0 {
		n.MTU = DefaultMTU
	}
	return n
}

// Equal says whether m asks for the same network, wherever in a file it stands.
func (n Network) Equal(m Network) bool {
	n.Line, m.Line = 0, 0
	return n == m
}

// Equal says whether d asks for the same container, wherever in a file it stands.
func (c Container) Equal(d Container) bool {
	c.Line, d.Line = 0, 0
	return reflect.DeepEqual(c, d)
}
