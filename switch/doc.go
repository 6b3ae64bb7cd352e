// Package vswitch is the datapath of tapswitch: Ethernet ports over TAP
// devices, bridges that keep them apart, and the one decision function that
// says what becomes of a frame.
//
// A frame meets the files in this order:
//
//	switch.go   what there is: bridges and their ports
//	loop.go     a port is readable: read frames until its budget is spent
//	frame.go    parse: offsets, the flow key, what makes it uncacheable
//	cache.go    hit: the actions decided for the frame before it
//	decide.go   miss: guard, learn, look up, resolve (the upcall)
//	guard.go    a container speaks only with its own addresses
//	fdb.go      which port holds a MAC address
//	snoop.go    who has reported which multicast group
//	members.go  and the table of that
//	querier.go  the gateway asks for reports
//	neigh.go    the gateway's own ARP and neighbour discovery
//	output.go   write to a port, flood a bridge
//	merge.go    TCP super-frames that follow each other are one write
//	train.go    and so are datagrams
//	offload.go  segments and checksums for a port that cannot take them
//	drop.go     every way in which a frame can end
//	trace.go    the steps of a decision, and packets that are followed through them
//	failure.go  what came to nothing, to be asked for later
//
// All of it runs on one locked thread, the loop. Nothing here allocates,
// locks or blocks for a frame; control reaches the loop as functions handed
// to Switch.Do. Frames for the gateway's MAC go to a Gateway (package nat),
// which answers with the same actions, so that routed frames are cached like
// switched ones.
package vswitch
