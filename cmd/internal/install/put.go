package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Item is a file or a link to be made.
type Item struct {
	Path string
	What string
	Link string // where it leads; "" for a file
	Data []byte // of a file
}

func (i Item) made() Made {
	m := Made{Path: i.Path, What: i.What, Link: i.Link}
	if i.Link == "" {
		m.Sum = sum(i.Data)
	}
	return m
}

// Put makes items, all of them or none, and tells of each; dry only tells. What
// is there already and is not of our making is an error.
func (r *Record) Put(items []Item, dry bool, tell func(string)) error {
	for _, i := range items {
		if err := r.mayPut(i); err != nil {
			return err
		}
	}
	before := len(r.list)
	for n, i := range items {
		if i.made().State() == StateOK {
			if _, ours := r.find(i.Path); ours {
				tell(i.Path + " is there")
				continue
			}
		}
		if !dry {
			if err := i.put(); err != nil {
				r.undo(items[:n], before)
				return err
			}
			if _, ours := r.find(i.Path); ours {
				r.forget(i.Path)
				before--
			}
			r.list = append(r.list, i.made())
		}
		if i.Link != "" {
			tell(i.Path + " -> " + i.Link)
		} else {
			tell(i.Path)
		}
	}
	if dry {
		return nil
	}
	if err := r.save(); err != nil {
		r.undo(items, before)
		return fmt.Errorf("what was installed could not be written down: %w", err)
	}
	return nil
}

// mayPut refuses to write over what is not ours.
func (r *Record) mayPut(i Item) error {
	if !filepath.IsAbs(i.Path) {
		return fmt.Errorf("%s is no absolute path", i.Path)
	}
	if _, err := os.Lstat(i.Path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	m, ours := r.find(i.Path)
	switch {
	case !ours:
		return fmt.Errorf("%s is there already and was not made by us: choose another place with --dir, or move it away", i.Path)
	case m.State() == StateChanged:
		return fmt.Errorf("%s was changed since we made it: move it away", i.Path)
	}
	return nil
}

func (i Item) put() error {
	if err := os.MkdirAll(filepath.Dir(i.Path), 0o755); err != nil {
		return err
	}
	return replace(i.Path, func(tmp string) error {
		if i.Link != "" {
			return os.Symlink(i.Link, tmp)
		}
		return os.WriteFile(tmp, i.Data, 0o644)
	})
}

// undo takes away what a failed Put has made anew; before is how many entries
// the record had.
func (r *Record) undo(items []Item, before int) {
	for _, m := range r.list[before:] {
		for _, i := range items {
			if i.Path == m.Path {
				_ = os.Remove(i.Path)
			}
		}
	}
	r.list = r.list[:before]
}
