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

// quantile returns the value below which the share q of the series lies,
// interpolated between neighbours (type 7 of Hyndman and Fan, 1996).
func (s series) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	k := int(at)
	if k+1 >= len(sorted) {
		return sorted[k]
	}
	return sorted[k] + (at-float64(k))*(sorted[k+1]-sorted[k])
}

// spread returns the width of the middle half of the series, divided by the
// median: 0 if those values are equal, infinite if they differ around a median
// of zero, NaN for an empty series. Unlike that of all values it does not grow
// with the number of rounds, and one round that something disturbed is not
// what decides.
func (s series) spread() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	width := s.quantile(0.75) - s.quantile(0.25)
	if width == 0 {
		return 0
	}
	return width / math.Abs(s.median())
}
