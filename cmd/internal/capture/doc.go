// Package capture is what `tapswitch capture` speaks: packets with what became
// of them, as pcapng (draft-ietf-opsawg-pcapng), and filters as people type them
// (pcap-filter(7)).
//
//	filter.go  the filter language: parse (value.go: what qualifiers are about, arith.go: numbers and bytes)
//	match.go   and decide about a frame
//	tuple.go   whose packet it is
//	pcapng.go  the file format: write, and read what we have written
//	ring.go    the packets that came last
//	print.go   a line a packet, as tcpdump's (print_transport.go: from TCP on)
package capture
