// Package pasta is tapswitch when it is called pasta: the command line and the
// behaviour of that program over a switch of ours. podman, RootlessKit and people
// call it.
//
// The guest has the host's own addresses, as with pasta: the switch's gateway
// stands for every other address of that network (vswitch.Service, Proxy).
//
//	options.go  the command line
//	ports.go    what -t, -u, -T and -U say
//	text.go     help and version
//	host.go     the host's addresses and routes, which the guest gets
//	run.go      the life of the process
//	behind.go   the process goes behind when it is ready
//	command.go  namespaces of our own, with a command in them
//	helper.go   what is done inside the namespace: ports that listen there
//	auto.go     ports that follow those that listen
//	relay.go    the namespace's loopback leads to the host's
package pasta
