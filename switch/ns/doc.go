// Package ns makes and enters network namespaces, opens TAP devices in them,
// sets their interfaces up, and knows when a process ends.
//
// A namespace of somebody else is entered by a child that lives for a few
// system calls: a Go process has many threads and may not join a user namespace
// (setns(2)), and a program executed there keeps capabilities only as uid 0.
// The child opens /dev/net/tun and a netlink socket inside; everything else is
// done from outside on those two descriptors, which the owner of the namespace
// may do without any capability of his own.
package ns
