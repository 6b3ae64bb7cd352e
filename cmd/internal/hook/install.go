package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A hook's file for podman, version 1.0.0 of oci-hooks(5).
type podmanHook struct {
	Version string   `json:"version"`
	Hook    program  `json:"hook"`
	When    when     `json:"when"`
	Stages  []string `json:"stages"`
}

type program struct {
	Path    string   `json:"path"`
	Args    []string `json:"args"`
	Timeout int      `json:"timeout"` // seconds
}

type when struct {
	Annotations map[string]string `json:"annotations"` // regular expressions, both
}

// timeout is how long podman waits for a hook: the switch answers in
// milliseconds, but one that is just starting has its own patience.
const timeout = 30

// Files are the hook files by name: program is the path of tapswitch, socket the
// switch that containers are to be on.
func Files(program_, socket string) (map[string][]byte, error) {
	out := make(map[string][]byte)
	for _, s := range Stages {
		h := podmanHook{Version: "1.0.0", Stages: []string{s}, When: when{map[string]string{`^tapswitch\.network$`: `.*`}},
			Hook: program{program_, []string{"tapswitch", "--socket", socket, "hook", s}, timeout}}
		b, err := json.MarshalIndent(h, "", "  ")
		if err != nil {
			return nil, err
		}
		out["tapswitch-"+strings.ToLower(s)+".json"] = append(b, '\n')
	}
	return out, nil
}

// Install writes the hook files into dir and returns their paths.
func Install(dir, program, socket string) (paths []string, err error) {
	files, err := Files(program, socket)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("hooks directory: %w", err)
	}
	for _, s := range Stages { // in their order
		name := "tapswitch-" + strings.ToLower(s) + ".json"
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return paths, fmt.Errorf("hook file: %w", err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// Uninstall removes the hook files from dir and returns the paths of those that
// were there.
func Uninstall(dir string) (paths []string, err error) {
	for _, s := range Stages {
		path := filepath.Join(dir, "tapswitch-"+strings.ToLower(s)+".json")
		switch rerr := os.Remove(path); {
		case rerr == nil:
			paths = append(paths, path)
		case !errors.Is(rerr, fs.ErrNotExist):
			err = errors.Join(err, rerr)
		}
	}
	return paths, err
}
