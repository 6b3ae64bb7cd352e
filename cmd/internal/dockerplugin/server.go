package dockerplugin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/fdpass"
)

// Options are what a plugin is run with.
type Options struct {
	Owner string // tells its networks from those of another plugin
	Netns string // path of dockerd's network namespace; "" for the caller's
	UID   uint32 // who may call, beside root
}

// Plugin is a network driver of Docker's.
type Plugin struct {
	opt    Options
	client *client.Client
	log    *slog.Logger

	// Requests hold work for reading, and are on their own with each other: Docker
	// asks one thing at a time of an endpoint. A switch that comes is put right
	// under it for writing.
	work sync.RWMutex
	up   chan struct{} // closed while there is a switch that has been put right; under mu

	mu        sync.Mutex
	networks  map[string]api.NetworkCreate // by Docker's id, as endpoints are
	endpoints map[string]*endpoint
}

// New makes a plugin that works on the switch of a client.
func New(c *client.Client, log *slog.Logger, opt Options) *Plugin {
	return &Plugin{opt: opt, client: c, log: log, up: make(chan struct{}), networks: make(map[string]api.NetworkCreate), endpoints: make(map[string]*endpoint)}
}

// Serve answers Docker on l until ctx ends.
func (p *Plugin) Serve(ctx context.Context, l *net.UnixListener) error {
	go p.watch(ctx)
	srv := &http.Server{Handler: p.handler(), ConnContext: withCaller, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	go func() {
		<-ctx.Done()
		last, done := context.WithTimeout(context.Background(), 2*time.Second)
		defer done()
		_ = srv.Shutdown(last) // what is being answered is answered
	}()
	err := srv.Serve(fdpass.Listener{UnixListener: l, Allow: func(uid uint32) bool { return uid == 0 || uid == p.opt.UID }})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type callerKey struct{}

// withCaller notes the process that has connected.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	pid := 0
	if s, is := c.(syscall.Conn); is {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
					pid = int(cred.Pid)
				}
			})
		}
	}
	return context.WithValue(ctx, callerKey{}, pid)
}

// driver is the prefix of the network driver's requests.
const driver = "/NetworkDriver."

// handler serves the protocol; what it does not know is 404, which Docker takes
// for "not implemented".
func (p *Plugin) handler() http.Handler {
	mux := http.NewServeMux()
	fixed := func(path string, v any) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) { answer(w, v) })
	}
	fixed("/Plugin.Activate", map[string][]string{"Implements": {"NetworkDriver"}})
	fixed(driver+"GetCapabilities", map[string]any{"Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": true})
	fixed(driver+"DiscoverNew", struct{}{})
	fixed(driver+"DiscoverDelete", struct{}{})
	for name, c := range map[string]call{
		"GwAllocCheck": {p.gatewayCheck, false}, "EndpointOperInfo": {p.info, false}, "Leave": {p.leave, false},
		"DeleteEndpoint": {p.deleteEndpoint, false}, "RevokeExternalConnectivity": {p.revoke, false}, // without a switch, too
		"CreateNetwork": {p.createNetwork, true}, "DeleteNetwork": {p.deleteNetwork, true},
		"CreateEndpoint": {p.createEndpoint, true}, "Join": {p.join, true}, "ProgramExternalConnectivity": {p.program, true},
	} {
		mux.HandleFunc("POST "+driver+name, func(w http.ResponseWriter, r *http.Request) {
			var req request
			err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&req)
			if err != nil {
				p.refuse(w, name, &req, api.Errorf(api.BadRequest, "request: %v", err))
				return
			}
			req.caller, _ = r.Context().Value(callerKey{}).(int)
			v, err := p.answerTo(c, &req)
			if err != nil {
				p.refuse(w, name, &req, err)
				return
			}
			p.log.Info(name, "network", short(req.NetworkID), "endpoint", short(req.EndpointID))
			if v == nil {
				v = struct{}{}
			}
			answer(w, v)
		})
	}
	return mux
}

// call is what one of Docker's requests does, and whether it needs a switch.
type call struct {
	do    func(*request) (any, error)
	needs bool
}

// patience is how long a request waits for a switch: a restart takes a moment,
// and at boot it may come after Docker.
const patience = 10 * time.Second

// answerTo does what is asked for. If there is no switch that needs one waits
// for it; while it waits it holds nothing, so that the switch can be put right.
func (p *Plugin) answerTo(c call, r *request) (v any, err error) {
	limit := time.Now().Add(patience)
	for {
		p.mu.Lock()
		up := p.up
		p.mu.Unlock()
		if c.needs {
			select {
			case <-up:
			case <-time.After(time.Until(limit)):
			}
		}
		p.work.RLock()
		v, err = c.do(r)
		p.work.RUnlock()
		if !c.needs || !isOff(err) || time.Now().After(limit) {
			return v, err
		}
		time.Sleep(50 * time.Millisecond) // it has just gone: watch is about to notice
	}
}

// refuse tells Docker, and the log, why not.
func (p *Plugin) refuse(w http.ResponseWriter, name string, r *request, err error) {
	p.log.Error(name, "network", short(r.NetworkID), "endpoint", short(r.EndpointID), "err", err)
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusInternalServerError)
	_ = json.NewEncoder(w).Encode(map[string]string{"Err": strings.TrimSpace(err.Error())})
}

const contentType = "application/vnd.docker.plugins.v1.2+json"

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", contentType)
	_ = json.NewEncoder(w).Encode(v)
}

func short(id string) string { return id[:min(len(id), 12)] }
