package vswitch

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A thread that sleeps is woken late: the kernel must find it a processor and,
// in a virtual machine, the hypervisor must start that processor (25 us were
// seen). So the loop polls for a while before it sleeps: for about twice as
// long as the last events were apart, since polling longer is in vain, and not
// at all worth it where they are further apart than the longest poll.
//
// Polling is for a processor that has nothing else to do. Where others wait for
// it, most of all those whom we have just sent something, they wait for the end
// of the poll; and the scheduler puts a thread that never sleeps behind those
// that do. So a poll offers its processor now and then (sched_yield); and there is
// none for a while after one in which another took it, or when the thread was
// kept waiting for it.
const (
	spinMax = 200_000 // ns
	spinMin = 5_000

	offerEvery = 20_000 // ns of a poll

	// tookLeast is how long, in ns, another has had the processor that was offered,
	// so that it counts: who only takes a message and sleeps again is welcome.
	tookLeast = 40_000

	// Once in sampleEvery ns it is seen whether the thread was kept waiting for more
	// than a quarter of the time in which it did not sleep: a client and a server
	// that it serves in turn take less of that, a sender and a receiver that run all
	// the time more.
	sampleEvery = 500_000
	waitedPart  = 4

	// No polling for so long, in ns, after the processor was taken; twice as long
	// each time.
	restMin = 1_000_000
	restMax = 128_000_000
)

type spin struct {
	max  int64 // ns; 0 for no polling
	span int64 // how long to poll now

	offered int64 // when the processor was offered last
	rest    int64 // ns without polling after the next time
	until   int64 // no polling before then

	sampled int64 // when it was last seen how much the thread was kept waiting
	slept   int64 // ns of blocking since
	used    int64 // its processor time then

	crowd *spinners // of all threads of the group; nil for one alone
	in    bool      // polls, and is counted there
}

// spinners is how many more threads may poll: each has a processor that those
// who are to answer might need.
type spinners struct{ room atomic.Int32 }

func newSpinners(processors int) *spinners {
	c := new(spinners)
	c.room.Store(int32(max(processors/2, 1)))
	return c
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

// on says whether to poll on at now, when nothing has happened since a time.
func (s *spin) on(now, since int64) bool {
	if now-since >= s.span || now < s.until {
		s.over()
		return false
	}
	if !s.in && s.crowd != nil && s.crowd.room.Add(-1) < 0 {
		s.crowd.room.Add(1)
		return false
	}
	s.in = true
	return true
}

// over ends a poll.
func (s *spin) over() {
	if s.in && s.crowd != nil {
		s.crowd.room.Add(1)
	}
	s.in = false
}

// offer lets others have the processor, if it is time, and learns whether one
// wanted it. clock reads the time, which was now; nothing has happened since a
// time.
func (s *spin) offer(now, since int64, clock func() int64) {
	if now-max(since, s.offered) < offerEvery {
		return
	}
	lost := involuntary()
	unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	s.offered = clock()
	if s.offered-now >= tookLeast && involuntary() != lost { // else it was an interrupt, or the hypervisor
		s.taken()
	}
}

// stale says whether it is time for look.
func (s *spin) stale(now int64) bool { return now-s.sampled >= sampleEvery }

// look sees whether the thread, which has used so much processor time, had to
// wait for its processor though it did not sleep. Then there are more that want
// one than there are.
func (s *spin) look(now, used int64) {
	awake := now - s.sampled - s.slept
	waited := awake - (used - s.used)
	if s.sampled != 0 && waited > awake/waitedPart && waited > tookLeast {
		s.offered = now
		s.taken()
	}
	s.sampled, s.used, s.slept = now, used, 0
}

// processorTime is what the calling thread has used, in ns.
func processorTime() int64 {
	var t unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// taken notes that another thread took the processor when it was offered.
func (s *spin) taken() {
	s.rest = min(max(2*s.rest, restMin), restMax)
	s.until = s.offered + s.rest
}

// arrived learns from events that came after the loop had nothing to do for
// gap nanoseconds.
func (s *spin) arrived(gap int64) {
	if s.in {
		s.rest -= s.rest / 8
	}
	switch {
	case gap > s.max:
		s.span = max(s.span/2, min(s.max, spinMin))
	case 2*gap > s.span:
		s.span = min(2*gap, s.max)
	default:
		s.span -= (s.span - 2*gap) / 8
	}
}

// involuntary is how often the calling thread had to leave its processor though
// it had something to do (getrusage(2), ru_nivcsw).
func involuntary() int64 {
	var u unix.Rusage
	unix.RawSyscall(unix.SYS_GETRUSAGE, unix.RUSAGE_THREAD, uintptr(unsafe.Pointer(&u)), 0)
	return u.Nivcsw
}
