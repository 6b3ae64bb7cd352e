package pasta

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// behindVariable tells a process that it is the one behind, and where it says
// that it is ready.
const behindVariable = "TAPSWITCH_PASTA_READY"

// goBehind starts this program again as a process of its own session and returns
// when that is ready, or has failed. What it says until then is told; later it
// holds no file of ours, so that whoever reads our output sees its end.
func goBehind(args []string) int {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, Name+":", err)
		return 1
	}
	defer r.Close()
	said, says, err := os.Pipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, Name+":", err)
		return 1
	}
	defer said.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: args, Env: append(os.Environ(), behindVariable+"=3"), Stderr: says, ExtraFiles: []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, Name+":", err)
		return 1
	}
	w.Close()
	says.Close()
	told := make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stderr, said)
		close(told)
	}()
	if b, _ := io.ReadAll(r); len(b) == 1 {
		return 0
	}
	<-told
	_ = cmd.Wait()
	return max(cmd.ProcessState.ExitCode(), 1)
}

// ready is where the process behind says that it is; nil for one in front.
func ready() *os.File {
	if os.Getenv(behindVariable) == "" {
		return nil
	}
	os.Unsetenv(behindVariable)
	return os.NewFile(3, strings.ToLower(behindVariable))
}
