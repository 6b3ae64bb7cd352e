package pasta

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/porter"
)

// CommandName is argv[0] of the process that becomes the command.
const CommandName = "tapswitch-pasta-command"

// command is a command in namespaces of its own: user, network, mount, pid, uts
// and ipc, with the caller as root.
type command struct {
	cmd *exec.Cmd
	go_ *os.File
}

// spawn makes the namespaces; the command itself starts with begin.
func spawn(argv []string) (*command, error) {
	if len(argv) == 0 {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		argv = []string{shell}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], errors.Unwrap(err))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &command{go_: w, cmd: &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{CommandName, path}, argv...), Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{r},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		},
	}}
	if err := c.cmd.Start(); err != nil {
		w.Close()
		return nil, porter.NamespaceError(err)
	}
	return c, nil
}

func (c *command) pid() int { return c.cmd.Process.Pid }

// begin lets the command start; its exit status comes when it has ended, as a
// shell says it.
func (c *command) begin() <-chan int {
	_, _ = c.go_.WriteString("1")
	c.go_.Close()
	done := make(chan int, 1)
	go func() {
		_ = c.cmd.Wait()
		ws, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if ws.Signaled() {
			done <- 128 + int(ws.Signal())
			return
		}
		done <- ws.ExitStatus()
	}()
	return done
}

// kill ends what still runs.
func (c *command) kill() {
	c.go_.Close()
	_ = c.cmd.Process.Kill()
}

// Command is the program CommandName: process 1 of the namespaces, which waits
// for the network and becomes the command.
func Command(args []string) int {
	r := os.NewFile(3, "begin")
	b, _ := io.ReadAll(r)
	r.Close()
	if len(b) != 1 || len(args) < 3 {
		return 1 // there is no network
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err == nil {
		_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	for key, value := range map[string]string{"ping_group_range": "0 0", "ip_unprivileged_port_start": "0"} {
		_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0)
	}
	err := unix.Exec(args[1], args[2:], os.Environ())
	fmt.Fprintf(os.Stderr, "%s: %s: %v\n", Name, args[2], err)
	if err == unix.ENOENT {
		return 127
	}
	return 126
}
