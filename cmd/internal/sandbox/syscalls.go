package sandbox

import (
	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of the worker that need no look at their
// arguments: what Go's runtime makes (runtime/sys_linux_*.s), what its os and
// net packages make, and what we make. A call that is not known to a processor
// (epoll_wait on arm64) is left out there. The path of a frame needs only these:
// the kernel answers for them from a bitmap, without running the filter.
var allowed = []string{
	// Memory; mmap and mprotect are below.
	"brk", "madvise", "mincore", "mremap", "munmap",
	// Threads, signals and time.
	"futex", "futex_waitv", "gettid", "getpid", "getppid", "set_robust_list", "set_tid_address", "rseq", "membarrier", "arch_prctl",
	"sched_yield", "sched_getaffinity", "getcpu", "exit", "exit_group", "restart_syscall",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack",
	"clock_gettime", "clock_getres", "clock_nanosleep", "gettimeofday", "nanosleep", "setitimer",
	"timer_create", "timer_settime", "timer_delete", "getrandom", "uname", "sysinfo",
	"getuid", "geteuid", "getgid", "getegid", "getrusage", "getrlimit",
	// Files; what may be opened is Landlock's to say.
	"open", "openat", "read", "write", "readv", "writev", "pread64", "pwrite64", "close", "lseek",
	"stat", "lstat", "statfs", "fstat", "newfstatat", "fstatat", "statx", "access", "faccessat", "faccessat2", "getdents64", "readlink", "readlinkat", "getcwd",
	"mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "ftruncate", "fsync", "fdatasync", "fcntl", "flock", "umask",
	"dup", "dup2", "dup3", "pipe2", "memfd_create", "copy_file_range", "sendfile", "splice",
	// Waiting.
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime",
	"poll", "ppoll", "select", "pselect6",
	// Sockets; socket is below.
	"bind", "connect", "listen", "accept", "accept4", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt",
	"sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
}

// deadly are those that no part of the worker makes and that lead out of it:
// who makes one is not the worker any more, and is ended by the kernel.
var deadly = []string{
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
	"setns", "unshare", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick", "mount_setattr",
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff", "acct", "syslog",
	"add_key", "request_key", "keyctl", "pidfd_getfd", "pidfd_send_signal", "open_by_handle_at", "name_to_handle_at",
	"iopl", "ioperm", "modify_ldt", "personality", "quotactl",
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset",
}

// families are the sockets that the worker makes while it works: connections,
// and questions about addresses and routes. Unix sockets, by which one talks to
// the user's other programs, come to it ready made.
var families = []uint64{unix.AF_INET, unix.AF_INET6}

// ioctls are those of TAPs and sockets. Others lead out by way of the terminal
// that the log goes to (TIOCSTI types on it).
var ioctls = []uint64{
	unix.TUNGETIFF, unix.TUNSETVNETHDRSZ, unix.TUNSETOFFLOAD, unix.TUNSETSNDBUF, unix.TUNGETFEATURES,
	unix.SIOCINQ, unix.SIOCOUTQ,
}

const (
	newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	executable    = unix.PROT_EXEC
)

// looked are the calls whose arguments decide, for process pid.
func looked(pid int) (list []seccomp.NameWithConditions) {
	add := func(name string, c ...seccomp.Condition) {
		list = append(list, seccomp.NameWithConditions{Name: name, Conditions: c})
	}
	is := func(arg uint32, v uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.Equal, Value: v}
	}
	has := func(arg uint32, v uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.BitsSet, Value: v}
	}
	lacks := func(arg uint32, v uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.BitsNotSet, Value: v}
	}
	add("clone", has(0, unix.CLONE_THREAD), lacks(0, newNamespaces)) // threads, no processes
	add("mmap", lacks(2, executable))                                // no new code
	add("mprotect", lacks(2, executable))
	add("kill", is(0, uint64(pid))) // only itself
	add("tgkill", is(0, uint64(pid)))
	add("prlimit64", is(0, 0))
	add("prlimit64", is(0, uint64(pid)))
	add("prctl", is(0, unix.PR_SET_VMA))
	add("prctl", is(0, unix.PR_SET_NAME))
	for _, f := range families {
		add("socket", is(0, f))
	}
	add("socket", is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE))
	for _, r := range ioctls {
		add("ioctl", is(1, r))
	}
	return list
}
