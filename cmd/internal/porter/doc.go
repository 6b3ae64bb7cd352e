// Package porter is the part of tapswitch that makes and enters namespaces:
// it starts containers and the worker, holds the namespaces that have no
// process, opens TAPs, runs commands in containers, and sees that all of it
// ends with the switch. It talks to no network.
//
//	protocol.go  what worker and porter say to each other
//	porter.go    the porter's life: start the worker, serve it, take all down
//	request.go   the control API of a worker that serves one caller
//	spawn.go     processes in namespaces
//	inside.go    what runs first inside a container
//	mounts.go    its files: proc, sys, resolv.conf, hosts
//	exec.go      commands in a container that runs
//	owner.go     which process of a container has which port
//	rejoin.go    namespaces of others, found again after a restart
package porter
