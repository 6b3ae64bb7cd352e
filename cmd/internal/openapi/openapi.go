// Package openapi describes the control API as OpenAPI 3.1. The requests are a
// table; the shapes of what goes in and out are the Go types that go in and out,
// and their words the comments beside these.
//
//	table.go    the requests
//	openapi.go  the document
//	schema.go   a Go type as a JSON schema
//	words.go    comments of the API's types
package openapi

import (
	"encoding/json"
	"regexp"
	"strings"

	"tapswitch/cmd/internal/api"
)

// object is a piece of the document.
type object = map[string]any

const introduction = `HTTP and JSON on a unix socket, for the user that the switch runs as and for root:

    curl --unix-socket $XDG_RUNTIME_DIR/tapswitch/tapswitch.sock http://x/v1/status

Keys are snake_case, lists are never null, times are RFC 3339, units stand in names. Later versions of v1 only add: take keys that
you do not know. Requests are strict: a key that is not known is an error. What failed answers {"error": {"code", "message", "hint"}}.
Where descriptors come beside a request, they come with its first byte (SCM_RIGHTS). A read-only socket, where one is configured,
takes the GET requests that are not marked x-private.`

// Document is the description of the API. With strict, answers may have no keys
// but those described, which is for tests: clients are to take more.
func Document(version string, strict bool) ([]byte, error) {
	words, err := readWords(api.Source)
	if err != nil {
		return nil, err
	}
	s := &schemas{strict: strict, words: words, all: object{}}
	paths := object{}
	for _, o := range Operations {
		method, path, _ := strings.Cut(o.Pattern, " ")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(method)] = s.operation(o, method, path)
	}
	failed := s.of(api.Error{})
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info":    object{"title": "tapswitch", "version": version, "description": introduction},
		"servers": []object{{"url": "http://tapswitch", "description": "the control socket"}},
		"paths":   paths,
		"components": object{
			"schemas": s.all,
			"responses": object{"Failed": object{"description": "What failed, and what to do about it", "content": media("application/json",
				object{"type": "object", "required": []string{"error"}, "properties": object{"error": failed}})}},
		},
	}, "", "  ")
}

var inPath = regexp.MustCompile(`\{(\w+)\}`)

func (s *schemas) operation(o Operation, method, path string) object {
	op := object{"summary": o.Summary, "operationId": operationID(method, path)}
	params := []object{}
	for _, m := range inPath.FindAllStringSubmatch(path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range o.Query {
		params = append(params, object{"name": q.Name, "in": "query", "description": q.Text, "schema": object{"type": q.Type}})
	}
	if len(params) > 0 {
		op["parameters"] = params
	}
	if o.In != nil {
		op["requestBody"] = object{"required": true, "content": media("application/json", s.of(o.In))}
	}
	if o.Files != "" {
		op["x-descriptors"] = o.Files
	}
	if o.Private {
		op["x-private"] = true
	}
	answer := object{"description": "done"}
	if o.Out != nil {
		answer["content"] = media("application/json", s.of(o.Out))
	} else {
		answer["content"] = object{o.Media: object{}}
	}
	op["responses"] = object{"200": answer, "default": object{"$ref": "#/components/responses/Failed"}}
	return op
}

func media(name string, schema object) object { return object{name: object{"schema": schema}} }

// operationID is get_networks_name for GET /v1/networks/{name}.
func operationID(method, path string) string {
	words := strings.FieldsFunc(strings.TrimPrefix(path, "/"+api.Version), func(r rune) bool { return strings.ContainsRune("/{}.", r) })
	return strings.ToLower(method) + "_" + strings.Join(words, "_")
}
