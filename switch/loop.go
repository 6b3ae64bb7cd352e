package vswitch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Token names what epoll or the run queue speaks of: a kind, a generation and
// an index. Descriptors are reused by the kernel at once; the generation tells
// an old event from a new owner.
type Token uint64

// Kinds of tokens. Those from KindGateway on belong to the Gateway.
const (
	kindWake = iota
	kindPort
	KindGateway
)

// MakeToken packs a token: kind of 8 bits, generation of 24, index of 32.
func MakeToken(kind uint8, gen, index uint32) Token {
	return Token(kind)<<56 | Token(gen&0xffffff)<<32 | Token(index)
}

// Kind, Gen and Index take a token apart.
func (t Token) Kind() uint8   { return uint8(t >> 56) }
func (t Token) Gen() uint32   { return uint32(t>>32) & 0xffffff }
func (t Token) Index() uint32 { return uint32(t) }

const (
	// MaxFrame is the longest frame a TAP gives: 64 KiB and its headers.
	MaxFrame = 65536 + 256

	portFrames = 64           // a port's share of one turn, in frames
	portBytes  = 3 * MaxFrame // and in bytes: the fourth of the longest ones exceeds it
	upcallCost = 4            // frames that one counts for which needed a decision
	maxEvents  = 256

	// listenEvery is how long, in nanoseconds, those with much to send are served
	// before it is seen who else has something: see collect.
	listenEvery = 50_000
)

// Watch registers fd with epoll under t.
func (s *Switch) Watch(fd int, events uint32, t Token) error {
	ev := unix.EpollEvent{Events: events}
	*(*Token)(unsafe.Pointer(&ev.Fd)) = t
	if err := unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Rewatch arms fd again: what is ready now is reported anew.
func (s *Switch) Rewatch(fd int, events uint32, t Token) {
	ev := unix.EpollEvent{Events: events}
	*(*Token)(unsafe.Pointer(&ev.Fd)) = t
	unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epfd), unix.EPOLL_CTL_MOD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
}

// Unwatch takes fd out of epoll.
func (s *Switch) Unwatch(fd int) { _ = unix.EpollCtl(s.epfd, unix.EPOLL_CTL_DEL, fd, nil) }

// Enqueue puts t at the end of the run queue. The caller sees to it that a
// token stands there once.
func (s *Switch) Enqueue(t Token) { s.queue = append(s.queue, t) }

func (s *Switch) enqueuePort(p *Port) {
	if p.look = true; !p.queued && p.Device.FD() >= 0 {
		p.queued = true
		s.queue = append(s.queue, MakeToken(kindPort, p.wake, uint32(p.ID)))
	}
}

