package engine

import (
	"cmp"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Guests: containers on the network of another (container:NAME), whose
// interfaces, names and ports they share. It is theirs for as long as it lives.

// checkGuest refuses what Docker refuses for a container on the network of
// another: whatever is that other's to say. The lock is held.
func (e *Engine) checkGuest(req *api.Create, kind string) error {
	name, is := strings.CutPrefix(modeOf(req.Networks), modeContainer)
	if !is {
		return nil
	}
	const way = "and the container type network mode"
	switch {
	case kind == kindHold:
		return api.Errorf(api.BadRequest, "a container on the network of another needs a command")
	case len(req.Publish) > 0 || req.Publishes:
		return api.Errorf(api.BadRequest, "conflicting options: port publishing %s", way)
	case len(req.Expose) > 0:
		return api.Errorf(api.BadRequest, "conflicting options: port exposing %s", way)
	case req.Hostname != "":
		return api.Errorf(api.BadRequest, "conflicting options: hostname %s", way)
	case len(req.Links) > 0:
		return api.Errorf(api.BadRequest, "conflicting options: container type network can't be used with links")
	case req.Egress != "":
		return api.Errorf(api.BadRequest, "conflicting options: egress %s", way)
	case req.PlainTAP || req.Spoof:
		return api.Errorf(api.BadRequest, "conflicting options: the interfaces are the other container's")
	case req.Origin == "file":
		return nil // it is made before us
	}
	host, err := e.find(name)
	switch {
	case err != nil:
		return err
	case host.state != stateRunning:
		return api.Errorf(api.Conflict, "cannot join network of a non running container: %s", host.name)
	case host.onHost() || host.guest():
		return api.Errorf(api.BadRequest, "container %s has no network of its own", host.name)
	case host.kind == kindJoin && host.pid == 0:
		return api.Errorf(api.BadRequest, "container %s was joined by path: its user namespace is unknown", host.name)
	}
	req.Networks[0].Network = modeContainer + host.name
	return nil
}

// attachGuest completes the spec of a guest: where its network is, and the
// names that hold there.
func (e *Engine) attachGuest(c *container, spec *porter.Spec) error {
	if !c.guest() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	host, err := e.find(strings.TrimPrefix(modeOf(c.create.Networks), modeContainer))
	if err != nil {
		return err
	}
	if host.state != stateRunning {
		return api.Errorf(api.Conflict, "cannot join network of a non running container: %s", host.name)
	}
	spec.Share = &porter.Share{ID: host.id}
	if host.kind == kindJoin {
		spec.Share.Pid = host.pid
	}
	spec.Hostname = cmp.Or(host.create.Hostname, host.name)
	spec.Resolv, spec.Hosts = e.files(host, spec.Hostname)
	return nil
}
