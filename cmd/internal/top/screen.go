package top

import (
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	enter = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leave = "\x1b[?25h\x1b[?1049l"
)

// Run shows looks on a terminal until a key, a signal or an error ends it.
func Run(in, out *os.File, every time.Duration, t *Top, look func(View) (Look, error), s Style) error {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer term.Restore(int(in.Fd()), old)
	_, _ = io.WriteString(out, enter)
	defer io.WriteString(out, leave)
	stop, resized := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(stop)
	defer signal.Stop(resized)
	keys := make(chan []string)
	done := make(chan struct{})
	defer close(done)
	go readKeys(in, keys, done)

	size := func() (w, h int) {
		if w, h, err := term.GetSize(int(out.Fd())); err == nil && w > 0 && h > 0 {
			return w, h
		}
		return 80, 24
	}
	draw := func() {
		w, h := size()
		_, _ = io.WriteString(out, frame(t.Render(w, h, s)))
	}
	take := func() error {
		l, err := look(t.View)
		if err == nil {
			t.Take(l)
			draw()
		}
		return err
	}
	if err := take(); err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	soon := time.After(min(every, 250*time.Millisecond)) // the first rates
	for {
		select {
		case <-stop:
			return nil
		case <-resized:
			draw()
		case <-soon:
			if err := take(); err != nil {
				return err
			}
		case <-tick.C:
			if err := take(); err != nil {
				return err
			}
		case list, ok := <-keys:
			if !ok {
				return nil
			}
			before := t.View
			for _, k := range list {
				_, h := size()
				if t.Key(k, Page(h)) {
					return nil
				}
			}
			if t.View != before && t.View == Flows {
				if err := take(); err != nil {
					return err
				}
			}
			draw()
		}
	}
}

// frame is what draws the lines over those that are there, without flicker.
func frame(lines []string) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	return b.String()
}

func readKeys(in io.Reader, keys chan<- []string, done <-chan struct{}) {
	defer close(keys)
	b := make([]byte, 256)
	for {
		n, err := in.Read(b)
		if err != nil || n == 0 {
			return
		}
		select {
		case keys <- splitKeys(string(b[:n])):
		case <-done:
			return
		}
	}
}
