// Package api holds what the control API speaks: HTTP and JSON on a unix
// socket, version 1, to which later versions only add. Keys are snake_case,
// lists are never null, times RFC 3339, units stand in names.
package api

import (
	"fmt"
	"net/netip"
	"time"

	"tapswitch/configs"
)

// Version is the API's version, the prefix of each path.
const Version = "v1"

// Error is what a failed request answers, under the key "error".
type Error struct {
	Code    string `json:"code"` // bad_request, not_found, conflict, failed, not_executable, no_command, forbidden
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + " (" + e.Hint + ")"
	}
	return e.Message
}

// Codes of errors.
const (
	BadRequest    = "bad_request"
	NotFound      = "not_found"
	Conflict      = "conflict"
	Failed        = "failed"
	NotExecutable = "not_executable"
	NoCommand     = "no_command"
	Forbidden     = "forbidden"
)

// Errorf makes an Error.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Network is one network as `network ls` and `network inspect` show it.
type Network struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Driver   string    `json:"driver"`
	Internal bool      `json:"internal"`
	ICC      bool      `json:"icc"`
	Egress   string    `json:"egress,omitempty"`
	Subnets  []Subnet  `json:"subnets"`
	MTU      int       `json:"mtu"`
	MAC      string    `json:"gateway_mac"`
	Origin   string    `json:"origin"`
	Created  time.Time `json:"created"`

	Labels     map[string]string `json:"labels"`
	Options    map[string]string `json:"options"`
	Aux        map[string]string `json:"aux_addresses,omitempty"`
	Containers []Attached        `json:"containers"`
	Multicast  *Multicast        `json:"multicast,omitempty"`      // inspect only
	Host       *HostInterface    `json:"host_interface,omitempty"` // inspect only
}

