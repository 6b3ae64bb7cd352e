package main

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// top has no terminal here: one table, or a line of JSON for each look.
func TestTopWithoutTerminal(t *testing.T) {
	b := newBench(t)
	b.fails(4, nil, "top")
	b.fails(2, []string{"100ms"}, "top", "--delay", "1ms")
	b.up("-c", b.write("c.yaml", twoBridges), "--ephemeral")
	got := b.ok("top", "--delay", "100ms")
	if strings.Contains(got, "\x1b") || !strings.Contains(got, "CONTAINER") || !strings.Contains(got, "\nc1 ") || len(strings.Split(got, "\n")) != 7 {
		t.Errorf("top:\n%s", got)
	}
	var one struct {
		At   string
		Rows []map[string]any
	}
	b.json(&one, "top", "--json", "--once", "--delay", "100ms")
	if len(one.Rows) != 4 || one.Rows[0]["rx_bits_per_second"] == nil || one.At == "" {
		t.Errorf("top --json: %+v", one)
	}
	p := b.start("top", "--json", "-f", "--delay", "100ms")
	for range 3 {
		if l := p.line(); json.Unmarshal([]byte(l), &one) != nil || len(one.Rows) != 0 {
			t.Errorf("a line of flows: %s", l)
		}
	}
}

// On a terminal it draws, follows its size and keys, and leaves it as it was.
func TestTopOnTerminal(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", twoBridges), "--ephemeral")
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skip(t, err.Error())
	}
	defer ptm.Close()
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	pts, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pts.Close()
	size := func(w, h uint16) {
		t.Helper()
		if err := unix.IoctlSetWinsize(int(ptm.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: w, Row: h}); err != nil {
			t.Fatal(err)
		}
	}
	size(80, 24)
	before, err := unix.IoctlGetTermios(int(pts.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	c := b.cmd("top")
	c.Env = append(c.Env, "TERM=xterm", "NO_COLOR=1", "LC_ALL=C.UTF-8")
	c.Stdin, c.Stdout, c.Stderr = pts, pts, pts
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	drawn := newLineLog()
	go func() { _, _ = io.Copy(drawn, ptm) }()
	press := func(k, words string) {
		t.Helper()
		drawn.forget()
		if _, err := ptm.WriteString(k); err != nil {
			t.Fatal(err)
		}
		drawn.await(t, words)
	}
	drawn.await(t, "1 of 4")
	press("f", "FLOW")
	press("c", "CONTAINER")
	press("5", "CONTAINER*")
	drawn.forget()
	size(30, 9)
	drawn.await(t, "plain               0        0\x1b[K") // columns have gone
	press("q", "\x1b[?25h\x1b[?1049l")
	if err := c.Wait(); err != nil {
		t.Errorf("top ends with %v", err)
	}
	if after, err := unix.IoctlGetTermios(int(pts.Fd()), unix.TCGETS); err != nil || *after != *before {
		t.Errorf("the terminal was %+v and is %+v (%v)", before, after, err)
	}
}
