package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/porter"
	"tapswitch/switch"
	"tapswitch/switch/ns"
)

// finding is one thing that the doctor tried.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Remedy string `json:"remedy"`
	needed bool
}

func doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Try what the switch needs of this machine, and say what to type", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			list := diagnose()
			bad := false
			for _, f := range list {
				bad = bad || f.needed && !f.OK
			}
			if asJSON {
				if err := printJSON(list); err != nil {
					return err
				}
			} else {
				for _, f := range list {
					mark := "ok  "
					if !f.OK {
						mark = "note"
						if f.needed {
							mark = "FAIL"
						}
					}
					fmt.Printf("%s  %-22s %s\n", mark, f.Check, f.Found)
					if !f.OK && f.Remedy != "" {
						fmt.Printf("      %s\n", strings.ReplaceAll(f.Remedy, "\n", "\n      "))
					}
				}
			}
			if bad {
				return exitError(exitFailed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func diagnose() []finding {
	list := []finding{tryTun(), tryNamespaces(), tryTAP(), tryNamespaceLimits(), trySandbox(), tryPing(), tryPorts(), tryDescriptors(), trySubordinate(), tryLinger()}
	return append(list, finding{Check: "kernel", OK: true, Found: kernel()})
}

func tryTun() finding {
	f := finding{Check: "/dev/net/tun", OK: true, Found: "opens", needed: true}
	if err := checkTun(); err != nil {
		msg, remedy, _ := strings.Cut(err.Error(), ": ")
		f.OK, f.Found, f.Remedy = false, msg, remedy
	}
	return f
}

// tryNamespaces makes all namespaces of a container and mounts in them, since
// AppArmor's restriction lets the first step pass.
func tryNamespaces() finding {
	f := finding{Check: "user namespaces", OK: true, Found: "can be made", needed: true}
	cmd := probe("mount")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.OK, f.Found = false, strings.TrimSpace(string(out)+" "+err.Error())
		f.Remedy = porter.NamespaceError(err).Error()
	}
	return f
}

// tryTAP opens a TAP in a namespace of our own and asks for its offloads.
func tryTAP() finding {
	f := finding{Check: "TAP in a namespace", OK: true, needed: true}
	out, err := probe("tap").CombinedOutput()
	f.Found = strings.TrimSpace(string(out))
	if err != nil {
		f.OK, f.Found, f.Remedy = false, f.Found+" "+err.Error(), "what is missing above, or a module: sudo modprobe tun"
	}
	return f
}

// probe runs ourselves in fresh namespaces to try one thing.
func probe(what string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "doctor-probe", what)
	cmd.Args[0] = ProbeName
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	return cmd
}

// ProbeName is argv[0] of a doctor's probe.
const ProbeName = "tapswitch-probe"

// doctorProbe is what runs in the namespaces.
func doctorProbe(args []string) int {
	fail := func(err error) int { fmt.Println(err); return 1 }
	switch args[len(args)-1] {
	case "mount":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fail(fmt.Errorf("mount: %w", err))
		}
		if err := unix.Mount("tmpfs", os.TempDir(), "tmpfs", 0, "size=1m"); err != nil {
			return fail(fmt.Errorf("mount: %w", err))
		}
	case "tap":
		in, err := ns.OpenInside()
		if err != nil {
			return fail(err)
		}
		fd, err := in.CreateTAP("probe0", true)
		if err != nil {
			return fail(err)
		}
		t, err := vswitch.NewTAP(fd)
		if err != nil {
			return fail(err)
		}
		var have []string
		for _, c := range []struct {
			bit  vswitch.Caps
			name string
		}{{vswitch.CapCsum, "checksum"}, {vswitch.CapTSO, "TSO"}, {vswitch.CapUSO, "USO"}, {vswitch.CapBig, "BIG TCP"}} {
			if t.Caps()&c.bit != 0 {
				have = append(have, c.name)
			}
		}
		fmt.Println("offloads: " + strings.Join(have, ", "))
	}
	return 0
}

func tryPing() finding {
	f := finding{Check: "ping_group_range", OK: true, Found: "containers may ping outside"}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		f.OK, f.Found = false, "containers may not ping outside: "+err.Error()
		f.Remedy = `sudo sysctl net.ipv4.ping_group_range="0 2147483647"`
		return f
	}
	unix.Close(fd)
	return f
}

func tryDescriptors() finding {
	var r unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
	f := finding{Check: "descriptors", OK: r.Max >= 16384, Found: strconv.FormatUint(r.Max, 10) + " at most; each connection outside takes one"}
	f.Remedy = "raise the hard limit: ulimit -Hn, LimitNOFILE= of a systemd unit, or /etc/security/limits.conf"
	return f
}

func tryPorts() finding {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	start := strings.TrimSpace(string(b))
	f := finding{Check: "low ports", OK: start == "0" || os.Geteuid() == 0, Found: "may be published"}
	if !f.OK {
		f.Found = "ports under " + start + " may not be published"
		f.Remedy = "sudo sysctl net.ipv4.ip_unprivileged_port_start=80"
	}
	return f
}

func kernel() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}
