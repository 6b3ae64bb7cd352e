// Package capture is what `tapswitch capture` speaks: packets with what became
// of them, as pcapng (draft-ietf-opsawg-pcapng), and filters as people type them
// (pcap-filter(7)).
//
//	filter.go  the filter language: parse
//	match.go   and decide about a packet
//	pcapng.go  the file format: write, and read what we have written
//	print.go   a line a packet
package capture
