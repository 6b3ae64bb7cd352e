package cmd_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Imports run one way. A folder may import those listed beside it, and its own
// sub-packages; the reason is what would go wrong otherwise.
var mayImport = []struct {
	folder string
	list   []string
	reason string
}{
	{"switch", nil, "the datapath knows actions, not NAT: it is tested with frames alone"},
	{"configs", nil, "the configuration is checked without touching anything"},
	{"nat", []string{"switch"}, "the gateway is a port of the switch and knows no policy of publishing or naming"},
	{"forward", []string{"nat", "switch"}, "publishing and names stand on the gateway, not beside it"},
	{"cmd", []string{"configs", "forward", "nat", "switch"}, "everything meets in the command"},
	// A caller of the API brings its own TAP, which takes raw forks: perf borrows ours.
	{"perf", []string{"switch/ns"}, "the benchmark drives the program as its users do, or it would measure something else"},
}

// viper is the business of one package: its names are lower-cased and split at
// dots, which nobody else should have to know.
var onlyIn = map[string]string{"github.com/spf13/viper": "configs"}

func TestImportsRunOneWay(t *testing.T) {
	seen := 0
	for _, rule := range mayImport {
		err := filepath.WalkDir(filepath.Join("..", rule.folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, i := range f.Imports {
				name, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					return err
				}
				if owner, ok := onlyIn[name]; ok && rule.folder != owner {
					t.Errorf("%s imports %s, which is for %s alone", path, name, owner)
				}
				ours, ok := strings.CutPrefix(name, "tapswitch/")
				if !ok {
					continue
				}
				seen++
				top, _, _ := strings.Cut(ours, "/")
				if top != rule.folder && !slices.Contains(rule.list, top) && !slices.Contains(rule.list, ours) {
					t.Errorf("%s imports %s: %s", path, name, rule.reason)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 20 {
		t.Errorf("only %d imports of ours were seen: is the test looking in the right place?", seen)
	}
}
