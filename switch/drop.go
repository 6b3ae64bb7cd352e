package vswitch

// Reason is the way in which a frame ended that was not delivered. Each such
// frame is counted once, under one reason, on the port it came from.
type Reason uint8

// The reasons. A new one needs a row in reasonTable; a test refuses a missing
// one.
const (
	Delivered Reason = iota // not a drop
	Truncated
	BadIP
	BadTransport
	BadChecksum
	BadVnet
	VLAN
	SourceMulticast
	SourceGateway
	SpoofedMAC
	SpoofedIP
	SpoofedNeighbour
	RogueRouter
	ReservedMulticast
	UnknownMAC
	Reflected
	Loop
	Isolated
	ICC
	Internal
	UnicastInGroup
	Rule
	Egress
	RateLimit
	Impaired
	NoForwarding
	NoMasquerade
	NotForGateway
	TTLExceeded
	HostLoopback
	HostAddress
	LinkLocalOnly
	MulticastRouted
	Refused
	NoRoute
	NoAnswer
	NoProtocol
	NoFlow
	FlowLimit
	HalfOpenLimit
	SocketFailed
	OutOfWindow
	SocketFull
	FragmentLimit
	FragmentTimeout
	Unsolicited
	PingDenied
	LocalBusy
	PortDown
	NoBuffer
	NotOffloadable
	TooBig
	NoContainer
	NumReasons
)

// ReasonInfo describes a reason to a person.
type ReasonInfo struct {
	Name   string // stable, lower case with hyphens; the key in JSON
	Why    string // one sentence
	Remedy string // what usually helps; empty where nothing is wrong
}

