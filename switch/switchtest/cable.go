package switchtest

import (
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// end is one end of a cable: what is written here is read there.
type end struct {
	*Device
	peer *Device
}

// Cable makes two devices joined to each other, for two switches or for a loop
// between two ports of one.
func Cable(t testing.TB, caps vswitch.Caps) (a, b vswitch.Device) {
	x, y := NewDevice(t, caps), NewDevice(t, caps)
	return &end{x, y}, &end{y, x}
}

func (e *end) Write(b []byte) unix.Errno {
	if why := exceeds(b, e.caps); why != "" {
		e.t.Errorf("cable was given a frame that it cannot take: %s", why)
	}
	e.peer.Push(append([]byte(nil), b...))
	return 0
}
