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
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	return c.do(method, path, "", body, func(r io.Reader) error {
		if out == nil {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		return json.NewDecoder(r).Decode(out)
	}, fds...)
}

// Get copies what a request answers to w: text, or JSON as it comes. Accept
// names the form, where there are several.
func (c *Client) Get(path, accept string, w io.Writer) error {
	return c.do(http.MethodGet, path, accept, nil, func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

func (c *Client) do(method, path, accept string, body io.Reader, take func(io.Reader) error, fds ...int) error {
	req, err := http.NewRequest(method, "http://tapswitch/"+api.Version+path, body)
	if err != nil {
		return err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	h := fdpass.Client(c.Socket, fds...)
	defer h.CloseIdleConnections()
	resp, err := h.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
			return &NotRunning{c.Socket}
		}
		if errors.Is(err, syscall.EACCES) {
			return fmt.Errorf("the socket %s is another user's", c.Socket)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("the switch at %s closed the connection: it has ended, or you are not its owner", c.Socket)
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error *api.Error `json:"error"`
		}
		if json.NewDecoder(resp.Body).Decode(&e) == nil && e.Error != nil {
			return e.Error
		}
		return fmt.Errorf("the switch answered %s", resp.Status)
	}
	return take(resp.Body)
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
