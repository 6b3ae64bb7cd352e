package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/joiner"
)

type runFlags struct {
	name, workdir, hostname, offload, spoof string
	networks, publish, env, links, expose   []string
	egress, audit                           string
	detach, remove, interactive, tty, init  bool
	publishAll                              bool
	first                                   firstNetwork
	shape                                   api.Shape
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARG...]",
		Short: "Run a command in a new container",
		Long: `Run a command of this host in a new container: its own user, network, mount, pid, uts and ipc namespaces. uid 0 in
it is you; it sees this host's files, with a resolv.conf and hosts of its own. It is a network container, not a
security container: what you may do, it may do.

Without a switch running, a private one is made for as long as the command runs. The exit code is the command's;
125 is a failure of ours, 126 a command that cannot be run, 127 one that is not there, 128+n the end by signal n.

  tapswitch run -it -- bash
  tapswitch run -d --name web -p 8080:80 -- busybox httpd -f -p 80
  tapswitch run --network bridge2:ip=172.18.0.9,alias=db -- sleep 1000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("run needs a command")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runContainer(f, args) },
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.StringVar(&f.name, "name", "", "name (default: one is made up)")
	fl.StringArrayVar(&f.networks, "network", nil, "`NET[:ip=A,ip6=A,mac=M,alias=N,ifname=I,gw-priority=N,driver-opt=K=V]`, or name=NET,..., to be on (repeat it for more; the first has the default route, or that with the highest gw-priority), or none, host, or container:NAME; --net is the same")
	fl.SetNormalizeFunc(networkAlias)
	f.first.flags(fl)
	fl.StringArrayVarP(&f.publish, "publish", "p", nil, "`[HOSTIP:][HOSTPORT]:PORT[/udp]` to publish, as docker's -p")
	fl.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish what --expose names on ephemeral ports")
	fl.StringArrayVar(&f.expose, "expose", nil, "`PORT[-PORT][/udp]` that links and -P open")
	fl.StringArrayVar(&f.links, "link", nil, "`CONTAINER[:ALIAS]` to find by that name, and to reach at what it exposes where icc is off")
	fl.StringVar(&f.egress, "egress", "", "what it may reach outside: all, internet, none, or a `POLICY` (default: its network's)")
	fl.StringVar(&f.audit, "audit", "", "write what happens to it to `FILE`, a line of JSON each: flows with their totals, names asked for, drops")
	shapeFlags(fl, &f.shape)
	fl.StringArrayVarP(&f.env, "env", "e", nil, "`K=V`, or K for our own value")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working `DIR` (default: ours)")
	fl.StringVar(&f.hostname, "hostname", "", "host name (default: the container's name)")
	fl.StringVar(&f.offload, "offload", "on", "`on|off`: super-frames and open checksums on the TAP")
	fl.StringVar(&f.spoof, "spoof", "deny", "`allow|deny`: frames with other addresses than the container's")
	fl.BoolVarP(&f.detach, "detach", "d", false, "run behind and print the id")
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it ends")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "keep standard input open")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give it a terminal")
	fl.BoolVar(&f.init, "init", true, "a process 1 of ours that forwards signals and collects orphans; =false: the command is process 1")
	_ = cmd.RegisterFlagCompletionFunc("network", completeNetworks)
	return cmd
}

// networkAlias makes --net another name of --network: two flags that fill one
// list would each begin it anew.
func networkAlias(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "net" {
		name = "network"
	}
	return pflag.NormalizedName(name)
}

func runContainer(f runFlags, args []string) error {
	req, err := createRequest(f, args)
	if err != nil {
		return err
	}
	if f.audit != "" && f.detach {
		return usageError{errors.New("--audit writes while the command runs: leave out -d, or use `tapswitch monitor --json --container NAME`")}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	var off *client.NotRunning
	var s api.Status
	if err := c.Do("GET", "/status", nil, &s); errors.As(err, &off) {
		if f.detach {
			return err
		}
		end, perr := private(c)
		if perr != nil {
			return ourFailure(perr)
		}
		defer end()
	} else if err != nil {
		return err
	}
	if f.detach {
		var made api.Container
		if err := c.Do("POST", "/containers", req, &made); err != nil {
			return commandFailure(err)
		}
		fmt.Println(made.ID)
		return nil
	}
	var log *audit
	if f.audit != "" {
		if log, err = startAudit(c, f.audit); err != nil {
			return ourFailure(err)
		}
	}
	var made *api.Container
	err = foreground(c, f.interactive, f.tty,
		func(tty bool, files ...int) (string, error) {
			req.TTY = tty
			var x api.Container
			if err := c.Do("POST", "/containers", req, &x, files...); err != nil {
				return "", err
			}
			if made = &x; log != nil {
				log.begun <- made
			}
			return "/containers/" + made.ID, nil
		})
	if log != nil {
		var code exitError
		errors.As(err, &code)
		if e := log.end(made, int(code)); e != nil {
			report(nil, e) // the command's own end counts
		}
	}
	return err
}

func createRequest(f runFlags, args []string) (*api.Create, error) {
	req := &api.Create{Name: f.name, Publish: f.publish, Command: args, Hostname: f.hostname, Init: f.init, Remove: f.remove, Origin: "cli",
		Links: f.links, Expose: f.expose, Publishes: f.publishAll, Egress: f.egress, Shape: f.shape}
	for _, n := range f.networks {
		a, err := parseAttachment(n)
		if err != nil {
			return nil, usageError{err}
		}
		req.Networks = append(req.Networks, a)
	}
	if err := f.first.apply(req); err != nil {
		return nil, err
	}
	if len(req.Networks) == 1 && req.Networks[0].Network == "host" && len(req.Publish) > 0 {
		fmt.Fprintln(os.Stderr, "WARNING: Published ports are discarded when using host network mode")
	}
	for _, kv := range f.env {
		if !strings.Contains(kv, "=") {
			v, ok := os.LookupEnv(kv)
			if !ok {
				continue
			}
			kv += "=" + v
		}
		req.Env = append(req.Env, kv)
	}
	if f.tty && os.Getenv("TERM") != "" && !slices.ContainsFunc(req.Env, func(s string) bool { return strings.HasPrefix(s, "TERM=") }) {
		req.Env = append(req.Env, "TERM="+os.Getenv("TERM"))
	}
	var err error
	if req.Workdir, err = workdir(f.workdir); err != nil {
		return nil, err
	}
	for _, w := range []struct {
		flag, value, on, off string
		to                   *bool
	}{{"offload", f.offload, "off", "on", &req.PlainTAP}, {"spoof", f.spoof, "allow", "deny", &req.Spoof}} {
		switch w.value {
		case w.on:
			*w.to = true
		case w.off:
		default:
			return nil, usageError{fmt.Errorf("--%s %s: %s or %s", w.flag, w.value, w.on, w.off)}
		}
	}
	return req, nil
}

func workdir(flag string) (string, error) {
	if flag == "" {
		return os.Getwd()
	}
	return filepath.Abs(flag)
}

// parseAttachment reads the argument of --network.
func parseAttachment(s string) (api.Attachment, error) {
	a, err := joiner.Attachment(s)
	if err != nil {
		err = fmt.Errorf("--network %w", err)
	}
	return a, err
}

// commandFailure turns an error of starting a command into its exit code.
func commandFailure(err error) error {
	var ae *api.Error
	if errors.As(err, &ae) {
		switch ae.Code {
		case api.NoCommand, api.NotExecutable:
			report(nil, ae)
			if ae.Code == api.NoCommand {
				return exitError(exitNoCommand)
			}
			return exitError(exitDenied)
		}
	}
	return ourFailure(err)
}

func ourFailure(err error) error {
	var off *client.NotRunning
	if errors.As(err, &off) {
		return err
	}
	report(nil, err)
	return exitError(exitOurs)
}

// foreground runs something with our standard files, or with a terminal of its
// own between, passes signals on and exits as it did. start returns the path of
// what runs.
func foreground(c *client.Client, interactive, tty bool, start func(tty bool, files ...int) (string, error)) error {
	stdin := os.Stdin
	if !interactive {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return ourFailure(err)
		}
		defer null.Close()
		stdin = null
	}
	files := []int{int(stdin.Fd()), int(os.Stdout.Fd()), int(os.Stderr.Fd())}
	var master *os.File
	if tty {
		var slave *os.File
		var err error
		if master, slave, err = openPTY(); err != nil {
			return ourFailure(err)
		}
		resize(master)
		files = []int{int(slave.Fd()), int(slave.Fd()), int(slave.Fd())}
		started := start
		start = func(tty bool, files ...int) (string, error) {
			defer slave.Close() // the end of the container's copies is the end of the output
			return started(tty, files...)
		}
	}
	sigs := make(chan os.Signal, 16)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	path, err := start(tty, files...)
	if err != nil {
		return commandFailure(err)
	}
	restore := func() {}
	drained := make(chan struct{})
	if tty {
		restore = shuttle(master, interactive, drained)
	} else {
		close(drained)
	}
	go func() {
		for s := range sigs {
			switch {
			case s == unix.SIGWINCH && tty:
				resize(master)
			case s != unix.SIGWINCH:
				_ = c.Do("POST", path+"/kill?signal="+url.QueryEscape(unix.SignalName(s.(syscall.Signal))), nil, nil)
			}
		}
	}()
	var x api.Exit
	err = c.Do("POST", path+"/wait", nil, &x)
	if tty {
		// Something left behind may hold the terminal: its output is not waited for.
		_ = master.SetDeadline(time.Now().Add(200 * time.Millisecond))
	}
	<-drained
	restore()
	if err != nil {
		return ourFailure(err)
	}
	if x.Code != 0 {
		return exitError(x.Code)
	}
	return nil
}

// private starts a switch for one command, in a directory of its own.
func private(c *client.Client) (end func(), err error) {
	dir, err := os.MkdirTemp("", "tapswitch-run-*")
	if err != nil {
		return nil, err
	}
	fail := func(err error) (func(), error) { os.RemoveAll(dir); return nil, err }
	c.Socket = filepath.Join(dir, "s")
	ready, readyW, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	lifeR, life, err := os.Pipe()
	if err != nil {
		return fail(err)
	}
	cmd := exec.Command("/proc/self/exe", "--socket", c.Socket, "up", "--ephemeral", "--no-containers", "--log-level", "warn", "--ready-fd", "3", "--lifetime-fd", "4")
	cmd.ExtraFiles = []*os.File{readyW, lifeR}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	readyW.Close()
	lifeR.Close()
	defer ready.Close()
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		cmd.Wait()
		return fail(errors.New("the private switch did not start"))
	}
	return func() {
		life.Close()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	}, nil
}

// openPTY opens a pseudo terminal.
func openPTY() (master, slave *os.File, err error) {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(m)
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	s, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(m), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
		if err == nil {
			var fd int
			fd, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
			s = uintptr(fd)
		}
		if err != nil {
			unix.Close(m)
			return nil, nil, fmt.Errorf("open a terminal: %w", err)
		}
	}
	return os.NewFile(uintptr(m), "ptmx"), os.NewFile(s, "pts"), nil
}

func resize(master *os.File) {
	for _, fd := range []int{0, 1, 2} {
		if w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(int(rawFD(master)), unix.TIOCSWINSZ, w)
			return
		}
	}
}

// rawFD is the descriptor without making it blocking, as Fd would.
func rawFD(f *os.File) (fd uintptr) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(x uintptr) { fd = x })
	}
	return fd
}

// shuttle carries bytes between our terminal and the container's. drained is
// closed when all its output is out.
func shuttle(master *os.File, interactive bool, drained chan struct{}) (restore func()) {
	restore = func() {}
	if interactive && term.IsTerminal(0) {
		if old, err := term.MakeRaw(0); err == nil {
			restore = func() { _ = term.Restore(0, old) }
		}
	}
	if interactive {
		go func() {
			_, _ = io.Copy(master, os.Stdin)
			_, _ = master.Write([]byte{4}) // end of file, as typed
		}()
	}
	go func() {
		_, _ = io.Copy(os.Stdout, master)
		close(drained)
	}()
	return restore
}

func execCommand() *cobra.Command {
	var interactive, tty bool
	var env []string
	var dir string
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME [--] COMMAND [ARG...]",
		Short: "Run a command in a container that is there",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("exec needs a container and a command")
			}
			return nil
		},
		ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			name, args := args[0], args[1:]
			if args[0] == "--" {
				if args = args[1:]; len(args) == 0 {
					return usageError{errors.New("exec needs a command")}
				}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			if err := c.Do("GET", "/containers/"+client.Escape(name), nil, nil); err != nil {
				return err
			}
			x := api.Exec{Command: args, Env: env, Workdir: dir}
			if dir != "" {
				if x.Workdir, err = filepath.Abs(dir); err != nil {
					return err
				}
			}
			if tty && os.Getenv("TERM") != "" {
				x.Env = append(x.Env, "TERM="+os.Getenv("TERM"))
			}
			err = foreground(c, interactive, tty, func(tty bool, files ...int) (string, error) {
				x.TTY = tty
				var s api.Session
				err := c.Do("POST", "/containers/"+client.Escape(name)+"/exec", x, &s, files...)
				return "/sessions/" + s.ID, err
			})
			return err
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.BoolVarP(&interactive, "interactive", "i", false, "keep standard input open")
	fl.BoolVarP(&tty, "tty", "t", false, "give it a terminal")
	fl.StringArrayVarP(&env, "env", "e", nil, "`K=V`")
	fl.StringVarP(&dir, "workdir", "w", "", "working `DIR`")
	return cmd
}
