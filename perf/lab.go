package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Addresses of the link between the host and the outside. The servers outside do
// not answer as the host's gateway: pasta takes that address for the host's own.
const (
	hostAddr    = "192.0.2.1"
	outsideAddr = "192.0.2.2"
	gatewayAddr = "192.0.2.254"
)

// A lab is the world of one peer: a host in which the peer runs, an outside that
// the host reaches over a veth pair, and the containers. Every peer has a lab of
// its own, so that all may stay up while each is measured in turn.
type lab struct {
	host    *namespace
	outside *namespace
	dir     string // scratch files of this peer

	containers []*namespace
}

// newLab builds host and outside. The host has a default route: some peers take
// from it which interface leads out.
func newLab(dir string) (*lab, error) {
	l := &lab{dir: dir}
	if err := l.build(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) build() (err error) {
	if err = os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	if l.host, err = newNamespace("host"); err != nil {
		return err
	}
	if l.outside, err = newNamespace("outside"); err != nil {
		return err
	}
	if err = joinVeth(end{l.host, "up0", hostAddr + "/24"}, end{l.outside, "up0", outsideAddr + "/24"}); err != nil {
		return err
	}
	// What masquerades by sockets of the host is a client there.
	return errors.Join(l.outside.address("up0", gatewayAddr+"/24"), l.host.defaultRoute(gatewayAddr), l.host.sysctl(clientPorts, manyPorts))
}

// container makes a namespace for a container, without any interface but lo, and
// says under which path programs on the host find it.
func (l *lab) container(name string) (*namespace, string, error) {
	n, err := newNamespace(name)
	if err != nil {
		return nil, "", err
	}
	l.containers = append(l.containers, n)
	file := l.file(name + ".netns")
	return n, file, l.host.showAt(file, n)
}

// file names a scratch file of this lab.
func (l *lab) file(name string) string { return filepath.Join(l.dir, name) }

// close gives all namespaces up. Every process in them must have ended before.
func (l *lab) close() {
	for _, n := range append(l.containers, l.host, l.outside) {
		if n != nil {
			n.close()
		}
	}
	if err := os.RemoveAll(l.dir); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
	}
}
