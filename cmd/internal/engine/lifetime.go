package engine

import (
	"fmt"
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
	fd    int
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
// descriptor over, and gives it up when stop is closed.
func (l *lifetimes) watch(pidfd int, stop <-chan struct{}, ended func()) {
	l.mu.Lock()
	l.next++
	id := l.next
	l.pending[id] = watched{pidfd, ended}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: id}
	err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, pidfd, &ev)
	l.mu.Unlock()
	if err != nil {
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
	defer l.mu.Unlock()
	w, ok := l.pending[id]
	if !ok {
		return nil
	}
	delete(l.pending, id)
	_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, w.fd, nil)
	unix.Close(w.fd)
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