// NetworkCreate asks for a network. What is left out is chosen: a subnet of
// Docker's default pools that nothing here uses, the subnet's first address as
// the gateway.
type NetworkCreate struct {
	Name     string            `json:"name"`
	Driver   string            `json:"driver,omitempty"` // bridge
	Subnets  []string          `json:"subnets,omitempty"`
	Gateways []string          `json:"gateways,omitempty"`
	Ranges   []string          `json:"ranges,omitempty"`        // from which addresses are chosen
	Aux      map[string]string `json:"aux_addresses,omitempty"` // kept for others
	Egress   string            `json:"egress,omitempty"`
	IPv6     bool              `json:"ipv6,omitempty"`
	Internal bool              `json:"internal,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Origin   string            `json:"origin,omitempty"`
	ID       string            `json:"id,omitempty"` // 64 hexadecimal digits, of an engine that has ids of its own
}

// NetworkConnect puts a running container on a network, or takes it off.
type NetworkConnect struct {
	Container string `json:"container"`
	Attachment
}

// Pruned lists the networks that nobody used and that were removed.
type Pruned struct {
	Networks []string `json:"networks"`
}

// Subnet is a network's address range and gateway.
type Subnet struct {
	Subnet  netip.Prefix  `json:"subnet"`
	Gateway netip.Addr    `json:"gateway"`
	Range   *netip.Prefix `json:"range,omitempty"`
}

// RuleAdd asks for a rule: who may open flows to whom. A side is an address or
// CIDR, container:NAME, network:NAME, outside, host or any, with ! in front for
// all others; a bare name is a container's or network's that is there.
type RuleAdd struct {
	From      string   `json:"from,omitempty"`
	To        string   `json:"to,omitempty"`
	Direction string   `json:"direction,omitempty"` // in, out, local
	Proto     string   `json:"proto,omitempty"`     // tcp, udp, icmp
	Ports     []string `json:"ports,omitempty"`     // 80, 8000-9000
	Action    string   `json:"action"`              // accept, drop, reject; route between two networks
	Comment   string   `json:"comment,omitempty"`
	At        int      `json:"at,omitempty"` // its place, from 1; 0 is the end
	ID        uint32   `json:"id,omitempty"` // a number that is free; 0: one is chosen
	Origin    string   `json:"origin,omitempty"`
}

// Rule is a rule with what it has met: packets that it ended, or all packets of
// the flows that it let pass.
type Rule struct {
	ID        uint32   `json:"id"`
	Position  int      `json:"position"` // 0: built in
	From      string   `json:"from"`
	To        string   `json:"to"`
	Direction string   `json:"direction"`
	Proto     string   `json:"proto"`
	Ports     []string `json:"ports"`
	Action    string   `json:"action"`
	Comment   string   `json:"comment"`
	Origin    string   `json:"origin"`
	Flows     uint64   `json:"flows"`
	Packets   uint64   `json:"packets"`
	Bytes     uint64   `json:"bytes"`
}

// Egress is a policy for what containers reach outside: what it does not hold
// is rejected.
type Egress struct {
	Name   string   `json:"name"`
	Allow  []string `json:"allow"` // HOST[:PORT[-PORT]][/PROTO]
	Origin string   `json:"origin,omitempty"`
	Users  []string `json:"users,omitempty"`
}

// TraceRequest asks what would become of the first packet of a flow.
type TraceRequest struct {
	From  string `json:"from"`            // a container, or container:interface; host, or an address outside
	To    string `json:"to"`              // an address, a container's name, or any name
	Port  uint16 `json:"port,omitempty"`  // 0 for icmp
	Proto string `json:"proto,omitempty"` // tcp, udp, icmp; default: tcp with a port, icmp without
}

// Trace is the answer: the steps of the decision and its end.
type Trace struct {
	From    string      `json:"from"` // container:interface
	To      string      `json:"to"`
	Address string      `json:"address"`
	Port    uint16      `json:"port"`
	Proto   string      `json:"proto"`
	Steps   []TraceStep `json:"steps"`
	Verdict string      `json:"verdict"` // accept, drop, reject
	Reason  string      `json:"reason,omitempty"`
	Why     string      `json:"why,omitempty"`
	Remedy  string      `json:"remedy,omitempty"`
	Rule    uint32      `json:"rule,omitempty"`
	Reaches string      `json:"reaches,omitempty"` // container:interface, gateway, host, outside
}

// TraceStep is one step of a decision.
type TraceStep struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Expectation is a line of a file of them, and what came of it.
type Expectation struct {
	Line    int    `json:"line"`
	Text    string `json:"text"`
	From    string `json:"from"`
	To      string `json:"to"`
	Want    string `json:"want"`
	Got     string `json:"got"`
	OK      bool   `json:"ok"`
	Reason  string `json:"reason,omitempty"`
	Problem string `json:"problem,omitempty"` // the line itself is wrong
}

// Verify is a file of expectations.
type Verify struct {
	Text string `json:"text"`
}

// Attached is a container on a network.
type Attached struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	IP   string `json:"ip"`
	IP6  string `json:"ip6"`
	MAC  string `json:"mac"`
}

// Container is one container as `ps` and `inspect` show it.
type Container struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Pid      *int       `json:"pid"` // null where no process is the container's own
	Origin   string     `json:"origin"`
	Kind     string     `json:"kind"`  // run, hold, join
	State    string     `json:"state"` // created, running, exited
	ExitCode *int       `json:"exit_code,omitempty"`
	Command  []string   `json:"command"`
	Created  time.Time  `json:"created"`
	Mode     string     `json:"network_mode"` // none, host, or the network of the default route
	Networks []Endpoint `json:"networks"`
	Ports    []Port     `json:"ports"`
	Hostname string     `json:"hostname,omitempty"`
	Links    []string   `json:"links,omitempty"`
	Expose   []string   `json:"expose,omitempty"`
	Egress   string     `json:"egress,omitempty"`
	Shape    *Shape     `json:"shape,omitempty"`
	Log      string     `json:"log,omitempty"`
	Key      string     `json:"key,omitempty"` // by which the face that joined it knows it
}

// Endpoint is a container's attachment to one network.
type Endpoint struct {
	Network string `json:"network"`
	IP      string `json:"ip"`
	IP6     string `json:"ip6"`
	MAC     string `json:"mac"`
	Gateway string `json:"gateway"`
	IfName  string `json:"ifname"`

	Gateway6 string   `json:"gateway6,omitempty"`
	Aliases  []string `json:"aliases,omitempty"`
	Mirror   *Mirror  `json:"mirror,omitempty"`
	Priority int      `json:"gw_priority,omitempty"`
	Sysctls  []string `json:"sysctls,omitempty"`
	Stats    *Stats   `json:"stats,omitempty"`
}

// Stats counts an interface's frames and bytes as the container sees them.
type Stats struct {
	RxFrames uint64            `json:"rx_frames"`
	RxBytes  uint64            `json:"rx_bytes"`
	TxFrames uint64            `json:"tx_frames"`
	TxBytes  uint64            `json:"tx_bytes"`
	Upcalls  uint64            `json:"upcalls"`
	Hits     uint64            `json:"cache_hits"`
	Drops    map[string]uint64 `json:"drops"`
}

// Port is a published port.
type Port struct {
	Protocol      string `json:"protocol"`
	HostIP        string `json:"host_ip"`
	HostPort      uint16 `json:"host_port"`
	ContainerPort uint16 `json:"container_port"`
}

// Publish names published ports, as `docker run -p` does.
type Publish struct {
	Ports []string `json:"ports"`
}

// Attachment asks for a network.
type Attachment struct {
	Network string   `json:"network,omitempty"`
	IP      string   `json:"ip,omitempty"`
	IP6     string   `json:"ip6,omitempty"`
	MAC     string   `json:"mac,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
	IfName  string   `json:"ifname,omitempty"`

	GwPriority int               `json:"gw_priority,omitempty"` // the highest has the default route
	Sysctls    []string          `json:"sysctls,omitempty"`     // net.ipv4.conf.IFNAME.log_martians=1
	Options    map[string]string `json:"driver_opts,omitempty"` // Docker's com.docker.network.endpoint.*
}

