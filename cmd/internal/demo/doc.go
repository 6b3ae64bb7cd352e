// Package demo shows the switch at work: it makes a small world in namespaces
// of its own, a host, a router and an outside, runs the switch in that host
// without a single capability, sends real traffic, and compares what it saw
// with what should be.
//
//	[busybox1] [busybox2]   [busybox3]
//	     \       /              |
//	      bridge             bridge2
//	         \                 /
//	          tapswitch (host, 192.0.2.2) ---- router ---- outside (198.51.100.2)
//
// The cables between host, router and outside are TAPs on a second switch, so
// that nothing is asked of the machine but user namespaces and /dev/net/tun.
//
//	demo.go    start the world, run the checks, print
//	world.go   namespaces, cables, addresses
//	checks.go  the matrix
//	probe.go   the client side of the traffic
//	serve.go   the server side
package demo
