package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pasta is the user-mode network of newer Podman. MTU 0 is its own default,
// 65520. The one on PATH is measured.
type pasta struct{ mtu int }

func (p pasta) name() string {
	if p.mtu == 0 {
		return "pasta"
	}
	return fmt.Sprintf("pasta-%d", p.mtu)
}

func (p pasta) about() string { return strings.Join(p.argv("NETNS", "FILE"), " ") }

func (pasta) missing() string { return needs("pasta", "passt") }

// version takes the package's where pasta does not know its own, as Debian's.
func (pasta) version() string {
	said := firstLine("pasta", "--version")
	if !strings.Contains(said, "unknown") {
		return said
	}
	path, err := exec.LookPath("pasta")
	if err != nil || !strings.HasPrefix(path, "/usr/bin/") {
		return said
	}
	return "pasta " + firstLine("dpkg-query", "-W", "-f", "${Version}", "passt")
}

// argv leaves out what would cost without being measured (the polling of "auto"
// ports). --runas 0 and --netns-only: as "nobody" it may not enter a namespace
// that root made.
func (p pasta) argv(netns, pidfile string) []string {
	return append(p.common(p.ports("tcp"), p.ports("udp")), "--no-netns-quit", "--pid", pidfile, "--netns", netns)
}

func (p pasta) common(tcp, udp string) []string {
	argv := []string{"pasta", "--foreground", "--config-net", "--quiet", "--runas", "0", "--netns-only",
		"-T", "none", "-U", "none", "-t", tcp, "-u", udp}
	if p.mtu != 0 {
		argv = append(argv, "--mtu", strconv.Itoa(p.mtu))
	}
	return argv
}

func (pasta) ports(proto string) string {
	var specs []string
	for _, p := range publishedPorts {
		if p.proto == proto {
			specs = append(specs, fmt.Sprintf("%d-%d", p.first, p.first+p.count-1))
		}
	}
	return strings.Join(specs, ",")
}

func (pasta) paths() []pathName { return oneSided }

func (p pasta) start(ctx context.Context, l *lab) (*topology, error) {
	n, netns, err := l.container("container")
	if err != nil {
		return nil, err
	}
	// pasta writes its process id there once it is ready.
	pidfile := l.file("pasta.pid")
	written, err := watchFile(pidfile)
	if err != nil {
		return nil, err
	}
	defer written.Close()
	c, err := place{ns: l.host}.start(ctx, p.argv(netns, pidfile))
	if err != nil {
		return nil, err
	}
	if err := written.await(c); err != nil {
		c.stop()
		return nil, err
	}
	// It pings with sockets of the host, which only these groups may open.
	if err := l.host.sysctl("net.ipv4.ping_group_range", "0 0"); err != nil {
		c.stop()
		return nil, err
	}
	return &topology{
		paths: natPaths(l, place{ns: n}), stop: c.stop, died: c.died, roots: children{c}.pids(),
		guests: &guests{
			lab:     l,
			gateway: gatewayAddr,
			from:    place{ns: l.host},
			command: func(_ int, _, netns string) []string {
				return append(p.common("none", "none"), "--netns", netns)
			},
			stays: true,
		},
	}, nil
}

// A fileWatch waits for a file to be written.
type fileWatch struct {
	*fsnotify.Watcher
	name string
}

// watchFile begins to watch for a file that need not exist.
func watchFile(name string) (*fileWatch, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(filepath.Dir(name)); err != nil {
		w.Close()
		return nil, err
	}
	return &fileWatch{Watcher: w, name: name}, nil
}

// await waits until a child has written to the file.
func (w *fileWatch) await(c *child) error {
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for {
		select {
		case event := <-w.Events:
			if event.Name == w.name && event.Has(fsnotify.Write) {
				return nil
			}
		case err := <-w.Errors:
			return err
		case <-c.exited:
			return c.died(readyLimit)
		case <-limit.C:
			return c.failure(fmt.Errorf("not ready within %s", readyLimit))
		}
	}
}
