// Package dockerplugin is tapswitch as a network driver of Docker's: it serves
// libnetwork's remote driver protocol (libnetwork/docs/remote.md) and does what
// that asks for through the control API of a running switch. It has no
// datapath, no addresses and no policy of its own.
//
//	protocol.go  what Docker says, and what it is told
//	server.go    one request, one answer
//	network.go   networks
//	endpoint.go  endpoints: CreateEndpoint, Join, Leave, DeleteEndpoint
//	ports.go     published ports
//	tap.go       the device that Docker moves into the container
//	sync.go      the switch comes and goes: what is there, what is missing
//	listen.go    our socket, and where Docker finds it
//
// Each endpoint of Docker's is a container of the switch with one interface,
// under Docker's own id. Its life:
//
//	CreateEndpoint  the address is taken on the switch
//	Join            a TAP is made where dockerd's network is, and put on the
//	                switch; Docker moves it into the container and names it
//	Program...      its published ports are opened, if it has the default route
//	Revoke...       they are closed
//	Leave           nothing: Docker moves the device back to us
//	DeleteEndpoint  the last descriptors of it are closed, so it is gone
//
// The descriptor was opened outside of the container's namespace, and does not
// keep that alive: should the namespace die without a word from Docker, the
// switch sees the device report it.
//
// Who remembers what: Docker tells everything once and never again, neither
// when the driver restarts nor when it does itself, with containers that live
// on. What is on the switch is the truth; a plugin that starts reads it there.
// The plugin has a duplicate of each TAP, so that a restart of the switch takes
// no interface away from a container: the switch gets the same devices again.
package dockerplugin
