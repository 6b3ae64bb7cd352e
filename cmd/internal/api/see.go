package api

import "time"

// Failure is something that came to nothing, as often as Count says: equal ones
// are one.
type Failure struct {
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     uint64    `json:"count"`
	Container string    `json:"container"`
	Interface string    `json:"interface"` // container:interface
	Network   string    `json:"network"`
	Direction string    `json:"direction"` // out, from the container; in, to it
	Protocol  string    `json:"protocol"`  // tcp, udp, icmp, icmp6, dns, arp, or a number
	From      string    `json:"from"`      // an address, with a port where there is one; or a MAC
	To        string    `json:"to"`
	ToName    string    `json:"to_name,omitempty"` // a container's, or one that our DNS has told
	Step      string    `json:"step"`
	Reason    string    `json:"reason"`
	Why       string    `json:"why"`
	Remedy    string    `json:"remedy"`
	Rule      uint32    `json:"rule,omitempty"`
	Pending   bool      `json:"pending,omitempty"` // not over yet: nobody has answered so far
}

// DNS is what was asked of our DNS, and of whom it has asked.
type DNS struct {
	Upstreams []Upstream `json:"upstreams"`
	Questions []Question `json:"questions"` // the latest, in their order
}

// Upstream counts the exchanges with one upstream.
type Upstream struct {
	Address  string  `json:"address"`
	Asked    uint64  `json:"asked"`
	Answered uint64  `json:"answered"`
	Failed   uint64  `json:"failed"`
	Timeouts uint64  `json:"timeouts"`
	MeanMs   float64 `json:"mean_ms"` // of those that were answered
}

// Question is one question to our DNS, and what became of it.
type Question struct {
	Time      time.Time `json:"time"`
	Container string    `json:"container"`
	Network   string    `json:"network"`
	Client    string    `json:"client"`
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	Rcode     string    `json:"rcode"`
	By        string    `json:"by"` // local, cache, upstream, policy, internal, limit, nobody
	Upstream  string    `json:"upstream,omitempty"`
	TimedOut  bool      `json:"timed_out,omitempty"`
	TookMs    float64   `json:"took_ms"`
}

// Neighbour says who is where on a network.
type Neighbour struct {
	Network   string `json:"network"`
	Address   string `json:"address"` // empty where only the MAC is known
	MAC       string `json:"mac"`
	Interface string `json:"interface"` // container:interface, or gateway
	Origin    string `json:"origin"`    // programmed, learned, gateway
	AgeSec    uint32 `json:"age_seconds"`
}

// FlowFilter chooses flows: those that all conditions hold for.
type FlowFilter struct {
	Container string `json:"container,omitempty"` // or container:interface
	Proto     string `json:"proto,omitempty"`     // tcp, udp, icmp
	State     string `json:"state,omitempty"`
	Remote    string `json:"remote,omitempty"` // an address or CIDR, with or without a port, or a port; either side's
	All       bool   `json:"all,omitempty"`    // to end flows without a condition
}

// Killed is how many flows were ended.
type Killed struct {
	Flows int `json:"flows"`
}

// Event is something that happened. What does not belong to its type is left
// out.
type Event struct {
	Time      time.Time `json:"time"`
	Type      string    `json:"type"`   // container, network, port, flow, drop, limit, dns, config, missed
	Action    string    `json:"action"` // joined, left; made, removed; published, unpublished; opened, closed; dropped; reached; answered; applied, refused; missed
	Container string    `json:"container,omitempty"`
	Interface string    `json:"interface,omitempty"`
	Network   string    `json:"network,omitempty"`
	Addresses []string  `json:"addresses,omitempty"`
	Port      *Port     `json:"port,omitempty"`
	Flow      *Flow     `json:"flow,omitempty"`
	End       string    `json:"end,omitempty"` // of a flow: finished, reset, failed, expired
	Question  *Question `json:"question,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Why       string    `json:"why,omitempty"`
	Remedy    string    `json:"remedy,omitempty"`
	Count     uint64    `json:"count,omitempty"` // frames dropped since the last such event, or events missed
	Text      string    `json:"text,omitempty"`
}

// LiveTrace is one real packet with the steps of the decision about it.
type LiveTrace struct {
	Time      time.Time   `json:"time"`
	Interface string      `json:"interface"`
	Packet    string      `json:"packet"` // as tcpdump has it
	Steps     []TraceStep `json:"steps"`
	Verdict   string      `json:"verdict"` // accept, drop
	Reason    string      `json:"reason,omitempty"`
	Why       string      `json:"why,omitempty"`
	Remedy    string      `json:"remedy,omitempty"`
	Missed    uint64      `json:"missed,omitempty"` // packets before it that were too many
}
