package ns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Handle holds a network namespace and the user namespace that owns it.
type Handle struct {
	Net  netns.NsHandle
	User netns.NsHandle // -1 if it is the caller's own
	Name string         // how it was named, for errors
}

// Close lets both namespaces go.
func (h *Handle) Close() {
	if h.Net.IsOpen() {
		h.Net.Close()
	}
	if h.User.IsOpen() {
		h.User.Close()
	}
}

// OfPID opens the network namespace of a process.
func OfPID(pid int) (*Handle, error) {
	net, err := netns.GetFromPid(pid)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("process %d does not exist: %w", pid, err)
		}
		return nil, fmt.Errorf("network namespace of process %d: %w (is it yours? use sudo for namespaces that root made)", pid, err)
	}
	return withOwner(net, fmt.Sprintf("process %d", pid))
}

// OfPath opens a network namespace that is bound to a path, such as
// /run/netns/NAME or /proc/PID/ns/net.
func OfPath(path string) (*Handle, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", path, err)
	}
	if st.Type != unix.NSFS_MAGIC && st.Type != unix.PROC_SUPER_MAGIC {
		return nil, fmt.Errorf("namespace %s is an ordinary file here: it is bound in another mount namespace; use --pid, or /proc/PID/root%s", path, path)
	}
	net, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", path, err)
	}
	return withOwner(net, path)
}

// withOwner finds the user namespace that owns net, which /proc/PID/ns/user
// need not be (ioctl_ns(2), NS_GET_USERNS).
func withOwner(net netns.NsHandle, name string) (*Handle, error) {
	h := &Handle{Net: net, User: netns.None(), Name: name}
	kind, err := unix.IoctlRetInt(int(net), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		h.Close()
		return nil, fmt.Errorf("%s is not a network namespace", name)
	}
	fd, err := unix.IoctlRetInt(int(net), unix.NS_GET_USERNS)
	if err != nil {
		h.Close()
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("%s is owned by a user namespace outside of yours: use sudo", name)
		}
		return nil, fmt.Errorf("owner of %s: %w", name, err)
	}
	unix.CloseOnExec(fd)
	if sameNamespace(fd, "/proc/self/ns/user") {
		unix.Close(fd)
		return h, nil
	}
	h.User = netns.NsHandle(fd)
	return h, nil
}

func sameNamespace(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// Inside is what was opened in a namespace: an unused TUN/TAP descriptor and a
// netlink socket. The latter pins the namespace until it is closed.
type Inside struct {
	Tun     int
	Netlink int
}

// Close closes what is still open.
func (in *Inside) Close() {
	for _, fd := range []*int{&in.Tun, &in.Netlink} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// Enter opens what is needed inside the namespace. The descriptor of the TAP
// will keep the namespace alive: somebody must tell when it ends.
func (h *Handle) Enter() (*Inside, error) {
	tun, nl, _, err := enter(&entry{user: int32(h.User), net: int32(h.Net)})
	if err != nil {
		return nil, explain(h.Name, err)
	}
	return &Inside{tun, nl}, nil
}

// EnterHub opens the TUN/TAP descriptor in a fresh namespace of the same owner
// instead, and returns that namespace's netlink socket: the device is then
// moved to h, and the descriptor reports EPOLLERR when h dies. A move costs
// about 20 ms.
func (h *Handle) EnterHub() (*Inside, error) {
	tun, nl, net, err := enter(&entry{user: int32(h.User), net: -1, fresh: true})
	if err != nil {
		return nil, explain(h.Name, err)
	}
	if net >= 0 {
		unix.Close(net)
	}
	return &Inside{tun, nl}, nil
}

// explain adds the next step to the usual failures.
func explain(name string, err error) error {
	var step *StepError
	if !errors.As(err, &step) {
		return fmt.Errorf("enter %s: %w", name, err)
	}
	switch {
	case step.Step == stepNames[stepTun] && step.Errno == syscall.ENOENT:
		return fmt.Errorf("enter %s: %w: load the module (sudo modprobe tun)", name, err)
	case step.Step == stepNames[stepTun] && (step.Errno == syscall.EACCES || step.Errno == syscall.EPERM):
		return fmt.Errorf("enter %s: %w: let users open it (sudo chmod 666 /dev/net/tun)", name, err)
	case step.Errno == syscall.EPERM:
		return fmt.Errorf("enter %s: %w: it belongs to another user; use sudo", name, err)
	}
	return fmt.Errorf("enter %s: %w", name, err)
}

// OpenInside opens in the caller's own namespace what Enter opens in another.
func OpenInside() (*Inside, error) {
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, explain("the container", &StepError{stepNames[stepTun], err.(syscall.Errno)})
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		unix.Close(tun)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &Inside{tun, nl}, nil
}

// PIDFD opens a descriptor that becomes readable when the process ends.
func PIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), nil
}
