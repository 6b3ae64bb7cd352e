package porter

import (
	"encoding/json"
	"errors"
	"sync"

	"tapswitch/cmd/internal/fdpass"
)

// Worker asks the control API of a worker over the connection that the porter
// has to it anyway: a switch that serves one caller needs no socket, no
// directory and no name.
type Worker struct {
	mu   sync.Mutex
	conn *fdpass.Conn // nil: not started, or gone
	next uint64
	wait map[uint64]chan Message
}

// ErrNoWorker says that the switch has ended, or does not run yet.
var ErrNoWorker = errors.New("the switch does not run")

// Do sends a request, with copies of fds beside it, and decodes the answer into
// out if it is not nil. An *api.Error is the switch's own.
func (w *Worker) Do(method, path string, in, out any, fds ...int) error {
	r := &Request{Method: method, Path: path}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		r.Body = b
	}
	answer := make(chan Message, 1)
	w.mu.Lock()
	conn := w.conn
	w.next++
	id := w.next
	if conn != nil {
		w.wait[id] = answer
	}
	w.mu.Unlock()
	if conn == nil {
		return ErrNoWorker
	}
	if err := conn.Send(Message{ID: id, Op: OpRequest, Request: r}, fds...); err != nil {
		w.take(id)
		return err
	}
	m, ok := <-answer
	switch {
	case !ok:
		return ErrNoWorker
	case m.Err != nil:
		return m.Err
	case out == nil:
		return nil
	}
	return json.Unmarshal(m.Extra, out)
}

func (w *Worker) take(id uint64) chan Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.wait[id]
	delete(w.wait, id)
	return c
}

func (w *Worker) begin(conn *fdpass.Conn) {
	w.mu.Lock()
	w.conn, w.wait = conn, make(map[uint64]chan Message)
	w.mu.Unlock()
}

func (w *Worker) deliver(m Message) {
	if c := w.take(m.ID); c != nil {
		c <- m
	}
}

func (w *Worker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = nil
	for id, c := range w.wait {
		close(c)
		delete(w.wait, id)
	}
}
