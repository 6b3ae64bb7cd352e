package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"tapswitch/cmd/internal/porter"
)

// record is a directory beside the switch's socket, one for each container, that
// holds its resolv.conf and hosts and what one stage leaves for the next. It is
// the user's alone, and gone with the container.
type record struct{ dir string }

// note is the file in it for us.
type note struct {
	Name     string `json:"name"`            // podman's name of the container
	Hostname string `json:"hostname"`        // as the container has it
	Extra    string `json:"extra,omitempty"` // lines that podman would have in hosts: --add-host
	OnSwitch string `json:"on_switch,omitempty"`
	Pid      int    `json:"pid,omitempty"`
	Start    uint64 `json:"start_time,omitempty"`
	Problem  string `json:"problem,omitempty"` // of precreate, for createRuntime to tell
}

var idRE = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,128}$`)

// recordOf is the record of a container; its name is the runtime's id.
func recordOf(socket, id string) (record, error) {
	if !idRE.MatchString(id) || id == "." || id == ".." {
		return record{}, fmt.Errorf("container id %q is no name for a directory", id)
	}
	return record{filepath.Join(recordsOf(socket), id)}, nil
}

func recordsOf(socket string) string { return socket + ".hooks" }

func (r record) path(name string) string { return filepath.Join(r.dir, name) }

// begin makes the record anew.
func (r record) begin(n note) error {
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	return r.save(n)
}

func (r record) save(n note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(r.path("note.json"), b, 0o600)
}

// load reads the note; an empty one where no earlier stage has left one.
func (r record) load() (n note, err error) {
	b, err := os.ReadFile(r.path("note.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return note{}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	return n, err
}

// write puts text into a file that is there: the container has it mounted, so it
// must stay the same file.
func (r record) write(name, text string) error {
	f, err := os.OpenFile(r.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not mounted
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// remove takes the record away, and the directory of all with the last.
func (r record) remove() error {
	err := os.RemoveAll(r.dir)
	_ = os.Remove(filepath.Dir(r.dir)) // stays while it has others
	return err
}

// unfinished is how old a record without a process may be: its container is
// between two stages, or never came to be.
const unfinished = 10 * time.Minute

// sweep removes records whose container ended without its poststop hook, as
// after a crash of podman.
func sweep(socket string, now time.Time) {
	dirs, _ := os.ReadDir(recordsOf(socket))
	for _, d := range dirs {
		r := record{filepath.Join(recordsOf(socket), d.Name())}
		n, err := r.load()
		if err != nil {
			continue
		}
		if n.Pid > 0 {
			if start, err := porter.StartTime(n.Pid); err != nil || start != n.Start {
				_ = r.remove()
			}
			continue
		}
		if info, err := d.Info(); err == nil && now.Sub(info.ModTime()) > unfinished {
			_ = r.remove()
		}
	}
}
