package worker

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
)

// seeing serves what is there to be seen: failures, flows, names, neighbours, and
// events as they happen.
func seeing(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("GET /v1/failures", func(r *http.Request) (any, error) {
		last, err := number(r, "last")
		if err != nil {
			return nil, err
		}
		return e.Why(r.FormValue("container"), last)
	})
	route("GET /v1/dns", func(r *http.Request) (any, error) {
		last, err := number(r, "last")
		if err != nil {
			return nil, err
		}
		return e.DNS(r.FormValue("container"), last), nil
	})
	route("GET /v1/neighbours", func(*http.Request) (any, error) { return e.Neighbours(), nil })
	route("GET /v1/flows", func(r *http.Request) (any, error) {
		return e.FlowsOf(api.FlowFilter{Container: r.FormValue("container"), Proto: r.FormValue("proto"), State: r.FormValue("state"), Remote: r.FormValue("remote")})
	})
	route("POST /v1/flows/kill", func(r *http.Request) (any, error) {
		var req api.FlowFilter
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.KillFlows(req)
	})
}

// following are the requests whose answers go on, a line of JSON each.
func following(handle func(string, http.Handler), e *engine.Engine) {
	handle("GET /v1/trace/live", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, err := e.WatchLive(r.FormValue("filter"))
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer e.UnwatchLive(l)
		lines(w, r, e, l.Traces(), func(*json.Encoder) error { return nil })
	}))
	handle("GET /v1/events", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { follow(w, r, e) }))
}

// number is a number of a query; 0 if it is left out.
func number(r *http.Request, key string) (int, error) {
	s := r.FormValue(key)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.BadRequest, "%s %q is no number", key, s)
	}
	return n, nil
}

// eventTypes are those that may be asked for.
var eventTypes = []string{"container", "network", "port", "flow", "drop", "limit", "dns", "config"}

// follow writes events, a line of JSON each, until the client goes: those of one
// container, if that is given, and of some types.
func follow(w http.ResponseWriter, r *http.Request, e *engine.Engine) {
	container, types := r.FormValue("container"), strings.FieldsFunc(r.FormValue("type"), func(c rune) bool { return c == ',' })
	for _, t := range types {
		if !slices.Contains(eventTypes, t) {
			answer(w, nil, api.Errorf(api.BadRequest, "type %q: write some of %s", t, strings.Join(eventTypes, ", ")))
			return
		}
	}
	f := e.Follow(func(x *api.Event) bool {
		return x.Type == "missed" || (container == "" || x.Container == container || x.Interface == container) && (len(types) == 0 || slices.Contains(types, x.Type))
	})
	defer e.Unfollow(f)
	lines(w, r, e, f.Events(), func(out *json.Encoder) error {
		if n := f.Missed(); n > 0 {
			return out.Encode(api.Event{Time: time.Now().UTC(), Type: "missed", Action: "missed", Count: n, Text: "events that this reader was too slow for"})
		}
		return nil
	})
}

// lines writes what comes from a channel, a line of JSON each, and before each
// what first has to say, until the client or the switch ends.
func lines[T any](w http.ResponseWriter, r *http.Request, e *engine.Engine, from <-chan T, first func(*json.Encoder) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	out := json.NewEncoder(w)
	for {
		if len(from) == 0 {
			if flush.Flush() != nil {
				return
			}
		}
		select {
		case x := <-from:
			if first(out) != nil || out.Encode(x) != nil {
				return
			}
		case <-r.Context().Done():
			return
		case <-e.Done():
			return
		}
	}
}
