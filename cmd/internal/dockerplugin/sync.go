package dockerplugin

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

// watch waits for a switch, puts it right, and waits for its end.
func (p *Plugin) watch(ctx context.Context) {
	said := false
	for ctx.Err() == nil {
		var s api.Status
		if err := p.client.Do("GET", "/status", nil, &s); err != nil {
			if !said {
				p.log.Warn("waiting for the switch", "err", err)
				said = true
			}
			pause(ctx, 200*time.Millisecond)
			continue
		}
		said = false
		p.work.Lock()
		err := p.sync()
		p.work.Unlock()
		if err != nil {
			p.log.Error("the switch cannot be put right", "err", err)
			pause(ctx, time.Second)
			continue
		}
		p.mu.Lock()
		close(p.up)
		p.mu.Unlock()
		p.log.Info("the switch is there", "socket", p.client.Socket, "pid", s.Pid)
		p.untilGone(ctx, s)
		p.mu.Lock()
		p.up = make(chan struct{})
		p.mu.Unlock()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// untilGone returns when the switch of s has ended: its worker is waited for,
// and asked now and then, since what we see under its number may be another
// process, of another pid namespace.
func (p *Plugin) untilGone(ctx context.Context, s api.Status) {
	fd, err := unix.PidfdOpen(s.WorkerPid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	for ctx.Err() == nil {
		var now api.Status
		if p.client.Do("GET", "/status", nil, &now) != nil || now.WorkerPid != s.WorkerPid || !now.Started.Equal(s.Started) {
			return
		}
		if err != nil {
			pause(ctx, time.Second)
		} else if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n > 0 {
			return
		}
	}
}

// sync makes the switch and us know the same: what is there of ours and unknown
// to us was made before we began; what we know and is not there was lost with
// the switch before. Nobody else is at work.
func (p *Plugin) sync() error {
	var networks []*api.Network
	if err := p.client.Do("GET", "/networks", nil, &networks); err != nil {
		return err
	}
	var containers []*api.Container
	if err := p.client.Do("GET", "/containers?all=1", nil, &containers); err != nil {
		return err
	}
	ids, there := make(map[string]string), make(map[string]bool)
	for _, n := range networks {
		there[n.ID] = true
		if n.Labels[ownerLabel] == p.opt.Owner {
			ids[n.Name] = n.ID
			if _, known := p.networks[n.ID]; !known {
				p.networks[n.ID] = again(n)
			}
		}
	}
	for _, c := range containers {
		there[c.ID] = true
		if p.endpoints[c.ID] == nil && c.Origin == origin && len(c.Networks) == 1 && ids[c.Networks[0].Network] != "" {
			p.adopt(c, ids[c.Networks[0].Network])
		}
	}
	for id, n := range p.networks {
		if !there[id] {
			if err := p.client.Do("POST", "/networks", n, nil); err != nil {
				p.log.Error("network is lost", "network", short(id), "err", err)
			}
		}
	}
	for id, e := range p.endpoints {
		if !there[id] {
			p.restore(id, e)
		}
	}
	return nil
}

// again is the request that makes a network as it is.
func again(n *api.Network) api.NetworkCreate {
	out := api.NetworkCreate{ID: n.ID, Name: n.Name, Internal: n.Internal, Egress: n.Egress, Labels: n.Labels, Options: n.Options, Aux: n.Aux, Origin: n.Origin}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, s.Subnet.String())
		if s.Gateway.IsValid() {
			out.Gateways = append(out.Gateways, s.Gateway.String())
		}
	}
	return out
}

// adopt takes an endpoint over that an earlier plugin made.
func (p *Plugin) adopt(c *api.Container, network string) {
	on := c.Networks[0]
	e := &endpoint{tap: -1, joined: c.State == "running", reserve: api.Reserve{ID: c.ID, Name: c.Name, Egress: c.Egress, Expose: c.Expose, Links: c.Links, Publish: arguments(c.Ports),
		Networks: []api.Attachment{{Network: network, IP: on.IP, IP6: on.IP6, MAC: on.MAC}}, Lifetime: "until_error", Hold: true, Origin: origin}}
	var err error
	if !e.joined { // asked anew, to be told what the interface is to be
		if err = p.client.Do("DELETE", "/reservations/"+c.ID, nil, nil); err == nil {
			err = p.reserve(e)
		}
	} else {
		var taps []int
		if taps, err = p.client.TAPs(c.ID); err == nil && len(taps) == 1 { // as many as it has networks
			e.tap = taps[0]
		}
	}
	if err != nil {
		p.log.Error("endpoint", "endpoint", short(c.ID), "err", err)
	}
	p.endpoints[c.ID] = e
}

// restore puts an endpoint on a switch that does not know it.
func (p *Plugin) restore(id string, e *endpoint) {
	switch {
	case !e.joined:
	case e.tap < 0:
		p.log.Error("endpoint has lost its interface: restart its container (docker restart)", "endpoint", short(id))
		return
	case dead(e.tap):
		e.close() // its container went while there was no switch
		return
	}
	err := p.reserve(e)
	if err == nil && e.joined {
		err = p.plug(e, e.tap)
	}
	if err != nil {
		p.log.Error("endpoint is not on the switch: restart its container (docker restart)", "endpoint", short(id), "err", err)
		return
	}
	p.log.Info("endpoint is on the switch again", "endpoint", short(id))
}
