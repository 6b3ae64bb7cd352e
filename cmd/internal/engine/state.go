package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
)

// What was made by command or API is kept in a file, written anew with each
// change, and made again at the next start with the same addresses. What came
// from the configuration is not in it.

const stateVersion = 1

type savedState struct {
	Version    int              `json:"version"`
	Networks   []savedNetwork   `json:"networks,omitempty"`
	Rules      []api.RuleAdd    `json:"rules,omitempty"`  // At is the place among those of the file
	Egress     []api.Egress     `json:"egress,omitempty"` // before networks and containers, which name them
	Containers []savedContainer `json:"containers"`
	Changes    []savedChange    `json:"changes,omitempty"`
}

// savedNetwork is the request that makes a network again, with what was chosen
// for it.
type savedNetwork struct {
	ID      string            `json:"id"`
	Created time.Time         `json:"created"`
	Create  api.NetworkCreate `json:"create"`
}

type savedContainer struct {
	Kind      string       `json:"kind"`
	Create    *api.Create  `json:"create,omitempty"`
	Reserve   *api.Reserve `json:"reserve,omitempty"`
	StartTime uint64       `json:"start_time,omitempty"`
}

// save writes the state file; a failure is logged, since nothing else depends
// on it.
func (e *Engine) save() {
	if e.start.State == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing || !e.restored {
		return // ending takes all away, which is no change; nor is what was before
	}
	s := savedState{Version: stateVersion, Containers: []savedContainer{}}
	for _, n := range e.sortedNetworks() {
		if n.origin != "file" {
			s.Networks = append(s.Networks, n.saved())
		}
	}
	for _, list := range [][]*ruleEntry{e.rules, e.routes} {
		for i, r := range list {
			if x := r.rule; r.origin != "file" {
				s.Rules = append(s.Rules, api.RuleAdd{From: x.From, To: x.To, Direction: x.Direction, Proto: x.Proto, Ports: x.Ports, Action: x.Action,
					Comment: x.Comment, At: i + 1, ID: r.id, Origin: r.origin})
			}
		}
	}
	for name, x := range e.egress {
		if x.origin != "file" {
			s.Egress = append(s.Egress, api.Egress{Name: name, Allow: x.cfg.Allow, Origin: x.origin})
		}
	}
	for _, c := range e.sortedContainers() {
		if c.origin != "file" && !c.attached && !c.reserve.Hold && c.state == stateRunning {
			s.Containers = append(s.Containers, c.saved())
		}
		if c.origin == "file" && c.state == stateRunning {
			if ch := c.change(); !ch.empty() {
				s.Changes = append(s.Changes, ch)
			}
		}
	}
	if err := writeFile(e.start.State, s); err != nil {
		e.log.Error("state file", "path", e.start.State, "err", err)
	}
}

func (n *network) saved() savedNetwork {
	r := n.made
	r.Name, r.Origin = n.cfg.Name, n.origin
	r.Subnets, r.Gateways = nil, nil
	if !n.cfg.NoIPv4 {
		r.Subnets, r.Gateways = []string{n.cfg.Subnet.String()}, []string{n.cfg.Gateway.String()}
	}
	if n.cfg.Subnet6.IsValid() {
		r.Subnets, r.Gateways = append(r.Subnets, n.cfg.Subnet6.String()), append(r.Gateways, n.cfg.Gateway6.String())
	}
	return savedNetwork{ID: n.id, Created: n.at, Create: r}
}

