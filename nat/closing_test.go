package nat

import (
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// Sockets that wait to be closed are, the oldest first: one by one when nothing else
// is to be done, for the room that another needs, and in time.
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
	var others []int // of each the other end, in the order in which they were to be closed
	closed := func() (count int) {
		for i, fd := range others {
			if got, _ := unix.Read(fd, make([]byte, 1)); got != 0 {
				continue
			}
			if count++; count <= i {
				t.Errorf("number %d is closed, and not all before it", i)
			}
		}
		return count
	}
	later := func(count int) {
		for _, fd := range others {
			unix.Close(fd)
		}
		others = others[:0]
		for range count {
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			others = append(others, p[0])
			n.closeLater(int32(p[1]))
		}
	}
	defer func() { later(0) }()
	room := len(n.closing.ring)
	later(room + 2)
	for want := 2; want < room+2; want++ {
		if got := closed(); got != want {
			t.Fatalf("%d are closed, not %d", got, want)
		}
		if more := n.Idle(); more != (want < room+1) {
			t.Fatalf("when %d are closed, there is more to do: %v", want+1, more)
		}
	}
	if got := closed(); got != room+2 {
		t.Fatalf("%d are closed, not all of %d", got, room+2)
	}
	later(6)
	for _, c := range []struct {
		after int64
		want  int
		due   int64
	}{{closeWithin - 1, 0, now + closeWithin}, {closeWithin, 4, now + closeWithin}, {closeWithin, 6, 0}} {
		due := n.Expire(now + c.after)
		if got := closed(); got != c.want || due != c.due {
			t.Errorf("%d ns later %d are closed, not %d; the next is due at %d, not %d", c.after, got, c.want, due, c.due)
		}
	}
	later(3)
	if sw.Poll(); closed() != 3 {
		t.Errorf("%d of 3 are closed though nothing else is to be done", closed())
	}
}
