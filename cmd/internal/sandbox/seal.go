package sandbox

import (
	"fmt"
	"os"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// flags of the filter: on all threads; what it refuses is in the audit log; and
// without the slower branches that kernels before 5.16 think a filter asks for:
// no code of others runs in the worker.
const flags = seccomp.FilterFlagTSync | seccomp.FilterFlagLog | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW

// Seal forbids all system calls but the worker's, for the whole process and for
// good. A call that is not known gets EPERM, so that a gap in the list breaks
// one thing and not the switch.
func Seal() error {
	p, err := policy(os.Getpid())
	if err != nil {
		return err
	}
	if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: flags, Policy: *p}); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

// policy is the filter for process pid.
func policy(pid int) (*seccomp.Policy, error) {
	a, err := arch.GetInfo("") // this processor
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	known := func(names []string) (out []string) {
		for _, n := range names {
			if _, ok := a.SyscallNames[n]; ok {
				out = append(out, n)
			}
		}
		return out
	}
	return &seccomp.Policy{
		DefaultAction: seccomp.ActionErrno, // EPERM
		Syscalls: []seccomp.SyscallGroup{
			{Names: known(allowed), Action: seccomp.ActionAllow},
			{NamesWithCondtions: looked(pid), Action: seccomp.ActionAllow},
			// Its flags are behind a pointer. Who hears that there is no such call asks clone.
			{Names: known([]string{"clone3"}), Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
			{Names: known(deadly), Action: seccomp.ActionKillProcess},
		},
	}, nil
}
