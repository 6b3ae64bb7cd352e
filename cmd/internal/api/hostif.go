package api

import "net/netip"

// HostInterface is the host's own interface on a network.
type HostInterface struct {
	Name      string       `json:"name"`      // in the host's network namespace
	Interface string       `json:"interface"` // as captures and counters name it
	MAC       string       `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
	Stats     Stats        `json:"stats"` // received by the host, sent by it
}
