package pasta

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/face"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/configs"
	"tapswitch/switch/ns"
)

// Name is argv[0] of this face.
const Name = "pasta"

// Run is the program pasta. ours is tapswitch's version.
func Run(args []string, ours string) int {
	name := filepath.Base(args[0])
	o, err := parse(name, args[1:])
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case o.help:
		fmt.Print(usage(name))
		return 0
	case o.version:
		fmt.Print(version(ours))
		return 0
	}
	if !o.foreground && os.Getenv(behindVariable) == "" {
		return goBehind(args)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT)
	signal.Ignore(unix.SIGPIPE)
	code, err := live(o, ours, signals)
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return max(code, 1)
	}
	return code
}

// live is the life of the process: until its command ends, its namespace is
// gone, or somebody asks for the end. It returns the exit status.
func live(o *options, ours string, signals <-chan os.Signal) (int, error) {
	out := ready()
	face.Inherited()
	if out != nil {
		defer out.Close()
	}
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return 1, err
		}
		_ = unix.Dup3(int(f.Fd()), 2, 0)
		f.Close()
	}
	looked, err := lookAt(o.ifname)
	if err != nil {
		return 1, err
	}
	h, err := looked.over(o)
	if err != nil {
		return 1, err
	}
	var cmd *command
	pid := o.pid
	if pid == 0 && o.netns == "" {
		if cmd, err = spawn(o.command); err != nil {
			return 1, err
		}
		defer cmd.kill()
		pid = cmd.pid()
	}
	in, err := openTarget(o, pid)
	if err != nil {
		return 1, err
	}
	defer in.Close()
	sw, err := face.Start(face.Config{Network: network(o, h), Loopback: !o.noLoopback, Source4: o.out4, Source6: o.out6, Resolver: o.dnsHost, Version: ours,
		Warn: func(text string) { fmt.Fprintln(os.Stderr, Name+":", text) }})
	if err != nil {
		return 1, err
	}
	code, err := serve(o, h, sw, in, cmd, out, signals)
	if cerr := sw.Close(); err == nil && cerr != nil {
		return 1, cerr
	}
	return code, err
}

// openTarget is the namespace: by process, or by path.
func openTarget(o *options, pid int) (h *ns.Handle, err error) {
	if pid > 0 {
		h, err = ns.OfPID(pid)
	} else {
		h, err = ns.OfPath(o.netns)
	}
	if err == nil && o.userns != "" {
		if err = h.Through(o.userns); err != nil {
			h.Close()
		}
	}
	return h, err
}

// network is the guest's network as a switch of ours has it.
func network(o *options, h host) configs.Network {
	n := configs.Network{Name: Name, Subnet: h.addr4.Masked(), Gateway: h.gw4, MTU: o.mtu, Proxy: true, NoDNS: len(o.dnsForward) == 0,
		NoDHCP: o.without["dhcp"] && o.without["dhcpv6"], Advertise: !o.configure && !o.without["ra"] && !o.without["ndp"] && h.addr6.IsValid()}
	if h.addr6.IsValid() {
		n.Subnet6, n.Gateway6 = h.addr6.Masked(), h.gw6
	}
	for _, a := range o.dnsForward {
		if a.Is4() {
			n.Resolver = a
		} else {
			n.Resolver6 = a
		}
	}
	i := 0
	add := func(guest, to netip.Addr) {
		if i < len(n.Maps) && to.IsValid() {
			n.Maps[i] = configs.Mapping{Guest: guest, Host: to}
			i++
		}
	}
	for _, a := range o.loopbacks {
		if a.Is4() {
			add(a, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		} else {
			add(a, netip.IPv6Loopback())
		}
	}
	own, _ := lookAt(o.ifname)
	for _, a := range o.guests {
		if a.Is4() {
			add(a, own.addr4.Addr())
		} else {
			add(a, own.addr6.Addr())
		}
	}
	return n
}

// serve puts the guest on the switch, publishes its ports, says that all is
// ready, and waits for the end.
func serve(o *options, h host, sw *face.Switch, in *ns.Handle, cmd *command, out *os.File, signals <-chan os.Signal) (int, error) {
	name := o.inner
	if name == "" {
		name = h.ifname
	}
	if err := attach(o, h, sw, in, name); err != nil {
		return 1, err
	}
	for _, proto := range []string{"tcp", "udp", "icmp"} {
		if o.without[proto] {
			if err := sw.Worker().Do("POST", "/rules", api.RuleAdd{Proto: proto, Action: "drop", Comment: "--no-" + proto, Origin: "pasta"}, nil); err != nil {
				return 1, err
			}
		}
	}
	if o.pcap != "" {
		stop, err := capture(sw, o.pcap)
		if err != nil {
			return 1, err
		}
		defer stop()
	}
	end, err := forwarding(o, sw, in)
	if err != nil {
		return 1, err
	}
	defer end()
	if o.pidFile != "" {
		if err := os.WriteFile(o.pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return 1, err
		}
	}
	gone, err := ending(o)
	if err != nil {
		return 1, err
	}
	if out != nil {
		_, _ = out.WriteString("1")
		out.Close()
	}
	var done <-chan int
	if cmd != nil {
		done = cmd.begin()
	}
	for {
		select {
		case code := <-done:
			return code, nil
		case s := <-signals:
			if cmd != nil && (s == unix.SIGINT || s == unix.SIGQUIT) {
				continue // the terminal gave it to the command, too
			}
			return 0, nil
		case <-gone:
			return 0, nil
		case <-sw.Ended():
			return 1, nil // Close says why
		}
	}
}

func attach(o *options, h host, sw *face.Switch, in *ns.Handle, name string) error {
	g, err := face.Open(in, name)
	if err != nil {
		return err
	}
	defer unix.Close(g.FD)
	if o.innerMAC != nil {
		g.MAC = o.innerMAC
	}
	g.IP, g.IP6 = h.addr4.Addr(), h.addr6.Addr()
	if o.configure {
		if err := g.Configure(in, name, network(o, h)); err != nil {
			return err
		}
		g.Foreign = false
	}
	return sw.Attach(name, g)
}

// capture writes what passes to a file until stop is called.
func capture(sw *face.Switch, path string) (stop func(), err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		f.Close()
		return nil, err
	}
	err = sw.Worker().Do("POST", "/capture", api.Capture{Snap: 65535}, nil, pair[1])
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		f.Close()
		return nil, err
	}
	conn, err := fdpass.StreamOf(pair[0])
	if err != nil {
		f.Close()
		return nil, err
	}
	copied := make(chan struct{})
	go func() {
		_, _ = f.ReadFrom(conn)
		close(copied)
	}()
	return func() {
		conn.Close()
		<-copied
		f.Close()
	}, nil
}

