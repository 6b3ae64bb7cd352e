package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// audit writes what happens to one container to a file, a line of JSON each:
// what it asked for, whom it talked to and how much, what was dropped, and how it
// ended.
type audit struct {
	out    *os.File
	lines  *client.Lines
	events chan api.Event
	begun  chan *api.Container
	over   chan struct{}
	done   chan error
}

// auditPatience is how long the last events may take after the container's end.
const auditPatience = 5 * time.Second

// startAudit makes the file and begins to listen, before there is a container.
func startAudit(c *client.Client, path string) (*audit, error) {
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l, err := c.Follow("/events")
	if err != nil {
		out.Close()
		return nil, err
	}
	a := &audit{out: out, lines: l, events: make(chan api.Event, 64), begun: make(chan *api.Container, 1), over: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		defer close(a.events)
		for {
			var x api.Event
			if l.Next(&x) != nil {
				return
			}
			a.events <- x
		}
	}()
	go func() { a.done <- a.write() }()
	return a, nil
}

// write holds events back until it is known whose are wanted, then writes until
// the container has left its networks.
func (a *audit) write() error {
	var held []api.Event
	var of *api.Container
	joined := 0
	out := json.NewEncoder(a.out)
	put := func(x *api.Event) error {
		if x.Container != of.Name && x.Type != "missed" {
			return nil
		}
		switch x.Action {
		case "joined":
			joined++
		case "left":
			joined--
		}
		return out.Encode(x)
	}
	over := a.over
	var late <-chan time.Time
	for {
		select {
		case c := <-a.begun:
			of = c
			if err := out.Encode(api.Event{Time: time.Now().UTC(), Type: "run", Action: "started", Container: c.Name, Text: strings.Join(c.Command, " ")}); err != nil {
				return err
			}
			for i := range held {
				if err := put(&held[i]); err != nil {
					return err
				}
			}
			held = nil
		case x, ok := <-a.events:
			switch {
			case !ok:
				return nil // the switch has ended
			case of == nil:
				held = append(held, x)
			default:
				if err := put(&x); err != nil {
					return err
				}
			}
		case <-over:
			over, late = nil, time.After(auditPatience)
		case <-late:
			return fmt.Errorf("%s: the last events did not come", a.out.Name())
		}
		if over == nil && (of == nil || joined == 0) {
			return nil
		}
	}
}

// end waits for the last events and closes the file; code is how the command
// ended.
func (a *audit) end(of *api.Container, code int) error {
	close(a.over)
	err := <-a.done
	a.lines.Close()
	go func() { // whoever reads ends with the connection
		for range a.events {
		}
	}()
	if err == nil && of != nil {
		err = json.NewEncoder(a.out).Encode(api.Event{Time: time.Now().UTC(), Type: "run", Action: "ended", Container: of.Name, Text: fmt.Sprintf("exit code %d", code)})
	}
	if e := a.out.Close(); err == nil {
		err = e
	}
	return err
}
