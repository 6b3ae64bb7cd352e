package nat

import (
	"math/rand/v2"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// faults are the odds, in thousandths of the frames, of what may happen to
// one.
type faults struct{ lose, double, swap int }

// usual is what the issue asks every transfer to survive: 1 % of each.
var usual = faults{10, 10, 10}

// faulty is a device that loses, doubles and reorders frames: those that the
// container sends (out) and those that it is sent (in). It belongs to the
// switch's thread but for off.
type faulty struct {
	vswitch.Device
	out, in faults
	rng     *rand.Rand
	off     atomic.Bool // no faults from now on
	down    atomic.Bool // every write fails as on an interface that is down

	queue   [][]byte // read again before the device is asked
	heldOut []byte   // waits for one more frame to overtake it
	heldIn  []byte
	lost    atomic.Int64
	doubled atomic.Int64
	swapped atomic.Int64
	writes  atomic.Int64
	onWrite func(b []byte) // sees every frame to the container
}

func newFaulty(d vswitch.Device, out, in faults, seed uint64) *faulty {
	return &faulty{Device: d, out: out, in: in, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (d *faulty) chance(n int) bool { return n > 0 && !d.off.Load() && d.rng.IntN(1000) < n }

func (d *faulty) Read(b []byte) (int, unix.Errno) {
	for {
		if len(d.queue) > 0 {
			n := copy(b, d.queue[0])
			d.queue = d.queue[1:]
			return n, 0
		}
		n, e := d.Device.Read(b)
		if e == unix.EAGAIN {
			if d.heldIn != nil { // nothing followed to overtake it
				w := d.heldIn
				d.heldIn = nil
				d.Device.Write(w)
				continue
			}
			if d.heldOut != nil {
				n = copy(b, d.heldOut)
				d.heldOut = nil
				return n, 0
			}
		}
		if e != 0 {
			return 0, e
		}
		if isNeighbour(b[:n]) {
			return n, 0
		}
		switch {
		case d.chance(d.out.lose):
			d.lost.Add(1)
			continue
		case d.chance(d.out.double):
			d.doubled.Add(1)
			d.queue = append(d.queue, append([]byte(nil), b[:n]...))
		case d.heldOut == nil && d.chance(d.out.swap):
			d.swapped.Add(1)
			d.heldOut = append([]byte(nil), b[:n]...)
			continue
		}
		if d.heldOut != nil {
			d.queue = append(d.queue, d.heldOut)
			d.heldOut = nil
		}
		return n, 0
	}
}

func (d *faulty) Write(b []byte) unix.Errno {
	d.writes.Add(1)
	if d.down.Load() {
		return unix.EIO
	}
	if d.onWrite != nil {
		d.onWrite(b)
	}
	switch {
	case isNeighbour(b):
	case d.chance(d.in.lose):
		d.lost.Add(1)
		return 0
	case d.chance(d.in.double):
		d.doubled.Add(1)
		if e := d.Device.Write(b); e != 0 {
			return e
		}
	case d.heldIn == nil && d.chance(d.in.swap):
		d.swapped.Add(1)
		d.heldIn = append([]byte(nil), b...)
		return 0
	}
	e := d.Device.Write(b)
	if d.heldIn != nil {
		w := d.heldIn
		d.heldIn = nil
		d.Device.Write(w)
	}
	return e
}

// isNeighbour says whether a frame is ARP or neighbour discovery, which have no
// faults: three lost ones in a row are a host that cannot be reached.
func isNeighbour(b []byte) bool {
	var f vswitch.Frame
	f.Parse(nil, b)
	return f.Class&vswitch.ClassNeighbour != 0
}
