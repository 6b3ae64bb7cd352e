package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// perf starts itself inside the namespaces as one of these.
var tools = map[string]func(toolFlags) (any, error){
	"rr-server": func(t toolFlags) (any, error) {
		hush()
		return nil, serveRR(t.mode, t.port, t.ports, sayReady)
	},
	"rr-client": func(t toolFlags) (any, error) {
		to, err := t.to()
		if err != nil {
			return nil, err
		}
		hush()
		if t.mode == rrCRR {
			if err := os.WriteFile("/proc/sys/"+clientPorts, []byte(manyPorts), 0); err != nil {
				return nil, fmt.Errorf("ports for clients: %w", err)
			}
		}
		return askRR(t.mode, to, t.ports, t.flood.For)
	},
	"udp-source": func(t toolFlags) (any, error) {
		hush()
		if t.address == "" {
			return t.flood.sourceOn(t.port, t.life, sayReady)
		}
		to, err := t.to()
		if err != nil {
			return nil, err
		}
		return t.flood.sourceTo(to)
	},
	"udp-sink": func(t toolFlags) (any, error) {
		hush()
		if t.address == "" {
			return t.flood.sinkOn(t.port, t.life, sayReady)
		}
		from, err := t.to()
		if err != nil {
			return nil, err
		}
		return t.flood.sinkFrom(from)
	},
	"bare-loop":         func(toolFlags) (any, error) { return nil, runBareLoop(false) },
	"bare-loop-merging": func(toolFlags) (any, error) { return nil, runBareLoop(true) },
	"busy": func(t toolFlags) (any, error) {
		return nil, runBusy(t.command)
	},
	"hold-server": func(t toolFlags) (any, error) {
		return nil, holdServer(t.port, t.flows)
	},
	"hold-client": func(t toolFlags) (any, error) {
		to, err := t.to()
		if err != nil {
			return nil, err
		}
		return nil, holdClient(to, t.flows, t.words)
	},
	"ping": func(t toolFlags) (any, error) {
		to, err := t.to()
		if err != nil {
			return nil, err
		}
		return nil, tellPing(to.Addr(), t.words)
	},
}

type toolFlags struct {
	mode    string
	address string
	port    uint16
	ports   int
	flows   int
	life    time.Duration
	flood   flood
	command []string      // after "--"
	words   chan struct{} // one for each line of standard input
}

func (t toolFlags) to() (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(t.address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--address: %w", err)
	}
	return netip.AddrPortFrom(addr, t.port), nil
}

// runTool is the whole program when it was started as a tool. A server ends when
// its standard input does: whoever started it has gone then.
func runTool(name string, args []string) error {
	var t toolFlags
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.StringVar(&t.mode, "mode", rrTCP, "tcp, udp or crr")
	f.StringVar(&t.address, "address", "", "where to connect; without it, listen")
	f.Uint16Var(&t.port, "port", 0, "first port")
	f.IntVar(&t.ports, "ports", 1, "how many ports")
	f.IntVar(&t.flows, "flows", 1, "how many connections")
	f.DurationVar(&t.life, "life", 0, "end after this time at the latest")
	f.IntVar(&t.flood.Size, "size", 64, "bytes of a datagram")
	f.IntVar(&t.flood.Rate, "rate", 1000, "datagrams per second")
	f.BoolVar(&t.flood.Offload, "offload", false, "UDP_SEGMENT and UDP_GRO")
	f.DurationVar(&t.flood.For, "for", time.Second, "how long")
	if err := f.Parse(args); err != nil {
		return err
	}
	t.command = f.Args()
	if t.life > 0 {
		time.AfterFunc(t.life, func() { os.Exit(3) })
		t.words = make(chan struct{}, 1)
		go t.listen()
	}
	// Nothing is allocated while measuring; a collection would only disturb.
	debug.SetGCPercent(-1)
	stats, err := tools[name](t)
	if err != nil || stats == nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(stats)
}

// listen ends the process with its standard input.
func (t toolFlags) listen() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		t.words <- struct{}{}
	}
	os.Exit(0)
}

// runBusy runs a command and reports on standard error what the machine spent
// meanwhile. It runs inside, so that what it takes to get there does not count.
func runBusy(argv []string) error {
	if len(argv) == 0 {
		return errors.New("no command")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A child dies with the thread that started it, so that one has to stay.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var failed error
	spent, err := busyDuring(func() error {
		failed = cmd.Run()
		return nil
	})
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	return json.NewEncoder(os.Stderr).Encode(spent)
}

func sayReady() { fmt.Println("ready") }

// lastJSON decodes the last line of what a tool printed.
func lastJSON(out []byte, into any) error {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], into); err != nil {
		return fmt.Errorf("cannot read the report %q: %w", out, err)
	}
	return nil
}
