package vswitch

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// How other goroutines have the loop's thread do something, and end it.

// Do runs f on the loop's thread, after what was handed over before, and
// returns when it has run. It is false if the switch has stopped: f did not run.
// It must not be called from the loop's thread.
func (s *Switch) Do(f func()) bool {
	ran := make(chan struct{})
	if !s.Post(func() { f(); close(ran) }) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-s.done:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// Post is Do without waiting: if it is true, f runs.
func (s *Switch) Post(f func()) bool {
	return s.give(func() bool { s.commands = append(s.commands, f); return true })
}

// give has obey come to what put leaves under the lock. It is false if the switch
// has stopped, or if put says so.
func (s *Switch) give(put func() bool) bool {
	s.mu.Lock()
	if s.stopping.Load() || !put() {
		s.mu.Unlock()
		return false
	}
	s.posting.Add(1)
	s.mu.Unlock()
	if s.awake.CompareAndSwap(false, true) {
		s.wakeUp()
	}
	s.posting.Done()
	return true
}

func (s *Switch) wakeUp() {
	one := uint64(1)
	unix.Write(s.wakefd, (*[8]byte)(unsafe.Pointer(&one))[:])
}

// Close ends Run and waits for it, or sees to it that it never begins; ports
// stay attached and their devices open.
func (s *Switch) Close() {
	s.mu.Lock()
	first := !s.stopping.Swap(true)
	if first && s.ran {
		s.wakeUp()
	}
	s.mu.Unlock()
	if first && !s.ran {
		s.obey()
		close(s.done)
	}
	<-s.done
	s.posting.Wait() // they may still write to the descriptor
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epfd >= 0 {
		unix.Close(s.epfd)
		unix.Close(s.wakefd)
		s.epfd, s.wakefd = -1, -1
	}
}

// begin says whether Run may go on: Close was not faster.
func (s *Switch) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.ran = true
	return true
}

// obey does what was handed over.
func (s *Switch) obey() {
	s.awake.Store(false)
	s.mu.Lock()
	todo := s.commands
	s.commands = nil
	s.inbox, s.visitors = s.visitors, s.inbox
	s.mu.Unlock()
	for _, f := range todo {
		f()
	}
	s.visits()
	s.settle()
}
