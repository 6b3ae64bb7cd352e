package face

import (
	"net/netip"

	"tapswitch/cmd/internal/api"
)

// Publish publishes ports of the guest, in Docker's words
// ("0.0.0.0:8080:80/tcp"): all or none. They lead to the guest's own addresses,
// or to the one given.
func (s *Switch) Publish(specs []string, to netip.Addr) error {
	if to.IsValid() {
		return s.worker.Do("POST", "/containers/"+GuestName+"/forward", api.Forward{Ports: specs, To: to.String()}, nil)
	}
	return s.worker.Do("POST", "/containers/"+GuestName+"/publish", api.Publish{Ports: specs}, nil)
}

// Unpublish takes published ports back. Connections that came through them go
// on.
func (s *Switch) Unpublish(specs []string) error {
	return s.worker.Do("POST", "/containers/"+GuestName+"/unpublish", api.Publish{Ports: specs}, nil)
}
