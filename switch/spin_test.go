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

// A poll whose processor another took is the last for a while, longer each
// time; and only so many threads of a group poll at once.
func TestSpinGivesWay(t *testing.T) {
	crowd := newSpinners(2)
	a, b := newSpin(0), newSpin(0)
	a.crowd, b.crowd = crowd, crowd
	const now = 1_000_000_000
	for range 2 {
		if !a.on(now, now) {
			t.Fatal("the first does not poll")
		}
	}
	if b.on(now, now) {
		t.Error("both of two processors are polled on")
	}
	if a.on(now+spinMin, now) {
		t.Error("it polls for longer than its span")
	}
	if !b.on(now+spinMin, now+spinMin) {
		t.Error("the second may not poll after the first")
	}
	b.over()

	for i, rest := range []int64{restMin, 2 * restMin, 4 * restMin} {
		a.offered = now
		a.taken()
		if a.on(now+rest-1, now+rest-1) || !a.on(now+rest, now+rest) {
			t.Errorf("taken %d times: it does not rest for %d ns", i+1, rest)
		}
	}
	for range 20 {
		a.taken()
	}
	if a.until-a.offered != restMax {
		t.Errorf("it rests for %d ns", a.until-a.offered)
	}
	a.on(a.until, a.until)
	for range 100 {
		a.arrived(1000)
	}
	if a.rest > restMin {
		t.Errorf("after many polls that nobody disturbed it would rest for %d ns", a.rest)
	}
}

// A processor is offered once in a while, and one that nobody wants costs no
// rest.
func TestSpinOffers(t *testing.T) {
	s := newSpin(0)
	const since = 1_000_000_000
	reads := 0
	took := int64(0)
	clock := func() int64 { reads++; return since + offerEvery + took }
	s.offer(since+offerEvery-1, since, clock)
	if reads != 0 {
		t.Error("it offers at once")
	}
	s.offer(since+offerEvery, since, clock)
	s.offer(since+offerEvery+1, since, clock)
	if reads != 1 {
		t.Errorf("it offers %d times", reads)
	}
	if s.until != 0 {
		t.Error("it rests though nobody took the processor")
	}
}

// Who is kept waiting for a good part of the time in which it does not sleep
// does not poll.
func TestSpinIsKeptWaiting(t *testing.T) {
	const ms = 1_000_000
	for _, c := range []struct {
		name             string
		used, slept, all int64
		rests            bool
	}{
		{"busy all the time", ms, 0, ms, false},
		{"asleep half the time", ms / 2, ms / 2, ms, false},
		{"waits a little", ms - ms/10, 0, ms, false},
		{"waits half the time", ms / 2, 0, ms, true},
		{"waits half of the time that it does not sleep", ms / 4, ms / 2, ms, true},
		{"an interrupt", 0, ms - 20_000, ms, false},
	} {
		s := newSpin(0)
		if !s.stale(ms) {
			t.Fatal("it never looks")
		}
		s.look(ms, 7*ms) // whatever was before does not count
		if s.until != 0 || s.stale(ms+sampleEvery-1) {
			t.Errorf("%s: the first look: rests until %d", c.name, s.until)
		}
		s.slept += c.slept
		s.look(ms+c.all, 7*ms+c.used)
		if rests := s.until > ms+c.all; rests != c.rests {
			t.Errorf("%s: rests %t", c.name, rests)
		}
	}
}
