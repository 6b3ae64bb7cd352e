package main

import (
	"tapswitch/cmd/internal/cni"
	"tapswitch/cmd/internal/demo"
	"tapswitch/cmd/internal/netavark"
	"tapswitch/cmd/internal/pasta"
	"tapswitch/cmd/internal/porter"
	"tapswitch/cmd/internal/sandbox"
	"tapswitch/cmd/internal/slirp"
	"tapswitch/cmd/internal/worker"
)

// face is what the program is when it is called by a name of its own. Those
// that others call stand in for a program of theirs, or are plugins that they
// find by name; a link of that name leads to the one binary.
type face struct {
	name  string
	main  func(args []string) int // args[0] is the name; gives the exit code
	short string                  // whose place it takes; "": one of our own processes
	use   string                  // how its caller is told, with %s for the link's path; "": it finds it
	with  string                  // what installs it; "" is links
}

// faces are all of them: one row each, consulted by main, install and the
// package. It is a function, since some of them run commands that ask for it.
func faces() []face {
	return []face{
		// Our own processes.
		{name: porter.WorkerName, main: func([]string) int { return worker.Run() }},
		{name: sandbox.StageName, main: sandbox.Stage},
		{name: porter.InitName, main: func([]string) int { return porter.Inside() }},
		{name: porter.ExecName, main: func([]string) int { return porter.ExecHelper() }},
		{name: porter.ShareName, main: func([]string) int { return porter.ShareHelper() }},
		{name: porter.StageName, main: func([]string) int { return porter.Stage() }},
		{name: demo.WorldName, main: demo.World},
		{name: demo.ProbeName, main: func(args []string) int { return demo.Probe(args[1:]) }},
		{name: ProbeName, main: doctorProbe},
		{name: pasta.CommandName, main: pasta.Command},
		{name: pasta.HelperName, main: func([]string) int { return pasta.Helper() }},

		// Those that others call.
		{name: slirp.Name, main: func(args []string) int { return slirp.Run(args, Version) }, short: "for slirp4netns, as RootlessKit and podman 4 call it",
			use: "rootlesskit --net=slirp4netns --slirp4netns-binary=%s ...; podman: network_cmd_path = \"%s\" under [engine] in containers.conf"},
		{name: pasta.Name, main: func(args []string) int { return pasta.Run(args, Version) }, short: "for pasta, as podman 5 and RootlessKit call it",
			use: "rootlesskit: its directory first in PATH; podman 5: helper_binaries_dir under [engine] in containers.conf"},
		{name: ExtcapName, main: func(args []string) int { return extcap(args[1:]) }, short: "for Wireshark", with: "extcap"},
		{name: cni.Name, main: func([]string) int { return cni.Main("tapswitch " + Version) }, short: "a CNI plugin",
			use: "among the directories of CNI plugins: cni_plugin_dirs under [network] in containers.conf"},
		{name: netavark.Name, main: func(args []string) int { return netavark.Main(args, Version) }, short: "a netavark plugin",
			use: "netavark_plugin_dirs under [network] in containers.conf"},
	}
}

// called is the face of a name; nil: the program is called as itself.
func called(name string) *face {
	for _, f := range faces() {
		if f.name == name {
			return &f
		}
	}
	return nil
}
