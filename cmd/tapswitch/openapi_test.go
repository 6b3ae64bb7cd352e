package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"tapswitch/cmd/internal/openapi"
)

// description holds the API against what is described.
type description struct {
	t       *testing.T
	c       *jsonschema.Compiler
	checked map[string]bool // patterns
}

func describeAPI(t *testing.T) *description {
	t.Helper()
	text, err := openapi.Document("test", true)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{t: t, c: jsonschema.NewCompiler(), checked: map[string]bool{}}
	d.c.DefaultDraft(jsonschema.Draft2020)
	d.c.AssertFormat()
	if err := d.c.AddResource("mem:///api.json", doc); err != nil {
		t.Fatal(err)
	}
	return d
}

// check validates JSON against the schema at a place of the document.
func (d *description) check(place, text string) error {
	s, err := d.c.Compile("mem:///api.json#" + place)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return s.Validate(v)
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(s)
}

// answer validates what was answered with a status to a request of a pattern.
func (d *description) answer(pattern string, status int, text string) {
	d.t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	place := "/paths/" + escapePointer(path) + "/" + strings.ToLower(method) + "/responses/200/content/application~1json/schema"
	if status != 200 {
		place = "/components/responses/Failed/content/application~1json/schema"
	}
	if err := d.check(place, text); err != nil {
		d.t.Errorf("%s answers what is not described: %v\n%s", pattern, err, text)
	}
	if status == 200 {
		d.checked[pattern] = true
	}
}

