package fdpass

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type message struct {
	Text string
	IDs  []int
}

// Messages arrive whole, with their descriptors and no others, however long they
// are: a socket's buffer is no bound.
func TestMessages(t *testing.T) {
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b := New(f)
	defer b.Close()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, size := range []int{0, 1, inline - 100, inline, inline + 1, 1 << 20, 20 << 20} {
		for _, fds := range [][]int{nil, {int(file.Fd())}, slices.Repeat([]int{int(file.Fd())}, maxFDs)} {
			before := open(t)
			sent := message{strings.Repeat("x", size), []int{1, 2, 3}}
			fail := make(chan error, 1)
			go func() { fail <- a.Send(sent, fds...) }()
			var got message
			came, err := b.Receive(&got)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if err := <-fail; err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if got.Text != sent.Text || !slices.Equal(got.IDs, sent.IDs) {
				t.Errorf("%d bytes came as %d", size, len(got.Text))
			}
			if len(came) != len(fds) || open(t) != before+len(fds) {
				t.Errorf("%d bytes with %d descriptors: %d came, %d are open, of %d before", size, len(fds), len(came), open(t), before)
			}
			CloseAll(came)
		}
	}
	if err := a.Send(message{Text: strings.Repeat("x", maxMessage)}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a message that is too long: %v", err)
	}
	// What is no JSON, and a mark without a file.
	for _, raw := range []string{"{", "\x00"} {
		if err := unix.Send(a.fd, []byte(raw), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Receive(new(message)); err == nil {
			t.Errorf("%q is taken for a message", raw)
		}
	}
	a.Close()
	if _, err := b.Receive(new(message)); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// open is how many descriptors the test has.
func open(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
