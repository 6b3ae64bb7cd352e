package api

// Mirror is where the host reaches a container that has published nothing.
type Mirror struct {
	Address string            `json:"address"`          // on the host's loopback
	Ports   []string          `json:"ports"`            // open, as 80/tcp
	Closed  map[string]string `json:"closed,omitempty"` // what cannot be, and why
	Problem string            `json:"problem,omitempty"`
}