// A running switch answers as described, to what succeeds and to what fails.
func TestAPIAnswersAsDescribed(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", twoBridges+`
  - {name: web, networks: [bridge, bridge2], publish: ["80"], links: [c2], egress: some, expose: [90], command: ["`+prog+`", hold]}
egress:
  - {name: some, allow: [192.0.2.1]}
rules:
  - {from: "container:c1", to: 10.0.0.0/8, proto: tcp, ports: [80], action: reject}
`)
	b.up("-c", file, "--ephemeral")
	b.ok("exec", "c1", prog, "send", "172.18.0.2:9", "lost", "172.17.0.1")
	d := describeAPI(t)
	for _, c := range []struct {
		pattern, path, body string
		status              int
	}{
		{"GET /v1/status", "", "", 200},
		{"GET /v1/config", "", "", 200},
		{"GET /v1/log", "", "", 200},
		{"PUT /v1/log", "", `{"level":"warn"}`, 200},
		{"PUT /v1/log", "", `{"level":"loud"}`, 400},
		{"POST /v1/reload", "", "", 200},
		{"GET /v1/networks", "", "", 200},
		{"POST /v1/networks", "", `{"name":"lab","options":{"com.docker.network.bridge.enable_icc":"false"},"labels":{"a":"b"}}`, 200},
		{"POST /v1/networks", "", `{"name":"lab"}`, 409},
		{"GET /v1/networks/{name}", "/v1/networks/bridge", "", 200},
		{"GET /v1/networks/{name}", "/v1/networks/nowhere", "", 404},
		{"POST /v1/networks/{name}/connect", "/v1/networks/lab/connect", `{"container":"c1"}`, 200},
		{"POST /v1/networks/{name}/disconnect", "/v1/networks/lab/disconnect", `{"container":"c1"}`, 200},
		{"DELETE /v1/networks/{name}", "/v1/networks/lab", "", 200},
		{"POST /v1/networks", "", `{"name":"spare"}`, 200},
		{"POST /v1/networks/prune", "", "", 200},
		{"GET /v1/containers", "/v1/containers?all=1", "", 200},
		{"POST /v1/containers", "", `{"name":"made","command":["` + prog + `","hold"],"shape":{"rate_in":"1mbit"}}`, 200},
		{"POST /v1/containers", "", `{"command":["/no/such"]}`, 400},
		{"GET /v1/containers/{name}", "/v1/containers/web", "", 200},
		{"POST /v1/containers/{name}/update", "/v1/containers/made/update", `{"delay":"1ms"}`, 200},
		{"POST /v1/containers/{name}/publish", "/v1/containers/made/publish", `{"ports":["81"]}`, 200},
		{"POST /v1/containers/{name}/unpublish", "/v1/containers/made/unpublish", `{"ports":["81"]}`, 200},
		{"POST /v1/containers/{name}/forward", "/v1/containers/made/forward", `{"ports":["82"],"to":"172.17.0.99"}`, 200},
		{"POST /v1/containers/{name}/kill", "/v1/containers/made/kill", "", 200},
		{"POST /v1/containers/{name}/wait", "/v1/containers/made/wait", "", 200},
		{"POST /v1/containers/{name}/stop", "/v1/containers/made/stop?time=1", "", 200},
		{"DELETE /v1/containers/{name}", "/v1/containers/made?force=1", "", 200},
		{"POST /v1/reservations", "", `{"name":"x","lifetime":"until_del"}`, 200},
		{"DELETE /v1/reservations/{id}", "/v1/reservations/none", "", 200},
		{"POST /v1/ports", "", `{"reservation":"none"}`, 404},
		{"GET /v1/rules", "/v1/rules?all=1", "", 200},
		{"POST /v1/rules", "", `{"from":"container:c1","action":"drop","id":200}`, 200},
		{"DELETE /v1/rules/{id}", "/v1/rules/200", "", 200},
		{"POST /v1/rules", "", `{"from":"network:bridge","to":"network:bridge2","action":"route","id":201}`, 200},
		{"GET /v1/routes", "", "", 200},
		{"DELETE /v1/routes/{id}", "/v1/routes/201", "", 200},
		{"GET /v1/egress", "", "", 200},
		{"POST /v1/egress", "", `{"name":"more","allow":["192.0.2.0/24"]}`, 200},
		{"DELETE /v1/egress/{name}", "/v1/egress/more", "", 200},
		{"POST /v1/trace", "", `{"from":"c1","to":"c2","port":80}`, 200},
		{"POST /v1/trace", "", `{"from":"c1","to":"10.0.0.1","port":80}`, 200},
		{"POST /v1/verify", "", `{"text":"c1 -> c2:80 accept\nc1 -> nowhere"}`, 200},
		{"GET /v1/fdb", "", "", 200},
		{"GET /v1/groups", "", "", 200},
		{"GET /v1/neighbours", "", "", 200},
		{"GET /v1/failures", "/v1/failures?last=10", "", 200},
		{"GET /v1/failures", "/v1/failures?last=x", "", 400},
		{"GET /v1/dns", "/v1/dns?container=c1", "", 200},
		{"POST /v1/flows/kill", "", `{"container":"c1"}`, 200},
		{"POST /v1/flows/kill", "", `{}`, 400},
		{"GET /v1/flows", "", "", 200},
		{"GET /v1/stats", "", "", 200},
		{"GET /v1/stats", "/v1/nothing", "", 404},
		{"POST /v1/shutdown", "", "", 200},
	} {
		method, path, _ := strings.Cut(c.pattern, " ")
		if c.path != "" {
			path = c.path
		}
		if o, _ := openapi.Find(c.pattern); o.In != nil && c.status == 200 {
			place := "/paths/" + escapePointer(strings.Fields(c.pattern)[1]) + "/" + strings.ToLower(method) + "/requestBody/content/application~1json/schema"
			if err := d.check(place, c.body); err != nil {
				t.Errorf("%s takes what is not described: %v", c.pattern, err)
			}
		}
		status, text := request(t, b.socket, method, path, c.body)
		if status != c.status {
			t.Errorf("%s %s %s: status %d, want %d: %s", method, path, c.body, status, c.status, text)
		}
		d.answer(c.pattern, status, text)
	}
	// What takes descriptors has tests of its own; each answer that is JSON of ours is checked.
	for _, o := range openapi.Operations {
		if o.Files == "" && o.Out != nil && !d.checked[o.Pattern] && !strings.Contains(o.Pattern, "/sessions/") && !strings.HasSuffix(o.Pattern, "/leave") {
			t.Errorf("%s was not tried", o.Pattern)
		}
	}
}

// The document that is served is the one that the command prints, and its
// references lead somewhere.
func TestOpenAPIDocument(t *testing.T) {
	b := newBench(t)
	b.up("--ephemeral")
	_, served := request(t, b.socket, "GET", "/v1/openapi.json", "")
	if printed := b.ok("api", "--json"); printed != served {
		t.Errorf("api --json prints %d bytes, %d are served", len(printed), len(served))
	}
	if list := b.ok("api"); !strings.Contains(list, "/v1/containers/{name}/stop?time") || len(strings.Split(list, "\n")) != len(openapi.Operations) {
		t.Errorf("api:\n%s", list)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(served), &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch x := v.(type) {
		case map[string]any:
			if ref, ok := x["$ref"].(string); ok {
				at := any(doc)
				for _, k := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					at, _ = at.(map[string]any)[k]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			if id, ok := x["operationId"].(string); ok {
				if ids[id] {
					t.Errorf("operation %s is there twice", id)
				}
				ids[id] = true
			}
			for _, y := range x {
				walk(y)
			}
		case []any:
			for _, y := range x {
				walk(y)
			}
		}
	}
	walk(doc)
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	stats := schemas["InterfaceStats"].(map[string]any)
	if stats["properties"].(map[string]any)["rx_bytes"] == nil || stats["additionalProperties"] != nil {
		t.Errorf("InterfaceStats: %v", stats)
	}
	if text := schemas["Network"].(map[string]any)["description"]; text != "Network is one network as `network ls` and `network inspect` show it." {
		t.Errorf("Network is described as %q", text)
	}
}
