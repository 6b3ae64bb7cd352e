// Package joiner puts namespaces that somebody else made on a switch: what the
// command `join` and the faces towards container engines have in common. Each
// opens the TAPs with the rights that it was called with and hands them to the
// switch, which could not enter most of these namespaces itself.
//
//	joiner.go  join and leave
//	keyed.go   namespaces of callers that set up one network after the other
//	parse.go   how people write a network
package joiner

import (
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/cmd/internal/porter"
	"tapswitch/switch/ns"
)

// How the switch learns of a namespace's end.
const (
	ByProcess = "pidfd"       // the process r.Pid ends
	ByDevice  = "until_error" // the TAP, made elsewhere and moved there, reports it
)

// Join reserves what r asks for, sets the interfaces up in h with our own
// rights, and hands their TAPs to the switch. It returns what was made, and the
// reservation, which holds what to write into the container's files. On error
// nothing is left behind.
func Join(c *client.Client, h *ns.Handle, r api.Reserve) (*api.Container, *api.Reservation, error) {
	var res api.Reservation
	if err := c.Do("POST", "/reservations", r, &res); err != nil {
		return nil, nil, err
	}
	made, err := hand(c, h, r, &res)
	if err != nil {
		_ = c.Do("DELETE", "/reservations/"+res.ID, nil, nil) // the error is more telling; it lapses
		return nil, nil, err
	}
	return made, &res, nil
}

func hand(c *client.Client, h *ns.Handle, r api.Reserve, res *api.Reservation) (*api.Container, error) {
	taps, err := porter.Attach(h, res.Interfaces, r.Lifetime == ByDevice)
	if err != nil {
		return nil, err
	}
	defer fdpass.CloseAll(taps)
	fds := taps
	if r.Lifetime == ByProcess {
		p, err := unix.PidfdOpen(r.Pid, 0)
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", r.Pid, err)
		}
		defer unix.Close(p)
		fds = append(append([]int(nil), taps...), p)
	}
	var made api.Container
	if err := c.Do("POST", "/ports", api.Join{Reservation: res.ID, Pid: r.Pid}, &made, fds...); err != nil {
		return nil, err
	}
	return &made, nil
}

// Leave takes a namespace off the switch, or off one network.
func Leave(c *client.Client, name, network string) error {
	path := "/containers/" + client.Escape(name) + "/leave"
	if network != "" {
		path += "?network=" + url.QueryEscape(network)
	}
	return c.Do("POST", path, nil, nil)
}

// Gone says whether an error of Leave means that there is nothing left to leave:
// the switch knows no such container, or does not run.
func Gone(err error) bool {
	var off *client.NotRunning
	var e *api.Error
	return errors.As(err, &off) || errors.As(err, &e) && e.Code == api.NotFound
}
