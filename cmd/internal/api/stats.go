package api

// InterfaceStats is what one interface has counted.
type InterfaceStats struct {
	Interface string `json:"interface"` // container:interface
	Container string `json:"container"`
	Network   string `json:"network"`
	IfName    string `json:"ifname"`
	Stats
}

// Log is what is logged, and how.
type Log struct {
	Level  string `json:"level"`            // debug, info, warn, error
	Format string `json:"format,omitempty"` // text, json; only the configuration changes it
}
