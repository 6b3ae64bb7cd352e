package install

import (
	"fmt"
	"os"
)

// Remove takes away what was made of the kind what, "" for all, and tells of
// each; dry only tells. What was changed since stays, and is not ours any more.
func (r *Record) Remove(what string, dry bool, tell func(string)) error {
	var failed error
	for _, m := range r.List() {
		if what != "" && m.What != what {
			continue
		}
		switch m.State() {
		case StateMissing:
			tell(m.Path + " is gone already")
		case StateChanged:
			tell(m.Path + " was changed since: it stays")
		default:
			if !dry {
				if err := os.Remove(m.Path); err != nil {
					failed = err
					continue
				}
			}
			tell("removed " + m.Path)
		}
		if !dry {
			r.forget(m.Path)
		}
	}
	if dry {
		return nil
	}
	if err := r.save(); err != nil {
		return fmt.Errorf("what was installed could not be written down: %w", err)
	}
	return failed
}
