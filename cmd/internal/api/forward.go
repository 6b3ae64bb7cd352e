package api

// Forward names published ports, as `docker run -p` does, that lead to another
// address than the container's own.
type Forward struct {
	Ports []string `json:"ports"`
	To    string   `json:"to"`
}