var reasonTable = [NumReasons]ReasonInfo{
	Delivered:         {"delivered", "The frame reached its destination.", ""},
	Truncated:         {"truncated", "The frame is shorter than its own headers say.", "A program in the container sends raw frames; look at it with tcpdump."},
	BadIP:             {"bad-ip", "The IP header contradicts itself: version, header length, total length or header checksum.", "A program in the container sends raw packets; look at it with tcpdump."},
	BadTransport:      {"bad-transport", "The TCP, UDP or ICMP header does not fit into its packet.", "A program in the container sends raw packets; look at it with tcpdump."},
	BadChecksum:       {"bad-checksum", "The TCP, UDP or ICMP checksum is wrong.", "A program in the container sends raw packets; look at it with tcpdump."},
	BadVnet:           {"bad-vnet", "The virtio header in front of the frame points outside of the frame.", "This is a fault of the sending kernel or of a virtual machine."},
	VLAN:              {"vlan", "The frame carries a VLAN tag; tapswitch does not switch VLANs.", "Remove the VLAN device inside the container."},
	SourceMulticast:   {"source-multicast", "The source MAC is a multicast address.", "No honest sender does this; look at the container."},
	SourceGateway:     {"source-gateway", "The source MAC is the bridge's gateway itself.", "Two ports of this switch are joined elsewhere, or the container pretends to be the gateway."},
	SpoofedMAC:        {"spoofed-mac", "The source MAC is not the container's own.", "A nested bridge or virtual machine needs `spoof: allow` on this interface."},
	SpoofedIP:         {"spoofed-ip", "The source address is not one of the container's own.", "Give the container this address, or `spoof: allow` for routers and virtual machine hosts."},
	SpoofedNeighbour:  {"spoofed-neighbour", "An ARP or neighbour discovery message claims an address of someone else.", "Give the container this address, or `spoof: allow`."},
	RogueRouter:       {"rogue-router", "A container sent a router advertisement, a redirect, or a DHCP server's answer.", "Stop the router daemon or DHCP server in the container, or `spoof: allow`."},
	ReservedMulticast: {"reserved-multicast", "The frame is for a group that bridges never forward (spanning tree, LLDP, pause).", ""},
	UnknownMAC:        {"unknown-mac", "No port of this bridge holds the destination MAC.", "The container that had it is gone; its neighbours notice when their ARP entry ages."},
	Reflected:         {"reflected", "The destination is on the port that the frame came from.", ""},
	Loop:              {"loop", "Two ports are joined outside of the switch: addresses jump between them.", "Take one of the two links away; the port opens again by itself."},
	ICC:               {"icc", "Containers of this network do not reach each other (icc is off).", "Create the network without `com.docker.network.bridge.enable_icc=false`, or publish the port."},
	Internal:          {"internal", "The network is internal: nothing is routed off it.", "Put the container on another network, too."},
	UnicastInGroup:    {"unicast-in-group", "A packet for one address came in a frame for all, which rules are not asked about.", "A program in the container has a wrong neighbour entry, or tries to get around a rule."},
	Rule:              {"rule", "A rule of yours drops or rejects it.", "`tapswitch rule ls` shows the rules with what each has met; `tapswitch rule rm ID` takes one away."},
	Egress:            {"egress", "The container's egress policy does not hold the destination.", "Widen the policy, or give the container another: `egress: all`."},
	RateLimit:         {"rate-limit", "The interface has been sent more than its rate lets through, or more than is held for it.", "Raise the container's rate: `tapswitch update NAME --rate-in 100mbit`."},
	Impaired:          {"impaired", "Lost on purpose: the container has `loss`.", "`tapswitch update NAME --loss 0%`."},
	NoForwarding:      {"no-forwarding", "Forwarding is off (ip_forward: false): nothing is routed off a network.", "Set `ip_forward: true`."},
	NoMasquerade:      {"no-masquerade", "The network is not masqueraded, and nobody outside knows its addresses.", "Leave out `com.docker.network.bridge.enable_ip_masquerade=false`."},
	Isolated:          {"isolated", "The destination belongs to another bridge.", "Put both containers on one network, or publish the port."},
	NotForGateway:     {"not-for-gateway", "The frame is for the gateway's MAC but for a neighbour's address.", "The container's netmask or ARP table is wrong."},
	TTLExceeded:       {"ttl-exceeded", "The packet's hop limit ended at the gateway.", ""},
	HostLoopback:      {"host-loopback", "The destination is what the host's kernel treats as its own loopback.", "Open it with `host: {loopback: [PORT]}` and use the gateway's address."},
	HostAddress:       {"host-address", "The destination is an address of the host, which is closed.", "Set `host: {address: allow}`, or publish the port."},
	LinkLocalOnly:     {"link-local", "The destination is link-local or a cloud metadata address, which containers never reach.", ""},
	MulticastRouted:   {"multicast-routed", "Multicast and broadcast end at the bridge; the gateway does not forward them.", ""},
	Refused:           {"refused", "Nothing listens there: answered with a reset or port unreachable.", "Start the service, or publish its port."},
	NoRoute:           {"no-route", "The host has no route there: answered with unreachable.", "Check the host's own network: `ip route get ADDRESS`."},
	NoAnswer:          {"no-answer", "A connection was not answered in time.", "Whoever is there is down, or a firewall drops it in silence: try from the host."},
	NoProtocol:        {"no-protocol", "The gateway carries TCP, UDP and ICMP echo only.", ""},
	NoFlow:            {"no-flow", "A TCP segment that belongs to no connection: answered with a reset.", "Usual after a restart of the switch; the client connects anew."},
	FlowLimit:         {"flow-limit", "The container has as many flows as it may.", "Raise `limits: {flows: N}`."},
	HalfOpenLimit:     {"half-open-limit", "The container has as many unfinished TCP connections as it may.", "Raise `limits: {half_open: N}`, or look for a port scan."},
	SocketFailed:      {"socket-failed", "The host refused a socket for this flow: descriptors or ports are used up.", "`tapswitch doctor` shows the limits; many connections to one address and port wait in TIME_WAIT for a minute."},
	OutOfWindow:       {"out-of-window", "A TCP segment lies outside of what was asked for; the sender repeats it.", ""},
	SocketFull:        {"socket-full", "The host's socket takes no more for now; the sender repeats it.", ""},
	FragmentLimit:     {"fragment-limit", "Too many datagrams are being put together, or the fragments overlap.", "Raise `limits: {fragments: N}`."},
	FragmentTimeout:   {"fragment-timeout", "The rest of a fragmented datagram never came.", ""},
	Unsolicited:       {"unsolicited", "A datagram from an address that the container has not written to.", "Publish the port if anybody may write to it."},
	PingDenied:        {"ping-denied", "The host does not let this user send echo requests.", "sysctl net.ipv4.ping_group_range=\"0 2147483647\" on the host."},
	LocalBusy:         {"local-busy", "The gateway's own service (DNS) has too many questions to answer.", ""},
	PortDown:          {"port-down", "The receiving interface is down or gone.", "Set it up again: `ip link set eth0 up` in the container."},
	NoBuffer:          {"no-buffer", "The kernel had no memory for the frame.", ""},
	NotOffloadable:    {"not-offloadable", "The receiving port cannot take this frame and it cannot be split.", ""},
	TooBig:            {"too-big", "The packet exceeds the path's MTU and must not be fragmented: answered with the MTU that fits.", ""},
	NoContainer:       {"no-container", "The container that the flow belonged to is gone.", ""},
}

// Info describes the reason.
func (r Reason) Info() ReasonInfo {
	if r < NumReasons {
		return reasonTable[r]
	}
	return ReasonInfo{Name: "unknown"}
}

// String is the reason's stable name.
func (r Reason) String() string { return r.Info().Name }
