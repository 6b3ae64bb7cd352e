package worker

import (
	"net/http"
	"slices"
	"testing"

	"tapswitch/cmd/internal/openapi"
)

// Every request is described, and nothing is described that is not there.
func TestRoutesAreDescribed(t *testing.T) {
	var there []string
	x := &control{}
	routes(func(pattern string, _ func(*http.Request) (any, error)) { there = append(there, pattern) }, x)
	plain(func(pattern string, _ http.Handler) { there = append(there, pattern) }, x)
	if len(there) < 40 {
		t.Errorf("only %d requests were seen", len(there))
	}
	for _, p := range there {
		if _, ok := openapi.Find(p); !ok {
			t.Errorf("%s is not described: add it to Operations in cmd/internal/openapi/table.go", p)
		}
	}
	seen := map[string]bool{}
	for _, o := range openapi.Operations {
		if !slices.Contains(there, o.Pattern) {
			t.Errorf("%s is described, but there is no such request", o.Pattern)
		}
		if seen[o.Pattern] || o.Summary == "" || (o.Out == nil) == (o.Media == "") {
			t.Errorf("%s is described twice, without a summary, or without one kind of answer", o.Pattern)
		}
		seen[o.Pattern] = true
	}
}
