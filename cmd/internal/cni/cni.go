// Package cni is the face towards container engines that set networks up with
// CNI plugins (https://www.cni.dev, specification 1.1): podman before version 5,
// CRI-O, containerd, nerdctl, cnitool. Each network of a container is one call of
// this program, with the configuration on standard input.
//
//	cni.go    commands and errors
//	conf.go   the configuration, and what the caller adds to it
//	add.go    ADD
//	end.go    DEL, GC
//	check.go  CHECK, STATUS
package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// Name is a name for the program as a plugin: "type" in the configuration. The
// type may also be tapswitch.
const Name = "tapswitch-cni"

// Called says whether args are those of a plugin's call: CNI tells by the
// environment, and gives no arguments.
func Called(args []string) bool {
	return filepath.Base(args[0]) == Name || len(args) == 1 && os.Getenv("CNI_COMMAND") != ""
}

// Main serves one call and returns the exit code. Errors go to standard output,
// as JSON.
func Main(about string) int {
	// The library looks whether CNI_NETNS is its own namespace when all is done;
	// that is too late, and it takes one that is gone for an error. ADD looks first.
	os.Setenv("CNI_NETNS_OVERRIDE", "true")
	funcs := skel.CNIFuncs{Add: add, Del: del, Check: check, GC: gc, Status: status}
	if err := skel.PluginMainFuncsWithError(funcs, version.All, about); err != nil {
		if perr := err.Print(); perr != nil {
			fmt.Fprintln(os.Stderr, perr)
		}
		return 1
	}
	return 0
}

// Codes of errors beside those of the library (specification, section 5); our own
// begin at 100.
const (
	errNotAvailable = 50  // STATUS: ADD would fail
	errRefused      = 100 // the switch says no
)

// explain makes an error with a code of the specification of any.
func explain(err error) error {
	var coded *types.Error
	var off *client.NotRunning
	var e *api.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return err
	case errors.As(err, &off):
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	case errors.As(err, &e) && e.Code == api.BadRequest:
		return types.NewError(types.ErrInvalidNetworkConfig, e.Message, e.Hint)
	case errors.As(err, &e):
		return types.NewError(errRefused, e.Message, e.Hint)
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

func invalid(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}
