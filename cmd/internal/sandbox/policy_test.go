package sandbox

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestPolicy runs the filter on calls, without a kernel.
func TestPolicy(t *testing.T) {
	const (
		pid   = 4711
		allow = unix.SECCOMP_RET_ALLOW
		kill  = unix.SECCOMP_RET_KILL_PROCESS
		perm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		nosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	a, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy(pid)
	if err != nil {
		t.Fatal(err)
	}
	vm := machine(t, p.Assemble)
	for _, tt := range []struct {
		name string
		args [3]uint64
		want uint32
	}{
		{"read", [3]uint64{}, allow},
		{"epoll_pwait", [3]uint64{}, allow},
		{"recvmmsg", [3]uint64{}, allow},
		{"close", [3]uint64{}, allow},
		{"socket", [3]uint64{unix.AF_INET, unix.SOCK_STREAM}, allow},
		{"socket", [3]uint64{unix.AF_INET6, unix.SOCK_DGRAM}, allow},
		{"socket", [3]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, allow},
		{"socket", [3]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM}, perm},
		{"socket", [3]uint64{unix.AF_UNIX}, perm},
		{"socket", [3]uint64{unix.AF_INET | 1<<32}, perm},
		{"socketpair", [3]uint64{}, perm},
		{"clone", [3]uint64{0x50f00}, allow},  // as Go's runtime does
		{"clone", [3]uint64{0xd0f00}, allow},  // with a thread's local storage
		{"clone", [3]uint64{0x3d0f00}, allow}, // as glibc does
		{"clone", [3]uint64{uint64(unix.SIGCHLD)}, perm},
		{"clone", [3]uint64{0x50f00 | unix.CLONE_NEWUSER}, perm},
		{"clone3", [3]uint64{}, nosys},
		{"mmap", [3]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{"mmap", [3]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, perm},
		{"mprotect", [3]uint64{0, 4096, unix.PROT_EXEC}, perm},
		{"tgkill", [3]uint64{pid, 4712, uint64(unix.SIGURG)}, allow},
		{"tgkill", [3]uint64{1, 1, uint64(unix.SIGKILL)}, perm},
		{"kill", [3]uint64{^uint64(0), uint64(unix.SIGKILL)}, perm},
		{"prlimit64", [3]uint64{0}, allow},
		{"prlimit64", [3]uint64{1}, perm},
		{"prctl", [3]uint64{unix.PR_SET_VMA}, allow},
		{"prctl", [3]uint64{unix.PR_SET_DUMPABLE}, perm},
		{"ioctl", [3]uint64{5, unix.SIOCOUTQ}, allow},
		{"ioctl", [3]uint64{5, unix.TUNSETOFFLOAD}, allow},
		{"ioctl", [3]uint64{5, unix.TUNSETIFF}, perm},
		{"ioctl", [3]uint64{5, unix.TIOCSTI}, perm},
		{"execve", [3]uint64{}, kill},
		{"ptrace", [3]uint64{}, kill},
		{"setns", [3]uint64{}, kill},
		{"io_uring_setup", [3]uint64{}, kill},
		{"landlock_create_ruleset", [3]uint64{}, perm},
		{"fchmodat", [3]uint64{}, perm},
	} {
		nr, ok := a.SyscallNames[tt.name]
		if !ok {
			t.Errorf("this processor has no %s", tt.name)
			continue
		}
		if got := vm(uint32(a.ID), uint32(nr), tt.args); got != tt.want {
			t.Errorf("%s(%#x): %#x, want %#x", tt.name, tt.args, got, tt.want)
		}
	}
	read := uint32(a.SyscallNames["read"])
	if got := vm(uint32(arch.I386.ID), read, [3]uint64{}); got == allow {
		t.Error("a call by another processor's table is allowed")
	}
	if a == arch.X86_64 {
		if got := vm(uint32(a.ID), read|0x40000000, [3]uint64{}); got == allow {
			t.Error("a call of the x32 table is allowed")
		}
	}
}

// amdOnly are calls for which arm64 has only newer ones, or other names, which
// are in the lists.
var amdOnly = []string{"newfstatat", "fstatat", "open", "stat", "lstat", "access", "readlink", "mkdir", "unlink", "rename", "dup2", "epoll_wait", "poll", "select",
	"fork", "vfork", "arch_prctl", "iopl", "ioperm", "modify_ldt", "getrlimit"}

// TestNamesAreKnown finds a name that is misspelt: such a call would be left out
// in silence.
func TestNamesAreKnown(t *testing.T) {
	for _, name := range slices.Concat(allowed, deadly) {
		_, amd := arch.X86_64.SyscallNames[name]
		_, arm := arch.AARCH64.SyscallNames[name]
		if !amd && !arm {
			t.Errorf("no processor has a system call %s", name)
		}
		if arm != amd && !slices.Contains(amdOnly, name) {
			t.Errorf("%s is not there on every processor: what do Go and we call there?", name)
		}
		if slices.Contains(allowed, name) && slices.Contains(deadly, name) {
			t.Errorf("%s is both allowed and deadly", name)
		}
	}
}

// machine runs a filter on struct seccomp_data: number, processor, instruction
// pointer, six arguments.
func machine(t *testing.T, assemble func() ([]bpf.Instruction, error)) func(processor, nr uint32, args [3]uint64) uint32 {
	t.Helper()
	program, err := assemble()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(processor, nr uint32, args [3]uint64) uint32 {
		// The filter reads words in the machine's order, the VM in the network's: each
		// word is written so that it is read as it would be.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data[0:], nr)
		binary.BigEndian.PutUint32(data[4:], processor)
		for i, a := range args {
			binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
			binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
		}
		r, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(r)
	}
}
