package configs

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"go.yaml.in/yaml/v3"
)

// parseTOML is parse for TOML. The decoder judges the file, its own parser then gives the lines, which the
// decoded value has not.
func parseTOML(file string, data []byte) (*yaml.Node, error) {
	if line := tooDeep(data); line > 0 {
		return nil, &Problem{File: file, Line: line, Text: fmt.Sprintf("not valid TOML: brackets nest deeper than %d; look for one that is not closed", maxDepth)}
	}
	var probe map[string]any
	if err := toml.Unmarshal(data, &probe); err != nil {
		return nil, tomlError(file, data, err)
	}
	r := tomlReader{file: file, lines: indexLines(data)}
	r.parser.Reset(data)
	root := tomlTable(1)
	for here := root; r.parser.NextExpression(); {
		var err error
		switch e := r.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			here, err = r.header(root, e)
		case unstable.KeyValue:
			err = r.keyValue(here, e)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := r.parser.Error(); err != nil {
		return nil, &Problem{File: file, Text: "not valid TOML: " + oneLine(err.Error())}
	}
	return root, nil
}

// tomlError is the decoder's error with its line. The decoder knows it for syntax, not for keys given twice;
// there it is the end of the shortest beginning of the file that fails alike, since the first error ends it.
func tomlError(file string, data []byte, err error) error {
	text := oneLine(strings.TrimPrefix(err.Error(), "toml: "))
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		line, _ := syntax.Position()
		return &Problem{File: file, Line: line, Text: "not valid TOML: " + text + "; look for a missing quote, bracket or = on this line"}
	}
	lines := indexLines(data)
	line := 1 + sort.Search(len(lines), func(i int) bool {
		var probe map[string]any
		e := toml.Unmarshal(data[:lines[i]], &probe)
		return e != nil && e.Error() == err.Error()
	})
	return &Problem{File: file, Line: line, Text: "not valid TOML: " + text + "; keep one of the two"}
}

// tooDeep returns the line where brackets first nest deeper than maxDepth, 0 if nowhere. The parser recurses
// per bracket and a Go stack that overflows cannot be recovered, so this comes before it.
func tooDeep(data []byte) int {
	depth, line := 0, 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '\n':
			line++
		case '#':
			i += untilNewline(data[i:])
			i-- // the newline is counted above
		case '"', '\'':
			n := stringLength(data[i:])
			line += bytes.Count(data[i:i+n], []byte{'\n'})
			i += n - 1
		case '[', '{':
			if depth++; depth > maxDepth {
				return line
			}
		case ']', '}':
			depth--
		}
	}
	return 0
}

func untilNewline(b []byte) int {
	if n := bytes.IndexByte(b, '\n'); n >= 0 {
		return n
	}
	return len(b)
}

// stringLength is that of the string at the start of b, with its quotes. One that does not end stops at its line
// (a multi-line one at the end): that is where the parser stops for good.
func stringLength(b []byte) int {
	end := b[:1]
	if multi := bytes.Repeat(end, 3); bytes.HasPrefix(b, multi) {
		end = multi
	}
	for i := len(end); i < len(b); i++ {
		switch {
		case b[i] == '\\' && b[0] == '"':
			i++
		case b[i] == '\n' && len(end) == 1:
			return i
		case bytes.HasPrefix(b[i:], end):
			return i + len(end)
		}
	}
	return len(b)
}

// tomlReader builds nodes from the parser's expressions.
type tomlReader struct {
	file   string
	parser unstable.Parser
	lines  lineIndex
}

// header returns the table that [a.b] or [[a.b]] opens.
func (r *tomlReader) header(root *yaml.Node, e *unstable.Node) (*yaml.Node, error) {
	here := root
	for it := e.Key(); it.Next(); {
		key, last := it.Node(), it.IsLast()
		if !last || e.Kind == unstable.Table {
			var err error
			if here, err = r.enter(here, key); err != nil {
				return nil, err
			}
			continue
		}
		line := r.line(key, here.Line)
		seq := lookup(here, string(key.Data))
		if seq == nil {
			seq = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: line}
			here.Content = append(here.Content, tomlKey(key, line), seq)
		}
		if seq.Kind != yaml.SequenceNode {
			return nil, r.redefined(key, line)
		}
		here = tomlTable(line)
		seq.Content = append(seq.Content, here)
	}
	return here, nil
}

// keyValue puts a.b = value into the table.
func (r *tomlReader) keyValue(table *yaml.Node, e *unstable.Node) error {
	for it := e.Key(); it.Next(); {
		key := it.Node()
		if !it.IsLast() {
			var err error
			if table, err = r.enter(table, key); err != nil {
				return err
			}
			continue
		}
		line := r.line(key, table.Line)
		val, err := r.value(e.Value(), line)
		if err != nil {
			return err
		}
		table.Content = append(table.Content, tomlKey(key, line), val)
	}
	return nil
}

// enter returns the table under key, of a list its last, and makes it if there is none.
func (r *tomlReader) enter(table *yaml.Node, key *unstable.Node) (*yaml.Node, error) {
	line := r.line(key, table.Line)
	next := lookup(table, string(key.Data))
	if next == nil {
		next = tomlTable(line)
		table.Content = append(table.Content, tomlKey(key, line), next)
	}
	if next.Kind == yaml.SequenceNode && len(next.Content) > 0 {
		next = next.Content[len(next.Content)-1]
	}
	if next.Kind != yaml.MappingNode {
		return nil, r.redefined(key, line)
	}
	return next, nil
}

// value copies a value; line is that of its key or list, for those that the parser gives no place.
func (r *tomlReader) value(v *unstable.Node, line int) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: string(v.Data), Line: r.line(v, line)}
	switch v.Kind {
	case unstable.Array:
		n.Kind, n.Tag, n.Value = yaml.SequenceNode, "!!seq", ""
		for it := v.Children(); it.Next(); {
			item, err := r.value(it.Node(), n.Line)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, item)
		}
	case unstable.InlineTable:
		n.Kind, n.Tag, n.Value = yaml.MappingNode, "!!map", ""
		for it := v.Children(); it.Next(); {
			if err := r.keyValue(n, it.Node()); err != nil {
				return nil, err
			}
		}
	case unstable.Integer:
		n.Tag = "!!int"
	case unstable.Float:
		n.Tag = "!!float"
	case unstable.Bool:
		n.Tag = "!!bool"
	default:
		n.Tag = "!!str"
	}
	return n, nil
}

func (r *tomlReader) line(n *unstable.Node, otherwise int) int {
	if n.Raw.Length == 0 {
		return otherwise
	}
	return r.lines.line(int(n.Raw.Offset))
}

func (r *tomlReader) redefined(key *unstable.Node, line int) error {
	return &Problem{File: r.file, Line: line, Text: fmt.Sprintf("key %s is given twice, as different things; keep one of the two", quote(string(key.Data)))}
}

func tomlTable(line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: line}
}

func tomlKey(key *unstable.Node, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(key.Data), Line: line}
}
