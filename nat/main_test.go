package nat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tests run in a user and network namespace of their own, where an
// ordinary user may add addresses and make containers: the test binary
// executes itself there. Where that cannot be, the tests that need it are left
// out with one line.

const insideEnv = "TAPSWITCH_NAT_TEST_INSIDE"

// outsideMissing says why there is no namespace to test in; empty if there is.
var outsideMissing string

// Addresses of the outside: the namespace that the switch runs in has them on
// its lo, so that they are not loopback for the kernel but need no device.
const (
	outside4  = "192.0.2.1"
	outside4b = "192.0.2.2"
	outside6  = "2001:db8::1"
	outside6b = "2001:db8::2"
)

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		code, err := runInside()
		if err == nil {
			os.Exit(code)
		}
		outsideMissing = err.Error()
	} else if err := furnish(); err != nil {
		outsideMissing = err.Error()
	}
	os.Exit(m.Run())
}

// runInside executes the test binary in fresh namespaces and returns its exit
// code.
func runInside() (int, error) {
	runtime.LockOSThread() // the death signal below is sent when this thread ends
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		return 0, err
	} else {
		f.Close()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("no user namespaces: %w", err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
}

// furnish makes a host of the fresh namespace.
func furnish() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range []string{outside4 + "/32", outside4b + "/32", outside6 + "/128", outside6b + "/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
		return err
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
	return nil
}

// needKernel leaves a test out where it cannot run; on CI that is a failure.
func needKernel(t testing.TB) {
	t.Helper()
	if outsideMissing == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(outsideMissing)
	}
	t.Skip(outsideMissing)
}
