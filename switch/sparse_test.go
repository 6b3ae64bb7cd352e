package vswitch_test

import (
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// sink is a device that takes frames and tells of each.
type sink struct {
	*switchtest.Socket
	wrote func(b []byte)
}

func (s *sink) Write(b []byte) unix.Errno { s.wrote(b); return 0 }

// Who sends little is served before those who always have more have had their
// next turn, also if it stands in the queue only because it was written to.
func TestSparseBeforeGreedy(t *testing.T) {
	for _, answered := range []bool{false, true} {
		now := int64(1e12)
		sw, err := vswitch.New(vswitch.Config{Now: func() int64 { now += 40_000; return now }})
		if err != nil {
			t.Fatal(err)
		}
		defer sw.Close()
		sw.SetGateway(new(switchtest.Gateway))
		br := sw.AddBridge(vswitch.BridgeConfig{Name: "bridge"})
		attach := func(last byte, wrap func(*switchtest.Socket) vswitch.Device) *switchtest.Socket {
			device, test := switchtest.SocketPair(t, 0)
			t.Cleanup(func() { device.Close() })
			if _, err := sw.AddPort(vswitch.PortConfig{Name: "p", Bridge: br, Device: wrap(device), MAC: mac(last), Spoof: true}); err != nil {
				t.Fatal(err)
			}
			return test
		}
		plain := func(s *switchtest.Socket) vswitch.Device { return s }
		frame := func(from, to byte) []byte {
			b := v4.UDP(1, 2, data)
			m, d := mac(from), mac(to)
			copy(b[vswitch.VnetLen:], d[:])
			copy(b[vswitch.VnetLen+6:], m[:])
			return b
		}
		const greedy, greedy2, sparse, last = 10, 11, 12, 13
		a, b, s := attach(greedy, plain), attach(greedy2, plain), attach(sparse, plain)
		var order []byte
		attach(last, func(d *switchtest.Socket) vswitch.Device {
			return &sink{d, func(f []byte) {
				if order = append(order, f[vswitch.VnetLen+11]); len(order) == 1 {
					s.Write(frame(sparse, last)) // it has something to say from here on
				}
			}}
		})
		if answered {
			a.Write(frame(greedy, sparse)) // it is queued for being looked at again
		}
		for range 150 { // more than two shares of a turn
			a.Write(frame(greedy, last))
			b.Write(frame(greedy2, last))
		}
		sw.Poll()
		at := -1
		for i, from := range order {
			if from == sparse {
				at = i
			}
		}
		if len(order) != 301 || at < 0 || at > 200 {
			t.Errorf("answered %v: the frame of the sparse port was number %d of %d: want it after one share of each greedy port, and one more", answered, at, len(order))
		}
	}
}

func mac(last byte) vswitch.MAC { return vswitch.MAC{0x02, 0x42, 10, 0, 0, last} }

// metered is a device that counts how often it is read.
type metered struct {
	*switchtest.Socket
	reads int
}

func (c *metered) Read(b []byte) (int, unix.Errno) { c.reads++; return c.Socket.Read(b) }

// A port that was written to is looked at again for the answer, but not if it was
// found empty since.
func TestPortIsReadOnce(t *testing.T) {
	r := run(t)
	br := r.bridge()
	device, x := switchtest.SocketPair(t, 0)
	c := &metered{Socket: device}
	frame := v4.UDP(1, 2, data)
	r.Do(func() {
		p, err := r.AddPort(vswitch.PortConfig{Name: "p", Bridge: br, Device: c, MAC: v4.SrcMAC, Addrs: []addr{v4.Src}})
		if err != nil {
			t.Error(err)
			return
		}
		r.Output(p, frame)
		x.Write(frame)
	})
	reads := 0
	for range 3 { // the first that is taken after all that came of it
		r.Do(func() { reads = c.reads })
	}
	if reads != 2 {
		t.Errorf("read %d times: want once for the frame and once for no more", reads)
	}
}

// A port that is written to and found empty time after time has one place in the
// queue, and so one share of a turn.
func TestOnePlaceInTheQueue(t *testing.T) {
	r := run(t)
	p, _ := r.attach(t, r.bridge(), 2, switchtest.All)
	r.Do(func() {
		for range 3 {
			r.Output(p, v4.UDP(1, 2, data))
			r.Report(p)
		}
		if n := r.Places(p); n != 1 {
			t.Errorf("it stands there %d times", n)
		}
	})
}
