package main

import "math/bits"

// Values below 2^subBits have a bucket each; above, every power of two is cut
// into 2^subBits buckets, so a percentile is at most 0.8 % off.
const subBits = 7

// A histogram counts latencies in nanoseconds in constant memory: a client that
// allocates while it measures would measure its own garbage collector.
type histogram struct {
	counts [(64 - subBits + 1) << subBits]uint64
	total  uint64
}

func (h *histogram) add(ns uint64) {
	h.counts[bucket(ns)]++
	h.total++
}

// percentile returns a value that at least the share p (0 to 1) of all values
// does not exceed, as the lower bound of its bucket; 0 if there is none.
func (h *histogram) percentile(p float64) uint64 {
	rank := uint64(p * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if n > 0 && seen >= max(rank, 1) {
			return lowest(i)
		}
	}
	return 0
}

// bucket returns the index of the bucket of a value.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// lowest returns the smallest value of a bucket: the inverse of bucket.
func lowest(index int) uint64 {
	if index < 2<<subBits {
		return uint64(index)
	}
	shift := index>>subBits - 1
	return uint64(index-shift<<subBits) << shift
}
