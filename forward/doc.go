// Package forward is what reaches in and what names mean: host listeners for
// published ports, and the DNS that a bridge's gateway answers with.
//
//	spec.go     the grammar of published ports
//	publish.go  host sockets for them
//	dns.go      a query's way: local names, else the host's resolvers
//	resolv.go   which resolvers the host has, as they change
package forward