// saved is the request that makes the container again, with the addresses and
// ports that it has now.
func (c *container) saved() savedContainer {
	var nets []api.Attachment
	for _, ep := range c.endpoints {
		nets = append(nets, ep.asked())
	}
	if len(nets) == 0 {
		nets = []api.Attachment{{Network: modeNone}}
		if c.onHost() || c.guest() {
			nets[0].Network = modeOf(c.create.Networks)
		}
	}
	var pubs []string
	seen := make(map[string]bool)
	for _, p := range c.ports {
		if a := p.spec.Arg(); !seen[a] {
			seen[a] = true
			pubs = append(pubs, a)
		}
	}
	if c.kind == kindJoin {
		r := c.reserve
		r.Name, r.Networks, r.Publish = c.name, nets, pubs
		if c.pid > 0 {
			r.Pid = c.pid
		}
		return savedContainer{Kind: c.kind, Reserve: &r, StartTime: c.startTime}
	}
	r := c.create
	r.Name, r.Networks, r.Publish, r.Origin = c.name, nets, pubs, c.origin
	r.Publishes = false // what it has published is in pubs
	return savedContainer{Kind: c.kind, Create: &r}
}

// Restore makes again what the state file holds. What cannot be made is
// reported and left out: a process that is gone, an address that is taken.
func (e *Engine) Restore() (restored int, problems []error) {
	restored, problems = e.restore()
	problems = append(e.early, problems...)
	e.mu.Lock()
	e.restored = true
	e.mu.Unlock()
	if restored > 0 || len(problems) > 0 {
		e.save()
	}
	return restored, problems
}

func (e *Engine) restore() (restored int, problems []error) {
	if e.start.State == "" {
		return 0, nil
	}
	s, problems := e.readState()
	if s == nil {
		return 0, problems
	}
	for _, n := range s.Networks {
		made, err := e.createNetwork(n.Create)
		if err != nil {
			problems = append(problems, fmt.Errorf("not restored: %w", err))
			continue
		}
		e.mu.Lock()
		made.id, made.at = n.ID, n.Created
		e.mu.Unlock()
		restored++
	}
	e.refreshPolicy()
	for _, ch := range s.Changes {
		if err := e.again(ch); err != nil {
			problems = append(problems, fmt.Errorf("not restored: %w", err))
			continue
		}
		restored++
	}
	for _, c := range s.Containers {
		var err error
		switch {
		case c.Kind == kindJoin && c.Reserve != nil && c.Reserve.Lifetime == lifeDel:
			err = fmt.Errorf("container %s: it was joined by its caller, who must join it again", c.Reserve.Name)
		case c.Kind == kindJoin && c.Reserve != nil:
			var finish func() error
			if finish, err = e.prepareRejoin(*c.Reserve, c.StartTime, nil); err == nil {
				err = finish()
			}
		case c.Create != nil:
			_, err = e.make(*c.Create, nil, nil)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("not restored: %w", err))
			continue
		}
		restored++
	}
	return restored, problems
}

// readState reads the state file; nil if there is none of use.
func (e *Engine) readState() (*savedState, []error) {
	b, err := os.ReadFile(e.start.State)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, []error{fmt.Errorf("state file: %w", err)}
	}
	var s savedState
	if err := json.Unmarshal(b, &s); err != nil || s.Version != stateVersion {
		return nil, []error{fmt.Errorf("state file %s is of no use (version %d, %v): moved to %s.bad", e.start.State, s.Version, err, e.start.State), os.Rename(e.start.State, e.start.State+".bad")}
	}
	return &s, nil
}

// RestorePolicies makes the rules, routes and egress policies of the state file
// again, before the first container runs.
func (e *Engine) RestorePolicies() {
	if e.start.State == "" {
		return
	}
	s, problems := e.readState()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.early = problems; s == nil {
		return
	}
	for _, x := range s.Egress {
		e.egress[x.Name] = &egressEntry{configs.Egress{Name: x.Name, Allow: x.Allow}, x.Origin}
	}
	for _, r := range s.Rules {
		rule := configs.Rule{From: r.From, To: r.To, Direction: r.Direction, Proto: r.Proto, Ports: r.Ports, Action: r.Action, Comment: r.Comment}
		if configs.CheckRule(rule) == nil {
			e.kept = append(e.kept, &keptRule{ruleEntry{e.ruleID(r.ID), rule, r.Origin}, max(r.At-1, 0)})
		}
	}
}

// writeFile replaces a file in one step.
func writeFile(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
