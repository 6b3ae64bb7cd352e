//go:build interop

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInteropCapture: tcpdump reads a capture while it runs; its end ends us.
func TestInteropCapture(t *testing.T) {
	tools(t, "tcpdump")
	b := newBench(t)
	b.up("--ephemeral", "-c", b.write("c.yaml", twoBridges))
	b.start("exec", "c2", "--", prog, "serve", "80").expect("listening")
	pipe := b.cmd()
	if err := os.Symlink(prog, filepath.Join(b.dir, "tapswitch")); err != nil {
		t.Fatal(err)
	}
	pipe.Path, pipe.Args = "/bin/sh", []string{"sh", "-c", "./tapswitch capture -w - -i c1 tcp port 80 | tcpdump -n -l -c 3 -r -"}
	p := startProc(t, pipe)
	eventually(t, "the capture to begin", func() bool { return strings.Contains(p.errs.String(), "capturing") })
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:")
	p.expect("> 172.17.0.3.80: Flags [S]")
	p.expect("172.17.0.3.80 > 172.17.0.2.")
	p.expect("> 172.17.0.3.80: Flags [.]")
	b.asks("c1", "tcp", "172.17.0.3:80", "from 172.17.0.2:") // which finds tcpdump gone
	if code := p.wait(); code != 0 {
		t.Errorf("tcpdump ends with %d: %s", code, p.errs)
	}
}
