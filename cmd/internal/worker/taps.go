package worker

import (
	"net/http"

	"tapswitch/cmd/internal/engine"
	"tapswitch/cmd/internal/fdpass"
)

// taps are requests of those who keep duplicates of what they brought.
func taps(route func(string, func(*http.Request) (any, error)), e *engine.Engine) {
	route("POST /v1/containers/{name}/taps", func(r *http.Request) (any, error) {
		return struct{}{}, e.TAPs(r.PathValue("name"), fdpass.Files(r))
	})
}
