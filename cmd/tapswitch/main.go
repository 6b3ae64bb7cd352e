// Command tapswitch is a virtual switch over TAP devices: the network of
// rootless containers as one program. One binary has several roles, told by the
// name it is called with (faces.go lists them); people use the commands.
package main

import (
	"os"
	"path/filepath"

	"tapswitch/cmd/internal/cni"
	"tapswitch/cmd/internal/netavark"
)

// Version is set at build time with -ldflags "-X main.Version=...".
var Version = "0.1.0-dev"

func main() {
	if f := called(filepath.Base(os.Args[0])); f != nil {
		os.Exit(f.main(os.Args))
	}
	switch { // plugins that are found by the way they are called, too
	case cni.Called(os.Args):
		os.Exit(cni.Main("tapswitch " + Version))
	case netavark.Called(os.Args):
		os.Exit(netavark.Main(os.Args, Version))
	}
	os.Exit(run(os.Args[1:]))
}
