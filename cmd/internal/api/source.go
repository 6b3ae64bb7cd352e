package api

import "embed"

// Source is this package as it was written: the API's description takes its
// words from the comments here.
//
//go:embed *.go
var Source embed.FS
