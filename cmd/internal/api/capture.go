package api

// Capture asks for a stream of packets as pcapng, to the stream socket that comes
// beside the request.
type Capture struct {
	Interfaces []string `json:"interfaces,omitempty"` // CONTAINER[:IF], network, any; none for all
	Filter     string   `json:"filter,omitempty"`     // pcap-filter(7)
	Drops      bool     `json:"drops,omitempty"`      // only what is not delivered
	Snap       int      `json:"snap,omitempty"`       // bytes of each packet; 0 for 256
	Direction  string   `json:"direction,omitempty"`  // in: what containers send; out: what they are sent; "": both
	Exits      bool     `json:"exits,omitempty"`      // a frame where it leaves the switch, too
	Split      bool     `json:"split,omitempty"`      // super-frames as the frames that they stand for
	Last       float64  `json:"last,omitempty"`       // seconds of the past, which end the stream; 0 for what comes
}