// Run is the loop. It locks its thread and returns after Close.
func (s *Switch) Run() {
	if !s.begin() {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	idleSince := int64(0)
	for {
		ms := s.timeout(&idleSince)
		before := s.nowNs
		n := s.wait(ms)
		s.tick()
		if ms != 0 {
			s.spin.slept += s.nowNs - before
		}
		if n > 0 {
			if idleSince != 0 {
				s.spin.arrived(s.nowNs - idleSince)
			}
			idleSince = 0
		} else if len(s.queue) == 0 {
			s.idle()
		}
		s.collect(n)
		if !s.turn() {
			s.obey() // what was taken before the stop
			for s.later {
				s.idle()
			}
			return
		}
		if len(s.queue) > 0 {
			idleSince = 0
		}
	}
}

// Poll does one turn without waiting, for switches whose devices have no
// descriptor (tests): it reads every port, runs the queue and the timers.
func (s *Switch) Poll() {
	s.tick()
	s.collect(s.wait(0))
	for _, p := range s.ports {
		if p != nil && p.Device.FD() < 0 {
			s.drain(p)
			s.settle()
		}
	}
	for {
		s.turn()
		switch {
		case len(s.queue) > 0:
		case s.later:
			s.idle()
		default:
			return
		}
	}
}

// collect serves at once those of whom epoll has something new to say; only what
// they leave after their share waits in the queue, where those stand who always
// have more. So whoever sends little is not behind whoever sends all it can (the
// sparse flows of FQ-CoDel, RFC 8290, section 4.2), and cannot hold the others
// up either, since it is new only once it was empty.
func (s *Switch) collect(n int) {
	queue := s.queue
	s.queue = s.fresh[:0]
	for i := range n {
		s.event(&s.events[i])
	}
	fresh := s.queue
	s.queue = queue
	for _, t := range fresh {
		s.serve(t, true)
	}
	s.fresh = fresh[:0]
}

// turn works through the queue as it stands, then through commands and timers.
// It returns false when the switch is to stop.
func (s *Switch) turn() bool {
	s.turns++
	q := s.queue
	s.queue = s.spare[:0]
	for i, t := range q {
		s.serve(t, false)
		if i < len(q)-1 && s.cfg.Now()-s.nowNs > listenEvery {
			s.tick()
			s.collect(s.wait(0))
		}
	}
	s.spare = q[:0]
	if s.awake.Load() {
		s.obey()
	}
	if s.gateway != nil && s.nextDue != 0 && s.nowNs >= s.nextDue {
		s.nextDue = s.gateway.Expire(s.nowNs)
		s.settle()
	}
	if s.shapeDue != 0 && s.nowNs >= s.shapeDue {
		s.runShapes()
		s.settle()
	}
	return !s.stopping.Load()
}

// serve gives one its share, and puts it back into the queue if there is more.
func (s *Switch) serve(t Token, fresh bool) {
	if t.Kind() == kindPort {
		s.runPort(t, fresh)
	} else if s.gateway != nil && s.gateway.Run(t) {
		s.queue = append(s.queue, t)
	}
	s.settle()
}

// Later has the gateway's Idle called when nothing else is to be done.
func (s *Switch) Later() { s.later = true }

// idle lets the gateway do a piece of what could wait.
func (s *Switch) idle() {
	if s.later {
		s.later = s.gateway.Idle()
	}
}

// Turns is how often the loop has gone round. It runs on the loop's thread.
func (s *Switch) Turns() uint64 { return s.turns }

// Schedule asks for Expire at the time at or before.
func (s *Switch) Schedule(at int64) {
	if s.nextDue == 0 || at < s.nextDue {
		s.nextDue = at
	}
}

// settle sends what was put off for the sake of what might come next.
func (s *Switch) settle() {
	if s.gateway != nil {
		s.gateway.Flush()
	}
	s.part()
	s.depart()
}

// timeout is how long to wait for events, in ms: not at all while there is
// work or hope for it, else until the next timer.
func (s *Switch) timeout(idleSince *int64) int {
	if len(s.queue) > 0 || s.awake.Load() {
		s.spin.over()
		return 0
	}
	s.tick()
	now := s.nowNs
	if *idleSince == 0 {
		*idleSince = now
		if s.spin.stale(now) {
			s.spin.look(now, processorTime())
		}
	}
	if s.spin.on(now, *idleSince) {
		s.spin.offer(now, *idleSince, s.cfg.Now)
		return 0
	}
	if s.later {
		return 0 // but what has come meanwhile goes first
	}
	due := s.nextDue
	if s.shapeDue != 0 && (due == 0 || s.shapeDue < due) {
		due = s.shapeDue
	}
	if due == 0 {
		return -1
	}
	if d := due - now; d > 0 {
		return int((d + 999_999) / 1_000_000)
	}
	return 0
}

// wait collects events. A call that cannot block is a raw system call; one
// that may tells the scheduler, since a blocked thread would hold up the
// garbage collector.
func (s *Switch) wait(ms int) int {
	if ms == 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epfd), uintptr(unsafe.Pointer(&s.events[0])), maxEvents, 0, 0, 0)
		if e != 0 {
			return 0
		}
		return int(n)
	}
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epfd), uintptr(unsafe.Pointer(&s.events[0])), maxEvents, uintptr(ms), 0, 0)
	if e != 0 {
		return 0 // EINTR: the scheduler's preemption signal
	}
	return int(n)
}

func (s *Switch) event(ev *unix.EpollEvent) {
	t := *(*Token)(unsafe.Pointer(&ev.Fd))
	switch t.Kind() {
	case kindWake:
		var b [8]byte
		unix.RawSyscall(unix.SYS_READ, uintptr(s.wakefd), uintptr(unsafe.Pointer(&b[0])), 8)
		s.awake.Store(true)
	case kindPort:
		p := s.port(PortID(t.Index()))
		if p == nil || p.wake != t.Gen() {
			return
		}
		if ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			s.Unwatch(p.Device.FD())
			if s.cfg.Gone != nil {
				go s.cfg.Gone(p)
			}
			return
		}
		if !p.look || !p.greedy { // what was queued for looking there again is no reason to wait
			s.queue = append(s.queue, t)
		}
	default:
		if s.gateway != nil {
			s.gateway.Event(t, ev.Events)
		}
	}
}

// runPort reads from a port. A fresh one may stand in the queue besides: its turn
// there is void if it is found empty now.
func (s *Switch) runPort(t Token, fresh bool) {
	p := s.port(PortID(t.Index()))
	if p == nil || p.wake != t.Gen() {
		return
	}
	if !fresh {
		p.queued = false
		if !p.look {
			return
		}
	}
	if p.greedy = s.drain(p); p.greedy {
		s.enqueuePort(p)
	} else {
		p.look = false
	}
}

// drain reads frames from p until it is empty or has had its share. It returns
// true if more may be waiting.
func (s *Switch) drain(p *Port) bool {
	bytes, upcalls := 0, p.Stats.Upcalls
	for frames := 0; frames+int(p.Stats.Upcalls-upcalls)*(upcallCost-1) < portFrames; frames++ {
		if p.shape != nil && !s.outOpen(p) {
			return false
		}
		b := s.room()
		n, e := p.Device.Read(b)
		if e != 0 {
			if !s.unread() {
				return false // EAGAIN, or the device is gone and epoll says so
			}
			s.part() // meanwhile more may have come
			continue
		}
		if b = b[:n]; p.shape == nil || s.shapeOut(p, b) {
			if s.capture != nil {
				s.inputCaptured(p, b)
			} else {
				s.input(p, b)
			}
		}
		s.decided()
		if bytes += n; bytes >= portBytes {
			return true
		}
	}
	return true
}
