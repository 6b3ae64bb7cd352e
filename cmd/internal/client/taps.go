package client

import (
	"fmt"

	"tapswitch/cmd/internal/fdpass"
)

// TAPs returns duplicates of the TAPs that were brought for a container, in the
// order of its networks; they are the caller's to close.
func (c *Client) TAPs(name string) ([]int, error) {
	conn, theirs, err := fdpass.Pair()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = c.Do("POST", "/containers/"+Escape(name)+"/taps", nil, nil, int(theirs.Fd()))
	theirs.Close()
	if err != nil {
		return nil, err
	}
	var none struct{}
	fds, err := conn.Receive(&none)
	if err != nil {
		return nil, fmt.Errorf("TAPs of %s: %w", name, err)
	}
	return fds, nil
}
