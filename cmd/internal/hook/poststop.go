package hook

import (
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
)

// poststop takes the container off the switch, which the end of its process has
// done by now or is doing: who starts it again finds name, addresses and ports
// free. It may be called again, and for what never was.
func poststop(c *client.Client, b []byte) error {
	s, err := readState(b)
	if err != nil {
		return err
	}
	rec, err := recordOf(c.Socket, s.ID)
	if err != nil {
		return err
	}
	n, err := rec.load()
	if err == nil && n.OnSwitch != "" {
		if err = joiner.Leave(c, n.OnSwitch, ""); err != nil && joiner.Gone(err) {
			err = nil
		}
	}
	if rerr := rec.remove(); err == nil {
		err = rerr
	}
	return err
}
