package client

import (
	"encoding/json"
	"errors"
	"io"
	"net"
)

// Lines reads an answer that goes on: a JSON value a line, until it ends.
type Lines struct {
	body io.ReadCloser
	dec  *json.Decoder
}

// Follow sends a request whose answer goes on.
func (c *Client) Follow(path string) (*Lines, error) {
	resp, done, err := c.send("GET", path, "", nil)
	if err != nil {
		return nil, err
	}
	return &Lines{closing{resp.Body, done}, json.NewDecoder(resp.Body)}, nil
}

type closing struct {
	io.ReadCloser
	done func()
}

func (c closing) Close() error {
	err := c.ReadCloser.Close()
	c.done()
	return err
}

// Next reads the next value. At the end, whoever made it, the error is io.EOF.
func (l *Lines) Next(v any) error {
	err := l.dec.Decode(v)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// Close ends it. It may be called while Next waits.
func (l *Lines) Close() error { return l.body.Close() }
