// Package client speaks the control API.
package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
)

// Client talks to the switch behind a socket.
type Client struct{ Socket string }

// NotRunning says that no switch answers at the socket.
type NotRunning struct{ Socket string }

func (e *NotRunning) Error() string {
	return fmt.Sprintf("no switch is running at %s (start one with: tapswitch up -d)", e.Socket)
}

// Do sends a request, with descriptors beside it, and decodes the answer into
// out if it is not nil. An *api.Error is the switch's own.
func (c *Client) Do(method, path string, in, out any, fds ...int) error {
	resp, done, err := c.send(method, path, "", in, fds...)
	if err != nil {
		return err
	}
	defer done()
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// Get copies what a request answers to w: text, or JSON as it comes. Accept
// names the form, where there are several.
func (c *Client) Get(path, accept string, w io.Writer) error {
	resp, done, err := c.send(http.MethodGet, path, accept, nil)
	if err != nil {
		return err
	}
	defer done()
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// send sends a request and returns the answer, if it is a good one; done closes
// the connection when its body has been read.
func (c *Client) send(method, path, accept string, in any, fds ...int) (resp *http.Response, done func(), err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://tapswitch/"+api.Version+path, body)
	if err != nil {
		return nil, nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	h := fdpass.Client(c.Socket, fds...)
	if resp, err = h.Do(req); err != nil {
		h.CloseIdleConnections()
		return nil, nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, h.CloseIdleConnections, nil
	}
	defer h.CloseIdleConnections()
	defer resp.Body.Close()
	var e struct {
		Error *api.Error `json:"error"`
	}
	if json.NewDecoder(resp.Body).Decode(&e) == nil && e.Error != nil {
		return nil, nil, e.Error
	}
	return nil, nil, fmt.Errorf("the switch answered %s", resp.Status)
}

// explain says what an error of the connection means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return &NotRunning{c.Socket}
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the socket %s is another user's", c.Socket)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the switch at %s closed the connection: it has ended, or you are not its owner", c.Socket)
	}
	return err
}

// Stream sends a request whose answer is a stream, and returns our end of it.
func (c *Client) Stream(path string, in any) (net.Conn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = c.Do("POST", path, in, nil, pair[1])
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return fdpass.StreamOf(pair[0])
}

// Running says whether a switch answers.
func (c *Client) Running() bool {
	var s api.Status
	return c.Do("GET", "/status", nil, &s) == nil
}

// Escape makes a name part of a path.
func Escape(name string) string { return url.PathEscape(name) }
