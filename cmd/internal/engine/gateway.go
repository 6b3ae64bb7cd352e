package engine

import (
	"fmt"
	"slices"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
)

// Which of a container's networks has its default route: of those that are not
// internal the one of the highest priority (Docker's gw-priority), the first of
// several. A network of a higher priority than the others' takes the route over
// when it is connected, and the published ports with it.

// chooseGateway gives the default route to one of endpoints that are not there
// yet.
func chooseGateway(eps []*endpoint) {
	best := heirOf(eps)
	for _, ep := range eps {
		ep.gateway = ep == best
	}
}

// heirOf is who has the default route among eps, or nil.
func heirOf(eps []*endpoint) (best *endpoint) {
	for _, ep := range eps {
		if !ep.net.cfg.Internal && (best == nil || ep.priority > best.priority) {
			best = ep
		}
	}
	return best
}

// takeOver moves the default route of a container that runs to an endpoint that
// has just come, if its priority says so.
func (e *Engine) takeOver(c *container, ep *endpoint) error {
	e.mu.Lock()
	old := gatewayOf(c.endpoints)
	if old == nil || old == ep || ep.net.cfg.Internal || ep.priority <= old.priority {
		e.mu.Unlock()
		return nil
	}
	old.gateway, ep.gateway = false, true
	moving := c.ports
	c.ports = nil
	e.mu.Unlock()
	c.wiring.Lock()
	for _, p := range moving {
		e.withdraw(p)
	}
	c.wiring.Unlock()
	err := e.inherit(c, ep, moving)
	e.policyOf(c)
	return err
}

// Options of Docker's for one endpoint (--driver-opt).
const (
	optIfName  = "com.docker.network.endpoint.ifname"
	optSysctls = "com.docker.network.endpoint.sysctls"
)

// endpointOptions reads them into the attachment that they stand in.
func endpointOptions(w *api.Attachment) error {
	for k, v := range w.Options {
		switch k {
		case optIfName:
			w.IfName = v
		case optSysctls:
			w.Sysctls = append(w.Sysctls, strings.Split(v, ",")...)
		default:
			return api.Errorf(api.BadRequest, "endpoint option %s is not known", k).WithHint("there are %s and %s", optIfName, optSysctls)
		}
	}
	w.Options = nil
	for _, s := range w.Sysctls {
		if _, err := sysctlFile(s, "eth0"); err != nil {
			return err
		}
	}
	return nil
}

// sysctlFile reads net.ipv4.conf.IFNAME.log_martians=1, as a file of an
// interface. Nothing but settings of the interface itself can be written so.
func sysctlFile(s, ifname string) (porter.File, error) {
	key, value, ok := strings.Cut(strings.TrimSpace(s), "=")
	parts := strings.Split(key, ".")
	if !ok || value == "" || len(parts) != 5 || parts[0] != "net" || !slices.Contains([]string{"ipv4", "ipv6", "mpls"}, parts[1]) ||
		!slices.Contains([]string{"conf", "neigh"}, parts[2]) || parts[3] != "IFNAME" || strings.ContainsAny(parts[4], "/") || parts[4] == "" {
		return porter.File{}, api.Errorf(api.BadRequest, "%s: %q is no setting of an interface", optSysctls, s).
			WithHint("write net.ipv4.conf.IFNAME.log_martians=1, with the word IFNAME")
	}
	parts[3] = ifname
	return porter.File{Path: "/proc/sys/" + strings.Join(parts, "/"), Text: value}, nil
}

// sysctls are the files of a container's interfaces to be written.
func sysctls(eps []*endpoint) (files []porter.File) {
	for _, ep := range eps {
		for _, s := range ep.sysctls {
			if f, err := sysctlFile(s, ep.ifname); err == nil {
				files = append(files, f)
			}
		}
	}
	return files
}

// writeSysctls sets what was asked for an interface of a container that runs.
func (e *Engine) writeSysctls(c *container, ep *endpoint) error {
	files := sysctls([]*endpoint{ep})
	if len(files) == 0 {
		return nil
	}
	_, _, err := e.porter.Call(porter.Message{Op: porter.OpFiles, Name: c.id, Spec: &porter.Spec{Sysctls: files}})
	if err != nil {
		return fmt.Errorf("%s: %w", optSysctls, err)
	}
	return nil
}
