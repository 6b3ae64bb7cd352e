package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/place"
	"tapswitch/cmd/internal/porter"
	"tapswitch/configs"
)

type upFlags struct {
	file      string
	detach    bool
	demo      bool
	watch     bool
	readyFD   int
	lifeFD    int
	ephemeral bool
	bare      bool
}

func upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the switch",
		Long: `Run the switch in the foreground, with the configuration found: -c FILE, else
./tapswitch.yaml, $XDG_CONFIG_HOME/tapswitch/tapswitch.yaml, /etc/tapswitch/tapswitch.yaml, else one network
"bridge" 172.17.0.0/16. It prints what it made, then "ready". SIGINT, SIGTERM and "tapswitch down" take everything
away; SIGHUP and "tapswitch reload" apply what changed in the file.

It is a service of systemd's kind: it takes its control socket from a socket unit, tells when it is ready, reloads and
stops, and answers the watchdog as long as the switch answers. "tapswitch install service" makes the units.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.detach {
				return upBehind()
			}
			return up(cmd, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "config", "c", "", "configuration `FILE` (YAML, TOML or JSON)")
	fl.BoolVarP(&f.detach, "detach", "d", false, "run behind; return when it is ready")
	fl.BoolVar(&f.demo, "demo", false, "with the topology of the demo: two bridges, three containers")
	fl.BoolVar(&f.watch, "watch", false, "apply the file whenever it changes")
	fl.IntVar(&f.readyFD, "ready-fd", 0, "write \"1\" to descriptor `N` when ready, and close it")
	fl.BoolVar(&f.ephemeral, "ephemeral", false, "keep no state: what commands make is gone with the switch")
	fl.IntVar(&f.lifeFD, "lifetime-fd", 0, "end when descriptor `N` is closed at its other end")
	fl.BoolVar(&f.bare, "no-containers", false, "with the networks of the configuration, but not its containers")
	_ = fl.MarkHidden("lifetime-fd")
	configs.AddFlags(fl)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml", "toml", "json")
	return cmd
}

func up(cmd *cobra.Command, f upFlags) error {
	sd, err := newSystemd()
	if err != nil {
		return err
	}
	// What our caller left open is not for containers to inherit.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	load := func() (porter.Config, error) { return loadConfig(cmd, f) }
	cfg, err := load()
	if err != nil {
		return err
	}
	if err := checkTun(); err != nil {
		return err
	}
	socket, err := sd.socket(flagSocket)
	if err != nil {
		return err
	}
	pl, err := place.Of(socket)
	if err != nil {
		return err
	}
	lock, workerLock, err := pl.Lock(runtimeTimeout * time.Second)
	if err != nil {
		return err
	}
	defer lock.Close()
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	state := pl.State
	if cfg.Config.StateFile != "" {
		if state, err = filepath.Abs(cfg.Config.StateFile); err != nil {
			return err
		}
	}
	if f.ephemeral {
		state = ""
	}
	stop, hup := make(chan os.Signal, 4), make(chan os.Signal, 4)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
	signal.Notify(hup, unix.SIGHUP)
	signal.Ignore(unix.SIGPIPE)
	var out sync.Mutex
	log := newLog(cfg.Config)
	return porter.Run(porter.Options{
		Start: porter.Start{Socket: pl.Socket, Runtime: pl.Runtime, State: state, Logs: pl.Logs, Mask: pl.Mask,
			PorterPid: os.Getpid(), Version: Version, Config: cfg},
		Load: load,
		Ready: func(text string) {
			out.Lock()
			defer out.Unlock()
			fmt.Print(text)
			fmt.Println("ready")
			if f.readyFD > 0 {
				w := os.NewFile(uintptr(f.readyFD), "ready")
				_, _ = w.WriteString("1")
				w.Close()
			}
			sd.ready(pl.Socket)
		},
		Phase:  sd.phase,
		Listen: sd.listen,
		Warn: func(text string) {
			out.Lock()
			defer out.Unlock()
			if cfg.Config.LogFormat == "json" {
				log.Warn(text)
				return
			}
			fmt.Fprintln(os.Stderr, "tapswitch: "+text)
		},
		Log:   log,
		Stop:  stop,
		HUP:   hup,
		Watch: watchFile(f, cfg.Config.Path),
		Ended: lifetime(f.lifeFD),
		Lock:  workerLock,
	})
}

// newLog is the log of this process, which says little; the worker has its own.
func newLog(c *configs.Config) *slog.Logger {
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// loadConfig reads the configuration as the flags say.
func loadConfig(cmd *cobra.Command, f upFlags) (porter.Config, error) {
	opt := configs.Options{File: f.file, Flags: cmd.Flags()}
	if f.demo {
		if f.file != "" {
			return porter.Config{}, usageError{errors.New("--demo and -c exclude each other")}
		}
		path, err := demoFile()
		if err != nil {
			return porter.Config{}, err
		}
		defer os.Remove(path)
		opt.File = path
	}
	c, err := configs.Load(opt)
	if err != nil {
		return porter.Config{}, err
	}
	if f.demo {
		c.Path = ""
	}
	if f.bare {
		c.Containers = nil
	}
	out := porter.Config{Config: c}
	y, err := configs.Show(c, "yaml")
	if err != nil {
		return out, err
	}
	j, err := configs.Show(c, "json")
	out.YAML, out.JSON = string(y), string(j)
	return out, err
}

// demoFile writes the demo's configuration to a temporary file.
func demoFile() (string, error) {
	w, err := os.CreateTemp("", "tapswitch-demo-*.yaml")
	if err != nil {
		return "", err
	}
	defer w.Close()
	_, err = w.Write(configs.Demo())
	return w.Name(), err
}

// checkTun fails early where no TAP can be opened.
func checkTun() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, os.ErrNotExist):
		return errors.New("/dev/net/tun is missing: load the module (sudo modprobe tun), or mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
	case errors.Is(err, os.ErrPermission):
		return errors.New("/dev/net/tun may not be opened: sudo chmod 666 /dev/net/tun (udev's usual mode; it gives no power by itself)")
	}
	return fmt.Errorf("/dev/net/tun: %w (sudo modprobe tun?)", err)
}

// lifetime is closed when the other end of the descriptor is.
func lifetime(fd int) <-chan struct{} {
	if fd <= 0 {
		return nil
	}
	c := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(uintptr(fd), "lifetime"))
		close(c)
	}()
	return c
}

// watchFile tells when the file has changed and been quiet for a moment. The
// directory is watched, since editors replace files.
func watchFile(f upFlags, path string) <-chan struct{} {
	if !f.watch || path == "" {
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		err = w.Add(filepath.Dir(path))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tapswitch: %s is not watched: %v\n", path, err)
		return nil
	}
	c := make(chan struct{}, 1)
	go func() {
		quiet := time.NewTimer(time.Hour)
		quiet.Stop()
		for {
			select {
			case ev, ok := <-w.Events:
				if !ok {
					return
				}
				if filepath.Base(ev.Name) == filepath.Base(path) && !ev.Has(fsnotify.Chmod) {
					quiet.Reset(150 * time.Millisecond)
				}
			case <-quiet.C:
				c <- struct{}{}
			case <-w.Errors:
			}
		}
	}()
	return c
}

// upBehind starts the switch as a process of its own and returns when it is
// ready; what it says until then is ours to print.
func upBehind() error {
	args := []string{}
	for _, a := range os.Args[1:] {
		switch {
		case a == "-d" || a == "--detach" || a == "--detach=true":
		case strings.HasPrefix(a, "-d") && !strings.HasPrefix(a, "--") && len(a) > 2:
			args = append(args, "-"+a[2:]) // -dc FILE
		default:
			args = append(args, a)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", append(args, "--ready-fd", "3")...)
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	socket, err := place.Socket(flagSocket)
	if err != nil {
		return err
	}
	pl, err := place.Of(socket)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(pl.Runtime, "switch.log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	w.Close()
	b := make([]byte, 1)
	n, _ := r.Read(b)
	said, _ := io.ReadAll(io.NewSectionReader(log, begin, 1<<20))
	if n == 1 {
		_, _ = os.Stdout.Write(said)
		return nil
	}
	err = cmd.Wait()
	_, _ = os.Stderr.Write(bytes.TrimSuffix(said, []byte("ready\n")))
	var xe *exec.ExitError
	if errors.As(err, &xe) {
		return exitError(xe.ExitCode())
	}
	return exitError(exitFailed)
}

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the switch and all its containers",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var s api.Status
			if err := c.Do("GET", "/status", nil, &s); err != nil {
				return err
			}
			fd, perr := unix.PidfdOpen(s.Pid, 0)
			if err := c.Do("POST", "/shutdown", nil, nil); err != nil {
				return err
			}
			if perr != nil {
				return nil
			}
			defer unix.Close(fd)
			for {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, runtimeTimeout*1000)
				if err == unix.EINTR {
					continue
				}
				if n == 0 {
					return fmt.Errorf("process %d does not end", s.Pid)
				}
				return nil
			}
		},
	}
}

func reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Apply what changed in the configuration file",
		Long:  "Apply what changed in the configuration file. Flows that the change does not concern go on; an invalid file changes nothing.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return c.Do("POST", "/reload", nil, nil)
		},
	}
}
