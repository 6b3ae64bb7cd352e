package slirp

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
	"tapswitch/switch/ns"
)

// Name is argv[0] of this face.
const Name = "slirp4netns"

// Run is the program slirp4netns: the process that the caller has started, which
// stays until the caller ends it. ours is tapswitch's version.
func Run(args []string, ours string) int {
	face.Inherited()
	o, err := parse(args[0], args[1:])
	for _, note := range o.notes {
		fmt.Println(note)
	}
	switch {
	case errors.Is(err, errUsage):
		if text := strings.TrimPrefix(err.Error(), errUsage.Error()); text != "" {
			fmt.Fprintln(os.Stderr, text)
		}
		fmt.Print(usage(args[0]))
		return 1
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case o.help:
		fmt.Print(usage(args[0]))
		return 0
	case o.version:
		fmt.Print(version(ours))
		return 0
	}
	signals := make(chan os.Signal, 4)
	for _, s := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if !signal.Ignored(s) { // as by nohup(1)
			signal.Notify(signals, s)
		}
	}
	signal.Ignore(unix.SIGPIPE)
	sig, err := live(o, ours, signals)
	if err != nil {
		fmt.Fprintln(os.Stderr, Name+":", err)
		return 1
	}
	if sig == nil {
		return 0
	}
	// The caller is to see that it was the signal.
	signal.Reset(sig)
	_ = unix.Kill(os.Getpid(), sig.(syscall.Signal))
	time.Sleep(time.Second) // its default is our end
	return 128 + int(sig.(syscall.Signal))
}

// live is the life of the process: it returns the signal that ended it, or nil
// where the caller has said so otherwise.
func live(o *options, ours string, signals <-chan os.Signal) (os.Signal, error) {
	n := networkOf(o.cidr)
	name := o.tap
	var g *face.Guest
	var err error
	if o.bess != "" {
		var sig os.Signal
		name = "bess"
		if g, sig, err = accept(o.bess, signals); sig != nil || err != nil {
			return sig, err
		}
		n.guestAt(g, o)
	} else if g, err = target(o, n); err != nil {
		return nil, err
	}
	fmt.Print(banner(o, n))
	sw, err := face.Start(face.Config{Network: n.config(o), Loopback: !o.noLoopback, Source4: o.outbound4, Source6: o.outbound6, Version: ours,
		Warn: func(text string) { fmt.Fprintln(os.Stderr, Name+":", text) }})
	if err != nil {
		return nil, err
	}
	sig, err := serve(o, n, sw, name, g, signals)
	if cerr := sw.Close(); err == nil {
		err = cerr
	}
	return sig, err
}

// target opens the TAP in the caller's namespace, and sets it up if that is
// wanted.
func target(o *options, n network) (*face.Guest, error) {
	if o.tapFD >= 0 {
		mac, err := ns.MACOf(o.tapFD)
		if err != nil {
			return nil, err
		}
		return n.guestAt(&face.Guest{FD: o.tapFD, MAC: mac, Foreign: true}, o), nil
	}
	var h *ns.Handle
	var err error
	if o.pid > 0 {
		h, err = ns.OfPID(o.pid)
	} else {
		h, err = ns.OfPath(o.path)
	}
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if o.usernsPath != "" {
		if err := h.Through(o.usernsPath); err != nil {
			return nil, err
		}
	}
	g, err := face.Open(h, o.tap)
	if err != nil {
		return nil, err
	}
	if o.mac != nil {
		g.MAC = o.mac
	}
	n.guestAt(g, o)
	if o.configure {
		if err := g.Configure(h, o.tap, n.config(o)); err != nil {
			unix.Close(g.FD)
			return nil, err
		}
	}
	return g, nil
}

// guestAt gives the guest the addresses that published ports lead to.
func (n network) guestAt(g *face.Guest, o *options) *face.Guest {
	g.IP = n.guest
	if o.ipv6 {
		g.IP6 = face.SLAAC(n.prefix6, g.MAC)
	}
	return g
}

// serve puts the guest on the switch, says that all is ready, and waits for the
// end.
func serve(o *options, n network, sw *face.Switch, name string, g *face.Guest, signals <-chan os.Signal) (os.Signal, error) {
	err := sw.Attach(name, g)
	unix.Close(g.FD)
	if err != nil {
		return nil, err
	}
	if o.apiSocket != "" {
		end, err := listenAPI(o.apiSocket, sw, n)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if o.readyFD >= 0 {
		if _, err := unix.Write(o.readyFD, []byte("1")); err != nil {
			return nil, fmt.Errorf("ready-fd %d: %w", o.readyFD, err)
		}
		unix.Close(o.readyFD)
	}
	select {
	case sig := <-signals:
		return sig, nil
	case <-hangup(o.exitFD):
		fmt.Fprintln(os.Stderr, "exitfd event")
		return nil, nil
	case <-left(o, sw):
		return nil, nil
	case <-sw.Ended():
		return nil, nil // Close says why
	}
}

// hangup is closed when the other end of fd is, or fd is none.
func hangup(fd int) <-chan struct{} {
	if fd < 0 {
		return nil
	}
	c := make(chan struct{})
	go func() {
		p := []unix.PollFd{{Fd: int32(fd)}} // errors and hang-ups are told in any case
		for {
			if n, err := unix.Poll(p, -1); n > 0 || err != unix.EINTR {
				close(c)
				return
			}
		}
	}()
	return c
}

// left is closed when a guest at a socket has closed it. One in a namespace is
// not waited for: as with slirp4netns, the caller says when it is over.
func left(o *options, sw *face.Switch) <-chan struct{} {
	if o.bess == "" {
		return nil
	}
	c := make(chan struct{})
	go func() {
		if sw.Gone() == nil {
			close(c)
		}
	}()
	return c
}
