package vswitch

import (
	"runtime"
	"testing"
)

// The beat goes on while it is wanted, on each processor, and then stands still.
func TestBeat(t *testing.T) {
	b := NewBeat()
	if b == nil {
		t.Skipf("there are %d processors: none is needed", runtime.NumCPU())
	}
	defer b.Close()
	if n := b.beats.Load(); n != 0 {
		t.Fatalf("%d beats before anybody wanted them", n)
	}
	const patience = 60e9
	until := Monotonic() + patience
	b.want(until)
	for b.beats.Load() < uint64(2*len(b.wake)) {
		if Monotonic() > until {
			t.Fatal("nobody beats")
		}
		runtime.Gosched()
	}
	b.want(0) // what is under way ends with its next wake
	var last uint64
	for calm := 0; calm < 3; {
		end := Monotonic() + 4*beatEvery
		for Monotonic() < end {
			runtime.Gosched()
		}
		if n := b.beats.Load(); n == last {
			calm++
		} else {
			calm, last = 0, n
		}
		if Monotonic() > until+patience {
			t.Fatal("it does not stand still")
		}
	}
}

// A loop that loses its processor asks for the beat; one that sleeps does not.
func TestLosses(t *testing.T) {
	b := &Beat{}
	var l losses
	l.look(b, 1e12)
	if b.until.Load() != 0 {
		t.Error("the first look asks already")
	}
	l.seen -= 2 * beatLosses // as if it had been pushed off meanwhile
	l.look(b, 1e12+beatCheck/2)
	if b.until.Load() != 0 {
		t.Error("it looks too often")
	}
	l.look(b, 1e12+beatCheck)
	if b.until.Load() != 1e12+beatCheck+beatFor {
		t.Errorf("until %d", b.until.Load())
	}
	b.until.Store(0)
	l.seen -= 2 * beatLosses
	l.look(b, 2e12)
	if b.until.Load() != 0 {
		t.Error("a look after a long sleep asks")
	}
}
