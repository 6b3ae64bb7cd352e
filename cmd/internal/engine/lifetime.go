package engine

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// lifetimes waits for the end of many processes on one thread: a pidfd is
// readable when its process has ended.
type lifetimes struct {
	epfd    int
	mu      sync.Mutex
	next    int32
	pending map[int32]watched
}

type watched struct {
	f     *os.File
	stop  <-chan struct{}
	ended func()
}

func newLifetimes() (*lifetimes, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &lifetimes{epfd: fd, pending: make(map[int32]watched)}
	go l.run()
	return l, nil
}

// watch calls ended once when the process of pidfd has ended; it takes the
// file over, and gives it up when stop is closed.
func (l *lifetimes) watch(pidfd *os.File, stop <-chan struct{}, ended func()) {
	l.mu.Lock()
	l.next++
	id := l.next
	l.pending[id] = watched{pidfd, stop, ended}
	l.mu.Unlock()
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: id}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, int(pidfd.Fd()), &ev); err != nil {
		l.take(id)
		go ended()
		return
	}
	go func() {
		<-stop
		l.take(id)
	}()
}

func (l *lifetimes) take(id int32) func() {
	l.mu.Lock()
	w, ok := l.pending[id]
	delete(l.pending, id)
	l.mu.Unlock()
	if !ok {
		return nil
	}
	_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, int(w.f.Fd()), nil)
	w.f.Close()
	return w.ended
}

func (l *lifetimes) run() {
	evs := make([]unix.EpollEvent, 32)
	for {
		n, err := unix.EpollWait(l.epfd, evs, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range evs[:max(n, 0)] {
			if f := l.take(ev.Fd); f != nil {
				go f()
			}
		}
	}
}
