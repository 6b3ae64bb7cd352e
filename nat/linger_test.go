package nat

import (
	"testing"
)

// Connections that are over do not stand in the way of new ones: neither of a
// container's own number of flows nor of the table's.
func TestOldConnectionsGiveWay(t *testing.T) {
	const limit = 8
	for _, cfg := range []Config{{PerPort: limit}, {MaxFlows: limit}} {
		l := newLab(t, cfg)
		b := l.box(l.bridge("bridge", "172.17.0.0/16", "", 1500), boxConfig{})
		ln := l.listenOutside("tcp", outside4+":0", nil)
		for range 10 * limit {
			in, out := b.pair(ln, nil)
			in.Close()
			out.Close()
			l.eventually("the connection is over", func() bool {
				for i := range l.nat.flows[:l.nat.top] {
					if f := &l.nat.flows[i]; f.kind == kindTCP && f.state != lingers {
						return false
					}
				}
				return true
			})
		}
	}
}

// The ring passes over records that went by themselves, and is never longer
// than it may be.
func TestLingeringRing(t *testing.T) {
	tb, err := newTable(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := lingering{ring: make([]uint64, 4)}
	over := func() uint32 {
		i := tb.alloc(kindTCP, 1)
		tb.index(i, 0)
		tb.flows[i].state = lingers
		return i
	}
	var is []uint32
	for range 4 {
		i := over()
		if gone := l.add(tb, i); gone != none {
			t.Fatalf("%d had to go", gone)
		}
		is = append(is, i)
	}
	tb.release(is[0])
	if gone := l.add(tb, over()); gone != is[1] {
		t.Errorf("%d had to go, not %d", gone, is[1])
	}
	tb.release(is[2])
	if old := l.oldest(tb); old != is[3] {
		t.Errorf("%d is the oldest, not %d", old, is[3])
	}
}
