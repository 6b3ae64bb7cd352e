package nat

import "net/netip"

// Policy is who may talk to whom, and what of the host containers may reach. It
// never changes once it is set: a new one takes its place, and flows that are
// open are judged anew by it.
type Policy struct {
	LoopbackAll   bool                    // all ports of the host's loopback, through the gateway's address
	LoopbackPorts []uint16                // or only these
	HostAddress   bool                    // the host's other addresses
	HostAddrs     map[netip.Addr]struct{} // what they are
	NoForward     bool                    // nothing is routed, outside or between bridges
	Intercept     bool                    // DNS questions to any address are the gateway's

	Rules  []Rule                // in their order; the first that matches decides
	Links  []Link                // what is open in spite of icc being off
	Routes []Route               // what is open between two networks
	Nets   map[string]NetPolicy  // by network; one that is missing has the zero value
	Open   map[string][]OpenPort // by container: what it publishes or exposes, for links
	Public map[string][]OpenPort // by container: what it publishes, for routed networks
	Egress map[string]*Egress    // by container or, under "network/" and its name, by network
}

// Action is what a rule does with what it matches.
type Action uint8

// The actions. A drop is silence; a reject is told at once: TCP by a reset, the
// rest by port unreachable, as iptables' REJECT.
const (
	RuleAccept Action = iota
	RuleDrop
	RuleReject
)

// Direction says from where to where a flow is opened, as the host sees it.
type Direction uint8

// The directions. Local is from one container to another, published ports among
// it.
const (
	AnyDirection Direction = iota
	Inward
	Outward
	Between
)

// Rule matches flows by who opens them to whom; answers pass with their flow.
// Addresses and ports are those that the container has, behind all translation,
// as in Docker's chain DOCKER-USER.
type Rule struct {
	ID        uint32
	From, To  Match
	Direction Direction
	Proto     uint8       // 0 for any; ICMP stands for both families
	Ports     []PortRange // of the destination; none for all
	Action    Action
}

// MatchKind says by what a Match knows a party.
type MatchKind uint8

// The kinds of match.
const (
	MatchAny MatchKind = iota
	MatchPrefix
	MatchContainer
	MatchNetwork
	MatchOutside // neither a container nor the host
	MatchHost
)

// Match is one side of a rule.
type Match struct {
	Kind   MatchKind
	Not    bool
	Prefix netip.Prefix
	Name   string // of the container or network
}

// PortRange holds the ports from First to Last.
type PortRange struct{ First, Last uint16 }

func (r PortRange) holds(p uint16) bool { return r.First <= p && p <= r.Last }

// OpenPort is a protocol with a port.
type OpenPort struct {
	Proto uint8
	Port  uint16
}

// Link lets one container open connections to what another exposes.
type Link struct{ From, To string }

// Route lets the containers of one network open connections to those of
// another: to all of it, or to some ports.
type Route struct {
	ID       uint32
	From, To string // networks
	Proto    uint8  // 0 for any
	Ports    []PortRange
}

// GatewayMode is Docker's gateway mode of a network.
type GatewayMode uint8

// The modes: how containers of other networks reach those of this one directly.
const (
	ModeNAT         GatewayMode = iota // not at all
	ModeRouted                         // echo, and the ports that are published
	ModeUnprotected                    // everything (nat-unprotected)
)

// NetPolicy is what holds for one network.
type NetPolicy struct {
	Mode4, Mode6 GatewayMode
	NoMasquerade bool // nothing of it reaches the outside

	Outbound4, Outbound6 netip.Addr // the host's address from which it does; zero: the kernel chooses
}

func (p *NetPolicy) mode(v6 bool) GatewayMode {
	if v6 {
		return p.Mode6
	}
	return p.Mode4
}

// Rules that are built in. Those of users begin at FirstRule.
const (
	noRule uint32 = iota
	RuleBridge
	RuleICC
	RuleLink
	RuleIsolation
	RuleRoute
	RuleInternal
	RulePublished
	RuleService
	RuleHost
	RuleForbidden
	RuleForwarding
	RuleEgress
	RuleMasquerade
	FirstRule = 100
)
