package ns

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// Steps of a child, reported when one fails.
const (
	stepUser = 1 + iota
	stepNet
	stepNew
	stepTun
	stepNetlink
	stepFiles
	stepExec
)

var stepNames = map[uint32]string{
	stepUser:    "join the user namespace",
	stepNet:     "join the network namespace",
	stepNew:     "make a network namespace",
	stepTun:     "open /dev/net/tun",
	stepNetlink: "open a netlink socket",
	stepFiles:   "pass descriptors",
	stepExec:    "execute",
}

// StepError is a child's failure: which step and why.
type StepError struct {
	Step  string
	Errno syscall.Errno
}

func (e *StepError) Error() string { return e.Step + ": " + e.Errno.Error() }
func (e *StepError) Unwrap() error { return e.Errno }

// entry is what a child is to do. The child only reads it.
type entry struct {
	user, net int32 // descriptors to join; -1 for none
	fresh     bool  // make a new network namespace instead of joining one
	report    int32
	tun       *byte
	monitor   bool // a socket of the socket monitor instead of one for interfaces
}

// enter lets a child join the namespaces and open what is needed there. The
// child shares our descriptor table (CLONE_FILES), so that what it opens is
// ours at once.
func enter(e *entry) (tun, netlink, netns int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return -1, -1, -1, err
	}
	defer r.Close()
	e.report = int32(w.Fd())
	path := []byte("/dev/net/tun\x00")
	e.tun = &path[0]
	self := []byte("/proc/self/ns/net\x00")
	pid, errno := forkEnter(e, &self[0])
	runtime.KeepAlive(path)
	runtime.KeepAlive(self)
	if errno != 0 {
		w.Close()
		return -1, -1, -1, fmt.Errorf("fork: %w", errno)
	}
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	w.Close() // not before: the child has this very descriptor
	var b [20]byte
	n, _ := r.Read(b[:])
	if n != len(b) {
		return -1, -1, -1, fmt.Errorf("the child that enters the namespace died (status %v)", ws)
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(b[i*4:]) }
	if word(0) != 0 {
		return -1, -1, -1, &StepError{stepNames[word(0)], syscall.Errno(word(1))}
	}
	return int(word(2)), int(word(3)), int(int32(word(4))), nil
}

// forkEnter forks. The child makes raw system calls only: it has one thread,
// and no part of the runtime may run in it.
//
//go:norace
//go:nosplit
//go:noinline
func forkEnter(e *entry, self *byte) (int, syscall.Errno) {
	var out [5]uint32
	beforeFork()
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD)|unix.CLONE_FILES, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return int(pid), errno
	}
	out[4] = ^uint32(0)
	var r uintptr
	if e.user >= 0 {
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(e.user), unix.CLONE_NEWUSER, 0); errno != 0 {
			out[0] = stepUser
			goto done
		}
	}
	if e.net >= 0 {
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(e.net), unix.CLONE_NEWNET, 0); errno != 0 {
			out[0] = stepNet
			goto done
		}
	}
	if e.fresh {
		if _, _, errno = syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWNET, 0, 0); errno != 0 {
			out[0] = stepNew
			goto done
		}
		r, _, errno = syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(self)), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			out[4] = uint32(r)
		}
	}
	r, _, errno = syscall.RawSyscall6(unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(e.tun)), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		out[0] = stepTun
		goto done
	}
	out[2] = uint32(r)
	r = unix.NETLINK_ROUTE
	if e.monitor {
		r = unix.NETLINK_SOCK_DIAG
	}
	r, _, errno = syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, r)
	if errno != 0 {
		out[0] = stepNetlink
		goto done
	}
	out[3] = uint32(r)
done:
	out[1] = uint32(errno)
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(e.report), uintptr(unsafe.Pointer(&out[0])), 20)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// SpawnIn executes path in the user namespace user (a descriptor, -1 for ours)
// with files as its descriptors 0, 1, 2, ..., and returns its pid; the caller
// waits for it. Other namespaces are joined by the program itself, which keeps
// all capabilities if it is uid 0 there.
func SpawnIn(user int, path string, argv, env []string, files []int) (int, error) {
	argv0, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return -1, err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return -1, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer r.Close()
	fds := make([]int32, len(files))
	for i, f := range files {
		fds[i] = int32(f)
	}
	syscall.ForkLock.Lock()
	pid, errno := forkExec(int32(user), argv0, &argvp[0], &envp[0], fds, int32(w.Fd()))
	syscall.ForkLock.Unlock()
	w.Close()
	if errno != 0 {
		return -1, fmt.Errorf("fork: %w", errno)
	}
	var b [8]byte
	if n, _ := r.Read(b[:]); n == len(b) {
		var ws unix.WaitStatus
		unix.Wait4(pid, &ws, 0, nil)
		return -1, &StepError{stepNames[binary.NativeEndian.Uint32(b[:])], syscall.Errno(binary.NativeEndian.Uint32(b[4:]))}
	}
	return pid, nil
}

//go:norace
//go:nosplit
//go:noinline
func forkExec(user int32, argv0 *byte, argv, env **byte, files []int32, report int32) (int, syscall.Errno) {
	var out [2]uint32
	beforeFork()
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return int(pid), errno
	}
	afterForkInChild()
	var r uintptr
	if user >= 0 {
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, uintptr(user), unix.CLONE_NEWUSER, 0); errno != 0 {
			out[0] = stepUser
			goto failed
		}
	}
	// First above all targets, so that no dup overwrites what is needed later.
	for i := range files {
		if r, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(files[i]), unix.F_DUPFD_CLOEXEC, 64); errno != 0 {
			out[0] = stepFiles
			goto failed
		}
		files[i] = int32(r)
	}
	if r, _, errno = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(report), unix.F_DUPFD_CLOEXEC, 64); errno != 0 {
		out[0] = stepFiles
		goto failed
	}
	report = int32(r)
	for i := range files {
		if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(files[i]), uintptr(i), 0); errno != 0 {
			out[0] = stepFiles
			goto failed
		}
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(argv0)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(env)))
	out[0] = stepExec
failed:
	out[1] = uint32(errno)
	syscall.RawSyscall(unix.SYS_WRITE, uintptr(report), uintptr(unsafe.Pointer(&out[0])), 8)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}
