package worker

import (
	"net/http"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
)

func forwards(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("POST /v1/containers/{name}/forward", func(r *http.Request) (any, error) {
		var f api.Forward
		if err := body(r, &f); err != nil {
			return nil, err
		}
		return e.Forward(r.PathValue("name"), f)
	})
}
