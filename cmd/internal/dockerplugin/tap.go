package dockerplugin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/switch/ns"
)

// device is the name of an endpoint's TAP in dockerd's network namespace: as
// long as a name may be.
func device(endpoint string) string { return "tap" + endpoint[:12] }

// makeTAP makes the device where dockerd looks for it, and leaves it down: from
// there on it is Docker's to set up.
func (p *Plugin) makeTAP(name string, i api.Interface) (int, error) {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return -1, err
	}
	in, err := p.dockerd()
	if err != nil {
		return -1, err
	}
	defer in.Close()
	fd, err := in.CreateTAP(name, i.Offload)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return -1, fmt.Errorf("%w: the plugin of a dockerd that runs as root runs as root, too", err)
		}
		return -1, err
	}
	if err := in.Prepare(ns.Interface{Name: name, MAC: mac, MTU: i.MTU}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// dockerd is the inside of dockerd's network namespace: ours, or the one of
// rootless Docker, which is looked up each time since it comes and goes.
func (p *Plugin) dockerd() (*ns.Inside, error) {
	var h *ns.Handle
	var err error
	switch {
	case p.opt.Netns != "":
		h, err = ns.OfPath(p.opt.Netns)
	case p.opt.RootlessKit != "":
		h, err = rootlessKit(p.opt.RootlessKit)
	default:
		return ns.OpenInside()
	}
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Enter()
}

// rootlessKit finds the network namespace of a RootlessKit by its state
// directory: with --detach-netns a file of its child's, else the child's own.
func rootlessKit(dir string) (*ns.Handle, error) {
	b, err := os.ReadFile(filepath.Join(dir, "child_pid"))
	if err != nil {
		return nil, fmt.Errorf("rootless dockerd is not running: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s/child_pid: %w", dir, err)
	}
	detached := fmt.Sprintf("/proc/%d/root%s/netns", pid, dir)
	if _, err := os.Stat(detached); err == nil {
		return ns.OfPath(detached)
	}
	return ns.OfPID(pid)
}

// dead says whether the namespace that a TAP was in is gone (drivers/net/tun.c,
// tun_chr_poll).
func dead(tap int) bool {
	p := []unix.PollFd{{Fd: int32(tap), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n > 0 && p[0].Revents&unix.POLLERR != 0
}
