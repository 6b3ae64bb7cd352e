package dockerplugin

import (
	"net/netip"

	"tapswitch/cmd/internal/api"
	"tapswitch/forward"
)

// Docker calls these for the endpoint that is the container's gateway, and again
// when another becomes it.

// program is ProgramExternalConnectivity.
func (p *Plugin) program(r *request) (any, error) {
	specs, err := r.published()
	if err != nil || len(specs) == 0 {
		return nil, err
	}
	e, err := p.find(r)
	if err != nil {
		return nil, err
	}
	var made []api.Port
	if err := p.client.Do("POST", "/containers/"+r.EndpointID+"/publish", api.Publish{Ports: specs}, &made); err != nil {
		return nil, err
	}
	p.mu.Lock()
	e.reserve.Publish = append(e.reserve.Publish, arguments(made)...)
	p.mu.Unlock()
	return nil, nil
}

// revoke is RevokeExternalConnectivity: it closes what is open, whoever opened
// it.
func (p *Plugin) revoke(r *request) (any, error) {
	p.mu.Lock()
	if e := p.endpoints[r.EndpointID]; e != nil {
		e.reserve.Publish = nil
	}
	p.mu.Unlock()
	var c api.Container
	err := p.client.Do("GET", "/containers/"+r.EndpointID, nil, &c)
	if err == nil && len(c.Ports) > 0 {
		err = p.client.Do("POST", "/containers/"+r.EndpointID+"/unpublish", api.Publish{Ports: arguments(c.Ports)}, nil)
	}
	return nil, ignoreMissing(err)
}

// arguments are open ports as they are asked for, with the host ports that were
// chosen.
func arguments(ports []api.Port) (out []string) {
	protos := map[string]forward.Proto{forward.TCP.String(): forward.TCP, forward.UDP.String(): forward.UDP}
	for _, x := range ports {
		s := forward.Spec{Proto: protos[x.Protocol], HostPort: x.HostPort, HostPortEnd: x.HostPort, ContainerPort: x.ContainerPort}
		if a, err := netip.ParseAddr(x.HostIP); err == nil {
			s.HostIP = a
		}
		out = append(out, s.Arg())
	}
	return out
}
