//go:build interop

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The first program of a virtual machine: it asks for an address, says what it
// has, and serves.
const umlInit = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox ip link set lo up
/bin/busybox ip link set vec0 up
echo '#!/bin/busybox sh
[ "$1" = bound ] || exit 0
echo "lease $ip router $router names $dns"
/bin/busybox ip addr add $ip/24 dev vec0
/bin/busybox ip route add default via $router' >/tmp/lease
/bin/busybox chmod +x /tmp/lease
/bin/busybox udhcpc -i vec0 -n -q -f -s /tmp/lease
/bin/busybox ping -c 1 -W 10 10.0.2.2
/bin/busybox nslookup guest 10.0.2.3
/bin/busybox wget -q -O - http://10.0.2.2:PORT/
/bin/busybox httpd -p 80 -h /bin
echo the machine serves
exec /bin/busybox sleep 1000
`

// A kernel as a program, User Mode Linux, whose network card is our socket.
func TestInteropUML(t *testing.T) {
	tools(t, "linux.uml", "busybox")
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "root", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	output(t, "cp", box, dir+"/root/bin/busybox")
	port := itoa(freePort(t))
	if err := os.WriteFile(dir+"/index.html", []byte("a page of the host's loopback\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startProc(t, exec.Command(box, "httpd", "-f", "-p", "127.0.0.1:"+port, "-h", dir))
	if err := os.WriteFile(dir+"/root/init", []byte(strings.ReplaceAll(umlInit, "PORT", port)), 0o755); err != nil {
		t.Fatal(err)
	}
	s := startSlirp(t, nil, "--target-type=bess", dir+"/net")
	s.errs.await(t, "Waiting for connection")
	c := exec.Command("linux.uml", "mem=96M", "root=/dev/root", "rootfstype=hostfs", "rootflags="+dir+"/root", "ro", "init=/init", "con=null", "con0=null,fd:1",
		"uml_dir="+dir+"/uml", "vec0:transport=bess,dst="+dir+"/net,depth=64,mac=02:11:22:33:44:55")
	c.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its processes are several
	console, err := os.Create(dir + "/console")         // it does not get on with a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	c.Stdout, c.Stderr = console, console
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended, ready := make(chan struct{}), make(chan string, 1)
	go func() { _ = c.Wait(); close(ended) }()
	end := func() {
		select {
		case <-ended:
		default:
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			<-ended
		}
	}
	t.Cleanup(end)
	said := func() string { b, _ := os.ReadFile(console.Name()); return string(b) }
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(said())
		}
	})
	go func() { b, _ := io.ReadAll(s.ready); ready <- string(b) }()
	select {
	case got := <-ready:
		if got != "1" {
			t.Fatalf("not ready:\n%s", s.errs)
		}
	case <-ended:
		if why := "ptrace set fp regs failed"; strings.Contains(said(), why) { // seen with Linux 6.1 on a processor with AMX
			t.Skip("User Mode Linux does not run on this processor: " + why)
		}
		t.Fatal("the machine ended")
	}
	eventually(t, "the machine starts", func() bool { return strings.Contains(said(), "Run /init") })
	eventually(t, "the machine serves", func() bool { return strings.Contains(said(), "the machine serves") })
	for _, want := range []string{"lease 10.0.2.15 router 10.0.2.2 names 10.0.2.3", " 0% packet loss", "10.0.2.100", "a page of the host's loopback"} {
		if !strings.Contains(said(), want) {
			t.Errorf("the machine does not say %q", want)
		}
	}
	p := freePort(t)
	s.forward(fmt.Sprintf(`"proto":"tcp","host_addr":"127.0.0.1","host_port":%d,"guest_addr":"10.0.2.15","guest_port":80`, p))
	got, err := exec.Command(box, "wget", "-q", "-O", "-", fmt.Sprintf("http://127.0.0.1:%d/busybox", p)).Output()
	want, _ := os.ReadFile(box)
	if err != nil || string(got) != string(want) {
		t.Errorf("from the machine: %d bytes of %d, %v", len(got), len(want), err)
	}
	end()
	if code := s.wait(); code != 0 { // the machine's end is its own
		t.Errorf("exit code %d\n%s", code, s.errs)
	}
}
