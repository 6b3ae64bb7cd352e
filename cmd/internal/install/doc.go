// Package install puts files and links of tapswitch where other programs look
// for them, and takes them away again. What it made it writes down, and only
// that it removes: a file that somebody has changed since, or that was there
// before, stays.
//
//	record.go   what was made: a file of its own
//	put.go      make files and links: all of them or none
//	remove.go   take them away
package install
