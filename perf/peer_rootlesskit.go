package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// rootlesskit is RootlessKit with its builtin port driver, which carries the
// bytes of a published port past the TAP, from a socket outside to one inside.
// What leaves goes through its slirp4netns and is measured there.
type rootlesskit struct{}

func (rootlesskit) name() string      { return "rootlesskit-builtin" }
func (rootlesskit) version() string   { return firstLine("rootlesskit", "--version") }
func (rootlesskit) paths() []pathName { return []pathName{pathPublished, pathHost} }

func (rootlesskit) about() string {
	return "rootlesskit --net=slirp4netns --mtu=65520 --port-driver=builtin, as a user with subordinate ids"
}

func (rootlesskit) missing() string {
	if insideUserNamespace() {
		return "cannot be run as another user without being root"
	}
	for command, from := range map[string]string{"rootlesskit": "rootlesskit", "newuidmap": "uidmap", "slirp4netns": "slirp4netns"} {
		if why := needs(command, from); why != "" {
			return why
		}
	}
	if _, err := subordinate("/etc/subuid"); err != nil {
		return err.Error()
	}
	return ""
}

// subordinate finds the first ordinary user who has subordinate ids.
func subordinate(file string) (*syscall.Credential, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, ":")
		u, err := user.Lookup(name)
		if err != nil || u.Uid == "0" {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, fmt.Errorf("%s: no user but root has subordinate ids", file)
}

func (rootlesskit) start(ctx context.Context, l *lab) (*topology, error) {
	as, err := subordinate("/etc/subuid")
	if err != nil {
		return nil, err
	}
	home := l.file("home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chown(home, int(as.Uid), int(as.Gid)); err != nil {
		return nil, err
	}
	state := filepath.Join(home, "state")
	argv := []string{"rootlesskit", "--state-dir", state, "--net=slirp4netns", "--mtu=65520", "--port-driver=builtin"}
	for _, p := range publishedPorts {
		for port := p.first; port < p.first+p.count; port++ {
			argv = append(argv, "--publish", fmt.Sprintf("0.0.0.0:%d:%d/%s", port, port, p.proto))
		}
	}
	host := place{ns: l.host, as: as, env: []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home}}
	// cat ends when perf lets go of its standard input, and RootlessKit with it.
	c, err := host.start(ctx, append(argv, "sh", "-c", "echo ready; exec cat"))
	if err != nil {
		return nil, err
	}
	inside, err := rootlesskitInside(l, c, state)
	if err != nil {
		c.stop()
		return nil, err
	}
	paths := natPaths(l, inside)
	delete(paths, pathOut)
	return &topology{paths: paths, stop: c.stop, died: c.died, roots: children{c}.pids()}, nil
}

// rootlesskitInside enters the network namespace that RootlessKit has made.
func rootlesskitInside(l *lab, c *child, state string) (place, error) {
	if err := c.awaitLine("ready"); err != nil {
		return place{}, err
	}
	text, err := os.ReadFile(filepath.Join(state, "child_pid"))
	if err != nil {
		return place{}, c.failure(err)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return place{}, err
	}
	pid := strings.TrimSpace(string(text))
	return place{ns: l.host, before: []string{nsenter, "--net=/proc/" + pid + "/ns/net", "--"}}, nil
}
