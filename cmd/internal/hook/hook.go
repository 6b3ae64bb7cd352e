// Package hook is the face towards OCI runtimes and podman: three programs that
// are called as a container comes and goes (oci-hooks(5), config.md of the OCI
// runtime specification), which put a container of --network none on a switch.
//
//	hook.go         stages, and what annotations ask for
//	precreate.go    podman's own stage: resolv.conf and hosts are added to the configuration
//	createruntime.go  the namespaces are there: interfaces are made
//	poststop.go     the container is gone
//	record.go       what one stage leaves for the next
//	install.go      the files that tell podman of all this
//
// A hook of rootless podman runs as uid 0 of podman's user namespace, which is
// the user towards the switch, in the host's network namespace, and without the
// user's environment: the socket comes as an argument.
package hook

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
)

// Stages in the order of a container's life, as the files for podman name them.
const (
	Precreate     = "precreate"
	CreateRuntime = "createRuntime"
	Poststop      = "poststop"
)

// Stages are all of them.
var Stages = []string{Precreate, CreateRuntime, Poststop}

// Run serves one call of a hook: what the caller writes to it, what it answers.
func Run(stage string, c *client.Client, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return fmt.Errorf("%s hook: read standard input: %w", stage, err)
	}
	switch stage {
	case Precreate:
		b, err = precreate(c.Socket, b)
		if err == nil {
			_, err = out.Write(b)
		}
	case CreateRuntime:
		err = createRuntime(c, b)
	case Poststop:
		err = poststop(c, b)
	default:
		return fmt.Errorf("no stage %q: %s", stage, strings.Join(Stages, ", "))
	}
	if err != nil {
		return fmt.Errorf("%s hook: %w", stage, err)
	}
	return nil
}

// maxInput bounds what a runtime may write to us: a configuration with thousands
// of mounts has less.
const maxInput = 16 << 20

// prefix is that of our annotations.
const prefix = "tapswitch."

// annotations are those that are known, with what they do to the request.
var annotations = map[string]func(r *api.Reserve, value string) error{
	"network": func(r *api.Reserve, v string) error {
		for _, n := range networks(v) {
			a, err := joiner.Attachment(n)
			if err != nil {
				return err
			}
			r.Networks = append(r.Networks, a)
		}
		return nil
	},
	"publish": func(r *api.Reserve, v string) error { r.Publish = list(v); return nil },
	"alias":   func(*api.Reserve, string) error { return nil }, // after the networks are known
	"name":    func(r *api.Reserve, v string) error { r.Name = v; return nil },
	"egress":  func(r *api.Reserve, v string) error { r.Egress = v; return nil },
	"rate-in": func(r *api.Reserve, v string) error { r.Shape.RateIn = v; return nil },
	"rate-out": func(r *api.Reserve, v string) error {
		r.Shape.RateOut = v
		return nil
	},
	"delay": func(r *api.Reserve, v string) error { r.Shape.Delay = v; return nil },
	"loss":  func(r *api.Reserve, v string) error { r.Shape.Loss = v; return nil },
	"flows": func(r *api.Reserve, v string) (err error) { r.Shape.Flows, err = strconv.Atoi(v); return err },
	"spoof": func(r *api.Reserve, v string) error { return choice(v, "allow", "deny", &r.Spoof) },
	"offload": func(r *api.Reserve, v string) error {
		return choice(v, "off", "on", &r.PlainTAP)
	},
}

// Annotations are the names of all that are known, sorted.
func Annotations() (out []string) {
	for _, k := range slices.Sorted(maps.Keys(annotations)) {
		out = append(out, prefix+k)
	}
	return out
}

// request reads what a container's annotations ask for; nil if they ask for no
// network of ours.
func request(ann map[string]string) (*api.Reserve, error) {
	if _, ok := ann[prefix+"network"]; !ok {
		return nil, nil
	}
	r := &api.Reserve{Origin: "hook", Lifetime: joiner.ByProcess}
	for _, k := range slices.Sorted(maps.Keys(ann)) {
		name, ours := strings.CutPrefix(k, prefix)
		if !ours {
			continue
		}
		set := annotations[name]
		if set == nil {
			return nil, fmt.Errorf("unknown annotation %s: %s", k, strings.Join(Annotations(), ", "))
		}
		if err := set(r, ann[k]); err != nil {
			return nil, fmt.Errorf("annotation %s=%s: %w", k, ann[k], err)
		}
	}
	if len(r.Networks) == 0 {
		r.Networks = []api.Attachment{{}}
	}
	for i := range r.Networks {
		r.Networks[i].Aliases = append(r.Networks[i].Aliases, list(ann[prefix+"alias"])...)
		switch n := r.Networks[i].Network; {
		case n == "none", n == "host", strings.HasPrefix(n, "container:"):
			return nil, fmt.Errorf("annotation %snetwork=%s: that is podman's to do, with --network", prefix, n)
		}
	}
	return r, nil
}

// networks splits a list of networks with their options: NET:ip=A;alias=B;NET2.
// There a semicolon does for a comma, too, since podman before version 5 takes a
// comma for the end of an annotation.
func networks(s string) (out []string) {
	for _, item := range strings.FieldsFunc(s, func(c rune) bool { return c == ';' || c == ' ' }) {
		key, _, option := strings.Cut(item, "=")
		if last := len(out) - 1; option && last >= 0 && !strings.Contains(key, ":") {
			between := ","
			if !strings.Contains(out[last], ":") {
				between = ":"
			}
			out[last] += between + item
			continue
		}
		out = append(out, item)
	}
	return out
}

// list reads words between commas, semicolons or spaces.
func list(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ',' || c == ';' || c == ' ' })
}

func choice(v, on, off string, to *bool) error {
	if v != on && v != off {
		return fmt.Errorf("%s or %s", on, off)
	}
	*to = v == on
	return nil
}
