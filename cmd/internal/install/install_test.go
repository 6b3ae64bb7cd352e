package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// place is a directory with a record, and what was told.
type place struct {
	t    *testing.T
	dir  string
	told []string
}

func newPlace(t *testing.T) *place { return &place{t: t, dir: t.TempDir()} }

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) record() *Record {
	p.t.Helper()
	r, err := Open(p.path("record/installed.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *place) tell(s string) { p.told = append(p.told, strings.ReplaceAll(s, p.dir, "")) }

func (p *place) items() []Item {
	return []Item{{Path: p.path("a/unit"), What: "service", Data: []byte("[Unit]\n")}, {Path: p.path("b/pasta"), What: "links", Link: "/usr/bin/tapswitch"}}
}

// files are all that is in the directory, but the record.
func (p *place) files() (list []string) {
	_ = filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, p.dir))
		}
		return nil
	})
	return list
}

func (p *place) want(what string, got, want []string) {
	p.t.Helper()
	if !slices.Equal(got, want) {
		p.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestPutAndRemove(t *testing.T) {
	p := newPlace(t)
	if err := p.record().Put(p.items(), true, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("a dry run tells", p.told, []string{"/a/unit", "/b/pasta -> /usr/bin/tapswitch"})
	p.want("a dry run makes", p.files(), nil)
	for range 2 { // the second time all is there
		if err := p.record().Put(p.items(), false, p.tell); err != nil {
			t.Fatal(err)
		}
	}
	p.want("made", p.files(), []string{"/a/unit", "/b/pasta", "/record/installed.json"})
	var states []string
	for _, m := range p.record().List() {
		states = append(states, m.What+" "+m.State())
	}
	p.want("the list", states, []string{"links ok", "service ok"})
	if err := p.record().Remove("", true, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("after a dry run", p.files(), []string{"/a/unit", "/b/pasta", "/record/installed.json"})
	if err := p.record().Remove("links", false, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("without links", p.files(), []string{"/a/unit", "/record/installed.json"})
	if err := p.record().Remove("", false, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("in the end", p.files(), nil)
}

// TestReplace installs another version over what was made.
func TestReplace(t *testing.T) {
	p := newPlace(t)
	for _, text := range []string{"one", "two"} {
		if err := p.record().Put([]Item{{Path: p.path("unit"), What: "service", Data: []byte(text)}}, false, p.tell); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(p.path("unit")); string(b) != text {
			t.Errorf("the file holds %q, want %q", b, text)
		}
	}
	if n := len(p.record().List()); n != 1 {
		t.Errorf("the list has %d entries", n)
	}
}

func TestOthersFilesStay(t *testing.T) {
	p := newPlace(t)
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(p.path(name)), 0o755), os.WriteFile(p.path(name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("b/pasta", "somebody's")
	err := p.record().Put(p.items(), false, p.tell)
	if err == nil || !strings.Contains(err.Error(), "not made by us") {
		t.Fatalf("written over a file of others: %v", err)
	}
	p.want("nothing of a refused list", p.files(), []string{"/b/pasta"})

	os.Remove(p.path("b/pasta"))
	if err := p.record().Put(p.items(), false, p.tell); err != nil {
		t.Fatal(err)
	}
	write("a/unit", "edited")
	os.Remove(p.path("b/pasta"))
	write("b/pasta", "somebody's")
	if err := p.record().Put(p.items(), false, p.tell); err == nil || !strings.Contains(err.Error(), "changed since") {
		t.Errorf("written over what was changed: %v", err)
	}
	p.told = nil
	if err := p.record().Remove("", false, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("told", p.told, []string{"/b/pasta was changed since: it stays", "/a/unit was changed since: it stays"})
	p.want("stays", p.files(), []string{"/a/unit", "/b/pasta"})
}

// TestPutFails makes the second of two impossible: the first goes again.
func TestPutFails(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(p.path("b"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.record().Put(p.items(), false, p.tell); err == nil {
		t.Fatal("a link was made below a file")
	}
	p.want("left", p.files(), []string{"/b"})
	if n := len(p.record().List()); n != 0 {
		t.Errorf("the list has %d entries", n)
	}
}

func TestMissing(t *testing.T) {
	p := newPlace(t)
	if err := p.record().Put(p.items(), false, p.tell); err != nil {
		t.Fatal(err)
	}
	os.Remove(p.path("a/unit"))
	p.told = nil
	if err := p.record().Remove("", false, p.tell); err != nil {
		t.Fatal(err)
	}
	p.want("told", p.told, []string{"removed /b/pasta", "/a/unit is gone already"})
}

func TestBadRecord(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"made":[]}`, `{"version":1,"made":[{"path":"etc/passwd","what":"links","link":"/x"}]}`,
		`{"version":1,"made":[{"path":"/a/../etc/passwd","what":"links","link":"/x"}]}`, `{"version":1,"made":[{"path":"/etc/passwd","what":"links"}]}`} {
		p := newPlace(t)
		path := p.path("installed.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzRecord makes sure that no record names anything but a file or link at a
// plain absolute path.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"made":[{"path":"/a","what":"links","link":"/b"},{"path":"/c","what":"service","sha256":"00"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		for _, m := range r.Made {
			if !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || m.Link == "" && m.Sum == "" {
				t.Errorf("%q passes", m.Path)
			}
		}
	})
}
