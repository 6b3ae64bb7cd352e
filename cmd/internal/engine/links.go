package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// Links, as docker run --link: the linking container finds the other by an alias
// in its hosts file, is told its ports by the environment, and may open
// connections to what it exposes where icc is off. Docker opens nothing on
// networks of the user's own; here links open on every network.

// checkLinks refuses what Docker refuses. A container of the file may be made
// before those that it is linked to. The lock is held.
func (e *Engine) checkLinks(req *api.Create, eps []*endpoint) error {
	for _, l := range req.Links {
		name, alias, has := strings.Cut(l, ":")
		if !nameRE.MatchString(name) || has && !nameRE.MatchString(alias) {
			return api.Errorf(api.BadRequest, "bad format for links: %s", l).WithHint("write --link CONTAINER:ALIAS")
		}
		if req.Origin == "file" || !e.restored {
			continue // what it is linked to may be made behind it
		}
		c, err := e.find(name)
		if err != nil {
			return api.Errorf(api.NotFound, "could not get container for %s: no such container", name)
		}
		if c.state != stateRunning {
			return api.Errorf(api.Conflict, "cannot link to a non running container: %s", name)
		}
		if shared(eps, c.endpoints) == nil {
			return api.Errorf(api.Conflict, "cannot link to %s: it is on no network of this container", name)
		}
	}
	return nil
}

// shared is the endpoint of others on the first network that both are on.
func shared(eps, others []*endpoint) *endpoint {
	for _, ep := range eps {
		for _, x := range others {
			if x.net == ep.net {
				return x
			}
		}
	}
	return nil
}

// linkLines are the entries of a container's hosts file for what it is linked
// to. The lock is held.
func (e *Engine) linkLines(c *container) string {
	var b strings.Builder
	for _, l := range c.create.Links {
		name, alias, _ := strings.Cut(l, ":")
		to := e.names[name]
		if to == nil || to.state == stateExited {
			continue
		}
		ep := shared(c.endpoints, to.endpoints)
		if ep == nil {
			continue
		}
		names := []string{cmp.Or(alias, name)}
		for _, n := range []string{cmp.Or(to.create.Hostname, to.name), to.name} {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
		for _, a := range []netip.Addr{ep.ip, ep.ip6} {
			if a.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", a, strings.Join(names, " "))
			}
		}
	}
	return b.String()
}

// linkEnv are the variables that tell a container of the ports of what it is
// linked to. The lock is held.
func (e *Engine) linkEnv(c *container) (env []string) {
	for _, l := range c.create.Links {
		name, alias, _ := strings.Cut(l, ":")
		alias = cmp.Or(alias, name)
		to := e.names[name]
		if to == nil || to.state == stateExited {
			continue
		}
		ep := shared(c.endpoints, to.endpoints)
		if ep == nil {
			continue
		}
		a := strings.ToUpper(strings.ReplaceAll(alias, "-", "_"))
		env = append(env, fmt.Sprintf("%s_NAME=/%s/%s", a, c.name, alias))
		ports := to.open()
		slices.SortFunc(ports, func(x, y nat.OpenPort) int {
			return cmp.Or(cmp.Compare(x.Proto, y.Proto), cmp.Compare(x.Port, y.Port)) // tcp has the lower number
		})
		ports = slices.Compact(ports)
		for i, p := range ports {
			proto := protocol(p.Proto)
			url := fmt.Sprintf("%s://%s", proto, netip.AddrPortFrom(ep.first(), p.Port))
			if i == 0 {
				env = append(env, a+"_PORT="+url)
			}
			k := fmt.Sprintf("%s_PORT_%d_%s", a, p.Port, strings.ToUpper(proto))
			env = append(env, k+"="+url, k+"_ADDR="+ep.first().String(), fmt.Sprintf("%s_PORT=%d", k, p.Port), k+"_PROTO="+proto)
		}
		for _, kv := range to.create.Env {
			if k, _, _ := strings.Cut(kv, "="); k != "HOME" && k != "PATH" {
				env = append(env, a+"_ENV_"+kv)
			}
		}
	}
	return env
}

// linkersOf are the running containers of ours that are linked to c. The lock is
// held.
func (e *Engine) linkersOf(c *container) (out []*container) {
	for _, x := range e.sortedContainers() {
		if x != c && x.state == stateRunning && x.kind != kindJoin && slices.ContainsFunc(x.create.Links, func(l string) bool { return linked(l) == c.name }) {
			out = append(out, x)
		}
	}
	return out
}

// tellLinkers writes the hosts files of those linked to c anew: it has begun, or
// has another address.
func (e *Engine) tellLinkers(c *container) {
	e.mu.Lock()
	linkers := e.linkersOf(c)
	e.mu.Unlock()
	for _, x := range linkers {
		e.rewriteFiles(x)
	}
}

// exposed are the specs that publish all that a container exposes on ephemeral
// ports.
func exposed(c api.Create) (specs []string) {
	x := container{create: c}
	for _, p := range x.open() {
		specs = append(specs, fmt.Sprintf("%d/%s", p.Port, map[uint8]string{vswitch.ProtoTCP: "tcp", vswitch.ProtoUDP: "udp"}[p.Proto]))
	}
	return specs
}
