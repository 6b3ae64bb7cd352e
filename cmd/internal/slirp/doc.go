// Package slirp is tapswitch when it is called slirp4netns: the command line, the
// files and the words of that program over a switch of ours with its addresses.
// RootlessKit, podman, Docker and nerdctl call it.
//
//	options.go   the command line
//	text.go      what it prints: help, version, what it starts with
//	network.go   the addresses that a CIDR stands for
//	run.go       the life of the process
//	bess.go      a guest at a socket instead of a TAP
//	hostfwd.go   the API socket: what is published
//	request.go   its requests and answers
package slirp
