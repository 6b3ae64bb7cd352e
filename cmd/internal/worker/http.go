package worker

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/cmd/internal/porter"
)

// handler serves the control API.
func handler(x *control) *http.ServeMux {
	mux := http.NewServeMux()
	routes(func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			fdpass.CloseAll(fdpass.Files(r)) // those that nobody took
			answer(w, v, err)
		})
	}, x)
	plain(mux.Handle, x)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, api.Errorf(api.NotFound, "no such request: %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// routes names each request with what answers it. The table in package openapi
// describes them all.
func routes(route func(pattern string, f func(r *http.Request) (any, error)), x *control) {
	e, c := x.e, x.c
	route("GET /v1/status", func(*http.Request) (any, error) { return e.Status(), nil })
	route("GET /v1/config", func(*http.Request) (any, error) {
		cfg := e.Config()
		return map[string]string{"yaml": cfg.YAML, "json": cfg.JSON}, nil
	})
	route("POST /v1/reload", func(*http.Request) (any, error) {
		m, _, err := c.Call(porter.Message{Op: porter.OpReload})
		if err != nil {
			e.SetConfigError(err.Error())
			return nil, err
		}
		if err := x.apply(m.Config); err != nil {
			return nil, err
		}
		return e.Status(), nil
	})
	route("POST /v1/shutdown", func(*http.Request) (any, error) {
		c.Tell(porter.Message{Op: porter.OpDown})
		return struct{}{}, nil
	})
	route("GET /v1/networks", func(*http.Request) (any, error) { return e.Networks(), nil })
	route("GET /v1/networks/{name}", func(r *http.Request) (any, error) { return e.Network(r.PathValue("name")) })
	route("POST /v1/networks", func(r *http.Request) (any, error) {
		var req api.NetworkCreate
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.CreateNetwork(req)
	})
	route("DELETE /v1/networks/{name}", func(r *http.Request) (any, error) { return struct{}{}, e.DeleteNetwork(r.PathValue("name")) })
	route("POST /v1/networks/{name}/connect", func(r *http.Request) (any, error) {
		var req api.NetworkConnect
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return struct{}{}, e.Connect(r.PathValue("name"), req.Container, req.Attachment)
	})
	route("POST /v1/networks/{name}/disconnect", func(r *http.Request) (any, error) {
		var req api.NetworkConnect
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return struct{}{}, e.Disconnect(r.PathValue("name"), req.Container)
	})
	route("POST /v1/networks/prune", func(*http.Request) (any, error) { return e.PruneNetworks(), nil })
	route("GET /v1/fdb", func(*http.Request) (any, error) { return e.FDB(), nil })
	route("GET /v1/groups", func(*http.Request) (any, error) { return e.GroupMembers(), nil })
	seeing(route, e)
	containers(route, e)
	policies(route, e)
	joins(route, e)
	forwards(route, e)
	taps(route, e)
	observing(route, x)
}

func containers(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("GET /v1/containers", func(r *http.Request) (any, error) { return e.Containers(r.FormValue("all") != ""), nil })
	route("POST /v1/containers", func(r *http.Request) (any, error) {
		var req api.Create
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.Create(req, fdpass.Files(r))
	})
	route("GET /v1/containers/{name}", func(r *http.Request) (any, error) { return e.Container(r.PathValue("name")) })
	route("DELETE /v1/containers/{name}", func(r *http.Request) (any, error) {
		return struct{}{}, e.Remove(r.PathValue("name"), r.FormValue("force") != "")
	})
	route("POST /v1/containers/{name}/wait", func(r *http.Request) (any, error) {
		code, err := e.Wait(r.PathValue("name"), r.Context().Done())
		return api.Exit{Code: code}, err
	})
	route("POST /v1/containers/{name}/kill", func(r *http.Request) (any, error) {
		sig, err := signalOf(r)
		if err != nil {
			return nil, err
		}
		return struct{}{}, e.Signal(r.PathValue("name"), sig)
	})
	route("POST /v1/containers/{name}/stop", func(r *http.Request) (any, error) {
		t := 10
		if s := r.FormValue("time"); s != "" {
			var err error
			if t, err = strconv.Atoi(s); err != nil || t < 0 {
				return nil, api.Errorf(api.BadRequest, "time %q is no number of seconds", s)
			}
		}
		return struct{}{}, e.Stop(r.PathValue("name"), time.Duration(t)*time.Second)
	})
	route("POST /v1/containers/{name}/exec", func(r *http.Request) (any, error) {
		var x api.Exec
		if err := body(r, &x); err != nil {
			return nil, err
		}
		id, err := e.Exec(r.PathValue("name"), x, fdpass.Files(r))
		return api.Session{ID: id}, err
	})
	route("POST /v1/containers/{name}/update", func(r *http.Request) (any, error) {
		var s api.Shape
		if err := body(r, &s); err != nil {
			return nil, err
		}
		return e.Update(r.PathValue("name"), s)
	})
	route("POST /v1/containers/{name}/dial", func(r *http.Request) (any, error) {
		port, err := strconv.ParseUint(r.FormValue("port"), 10, 16)
		if err != nil {
			return nil, api.Errorf(api.BadRequest, "%q is no port: write 1 to 65535", r.FormValue("port"))
		}
		return struct{}{}, e.Dial(r.PathValue("name"), uint16(port), fdpass.Files(r))
	})
	for verb, do := range map[string]func(string, []string) ([]api.Port, error){"publish": e.Publish, "unpublish": e.Unpublish} {
		route("POST /v1/containers/{name}/"+verb, func(r *http.Request) (any, error) {
			var p api.Publish
			if err := body(r, &p); err != nil {
				return nil, err
			}
			return do(r.PathValue("name"), p.Ports)
		})
	}
	route("POST /v1/sessions/{id}/wait", func(r *http.Request) (any, error) {
		code, err := e.WaitSession(r.PathValue("id"), r.Context().Done())
		return api.Exit{Code: code}, err
	})
	route("POST /v1/sessions/{id}/kill", func(r *http.Request) (any, error) {
		sig, err := signalOf(r)
		if err != nil {
			return nil, err
		}
		return struct{}{}, e.SignalSession(r.PathValue("id"), sig)
	})
}

func policies(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("GET /v1/rules", func(r *http.Request) (any, error) { return e.Rules(r.FormValue("all") != ""), nil })
	route("GET /v1/routes", func(*http.Request) (any, error) { return e.Routes(), nil })
	route("POST /v1/rules", func(r *http.Request) (any, error) {
		var req api.RuleAdd
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.AddRule(req)
	})
	for _, what := range []string{"rules", "routes"} {
		route("DELETE /v1/"+what+"/{id}", func(r *http.Request) (any, error) {
			id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
			if err != nil {
				return nil, api.Errorf(api.BadRequest, "%q is no number", r.PathValue("id"))
			}
			return struct{}{}, e.RemoveRule(uint32(id), what == "routes")
		})
	}
	route("GET /v1/egress", func(*http.Request) (any, error) { return e.Egress(), nil })
	route("POST /v1/egress", func(r *http.Request) (any, error) {
		var req api.Egress
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.AddEgress(req)
	})
	route("DELETE /v1/egress/{name}", func(r *http.Request) (any, error) { return struct{}{}, e.RemoveEgress(r.PathValue("name")) })
	route("POST /v1/capture", func(r *http.Request) (any, error) {
		var req api.Capture
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return struct{}{}, e.Capture(req, fdpass.Files(r))
	})
	route("POST /v1/trace", func(r *http.Request) (any, error) {
		var req api.TraceRequest
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.Trace(req)
	})
	route("POST /v1/verify", func(r *http.Request) (any, error) {
		var req api.Verify
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.Verify(req.Text)
	})
}

func joins(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("POST /v1/reservations", func(r *http.Request) (any, error) {
		var req api.Reserve
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.Reserve(req)
	})
	route("DELETE /v1/reservations/{id}", func(r *http.Request) (any, error) {
		e.Cancel(r.PathValue("id"))
		return struct{}{}, nil
	})
	route("POST /v1/ports", func(r *http.Request) (any, error) {
		var req api.Join
		if err := body(r, &req); err != nil {
			return nil, err
		}
		return e.Join(req, fdpass.Files(r))
	})
	route("POST /v1/containers/{name}/leave", func(r *http.Request) (any, error) {
		return struct{}{}, e.Leave(r.PathValue("name"), r.FormValue("network"))
	})
}

func body(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return api.Errorf(api.BadRequest, "request: %v", err)
	}
	return nil
}

func signalOf(r *http.Request) (syscall.Signal, error) {
	s := r.FormValue("signal")
	if s == "" {
		return unix.SIGKILL, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	for _, name := range []string{s, "SIG" + s} {
		if n := unix.SignalNum(name); n != 0 {
			return n, nil
		}
	}
	return 0, api.Errorf(api.BadRequest, "%q is no signal", s)
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var e *api.Error
		if !errors.As(err, &e) {
			e = api.Errorf(api.Failed, "%v", err)
		}
		w.WriteHeader(statusOf(e.Code))
		v = map[string]*api.Error{"error": e}
	}
	_ = json.NewEncoder(w).Encode(v)
}

func statusOf(code string) int {
	switch code {
	case api.BadRequest, api.NoCommand, api.NotExecutable:
		return http.StatusBadRequest
	case api.NotFound:
		return http.StatusNotFound
	case api.Forbidden:
		return http.StatusForbidden
	case api.Conflict:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
