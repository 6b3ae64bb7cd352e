package dockerplugin

import (
	"net/netip"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/forward"
)

// Docker calls these for the endpoint that is the container's gateway, and again
// when another becomes it.

// program is ProgramExternalConnectivity. It may be asked for again, as the
// gateway of one family and then of the other: what is open stays.
func (p *Plugin) program(r *request) (any, error) {
	specs, err := r.published()
	if err != nil || len(specs) == 0 {
		return nil, err
	}
	e, err := p.find(r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	open := e.reserve.Publish
	p.mu.Unlock()
	specs = slices.DeleteFunc(specs, func(s string) bool { return slices.ContainsFunc(open, func(o string) bool { return serves(o, s) }) })
	if len(specs) == 0 {
		return nil, nil
	}
	var made []api.Port
	if err := p.client.Do("POST", "/containers/"+client.Escape(r.EndpointID)+"/publish", api.Publish{Ports: specs}, &made); err != nil {
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
	err := p.client.Do("GET", "/containers/"+client.Escape(r.EndpointID), nil, &c)
	if err == nil && len(c.Ports) > 0 {
		err = p.client.Do("POST", "/containers/"+client.Escape(r.EndpointID)+"/unpublish", api.Publish{Ports: arguments(c.Ports)}, nil)
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

// serves says whether a port that is open is one that is asked for.
func serves(open, asked string) bool {
	o, err := forward.ParseSpec(open)
	if err != nil || len(o) != 1 {
		return false
	}
	a, err := forward.ParseSpec(asked)
	return err == nil && len(a) == 1 && a[0].Proto == o[0].Proto && a[0].ContainerPort == o[0].ContainerPort &&
		(a[0].HostPort == 0 || a[0].HostPort <= o[0].HostPort && o[0].HostPort <= a[0].HostPortEnd) &&
		(!a[0].HostIP.IsValid() || a[0].HostIP == o[0].HostIP)
}
