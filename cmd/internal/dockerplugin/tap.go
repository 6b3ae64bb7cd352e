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
func (p *Plugin) makeTAP(dockerd int, name string, i api.Interface) (int, error) {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return -1, err
	}
	in, err := p.dockerd(dockerd)
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

// dockerd is the inside of the network namespace where dockerd, process pid,
// looks for devices.
func (p *Plugin) dockerd(pid int) (*ns.Inside, error) {
	path := p.opt.Netns
	if path == "" && pid > 0 { // 0: of a pid namespace that we do not see; like us, then
		path = networkOf(pid)
	}
	if path == "" || same(path, "/proc/self/ns/net") {
		return ns.OpenInside()
	}
	h, err := ns.OfPath(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Enter()
}

// networkOf is the path of dockerd's network namespace. Where RootlessKit has
// detached it (--detach-netns) dockerd is on the host's network, and uses a
// file of RootlessKit's in its own mount namespace.
func networkOf(pid int) string {
	proc := "/proc/" + strconv.Itoa(pid)
	environ, _ := os.ReadFile(proc + "/environ")
	for _, kv := range strings.Split(string(environ), "\x00") {
		if dir, is := strings.CutPrefix(kv, "ROOTLESSKIT_STATE_DIR="); is && dir != "" {
			if detached := filepath.Join(proc, "root", dir, "netns"); exists(detached) {
				return detached
			}
		}
	}
	return proc + "/ns/net"
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// same says whether two paths are the same namespace.
func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// dead says whether the namespace that a TAP was in is gone (drivers/net/tun.c,
// tun_chr_poll).
func dead(tap int) bool {
	p := []unix.PollFd{{Fd: int32(tap), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n > 0 && p[0].Revents&unix.POLLERR != 0
}
