// Package face is what the programs have in common that tapswitch stands for
// when it is called by their names (slirp4netns, pasta): a switch that serves
// one namespace of a caller's, for as long as this process lives.
//
// The process that the caller started is the porter and stays; the worker is its
// child and dies with it. Nobody else can speak to the switch: the control API
// has no socket, and there is no lock, no state and no directory, since such a
// caller may have given us neither an environment nor a place to write.
//
//	face.go   start a switch and end it
//	guest.go  put the caller's namespace on it
//	ports.go  what is published of it
//	getopt.go command lines as the C library reads them
package face

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
)

// Config is a switch for one namespace.
type Config struct {
	Network  configs.Network // the one network; its name and subnet are needed
	Loopback bool            // the gateway's address stands for the host's loopback
	Closed   bool            // the host's other addresses are not reached
	Source4  netip.Addr      // the host's address that connections leave from; zero: the kernel chooses
	Source6  netip.Addr
	Resolver []netip.AddrPort // who is asked for names; none: whom the host asks
	Version  string
	Warn     func(text string) // what people should know; nil for standard error
}

// Switch runs in a worker of this process.
type Switch struct {
	worker porter.Worker
	stop   chan os.Signal
	ended  chan struct{}
	err    error // once ended is closed
	once   sync.Once
	cfg    Config
}

// What the one guest may have: behind it may be an engine with all its
// containers.
const (
	guestFlows    = 32768
	guestHalfOpen = 4096
)

// Inherited marks descriptors that the caller left open as ours alone: they are
// not for the worker. It is called first.
func Inherited() { _ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }

// Start starts the worker and makes the network, with nobody on it yet.
func Start(c Config) (*Switch, error) {
	if c.Warn == nil {
		c.Warn = func(text string) { fmt.Fprintln(os.Stderr, text) }
	}
	cfg := configs.Default()
	cfg.Networks, cfg.Containers = []configs.Network{c.Network.WithDefaults()}, nil
	cfg.Host = configs.Host{Loopback: configs.Ports{All: c.Loopback}, Address: !c.Closed}
	cfg.DNS.Upstream = c.Resolver
	cfg.Limits.Flows, cfg.Limits.HalfOpen = guestFlows, guestHalfOpen
	cfg.LogLevel = "warn"
	cfg.Threads = 1 // for one guest
	s := &Switch{stop: make(chan os.Signal, 1), ended: make(chan struct{}), cfg: c}
	load := func() (porter.Config, error) { return porter.Config{Config: cfg}, nil }
	conf, _ := load()
	ready := make(chan struct{})
	go func() {
		s.err = porter.Run(porter.Options{
			Start: porter.Start{PorterPid: os.Getpid(), Version: c.Version, Config: conf, Source4: c.Source4, Source6: c.Source6},
			Load:  load,
			Ready: func(string) { close(ready) },
			Warn:  c.Warn,
			Log:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
			Stop:  s.stop,
			API:   &s.worker,
		})
		close(s.ended)
	}()
	select {
	case <-ready:
		return s, nil
	case <-s.ended:
		if s.err == nil {
			s.err = errors.New("the switch ended before it was ready")
		}
		return nil, s.err
	}
}

// Ended is closed when the switch is no more, by Close or by itself.
func (s *Switch) Ended() <-chan struct{} { return s.ended }

// Close takes everything away and returns when the worker has ended. The error
// is why it ended by itself, if it did.
func (s *Switch) Close() error {
	s.once.Do(func() { s.stop <- unix.SIGTERM })
	<-s.ended
	return s.err
}
