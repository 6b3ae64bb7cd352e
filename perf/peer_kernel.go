package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// kernelOnly says that a peer has no process of its own.
func kernelOnly(p peer) bool {
	switch p.(type) {
	case loopback, kernelBridge, kernelNAT:
		return true
	}
	return false
}

// loopback is the host talking to itself: the most that a copy through sockets
// reaches on this machine.
type loopback struct{}

func (loopback) name() string    { return "loopback" }
func (loopback) about() string   { return "the host's loopback interface, no network under test" }
func (loopback) missing() string { return "" }
func (loopback) version() string { return kernelRelease() }

func (loopback) paths() []pathName { return []pathName{pathHost} }

func (loopback) start(_ context.Context, l *lab) (*topology, error) {
	host := place{ns: l.host}
	return inKernel(map[pathName]path{pathHost: {client: host, server: host, address: "127.0.0.1"}}), nil
}

// kernelBridge is what Docker makes for two containers of one network.
type kernelBridge struct{}

func (kernelBridge) name() string    { return "kernel-bridge" }
func (kernelBridge) about() string   { return "kernel bridge, a veth pair to each container, MTU 1500" }
func (kernelBridge) missing() string { return "" }
func (kernelBridge) version() string { return kernelRelease() }

func (kernelBridge) paths() []pathName { return []pathName{pathContainer} }

func (kernelBridge) start(_ context.Context, l *lab) (*topology, error) {
	if err := l.host.bridge("br0", "10.88.0.1/24"); err != nil {
		return nil, err
	}
	var containers [2]place
	for i := range containers {
		n, _, err := l.container(fmt.Sprintf("container%d", i+1))
		if err != nil {
			return nil, err
		}
		port := fmt.Sprintf("port%d", i+1)
		if err := joinVeth(end{l.host, port, ""}, end{n, "eth0", fmt.Sprintf("10.88.0.%d/24", i+2)}); err != nil {
			return nil, err
		}
		if err := l.host.enslave(port, "br0"); err != nil {
			return nil, err
		}
		containers[i] = place{ns: n}
	}
	return inKernel(map[pathName]path{
		pathContainer: {client: containers[0], server: containers[1], address: "10.88.0.3"},
	}), nil
}

// kernelNAT is the container host's own kernel with rules of nftables.
type kernelNAT struct{}

func (kernelNAT) name() string { return "kernel-nat" }
func (kernelNAT) about() string {
	return "a veth pair to the container, nftables MASQUERADE and DNAT in the host, MTU 1500"
}
func (kernelNAT) missing() string { return needs("nft", "nftables") }
func (kernelNAT) version() string { return kernelRelease() + ", " + firstLine("nft", "--version") }

func (kernelNAT) paths() []pathName { return []pathName{pathOut, pathPublished, pathSecond} }

func (kernelNAT) start(ctx context.Context, l *lab) (*topology, error) {
	n, _, err := l.container("container")
	if err != nil {
		return nil, err
	}
	if err := joinVeth(end{l.host, "port1", "10.88.0.1/24"}, end{n, "eth0", "10.88.0.2/24"}); err != nil {
		return nil, err
	}
	if err := n.defaultRoute("10.88.0.1"); err != nil {
		return nil, err
	}
	if err := l.host.sysctl("net.ipv4.ip_forward", "1"); err != nil {
		return nil, err
	}
	rules := l.file("nat.nft")
	if err := os.WriteFile(rules, []byte(natRules("10.88.0.2")), 0o644); err != nil {
		return nil, err
	}
	if _, err := (place{ns: l.host}).run(ctx, "nft", "-f", rules); err != nil {
		return nil, err
	}
	second, _, err := l.container("second")
	if err != nil {
		return nil, err
	}
	if err := joinVeth(end{l.host, "port2", "10.88.1.1/24"}, end{second, "eth0", "10.88.1.2/24"}); err != nil {
		return nil, err
	}
	if err := second.defaultRoute("10.88.1.1"); err != nil {
		return nil, err
	}
	paths := natPaths(l, place{ns: n})
	paths[pathSecond] = path{client: place{ns: second}, server: place{ns: l.outside}, address: outsideAddr}
	delete(paths, pathHost) // Docker too leaves loopback to a proxy process
	return inKernel(paths), nil
}

// natRules masquerade what leaves by up0, and send what arrives there for a
// published port to a container.
func natRules(container string) string {
	var dnat strings.Builder
	for _, p := range publishedPorts {
		fmt.Fprintf(&dnat, "\t\tiifname \"up0\" %s dport %d-%d dnat to %s\n", p.proto, p.first, p.first+p.count-1, container)
	}
	return "table ip perf {\n" +
		"\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat;\n" + dnat.String() + "\t}\n" +
		"\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n\t\toifname \"up0\" masquerade\n\t}\n" +
		"}\n"
}
