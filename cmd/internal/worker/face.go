package worker

import (
	"net"
	"net/http"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
)

// face is a further listener of ours: for metrics, or of the read-only API. It
// is opened before a configuration is applied, and takes the place of the one
// before when that has gone well.
type face struct {
	at  string // as configured; "": none
	api configs.API
	l   net.Listener
	srv *http.Server
}

// faces are those that a configuration changes; nil for those that stay.
type faces struct{ metrics, readonly *face }

// open listens where the configuration says and nobody of ours does yet. On
// error nothing is open.
func (x *control) open(c *configs.Config) (fresh faces, err error) {
	if c.Metrics != x.metrics.at {
		if fresh.metrics, err = x.openFace("metrics", c.Metrics, configs.API{}, &x.metrics); err != nil {
			return faces{}, err
		}
	}
	if c.API != x.readonly.api {
		at := ""
		if c.API.ReadOnly != "" {
			at = "unix:" + c.API.ReadOnly
		}
		if fresh.readonly, err = x.openFace("api.readonly", at, c.API, &x.readonly); err != nil {
			fresh.drop(x)
			return faces{}, err
		}
	}
	return fresh, nil
}

// take puts fresh faces in the place of old ones, and serves.
func (x *control) take(fresh faces) {
	if f := fresh.metrics; f != nil {
		x.metrics.close(x, f.at)
		x.metrics = *f
		x.metrics.serve(x, metricsOnly(x.e), time.Minute)
	}
	if f := fresh.readonly; f != nil {
		x.readonly.close(x, f.at)
		x.readonly = *f
		x.readonly.serve(x, readOnly(handler(x)), 0) // an answer may be events without end
	}
}

// drop closes what was opened in vain.
func (f faces) drop(x *control) {
	for _, a := range []*face{f.metrics, f.readonly} {
		if a != nil && a.l != nil {
			a.l.Close()
			if path, ok := configs.UnixPath(a.at); ok {
				_, _, _ = x.c.Call(porter.Message{Op: porter.OpUnlink, Name: path, Text: "the one beside"})
			}
		}
	}
}

func (x *control) openFace(key, at string, a configs.API, before *face) (*face, error) {
	f := &face{at: at, api: a}
	if at == "" {
		return f, nil
	}
	var err error
	if path, ok := configs.UnixPath(at); ok {
		f.l, err = x.listenAside(path, a, before.at == at)
	} else {
		f.l, err = net.Listen("tcp", at)
	}
	if err != nil {
		return nil, api.Errorf(api.Conflict, "%s: %v", key, err).WithHint("choose another place, or none")
	}
	return f, nil
}

// listenAside listens beside path until serve moves the socket there; the porter
// makes it, since we may not.
func (x *control) listenAside(path string, a configs.API, ours bool) (net.Listener, error) {
	_, fds, err := x.c.Call(porter.Message{Op: porter.OpListen, Name: path, Listen: &porter.Listen{Mode: a.Perm(), Group: a.Group, Ours: ours}})
	if err != nil {
		return nil, err
	}
	return listener(fds)
}

func (f *face) serve(x *control, h http.Handler, patience time.Duration) {
	if f.l == nil {
		return
	}
	if path, ok := configs.UnixPath(f.at); ok {
		if _, _, err := x.c.Call(porter.Message{Op: porter.OpReveal, Name: path}); err != nil {
			x.log.Error("socket", "path", path, "err", err)
		}
	}
	f.srv = newServer(x.log, h)
	f.srv.WriteTimeout, f.srv.IdleTimeout = patience, 2*time.Minute
	go f.srv.Serve(f.l)
	x.log.Info("listening", "address", f.at)
}

// close ends a face. Its path is left where next is at the same.
func (f *face) close(x *control, next string) {
	if f.l == nil {
		return
	}
	f.srv.Close()
	if path, ok := configs.UnixPath(f.at); ok && next != f.at {
		_, _, _ = x.c.Call(porter.Message{Op: porter.OpUnlink, Name: path})
	}
	*f = face{}
}
