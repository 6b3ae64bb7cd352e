package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Made is a file or link that we made.
type Made struct {
	Path string `json:"path"`
	What string `json:"what"`           // links, service, ...
	Link string `json:"link,omitempty"` // where it leads; "" for a file
	Sum  string `json:"sha256,omitempty"`
}

// States of what was made.
const (
	StateOK      = "ok"
	StateChanged = "changed"
	StateMissing = "missing"
)

// State says whether it is still as we made it.
func (m Made) State() string {
	st, err := os.Lstat(m.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return StateMissing
	case err != nil:
		return StateChanged
	}
	if m.Link != "" {
		if to, err := os.Readlink(m.Path); err == nil && to == m.Link {
			return StateOK
		}
		return StateChanged
	}
	if b, err := os.ReadFile(m.Path); err == nil && st.Mode().IsRegular() && sum(b) == m.Sum {
		return StateOK
	}
	return StateChanged
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Record is the list of what was made, in a file.
type Record struct {
	path string
	list []Made
}

type recordFile struct {
	Version int    `json:"version"`
	Made    []Made `json:"made"`
}

// Open reads the record at path; one that is not there is empty.
func Open(path string) (*Record, error) {
	r := &Record{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what was installed: %w", err)
	}
	f, err := parseRecord(b)
	if err != nil {
		return nil, fmt.Errorf("what was installed: %s: %w; move it away to start anew (what it lists is then yours to remove)", path, err)
	}
	r.list = f.Made
	return r, nil
}

func parseRecord(b []byte) (f recordFile, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&f); err != nil {
		return f, err
	}
	if f.Version != 1 {
		return f, fmt.Errorf("version %d is not known", f.Version)
	}
	for _, m := range f.Made {
		if !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || (m.Link == "") == (m.Sum == "") {
			return f, fmt.Errorf("%q is nothing that was made by us", m.Path)
		}
	}
	return f, nil
}

// List is what was made, by kind and path.
func (r *Record) List() []Made {
	out := slices.Clone(r.list)
	slices.SortFunc(out, func(a, b Made) int {
		if c := strings.Compare(a.What, b.What); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	return out
}

func (r *Record) find(path string) (Made, bool) {
	i := slices.IndexFunc(r.list, func(m Made) bool { return m.Path == path })
	if i < 0 {
		return Made{}, false
	}
	return r.list[i], true
}

func (r *Record) forget(path string) {
	r.list = slices.DeleteFunc(r.list, func(m Made) bool { return m.Path == path })
}

// save writes the record, or removes the file of an empty one.
func (r *Record) save() error {
	if len(r.list) == 0 {
		if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(recordFile{1, r.list}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
		return err
	}
	return replace(r.path, func(tmp string) error { return os.WriteFile(tmp, append(b, '\n'), 0o644) })
}

// replace makes a file or link beside path and moves it there in one step.
func replace(path string, make func(tmp string) error) error {
	tmp := path + ".tapswitch-new"
	_ = os.Remove(tmp)
	if err := make(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}
