package vswitch

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Beat shortens how long a loop waits for a processor that somebody else has.
//
// One who sends at full speed, one who receives, and the loop between them are
// three for what may be two processors. The kernel's scheduler lets each run
// until its next tick, up to 4 ms (CONFIG_HZ=250), and so long does the frame of
// somebody wait who sends little. But it chooses anew whenever a thread wakes or
// goes to sleep (pick_eevdf in kernel/sched/fair.c). So while a loop loses its
// processor often, a thread on each processor wakes every beatEvery, and sleeps
// again. Nobody gets more time by that than is his: only sooner.
//
// It may be told from any thread. Without need its threads sleep for good.
type Beat struct {
	until atomic.Int64
	wake  []chan struct{}
	quit  chan struct{}
	beats atomic.Uint64 // for tests
}

const (
	beatEvery  = 250_000     // ns
	beatFor    = 100_000_000 // ns after the loop was last seen to need it
	beatCheck  = 20_000_000  // ns between two looks
	beatLosses = 4           // processors lost between two looks
	beatMost   = 4           // processors; where there are more, a loop finds another
	beatSlice  = 100_000     // ns: what a loop wants at a time, the least there is
)

// NewBeat makes one; nil where there are too many processors for it to help.
func NewBeat() *Beat {
	n := runtime.NumCPU()
	if n > beatMost {
		return nil
	}
	b := &Beat{quit: make(chan struct{})}
	var mine unix.CPUSet
	if unix.SchedGetaffinity(0, &mine) != nil {
		return nil
	}
	for cpu, left := 0, n; left > 0 && cpu < 1024; cpu++ {
		if mine.IsSet(cpu) {
			left--
			c := make(chan struct{}, 1)
			b.wake = append(b.wake, c)
			go b.run(cpu, c)
		}
	}
	return b
}

// Close ends its threads.
func (b *Beat) Close() {
	if b != nil {
		close(b.quit)
	}
}

func (b *Beat) run(cpu int, wake chan struct{}) {
	runtime.LockOSThread() // never unlocked: the thread ends with us
	var one unix.CPUSet
	one.Set(cpu)
	if unix.SchedSetaffinity(0, &one) != nil {
		return
	}
	wantSlice(beatSlice)
	pause := unix.Timespec{Nsec: beatEvery}
	for {
		select {
		case <-b.quit:
			return
		case <-wake:
		}
		for Monotonic() < b.until.Load() {
			_ = unix.Nanosleep(&pause, nil)
			b.beats.Add(1)
		}
	}
}

// want lets it beat until then.
func (b *Beat) want(until int64) {
	b.until.Store(until)
	for _, c := range b.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// losses sees how often this thread had to give up its processor.
type losses struct {
	at   int64 // when it looked
	seen int64 // how often it was then
}

// look is called by a loop's thread now and then.
func (l *losses) look(b *Beat, now int64) {
	if b == nil || now-l.at < beatCheck {
		return
	}
	var ru unix.Rusage
	if _, _, e := unix.RawSyscall(unix.SYS_GETRUSAGE, unix.RUSAGE_THREAD, uintptr(unsafe.Pointer(&ru)), 0); e != 0 {
		return
	}
	// A look after a long sleep tells nothing.
	if now-l.at < 2*beatCheck && ru.Nivcsw-l.seen >= beatLosses {
		b.want(now + beatFor)
	}
	l.at, l.seen = now, ru.Nivcsw
}

// wantSlice asks for short turns (sched_setattr(2); EEVDF, Linux 6.12). Whoever
// wants short ones is chosen earlier, not for longer. Older kernels have no such
// thing.
func wantSlice(ns uint64) {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL {
		return
	}
	a.Runtime = ns
	_ = unix.SchedSetAttr(0, a, 0)
}
