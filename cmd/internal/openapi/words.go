package openapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strings"
)

// words are comments, by Type and by Type.Field.
type words map[string]string

// readWords collects the comments of a package's types.
func readWords(source fs.FS) (words, error) {
	w := words{}
	files, err := fs.Glob(source, "*.go")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
				for _, spec := range g.Specs {
					w.add(g, spec.(*ast.TypeSpec))
				}
			}
		}
	}
	return w, nil
}

func (w words) add(g *ast.GenDecl, t *ast.TypeSpec) {
	doc := t.Doc
	if doc == nil {
		doc = g.Doc
	}
	w[t.Name.Name] = oneLine(doc)
	s, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		text := oneLine(f.Doc)
		if text == "" {
			text = oneLine(f.Comment)
		}
		for _, n := range f.Names {
			w[t.Name.Name+"."+n.Name] = text
		}
	}
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
