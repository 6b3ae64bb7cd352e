//go:build interop

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// podman is podman with a store of the test's own, and an image `box` that has
// busybox.
type podman struct {
	t     *testing.T
	store string
	flags []string // before the command
	env   []string
}

func newPodman(t *testing.T) *podman {
	t.Helper()
	tools(t, "podman", "runc", "newuidmap", "busybox", "tar")
	p := &podman{t: t, store: t.TempDir()}
	p.flags = []string{"--root", p.store + "/root", "--runroot", p.store + "/run", "--storage-driver", "vfs",
		"--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"}
	// What podman stores is owned by subordinate users: only it can remove it.
	t.Cleanup(func() {
		if os.Geteuid() != 0 {
			_ = p.cmd("unshare", "rm", "-rf", p.store+"/root", p.store+"/run").Run()
			p.unpause()
		}
	})
	image := t.TempDir()
	if err := os.Mkdir(image+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	output(t, "cp", box, image+"/bin/busybox")
	if err := os.MkdirAll(image+"/www/cgi-bin", 0o755); err != nil {
		t.Fatal(err)
	}
	who := "#!/bin/busybox sh\na=${REMOTE_ADDR#[}; a=${a#::ffff:}; echo; echo from ${a%]}\n"
	if err := os.WriteFile(image+"/www/cgi-bin/who", []byte(who), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, "tar", "-C", image, "-cf", p.store+"/image.tar", "bin", "www")
	p.ok("import", p.store+"/image.tar", "box:latest")
	return p
}

func (p *podman) cmd(args ...string) *exec.Cmd {
	c := exec.Command("podman", append(p.flags[:len(p.flags):len(p.flags)], args...)...)
	c.Env = append(append(os.Environ(), "XDG_RUNTIME_DIR="+p.store, "HOME="+p.store), p.env...)
	return c
}

// unpause ends the process by which rootless podman holds its user namespace.
func (p *podman) unpause() {
	text, err := os.ReadFile(p.store + "/libpod/tmp/pause.pid")
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// try runs podman to its end and returns what it printed, and what it said.
func (p *podman) try(args ...string) (out, errs string, err error) {
	p.t.Helper()
	c := p.cmd(args...)
	var o, e strings.Builder
	c.Stdout, c.Stderr = &o, &e
	err = c.Run()
	return strings.TrimSpace(o.String()), e.String(), err
}

func (p *podman) ok(args ...string) string {
	p.t.Helper()
	out, errs, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("podman %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// fails runs a podman that must fail and say words.
func (p *podman) fails(words string, args ...string) {
	p.t.Helper()
	out, errs, err := p.try(args...)
	if err == nil || !strings.Contains(errs, words) {
		p.t.Errorf("podman %s: %v, want %q\n%s%s", strings.Join(args, " "), err, words, out, errs)
	}
}

// run starts a container that lives until the test's end.
func (p *podman) run(name string, args ...string) {
	p.t.Helper()
	// Root may not raise limits everywhere, as podman would.
	p.ok(append(append([]string{"run", "-d", "--cap-add", "NET_RAW", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", "--name", name}, args...), "box:latest", "/bin/busybox", "sleep", "1000")...)
	p.t.Cleanup(func() { _ = p.cmd("rm", "-f", "-t", "0", name).Run() })
}

// in runs busybox in a container.
func (p *podman) in(name string, args ...string) string {
	p.t.Helper()
	return p.ok(append([]string{"exec", name, "/bin/busybox"}, args...)...)
}

// pings says whether one container reaches an address or name.
func (p *podman) pings(from, to string) bool {
	p.t.Helper()
	out, _, err := p.try("exec", from, "/bin/busybox", "ping", "-c", "1", "-W", "2", to)
	return err == nil && strings.Contains(out, " 0% packet loss")
}

// serve starts a web server on port 80 of a container, which answers `who` with
// the address of who asks.
func (p *podman) serve(name string) { p.t.Helper(); p.in(name, "httpd", "-h", "/www") }

// who asks a container's server from another one.
func (p *podman) who(from, at string) string {
	p.t.Helper()
	out, _, err := p.try("exec", from, "/bin/busybox", "wget", "-q", "-O", "-", "http://"+at+"/cgi-bin/who")
	if err != nil {
		return "nobody"
	}
	return out
}

// whoAsks asks the same from the host.
func whoAsks(at string) string {
	c := http.Client{Timeout: patience}
	r, err := c.Get("http://" + at + "/cgi-bin/who")
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return strings.TrimSpace(string(b))
}

// hostAddr is an address of this machine that is not loopback, or "".
func hostAddr() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// tree lists all files under a bench's directory but the state that is kept, to
// see what is left behind.
func tree(t *testing.T, dir string) (out []string) {
	t.Helper()
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && !strings.Contains(path, "/state/") {
			out = append(out, path)
		}
		return nil
	})
	return out
}
