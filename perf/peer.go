package main

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// A peer is one network under test, ours among them.
type peer interface {
	// name is the column of the tables, and what thresholds say.
	name() string
	// about says in one line what it is and how it is configured.
	about() string
	// missing names what is not installed and how to get it; "" if all is there.
	missing() string
	// version says which build is measured.
	version() string
	// paths are those it offers when it runs.
	paths() []pathName
	// start builds the peer in a lab and returns once traffic may flow. On an
	// error it has ended what it started; ctx ends all of it.
	start(ctx context.Context, l *lab) (*topology, error)
}

// A topology is a peer that runs.
type topology struct {
	paths map[pathName]path // one for each that the peer offers
	stop  func()            // ends its processes; the lab stays the caller's
	// died says how its process ended by itself, or nil if it still runs after
	// the limit.
	died func(limit time.Duration) error
	// roots are the processes that were started; none for a peer in the kernel.
	roots []int
	// another starts a second one of a peer, or of a variant of it, in a lab of its
	// own, which ends with it.
	another func(context.Context, peer) (*topology, error)
	peer    peer
	// guests says how namespaces of others get onto the peer; nil if they do not.
	guests *guests
}

// inKernel is the topology of a peer without a process.
func inKernel(paths map[pathName]path) *topology {
	return &topology{paths: paths, stop: func() {}, died: func(time.Duration) error { return nil }}
}

// A path is a way through the network under test: the client connects to the
// address, and the server in the other place gets the connection, with the same
// port number on both sides.
type path struct {
	client  place
	server  place
	address string
}

type pathName string

const (
	pathNone      pathName = ""          // a row about the peer's processes
	pathContainer pathName = "container" // container to container
	pathOut       pathName = "out"       // container to outside, masqueraded
	pathPublished pathName = "published" // outside to a published port of the host
	pathHost      pathName = "host"      // host's loopback to a published port
	pathSecond    pathName = "second"    // the second container to outside, masqueraded
)

// pathNames in the order of the tables, and those of a peer with one container.
var (
	pathNames = []pathName{pathContainer, pathOut, pathPublished, pathHost}
	oneSided  = []pathName{pathOut, pathPublished, pathHost}
)

// Ports of the servers, the same on host and container where they are published.
const (
	portIperf = 5201
	portRR    = 7000
	portCRR   = 7100
	portFlood = 7200
	crrPorts  = 16
)

// A published is a range of ports that a peer publishes.
type published struct {
	proto string
	first uint16
	count uint16
}

// publishedPorts is what every peer publishes on all addresses of the host.
var publishedPorts = []published{
	{"tcp", portIperf, 1},
	{"tcp", portRR, 1},
	{"tcp", portCRR, crrPorts},
	{"udp", portRR, 1},
	{"udp", portFlood, 1},
}

// natPaths are the oneSided paths through a host.
func natPaths(l *lab, container place) map[pathName]path {
	host, outside := place{ns: l.host}, place{ns: l.outside}
	return map[pathName]path{
		pathOut:       {client: container, server: outside, address: outsideAddr},
		pathPublished: {client: outside, server: container, address: hostAddr},
		pathHost:      {client: host, server: container, address: "127.0.0.1"},
	}
}

// us is the peer that thresholds are about.
const us = "tapswitch"

// allPeers are the columns of the tables in order.
func allPeers(b *build) []peer {
	return []peer{
		loopback{},
		kernelBridge{},
		bareLoop{},
		bareLoop{merges: true},
		vde{},
		ovs{},
		kernelNAT{},
		slirp{mtu: 1500},
		slirp{mtu: 65520},
		pasta{},
		pasta{mtu: 1500},
		rootlesskit{},
		gvisor{mtu: 1500},
		gvisor{mtu: 65520},
		tapswitch{build: b, mtu: 1500},
		tapswitch{build: b, mtu: 65520},
		tapswitch{build: b, mtu: 1500, threads: 1},
	}
}

// needs returns how to install a command that is missing, or "".
func needs(command, debianPackage string) string {
	if _, err := exec.LookPath(command); err == nil {
		return ""
	}
	return command + " is not installed (Debian package " + debianPackage + ")"
}

// firstLine runs a command for its version.
func firstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
