package worker

import (
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
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
		if fresh.metrics, err = openFace("metrics", c.Metrics, configs.API{}, &x.metrics); err != nil {
			return faces{}, err
		}
	}
	if c.API != x.readonly.api {
		at := ""
		if c.API.ReadOnly != "" {
			at = "unix:" + c.API.ReadOnly
		}
		if fresh.readonly, err = openFace("api.readonly", at, c.API, &x.readonly); err != nil {
			fresh.drop()
			return faces{}, err
		}
	}
	return fresh, nil
}

// take puts fresh faces in the place of old ones, and serves.
func (x *control) take(fresh faces) {
	if f := fresh.metrics; f != nil {
		x.metrics.close(f.at)
		x.metrics = *f
		x.metrics.serve(x, metricsOnly(x.e), time.Minute)
	}
	if f := fresh.readonly; f != nil {
		x.readonly.close(f.at)
		x.readonly = *f
		x.readonly.serve(x, readOnly(handler(x)), 0) // an answer may be events without end
	}
}

// drop closes what was opened in vain.
func (f faces) drop() {
	for _, x := range []*face{f.metrics, f.readonly} {
		if x != nil && x.l != nil {
			x.l.Close()
			if path, ok := configs.UnixPath(x.at); ok {
				os.Remove(path + fresh)
			}
		}
	}
}

// fresh marks a socket that waits for its predecessor's place.
const fresh = ".new"

func openFace(key, at string, a configs.API, before *face) (*face, error) {
	f := &face{at: at, api: a}
	if at == "" {
		return f, nil
	}
	var err error
	if path, ok := configs.UnixPath(at); ok {
		f.l, err = listenAside(path, a, before.at == at)
	} else {
		f.l, err = net.Listen("tcp", at)
	}
	if err != nil {
		return nil, api.Errorf(api.Conflict, "%s: %v", key, err).WithHint("choose another place, or none")
	}
	return f, nil
}

// listenAside listens beside path until serve moves the socket there. What is at
// path and not ours, or left by somebody who is gone, is not replaced.
func listenAside(path string, a configs.API, ours bool) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, errors.New(path + " is there, and no socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		if !ours {
			return nil, errors.New("somebody listens at " + path)
		}
	}
	if err := os.Remove(path + fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := listenUnix(path + fresh)
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its name is another one then
	if err := give(path+fresh, a); err != nil {
		l.Close()
		os.Remove(path + fresh)
		return nil, err
	}
	return l, nil
}

// give hands a socket to its group, with its mode.
func give(path string, a configs.API) error {
	if a.Group != "" {
		id := a.Group
		if g, err := user.LookupGroup(id); err == nil {
			id = g.Gid
		}
		gid, err := strconv.Atoi(id)
		if err != nil {
			return errors.New("there is no group " + a.Group)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, fs.FileMode(a.Perm()))
}

func (f *face) serve(x *control, h http.Handler, patience time.Duration) {
	if f.l == nil {
		return
	}
	if path, ok := configs.UnixPath(f.at); ok {
		if err := os.Rename(path+fresh, path); err != nil {
			x.log.Error("socket", "path", path, "err", err)
		}
	}
	f.srv = newServer(x.log, h)
	f.srv.WriteTimeout, f.srv.IdleTimeout = patience, 2*time.Minute
	go f.srv.Serve(f.l)
	x.log.Info("listening", "address", f.at)
}

// close ends a face. Its path is left where next is at the same.
func (f *face) close(next string) {
	if f.l == nil {
		return
	}
	f.srv.Close()
	if path, ok := configs.UnixPath(f.at); ok && next != f.at {
		os.Remove(path)
	}
	*f = face{}
}

// listenUnix listens at a path, for the owner alone.
func listenUnix(path string) (*net.UnixListener, error) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
