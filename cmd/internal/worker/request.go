package worker

import (
	"bytes"
	"encoding/json"
	"net/http"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/cmd/internal/porter"
)

// request answers a request of the control API that came from the porter and
// not over a socket, by the same handler.
func request(c *client, h http.Handler, m porter.Message, fds []int) {
	reply := porter.Message{ID: m.ID, Op: m.Op}
	r, err := http.NewRequest(m.Request.Method, "http://tapswitch/"+api.Version+m.Request.Path, bytes.NewReader(m.Request.Body))
	if err != nil {
		fdpass.CloseAll(fds)
		reply.Err = api.Errorf(api.BadRequest, "%v", err)
		c.Tell(reply)
		return
	}
	w := &answerBuffer{header: make(http.Header), status: http.StatusOK}
	h.ServeHTTP(w, fdpass.WithFiles(r, fds))
	reply.Code = w.status
	if w.status == http.StatusOK {
		reply.Extra = bytes.TrimSpace(w.Bytes())
		c.Tell(reply)
		return
	}
	var e struct {
		Error *api.Error `json:"error"`
	}
	if json.Unmarshal(w.Bytes(), &e) != nil || e.Error == nil {
		e.Error = api.Errorf(api.Failed, "the switch answered %d", w.status)
	}
	reply.Err = e.Error
	c.Tell(reply)
}

// answerBuffer is a response that is kept.
type answerBuffer struct {
	bytes.Buffer
	header http.Header
	status int
}

func (w *answerBuffer) Header() http.Header { return w.header }
func (w *answerBuffer) WriteHeader(s int)   { w.status = s }
