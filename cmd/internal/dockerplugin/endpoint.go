package dockerplugin

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// endpoint is one of Docker's endpoints as we have to ask for it again.
type endpoint struct {
	reserve api.Reserve   // its Publish are the ports that are open now
	inside  api.Interface // what the switch said of it
	tap     int           // our duplicate; -1 before Join, and if we have none
	joined  bool
}

// close gives our duplicate up. It may take 15 ms.
func (e *endpoint) close() {
	if e.tap >= 0 {
		unix.Close(e.tap)
		e.tap = -1
	}
}

// find is an endpoint that Docker has created.
func (p *Plugin) find(r *request) (*endpoint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.endpoints[r.EndpointID]; e != nil {
		return e, nil
	}
	return nil, api.Errorf(api.NotFound, "endpoint %.12s is not known", r.EndpointID).WithHint("restart its container")
}

// createEndpoint is CreateEndpoint. Only what Docker has left open may be
// filled in, which is the MAC address at most.
func (p *Plugin) createEndpoint(r *request) (any, error) {
	want, err := r.endpoint()
	if err != nil {
		return nil, err
	}
	e := &endpoint{reserve: want, tap: -1}
	if err := p.reserve(e); err != nil {
		return nil, err
	}
	e.reserve.Networks[0].MAC = e.inside.MAC
	p.mu.Lock()
	p.endpoints[r.EndpointID] = e
	p.mu.Unlock()
	out := &ifData{}
	if r.Interface.MacAddress == "" {
		out.MacAddress = e.inside.MAC
	}
	return map[string]*ifData{"Interface": out}, nil
}

// endpoint is what to ask the switch for.
func (r *request) endpoint() (out api.Reserve, err error) {
	if len(r.EndpointID) < 12 {
		return out, api.Errorf(api.BadRequest, "endpoint id %q is none", r.EndpointID)
	}
	if r.Interface == nil || r.Interface.Address == "" {
		return out, api.Errorf(api.BadRequest, "endpoint %.12s has no IPv4 address: addresses are left to Docker's own IPAM driver", r.EndpointID)
	}
	on := api.Attachment{Network: r.NetworkID, MAC: r.Interface.MacAddress}
	if on.IP, err = bare(r.Interface.Address); err != nil {
		return out, err
	}
	if on.IP6, err = bare(r.Interface.AddressIPv6); err != nil {
		return out, err
	}
	out = api.Reserve{ID: r.EndpointID, Name: cmp.Or(r.text(ourName), r.EndpointID[:12]), Networks: []api.Attachment{on}, Egress: r.text(ourEgress),
		Lifetime: "until_error", Hold: true, Origin: origin}
	for k := range r.Options {
		if strings.HasPrefix(k, "tapswitch.") && !slices.Contains([]string{ourName, ourEgress, ourLink}, k) {
			return out, api.Errorf(api.BadRequest, "option %s is not known", k).WithHint("there are %s, %s, %s", ourName, ourEgress, ourLink)
		}
	}
	if l := r.text(ourLink); l != "" {
		out.Links = strings.Split(l, ",")
	}
	out.Expose, err = r.exposed()
	return out, err
}

// reserve takes an endpoint's address, and its ports, on the switch. A network
// that the switch has lost is made again.
func (p *Plugin) reserve(e *endpoint) error {
	var res api.Reservation
	err := p.client.Do("POST", "/reservations", e.reserve, &res)
	if isMissing(err) {
		p.mu.Lock()
		n, ours := p.networks[e.reserve.Networks[0].Network]
		p.mu.Unlock()
		if ours && p.client.Do("POST", "/networks", n, nil) == nil {
			err = p.client.Do("POST", "/reservations", e.reserve, &res)
		}
	}
	if err != nil {
		return err
	}
	if len(res.Interfaces) != 1 {
		return api.Errorf(api.Failed, "endpoint %.12s has %d interfaces on the switch", e.reserve.ID, len(res.Interfaces))
	}
	e.inside = res.Interfaces[0]
	return nil
}

// join is Join: the device is made, and on the switch before Docker moves it.
func (p *Plugin) join(r *request) (any, error) {
	e, err := p.find(r)
	if err != nil {
		return nil, err
	}
	answer := joined{InterfaceName: ifName{device(r.EndpointID), strings.TrimSuffix(e.inside.Name, "0")},
		Gateway: e.inside.Gateway, GatewayIPv6: e.inside.Gateway6, DisableGatewayService: true}
	if e.joined {
		return answer, nil // asked again: the answer was lost
	}
	tap, err := p.makeTAP(r.caller, answer.InterfaceName.SrcName, e.inside)
	if err != nil {
		return nil, err
	}
	if err := p.plug(e, tap); err != nil {
		unix.Close(tap)
		return nil, err
	}
	p.mu.Lock()
	e.tap, e.joined = tap, true
	p.mu.Unlock()
	return answer, nil
}

// plug puts an endpoint's TAP on the switch; the descriptor stays ours. What the
// switch has lost since is reserved again.
func (p *Plugin) plug(e *endpoint, tap int) error {
	ask := func() error { return p.client.Do("POST", "/ports", api.Join{Reservation: e.reserve.ID}, nil, tap) }
	err := ask()
	if isMissing(err) {
		if err = p.reserve(e); err == nil {
			err = ask()
		}
	}
	return err
}

// leave is Leave: the device is Docker's until it has been moved back.
func (p *Plugin) leave(*request) (any, error) { return nil, nil }

// deleteEndpoint is DeleteEndpoint. It succeeds without a switch, too: there is
// nothing left of the endpoint then.
func (p *Plugin) deleteEndpoint(r *request) (any, error) {
	p.mu.Lock()
	e := p.endpoints[r.EndpointID]
	delete(p.endpoints, r.EndpointID)
	p.mu.Unlock()
	err := p.client.Do("DELETE", "/reservations/"+client.Escape(r.EndpointID), nil, nil)
	if err == nil {
		err = p.client.Do("POST", "/containers/"+client.Escape(r.EndpointID)+"/leave", nil, nil)
	}
	if e != nil {
		e.close()
	}
	return nil, ignoreMissing(err)
}

// info is EndpointOperInfo: there is nothing that Docker could show. Host ports
// that we chose would not be shown either: it expects a Go type there.
func (p *Plugin) info(*request) (any, error) {
	return map[string]any{"Value": map[string]string{}}, nil
}

// isMissing says whether the switch does not know what was asked for.
func isMissing(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.NotFound
}

// isOff says whether there is no switch.
func isOff(err error) bool {
	var off *client.NotRunning
	return errors.As(err, &off)
}

// ignoreMissing lets what is gone already be gone.
func ignoreMissing(err error) error {
	if isMissing(err) || isOff(err) {
		return nil
	}
	return err
}
