package nat

import (
	"bytes"
	"testing"
)

// A request's acknowledgement waits for the answer that carries it; a container
// whose bytes are not answered waits for an acknowledgement once and then gets
// them at once.
func TestAcknowledgementsWait(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	in, out := b.pair(l.listenOutside("tcp", outside4+":0", nil), nil)
	sent := func() (n uint64) {
		l.do(func() { n = l.theTCP().packets[1] })
		return n
	}
	word, got := []byte("word"), make([]byte, 4)
	before := sent()
	const turns = 200
	for range turns {
		for _, c := range [][2]interface {
			Write([]byte) (int, error)
			Read([]byte) (int, error)
		}{{in, out}, {out, in}} {
			if _, err := c[0].Write(word); err != nil {
				t.Fatal(err)
			}
			if _, err := c[1].Read(got); err != nil || !bytes.Equal(got, word) {
				t.Fatal(got, err)
			}
		}
	}
	// An answer that takes longer than an acknowledgement may wait costs a frame
	// more: on a busy machine some do.
	if n := sent() - before; n < turns || n > turns*3/2 {
		t.Errorf("%d frames for %d answers", n, turns)
	}
	for _, hasty := range []uint8{hastyFor, hastyFor - 1} {
		in.Write(word)
		out.Read(got)
		l.eventually("the word is acknowledged", func() bool {
			f := l.theTCP()
			return f.tcp.acked == f.tcp.rcvNxt && f.tcp.hasty == hasty
		})
	}
}

// A container that has finished gets one frame from an outside that finishes at
// once: our end acknowledges its own, and its last acknowledgement gets none.
func TestEndsAreOneFrame(t *testing.T) {
	l := newLab(t, Config{})
	b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
	ln := l.listenOutside("tcp", outside4+":0", nil)
	const turns = 50
	frames := uint64(0)
	for range turns {
		in, out := b.pair(ln, nil)
		at, before := none, uint64(0)
		l.do(func() {
			for i := range l.nat.flows[:l.nat.top] {
				if f := &l.nat.flows[i]; f.kind == kindTCP && f.state != lingers {
					at, before = uint32(i), f.packets[1]
				}
			}
		})
		over := make(chan struct{})
		go func() {
			defer close(over)
			out.Read(make([]byte, 1))
			out.Close()
		}()
		in.Close()
		<-over
		l.eventually("the connection is over", func() bool { return l.nat.flows[at].state == lingers })
		l.do(func() { frames += l.nat.flows[at].packets[1] - before })
	}
	// On a busy machine some ends come later than an acknowledgement may wait.
	if frames < turns || frames > turns*3/2 {
		t.Errorf("%d frames for %d ends", frames, turns)
	}
}
