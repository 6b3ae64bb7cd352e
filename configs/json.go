package configs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseJSON is parse for JSON. JSON is nearly YAML, but for its escapes beyond the BMP, and YAML would let
// pass what is no JSON.
func parseJSON(file string, data []byte) (*yaml.Node, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	lines := indexLines(data)
	var probe any
	if err := json.Unmarshal(data, &probe); err != nil {
		p := &Problem{File: file, Text: "not valid JSON: " + oneLine(err.Error()) + "; look for a missing or extra comma, quote or bracket here or just before"}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			p.Line = lines.line(max(int(syntax.Offset)-1, 0))
		}
		return nil, p
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	r := jsonReader{file: file, dec: dec, lines: lines}
	return r.value()
}

// jsonReader reads valid JSON token by token, since only so the lines are known.
type jsonReader struct {
	file  string
	dec   *json.Decoder
	lines lineIndex
}

func (r *jsonReader) value() (*yaml.Node, error) {
	tok, err := r.dec.Token()
	if err != nil {
		return nil, &Problem{File: r.file, Text: "not valid JSON: " + oneLine(err.Error()), err: err}
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line()}
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '{' {
			return n, r.object(n)
		}
		return n, r.array(n)
	case string:
		n.Tag, n.Value = "!!str", tok
	case json.Number:
		n.Tag, n.Value = "!!int", tok.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(tok)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

func (r *jsonReader) object(n *yaml.Node) error {
	n.Kind, n.Tag = yaml.MappingNode, "!!map"
	for have := map[string]bool{}; r.dec.More(); {
		key, err := r.value()
		if err != nil {
			return err
		}
		if have[key.Value] {
			return &Problem{File: r.file, Line: key.Line, Text: fmt.Sprintf("key %s is given twice; keep one of the two", quote(key.Value))}
		}
		have[key.Value] = true
		val, err := r.value()
		if err != nil {
			return err
		}
		n.Content = append(n.Content, key, val)
	}
	_, err := r.dec.Token()
	return err
}

func (r *jsonReader) array(n *yaml.Node) error {
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	for r.dec.More() {
		item, err := r.value()
		if err != nil {
			return err
		}
		n.Content = append(n.Content, item)
	}
	_, err := r.dec.Token()
	return err
}

// line is that of the last token's end; no JSON token spans lines.
func (r *jsonReader) line() int { return r.lines.line(int(r.dec.InputOffset()) - 1) }
