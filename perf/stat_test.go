package main

import (
	"math"
	"testing"
)

func TestSeries(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		values         series
		median, spread float64
	}{
		{series{}, nan, nan},
		{series{7}, 7, 0},
		{series{3, 1, 2}, 2, 0.5},
		{series{4, 1, 3, 2}, 2.5, 0.6},
		{series{10, 10, 10, 10, 10}, 10, 0},
		{series{0, 0, 0}, 0, 0},
		{series{0, 0, 5}, 0, inf},
		{series{-1, -3}, -2, 0.5},
		{series{9.5, 10, 10.5, 10, 100}, 10, 0.05},
		{series{8, 9.5, 10, 10, 11, 100}, 10, 0.1125},
	} {
		if got := c.values.median(); !same(got, c.median) {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.median)
		}
		if got := c.values.spread(); !same(got, c.spread) {
			t.Errorf("spread of %v: %v, want %v", c.values, got, c.spread)
		}
	}
}

func TestMedianLeavesTheSeriesAlone(t *testing.T) {
	s := series{3, 1, 2}
	s.median()
	if s[0] != 3 || s[1] != 1 || s[2] != 2 {
		t.Errorf("sorted in place: %v", s)
	}
}

func same(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-9
}

func TestHistogramBuckets(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 255, 256, 257, 258, 511, 512, 1000, 123456789, 1 << 40, math.MaxUint64} {
		low, next := lowest(bucket(v)), lowest(bucket(v)+1)
		if low > v {
			t.Errorf("%d is in a bucket that begins at %d", v, low)
		}
		if v != math.MaxUint64 && v >= next {
			t.Errorf("%d is in a bucket that ends before %d", v, next)
		}
		if float64(v-low) > float64(v)/128 {
			t.Errorf("%d is in a bucket that begins at %d: more than 0.8 %% off", v, low)
		}
	}
	if last := bucket(math.MaxUint64); last != len(histogram{}.counts)-1 {
		t.Errorf("the greatest value is in bucket %d of %d", last, len(histogram{}.counts))
	}
}

func TestHistogramPercentile(t *testing.T) {
	ascending := new(histogram)
	for v := uint64(1); v <= 100; v++ {
		ascending.add(v)
	}
	one := new(histogram)
	one.add(42)
	for _, c := range []struct {
		name string
		h    *histogram
		p    float64
		want uint64
	}{
		{"empty", new(histogram), 0.5, 0},
		{"one value, low", one, 0, 42},
		{"one value, high", one, 0.99, 42},
		{"1 to 100, median", ascending, 0.5, 50},
		{"1 to 100, p99", ascending, 0.99, 99},
		{"1 to 100, all", ascending, 1, 100},
	} {
		if got := c.h.percentile(c.p); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
