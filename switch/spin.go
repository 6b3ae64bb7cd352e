package vswitch

// A thread that sleeps is woken late: the kernel must find it a processor and,
// in a virtual machine, the hypervisor must start that processor (25 us were
// seen). So the loop polls for a while before it sleeps: for about twice as
// long as the last events were apart, since polling longer is in vain, and not
// at all worth it where they are further apart than the longest poll.

const (
	spinMax = 200_000 // ns
	spinMin = 5_000
)

type spin struct {
	max  int64 // ns; 0 for no polling
	span int64 // how long to poll now
}

func newSpin(configured int64) spin {
	switch {
	case configured == 0:
		configured = spinMax
	case configured < 0:
		return spin{}
	}
	return spin{max: configured, span: min(configured, spinMin)}
}

// arrived learns from events that came after the loop had nothing to do for
// gap nanoseconds.
func (s *spin) arrived(gap int64) {
	switch {
	case gap > s.max:
		s.span = max(s.span/2, min(s.max, spinMin))
	case 2*gap > s.span:
		s.span = min(2*gap, s.max)
	default:
		s.span -= (s.span - 2*gap) / 8
	}
}
