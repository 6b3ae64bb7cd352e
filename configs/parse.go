package configs

import (
	"bytes"
	"path/filepath"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes: room for some thousand containers. Looking for keys given twice,
// the YAML and TOML libraries compare each with each, so four times the size takes sixteen times as long.
const maxFile = 1 << 18

// maxDepth bounds how deep values nest in TOML, whose parser recurses without a limit of its own. The
// deepest that means something here is five.
const maxDepth = 100

// extensions a configuration file may have, in the order they are looked for.
var extensions = []string{"yaml", "yml", "toml", "json"}

// formatOf is the format that a file's name says: yaml, toml or json. Any other name is YAML, which JSON is too.
func formatOf(path string) string {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".toml", ".json":
		return ext[1:]
	}
	return "yaml"
}

// parse turns a file's bytes into a tree of mappings, sequences and scalars, each with its line and its text as
// written; nil for a file that says nothing. The tree has no aliases and no merge keys, and is finite.
func parse(file, format string, data []byte) (*yaml.Node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var root *yaml.Node
	var err error
	switch format {
	case "toml":
		root, err = parseTOML(file, data)
	case "json":
		root, err = parseJSON(file, data)
	default:
		root, err = parseYAML(file, data)
	}
	if err != nil || root == nil || isNull(root) {
		return nil, err
	}
	if root.Kind != yaml.MappingNode {
		return nil, &Problem{File: file, Line: root.Line, Text: describe(root) + " stands where the keys should; write " + strings.Join(topKeys(), ", ") + " as keys"}
	}
	return root, nil
}

// lookup returns the value of key in a mapping, nil if it has none.
func lookup(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// lineIndex finds the line of an offset without counting from the start each time.
type lineIndex []int // offsets of newlines

func indexLines(data []byte) lineIndex {
	var x lineIndex
	for i, b := range data {
		if b == '\n' {
			x = append(x, i)
		}
	}
	return x
}

func (x lineIndex) line(offset int) int { return sort.SearchInts(x, offset) + 1 }