// Create asks for a container. With descriptors 0, 1 and 2 beside the request
// these are its standard files; else its output goes to its log.
type Create struct {
	Name      string       `json:"name,omitempty"`
	Networks  []Attachment `json:"networks,omitempty"` // none: the default network
	Publish   []string     `json:"publish,omitempty"`
	Command   []string     `json:"command,omitempty"` // none: a namespace that is held open
	Env       []string     `json:"env,omitempty"`
	Workdir   string       `json:"workdir,omitempty"`
	Hostname  string       `json:"hostname,omitempty"`
	TTY       bool         `json:"tty,omitempty"`
	Init      bool         `json:"init,omitempty"`
	Remove    bool         `json:"remove,omitempty"`
	PlainTAP  bool         `json:"plain_tap,omitempty"` // no offload
	Spoof     bool         `json:"spoof,omitempty"`
	Links     []string     `json:"links,omitempty"`       // CONTAINER[:ALIAS]
	Expose    []string     `json:"expose,omitempty"`      // PORT[-PORT][/udp]
	Publishes bool         `json:"publish_all,omitempty"` // what is exposed, on ephemeral ports
	Egress    string       `json:"egress,omitempty"`      // a policy's name, all, internet, none
	Shape     Shape        `json:"shape,omitzero"`
	Origin    string       `json:"origin,omitempty"`
	Ephemeral bool         `json:"ephemeral,omitempty"` // not kept over a restart
}

// Reserve asks for addresses for a namespace that the caller will put on the
// switch with Join.
type Reserve struct {
	Name     string       `json:"name"`
	Networks []Attachment `json:"networks,omitempty"`
	Publish  []string     `json:"publish,omitempty"`
	PlainTAP bool         `json:"plain_tap,omitempty"`
	Spoof    bool         `json:"spoof,omitempty"`
	Pid      int          `json:"pid,omitempty"`
	Netns    string       `json:"netns,omitempty"`
	NoRoute  bool         `json:"no_default_route,omitempty"`
	Shape    Shape        `json:"shape,omitzero"`
	Egress   string       `json:"egress,omitempty"`
	Lifetime string       `json:"lifetime"` // pidfd, until_del, until_error
	Origin   string       `json:"origin,omitempty"`
	ID       string       `json:"id,omitempty"`     // 64 hexadecimal digits: the container's, and the reservation's
	Hold     bool         `json:"hold,omitempty"`   // it does not lapse, and its caller makes it again after a restart
	Expose   []string     `json:"expose,omitempty"` // as of Create
	Links    []string     `json:"links,omitempty"`
	Hostname string       `json:"hostname,omitempty"` // one more name, and the first in hosts
	Key      string       `json:"key,omitempty"`      // the caller's name for the namespace: what is reserved under a key that is there joins that container
}

// Shape is what a container's interfaces are held to; in an update "none" and
// -1 take a limit away.
type Shape = configs.Shape

