package hook

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/cmd/internal/porter"
	"tapswitch/switch/ns"
)

// state is what a runtime tells its hooks.
type state struct {
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations"`
}

func readState(b []byte) (*state, error) {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("the container's state: %w", err)
	}
	if s.ID == "" {
		return nil, errors.New("the container's state has no id")
	}
	return &s, nil
}

// createRuntime puts the container on the switch: its namespaces are there, and
// nothing runs in them yet. An error keeps it from starting.
func createRuntime(c *client.Client, b []byte) error {
	s, err := readState(b)
	if err != nil {
		return err
	}
	r, err := request(s.Annotations)
	if err != nil || r == nil {
		return err
	}
	rec, err := recordOf(c.Socket, s.ID)
	if err != nil {
		return err
	}
	if err := enter(c, s, r, rec); err != nil {
		return errors.Join(err, rec.remove()) // podman calls no poststop for what did not start
	}
	return nil
}

func enter(c *client.Client, s *state, r *api.Reserve, rec record) error {
	n, err := rec.load()
	if err != nil {
		return fmt.Errorf("what the precreate hook left: %w", err)
	}
	if n.Problem != "" {
		return errors.New(n.Problem)
	}
	r.Pid, r.Hostname = s.Pid, n.Hostname
	if r.Hostname == "" {
		r.Hostname = hostname(s.Bundle)
	}
	if r.Name == "" {
		r.Name = cmp.Or(n.Name, r.Hostname, s.ID[:min(len(s.ID), 12)])
	}
	if err := alone(s.Pid); err != nil {
		return err
	}
	h, err := ns.OfPID(s.Pid)
	if err != nil {
		return err
	}
	defer h.Close()
	made, res, err := joiner.Join(c, h, *r)
	if err != nil {
		return err
	}
	n.OnSwitch, n.Pid = made.ID, s.Pid
	n.Start, _ = porter.StartTime(s.Pid)
	err = errors.Join(os.MkdirAll(rec.dir, 0o700), rec.save(n),
		rec.write("resolv.conf", res.Resolv), rec.write("hosts", res.Hosts+n.Extra))
	if err != nil {
		return errors.Join(fmt.Errorf("the container's files: %w", err), joiner.Leave(c, made.ID, ""))
	}
	return nil
}

// alone says whether the process has a network namespace of its own with nothing
// in it: any other has been set up by its engine, with a default route and names
// of that network's.
func alone(pid int) error {
	if pid <= 0 {
		return errors.New("the container's state has no pid")
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	if own, err := os.Readlink("/proc/self/ns/net"); err == nil && own == theirs {
		return errors.New("the container is on the host's network: start it with --network none")
	}
	dev, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(dev), "\n") {
		name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && name != "lo" && !fallback[name] {
			return fmt.Errorf("the container has a network already, %s: start it with --network none", name)
		}
	}
	return nil
}

// fallback are devices that some kernels put into each new namespace.
var fallback = map[string]bool{"tunl0": true, "gre0": true, "gretap0": true, "erspan0": true, "ip_vti0": true, "ip6_vti0": true, "sit0": true, "ip6tnl0": true, "ip6gre0": true}

// hostname reads it from the bundle's configuration, where no precreate hook has
// seen it.
func hostname(bundle string) string {
	var s spec
	if b, err := os.ReadFile(filepath.Join(bundle, "config.json")); err == nil {
		_ = json.Unmarshal(b, &s)
	}
	return s.Hostname
}
