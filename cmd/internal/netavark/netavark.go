// Package netavark is the face towards podman 4.5 and later: a plugin for its
// network program netavark, API version 1.0.0. The driver's name is the
// program's: `podman network create -d tapswitch NAME` calls create, a container
// that starts or ends calls setup and teardown once for each of its networks.
//
//	netavark.go  calls, errors
//	types.go     what netavark writes and reads
//	create.go    create
//	setup.go     setup, teardown
package netavark

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/term"
)

// Name is a name for the program as a plugin; the driver may also be tapswitch.
const Name = "tapswitch-netavark"

// APIVersion is that of the protocol.
const APIVersion = "1.0.0"

var calls = []string{"create", "setup", "teardown", "info"}

// Called says whether args are a plugin's call. None of these is a command of
// ours, and netavark writes to standard input, where people have a terminal.
func Called(args []string) bool {
	if filepath.Base(args[0]) == Name {
		return true
	}
	if len(args) < 2 || !slices.Contains(calls, args[1]) {
		return false
	}
	withPath := args[1] == "setup" || args[1] == "teardown"
	return withPath && len(args) == 3 || !withPath && len(args) == 2 && !term.IsTerminal(0)
}

// Main serves one call and returns the exit code. The answer, or the error, goes
// to standard output as JSON.
func Main(args []string, version string) int {
	out, err := serve(args[1:], os.Stdin, version)
	code := 0
	if err != nil {
		out, code = map[string]string{"error": err.Error()}, 1
	}
	if out != nil {
		_ = json.NewEncoder(os.Stdout).Encode(out)
	}
	return code
}

// maxInput bounds what is read: a network or a container is described in less.
const maxInput = 4 << 20

func serve(args []string, in io.Reader, version string) (any, error) {
	usage := fmt.Errorf("this is a plugin of netavark: it is called with create, setup PATH, teardown PATH or info")
	if len(args) == 0 {
		return nil, usage
	}
	if args[0] == "info" && len(args) == 1 {
		return info{Version: version, APIVersion: APIVersion}, nil
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	switch {
	case args[0] == "create" && len(args) == 1:
		return create(text)
	case args[0] == "setup" && len(args) == 2:
		return setup(args[1], text)
	case args[0] == "teardown" && len(args) == 2:
		return nil, teardown(text)
	}
	return nil, usage
}
