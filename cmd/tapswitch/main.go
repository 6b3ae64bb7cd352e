// Command tapswitch is a virtual switch over TAP devices: the network of
// rootless containers as one program. One binary has several roles, told by the
// name it is called with; people use the commands.
package main

import (
	"os"
	"path/filepath"

	"tapswitch/cmd/internal/cni"
	"tapswitch/cmd/internal/demo"
	"tapswitch/cmd/internal/netavark"
	"tapswitch/cmd/internal/pasta"
	"tapswitch/cmd/internal/porter"
	"tapswitch/cmd/internal/slirp"
	"tapswitch/cmd/internal/worker"
)

// Version is set at build time with -ldflags "-X main.Version=...".
var Version = "0.1.0-dev"

func main() {
	switch filepath.Base(os.Args[0]) {
	case porter.WorkerName:
		os.Exit(worker.Run())
	case porter.InitName:
		os.Exit(porter.Inside())
	case porter.ExecName:
		os.Exit(porter.ExecHelper())
	case porter.ShareName:
		os.Exit(porter.ShareHelper())
	case porter.StageName:
		os.Exit(porter.Stage())
	case demo.WorldName:
		os.Exit(demo.World(os.Args))
	case demo.ProbeName:
		os.Exit(demo.Probe(os.Args[1:]))
	case pasta.Name:
		os.Exit(pasta.Run(os.Args, Version))
	case pasta.CommandName:
		os.Exit(pasta.Command(os.Args))
	case pasta.HelperName:
		os.Exit(pasta.Helper())
	case slirp.Name:
		os.Exit(slirp.Run(os.Args, Version))
	case ExtcapName:
		os.Exit(extcap(os.Args[1:]))
	case ProbeName:
		os.Exit(doctorProbe(os.Args))
	}
	switch {
	case cni.Called(os.Args):
		os.Exit(cni.Main("tapswitch " + Version))
	case netavark.Called(os.Args):
		os.Exit(netavark.Main(os.Args, Version))
	}
	os.Exit(run(os.Args[1:]))
}