var processPath = regexp.MustCompile(`^/proc/([0-9]+)/(task/[0-9]+/)?ns/net$`)

// ending is closed when the namespace that was given is gone: its process has
// ended, or its path leads elsewhere.
func ending(o *options) (<-chan struct{}, error) {
	pid := o.pid
	if m := processPath.FindStringSubmatch(o.netns); m != nil {
		pid, _ = strconv.Atoi(m[1])
	}
	if o.stay {
		return nil, nil
	}
	c := make(chan struct{})
	if pid > 0 {
		f, err := ns.PIDFD(pid)
		if err != nil {
			return nil, err
		}
		go func() {
			defer f.Close()
			for {
				p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
				if n, err := unix.Poll(p, -1); n > 0 || err != unix.EINTR {
					close(c)
					return
				}
			}
		}()
		return c, nil
	}
	if o.netns == "" {
		return nil, nil // a command of ours says so itself
	}
	var was unix.Stat_t
	if err := unix.Stat(o.netns, &was); err != nil {
		return nil, fmt.Errorf("%s: %w", o.netns, err)
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		err = w.Add(filepath.Dir(o.netns))
	}
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", o.netns, err)
	}
	go func() {
		defer w.Close()
		for range w.Events {
			var is unix.Stat_t
			if err := unix.Stat(o.netns, &is); err != nil || is.Ino != was.Ino || is.Dev != was.Dev {
				close(c)
				return
			}
		}
	}()
	return c, nil
}

// forwarding starts what -t, -u, -T and -U ask for; end stops it.
func forwarding(o *options, sw *face.Switch, in *ns.Handle) (end func(), err error) {
	var specs []string
	for _, f := range []struct {
		proto string
		*forwards
	}{{"tcp", &o.tcp}, {"udp", &o.udp}} {
		for _, x := range f.list {
			s, err := x.specs(f.proto, o.only4, o.only6)
			if err != nil {
				return nil, err
			}
			if x.weak {
				_ = sw.Publish(s, netip.Addr{})
				continue
			}
			specs = append(specs, s...)
		}
	}
	if len(specs) > 0 {
		if err := sw.Publish(specs, netip.Addr{}); err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "api: "))
		}
	}
	inside := o.tcpNS.mode >= portsAuto || o.udpNS.mode >= portsAuto
	if !inside && o.tcp.mode != portsAuto && o.udp.mode != portsAuto {
		return func() {}, nil
	}
	k, err := startHelper(in)
	if err != nil {
		if o.tcpNS.mode != portsSome && o.udpNS.mode != portsSome {
			if !o.quiet {
				fmt.Fprintf(os.Stderr, "%s: ports are not followed: %v\n", Name, err)
			}
			return func() {}, nil
		}
		return nil, err
	}
	r := &relays{helper: k, made: make(map[relayKey]func())}
	for _, f := range []struct {
		proto string
		*forwards
	}{{"tcp", &o.tcpNS}, {"udp", &o.udpNS}} {
		for _, x := range f.list {
			if err := r.add(f.proto, x.port, x.to); err != nil && !x.weak {
				r.close()
				k.close()
				return nil, fmt.Errorf("port %d of the namespace's loopback: %w", x.port, err)
			}
		}
	}
	stop := follow(o, sw, k, r)
	return func() {
		stop()
		r.close()
		k.close()
	}, nil
}
