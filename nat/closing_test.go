package nat

import (
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Sockets that wait to be closed are, one by one when nothing else is to be done,
// the oldest for the room that another needs, and all in time.
func TestCloseLater(t *testing.T) {
	now := int64(1e12)
	sw, err := vswitch.New(vswitch.Config{Now: func() int64 { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	n, err := New(sw, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	open := func() (count int) {
		for _, fd := range fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				count++
			}
		}
		return count
	}
	later := func(count int) {
		fds = fds[:0]
		for range count {
			fd, err := unix.Dup(0)
			if err != nil {
				t.Fatal(err)
			}
			fds = append(fds, fd)
		}
		for _, fd := range fds {
			n.closeLater(int32(fd))
		}
	}
	room := len(n.closing.ring)
	later(room + 2)
	if got := open(); got != room {
		t.Errorf("%d of %d are open, with room for %d", got, room+2, room)
	}
	for want := room - 1; want >= 0; want-- {
		if more := n.Idle(); more != (want > 0) || open() != want {
			t.Fatalf("%d are open, more to do: %v; want %d", open(), more, want)
		}
	}
	later(3)
	if due := n.Expire(now); open() != 3 || due != now+closeWithin {
		t.Errorf("%d of 3 are open before it is time, which is in %d ns", open(), due-now)
	}
	if n.Expire(now + closeWithin); open() != 0 {
		t.Errorf("%d are open when it is time", open())
	}
	later(3)
	if sw.Poll(); open() != 0 {
		t.Errorf("%d are open though nothing else is to be done", open())
	}
}
