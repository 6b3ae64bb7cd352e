// Package nat is the gateway of every bridge, as a port of the switch would
// be: it answers for the gateway's addresses, carries flows to the outside
// through ordinary host sockets, and rewrites packets between two ports where a
// published port is reached from inside.
//
// A frame meets the files in this order:
//
//	nat.go        the gateway: checks, the flow table
//	route.go      the decision: local service, published port, outside, or why not
//	tcp.go        the states of a translated TCP connection, and its life
//	tcp_tap.go    segments from the container to the socket
//	tcp_early.go  those that come before their turn
//	tcp_sock.go   bytes from the socket to the container
//	tcp_timer.go  what happens when nothing happens
//	tcp_end.go    the ends of a connection
//	closing.go    their sockets are closed when nothing else is to be done
//	udp.go        datagrams, one socket per container address and port
//	ping.go       ICMP echo by ping sockets
//	hello.go      which name a connection means, before it goes out
//	http.go       the same of HTTP, and that it stays at one
//	source.go     from which of the host's addresses
//	pair.go       rewriting between two ports (hairpin, other bridges)
//	hostport.go   the host's own interface on a bridge
//	frag.go       fragments put together
//	end.go        the ends of flows of any kind
//	icmp.go       errors towards the container
//	errqueue.go   errors from the host's kernel
//	publish.go    host listeners towards a container
//	kill.go       flows are listed, and ended by command
//	flowlog.go    flows as they open and end, for whoever follows them
//	lost.go       what came to nothing, to be asked for later
//
// There is no TCP stack: a connection is two half-connections with sequence
// numbers mapped between them, and bytes wait in the host socket's own buffers
// (the principle of passt; its code is not used). Everything runs on the
// switch's thread.
package nat
