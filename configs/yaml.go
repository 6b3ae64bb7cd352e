package configs

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseYAML is parse for YAML.
func parseYAML(file string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, yamlError(file, data, err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &Problem{File: file, Line: second.Line, Text: "a second document starts here and would be ignored; keep one document, without a further ---"}
	case !errors.Is(err, io.EOF):
		return nil, yamlError(file, data, err)
	}
	// Decoding into a plain value finds what the nodes alone do not show: keys given twice, aliases that
	// contain themselves or explode, merges of what is no mapping. After it, following aliases ends.
	var probe any
	if err := doc.Decode(&probe); err != nil {
		return nil, yamlError(file, data, err)
	}
	return flatten(doc.Content[0], map[*yaml.Node]*yaml.Node{}), nil
}

// flatten copies n with aliases replaced by what they stand for and merge keys (<<) by what they bring. A key
// of the mapping itself goes before a merged one, an earlier merged one before a later.
func flatten(n *yaml.Node, done map[*yaml.Node]*yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode {
		return n
	}
	if f := done[n]; f != nil {
		return f
	}
	f := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Line: n.Line}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			f.Content = append(f.Content, flatten(item, done))
		}
		done[n] = f
		return f
	}
	var merged []*yaml.Node
	have := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := flatten(n.Content[i], done), flatten(n.Content[i+1], done)
		switch {
		case n.Content[i].ShortTag() != "!!merge":
			have[key.Value] = true
			f.Content = append(f.Content, key, val)
		case val.Kind == yaml.SequenceNode:
			merged = append(merged, val.Content...)
		default:
			merged = append(merged, val)
		}
	}
	for _, m := range merged {
		for i := 0; i+1 < len(m.Content); i += 2 {
			if key := m.Content[i]; !have[key.Value] {
				have[key.Value] = true
				f.Content = append(f.Content, key, m.Content[i+1])
			}
		}
	}
	done[n] = f
	return f
}

var (
	yamlLine   = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)
	yamlAnchor = regexp.MustCompile(`anchor '([^']+)'`)
)

// yamlError splits the library's error, one or several, into problems with their lines.
func yamlError(file string, data []byte, err error) error {
	texts := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		texts = typed.Errors
	}
	var problems []*Problem
	for _, text := range texts {
		m := yamlLine.FindStringSubmatch(text)
		line, _ := strconv.Atoi(m[1])
		text = text[len(m[0]):]
		if m := yamlAnchor.FindStringSubmatch(text); m != nil && line == 0 { // has no line; the first alias of that name has
			if at := bytes.Index(data, []byte("*"+m[1])); at >= 0 {
				line = indexLines(data).line(at)
			}
		}
		problems = append(problems, &Problem{File: file, Line: line, Text: "not valid YAML: " + oneLine(text) + "; " + yamlHint(text)})
	}
	return join(problems)
}

func yamlHint(text string) string {
	switch {
	case strings.Contains(text, "already defined"):
		return "keep one of the two"
	case strings.Contains(text, "cannot start any token"):
		return "indent with spaces, not tabs, and quote values that start with @, ` or %"
	case strings.Contains(text, "alias") || strings.Contains(text, "anchor"):
		return "write the value out"
	}
	return "look for a missing quote, bracket, colon or indentation on this line or the one before"
}
