package worker

import (
	"net/http"
	"net/http/pprof"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
	"tapswitch/cmd/internal/metrics"
	"tapswitch/cmd/internal/openapi"
)

// observing are the requests about what was counted and what is logged.
func observing(route func(string, func(*http.Request) (any, error)), x *control) {
	route("GET /v1/stats", func(*http.Request) (any, error) { return x.e.Stats(), nil })
	route("GET /v1/log", func(*http.Request) (any, error) { return x.logging(), nil })
	route("PUT /v1/log", func(r *http.Request) (any, error) {
		var want api.Log
		if err := body(r, &want); err != nil {
			return nil, err
		}
		is := x.logging()
		if want.Format != "" && want.Format != is.Format {
			return nil, api.Errorf(api.BadRequest, "the format of the log stays %s while the switch runs", is.Format).WithHint("log.format in the configuration holds from the next start")
		}
		if !slices.Contains(logLevels, want.Level) {
			return nil, api.Errorf(api.BadRequest, "%q is no level: write debug, info, warn or error", want.Level)
		}
		setLevel(x.level, want.Level)
		x.log.Info("log level", "level", want.Level)
		return x.logging(), nil
	})
}

var logLevels = []string{"debug", "info", "warn", "error"}

// logging is what is logged now.
func (x *control) logging() api.Log {
	return api.Log{Level: levelName(x.level.Level()), Format: x.e.LogFormat()}
}

// plain are the requests whose answers are no JSON of ours.
func plain(handle func(string, http.Handler), x *control) {
	following(handle, x.e)
	handle("GET /v1/metrics", metrics.Handler(func() *engine.Measured { return x.e.Measure() }))
	handle("GET /v1/openapi.json", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc, err := openapi.Document(x.e.Version(), false)
		if err != nil {
			answer(w, nil, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(doc)
	}))
	handle("GET /debug/pprof/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := x.e.Config().Config; c == nil || !c.Pprof {
			answer(w, nil, api.Errorf(api.NotFound, "profiles are off").WithHint("start with tapswitch up --pprof, or set pprof: true"))
			return
		}
		profile(w, r)
	}))
}

// profile answers for what net/http/pprof has as handlers of their own.
func profile(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/debug/pprof/cmdline":
		pprof.Cmdline(w, r)
	case "/debug/pprof/profile":
		pprof.Profile(w, r)
	case "/debug/pprof/symbol":
		pprof.Symbol(w, r)
	case "/debug/pprof/trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}

// metricsOnly serves metrics where others scrape them.
func metricsOnly(e *engine.Engine) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(e.Measure))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "tapswitch: metrics are at /metrics", http.StatusNotFound)
	})
	return mux
}

// readOnly lets pass what changes nothing and tells no secrets: GET requests that
// carry no descriptors and are not private.
func readOnly(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		op, known := openapi.Find(pattern)
		switch {
		case r.Method != http.MethodGet:
			answer(w, nil, api.Errorf(api.Forbidden, "%s %s: this socket is for reading, and takes GET alone", r.Method, r.URL.Path).WithHint("use the control socket, as the user that the switch runs as"))
		case known && (op.Private || op.Files != ""):
			answer(w, nil, api.Errorf(api.Forbidden, "%s is for the owner alone", r.URL.Path).WithHint("use the control socket, as the user that the switch runs as"))
		default:
			mux.ServeHTTP(w, r)
		}
	})
}
