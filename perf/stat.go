package main

import (
	"math"
	"slices"
)

// A series holds one value of a metric for each round.
type series []float64

// median returns the middle value, or the mean of the two middle ones; NaN for
// an empty series.
func (s series) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// spread returns (max-min)/median: 0 if all values are equal, infinite if they
// differ around a median of zero, NaN for an empty series.
func (s series) spread() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	width := slices.Max(s) - slices.Min(s)
	if width == 0 {
		return 0
	}
	return width / math.Abs(s.median())
}