// Reservation is what the caller is to set up; it lapses after half a minute,
// unless it is held.
type Reservation struct {
	ID         string      `json:"id"`
	Interfaces []Interface `json:"interfaces"`
	DNS        []string    `json:"dns"`
	Resolv     string      `json:"resolv_conf"` // files that would suit the container
	Hosts      string      `json:"hosts"`
}

// Interface says how an interface inside a namespace is set up.
type Interface struct {
	Name     string   `json:"name"`
	MAC      string   `json:"mac"`
	MTU      int      `json:"mtu"`
	Addrs    []string `json:"addrs"` // with prefix length
	Gateway  string   `json:"gateway,omitempty"`
	Gateway6 string   `json:"gateway6,omitempty"`
	Offload  bool     `json:"offload"`
	Replace  bool     `json:"replace,omitempty"` // default routes that are there
}

// Join puts a reserved namespace on the switch: the TAP descriptors of its
// interfaces come beside the request in their order, and a pidfd where that is
// the lifetime.
type Join struct {
	Reservation string `json:"reservation"`
	Pid         int    `json:"pid,omitempty"`
}

// Exec runs a command in a container, with descriptors 0, 1 and 2 beside it.
type Exec struct {
	Command []string `json:"command"`
	Env     []string `json:"env,omitempty"`
	Workdir string   `json:"workdir,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Code int `json:"exit_code"`
}

// Session names a running exec.
type Session struct {
	ID string `json:"id"`
}

// Status is what `status` shows.
type Status struct {
	Version     string            `json:"version"`
	Pid         int               `json:"pid"`
	WorkerPid   int               `json:"worker_pid"`
	Started     time.Time         `json:"started"`
	UptimeSec   float64           `json:"uptime_seconds"`
	Socket      string            `json:"socket"`
	Config      string            `json:"config"`
	ConfigError string            `json:"config_error,omitempty"`
	Ephemeral   bool              `json:"ephemeral"`
	Forward     bool              `json:"ip_forward"`
	Rules       int               `json:"rules"`
	Networks    int               `json:"networks"`
	Containers  int               `json:"containers"`
	Threads     int               `json:"threads"` // that switch
	RxFrames    uint64            `json:"rx_frames"`
	RxBytes     uint64            `json:"rx_bytes"`
	TxFrames    uint64            `json:"tx_frames"`
	TxBytes     uint64            `json:"tx_bytes"`
	Drops       map[string]uint64 `json:"drops"`
	Flows       map[string]int    `json:"flows"`
	NAT         map[string]uint64 `json:"nat"`
	DNS         map[string]uint64 `json:"dns"`
	FDs         int               `json:"descriptors"`
	FDLimit     uint64            `json:"descriptors_limit"`
	Upstreams   []string          `json:"dns_upstreams"`
	Sandbox     Sandbox           `json:"sandbox"`
}

// FDBEntry is one row of a bridge's forwarding database.
type FDBEntry struct {
	Network   string `json:"network"`
	MAC       string `json:"mac"`
	Interface string `json:"interface"`
	Static    bool   `json:"static"`
	AgeSec    uint32 `json:"age_seconds"`
}

// Flow is one flow, as a container and as the host see it.
type Flow struct {
	Protocol  string  `json:"protocol"`
	Kind      string  `json:"kind"`
	State     string  `json:"state"`
	Container string  `json:"container"`
	Local     string  `json:"local"`
	Remote    string  `json:"remote"`
	HostLocal string  `json:"host_local"`
	HostPeer  string  `json:"host_remote"`
	AgeSec    float64 `json:"age_seconds"`
	TxBytes   uint64  `json:"tx_bytes"`
	RxBytes   uint64  `json:"rx_bytes"`
	TxPackets uint64  `json:"tx_packets"`
	RxPackets uint64  `json:"rx_packets"`

	Network     string  `json:"network"`
	Inbound     bool    `json:"inbound"`
	Rule        uint32  `json:"rule,omitempty"`        // that let it pass
	RTTHostMs   float64 `json:"rtt_host_ms,omitempty"` // of TCP: to the peer, as the host's kernel measures it
	RTTMs       float64 `json:"rtt_ms,omitempty"`      // and to the container
	RetransHost uint32  `json:"retrans_host"`          // segments sent again to the peer
	Retrans     uint32  `json:"retrans"`               // and to the container
}
