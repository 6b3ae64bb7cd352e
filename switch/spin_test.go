package vswitch

import "testing"

// The loop polls for twice as long as events are apart, and hardly at all where
// that would be too long.
func TestSpinLearns(t *testing.T) {
	for _, c := range []struct {
		name     string
		max, gap int64
		from, to int64 // what the span may be in the end
	}{
		{"close together", spinMax, 30_000, 60_000, 61_000},
		{"just close enough", spinMax, spinMax - 1, spinMax, spinMax},
		{"far apart", spinMax, 10_000_000, spinMin, spinMin},
		{"never", -1, 30_000, 0, 0},
		{"less than the least", 1000, 10_000_000, 1000, 1000},
	} {
		s := newSpin(c.max)
		for range 200 {
			s.arrived(c.gap)
		}
		if s.span < c.from || s.span > c.to {
			t.Errorf("%s: polls for %d ns, not %d to %d", c.name, s.span, c.from, c.to)
		}
	}
	s := newSpin(0)
	for range 100 {
		s.arrived(1_000_000) // a burst of two each millisecond
		s.arrived(20_000)
	}
	if s.span > 50_000 {
		t.Errorf("polls for %d ns between bursts", s.span)
	}
}
