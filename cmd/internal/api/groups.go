package api

// GroupMember is an interface that has asked for a multicast group.
type GroupMember struct {
	Network   string `json:"network"`
	Group     string `json:"group"`
	Interface string `json:"interface"`
	AgeSec    uint32 `json:"age_seconds"` // since it last said so
}

// Multicast is what a network's switch does with multicast.
type Multicast struct {
	Snooping bool   `json:"snooping"` // groups go to those that asked
	Groups   int    `json:"groups"`
	Members  int    `json:"members"`
	Reports  uint64 `json:"reports"` // read
	Queries  uint64 `json:"queries"` // sent
	Aged     uint64 `json:"aged"`
	Evicted  uint64 `json:"evicted"` // because a table was full
}
