package top

import "strings"

// Keys that are no character.
const (
	Up       = "\x1b[A"
	Down     = "\x1b[B"
	Right    = "\x1b[C"
	Left     = "\x1b[D"
	PageUp   = "\x1b[5~"
	PageDown = "\x1b[6~"
	Home     = "\x1b[H"
	End      = "\x1b[F"
	ctrlC    = "\x03"
)

// Key does what a key asks for; page is how many rows the screen shows. It
// returns true when it is time to go.
func (t *Top) Key(k string, page int) (quit bool) {
	switch k {
	case "q", "Q", ctrlC:
		return true
	case "c":
		t.View, t.Skip = Containers, 0
	case "f":
		t.View, t.Skip = Flows, 0
	case "\t":
		t.View, t.Skip = 1-t.View, 0
	case "s", Right:
		t.by((t.By + 1) % len(sorts))
	case Left:
		t.by((t.By + len(sorts) - 1) % len(sorts))
	case "r":
		t.Desc = !t.Desc
	case "1", "2", "3", "4", "5":
		t.by(int(k[0] - '1'))
	case Down, "j":
		t.Skip++
	case Up, "k":
		t.Skip--
	case PageDown, " ":
		t.Skip += page
	case PageUp:
		t.Skip -= page
	case Home, "\x1b[1~", "g":
		t.Skip = 0
	case End, "\x1b[4~", "G":
		t.Skip = len(t.Rows())
	}
	t.Skip = max(0, min(t.Skip, len(t.Rows())-page))
	t.sort()
	return false
}

func (t *Top) by(n int) { t.By, t.Desc = n, sorts[n].largest }

// splitKeys takes what a terminal sent apart: escape sequences, and characters.
// Terminals in application mode say O where others say [.
func splitKeys(b string) (keys []string) {
	for b != "" {
		n := 1
		if strings.HasPrefix(b, "\x1b[") || strings.HasPrefix(b, "\x1bO") {
			n = 2
			for n < len(b) && (b[n] < 0x40 || b[n] > 0x7e) { // ECMA-48, 5.4: up to the final byte
				n++
			}
			n = min(n+1, len(b))
		}
		keys = append(keys, strings.Replace(b[:n], "\x1bO", "\x1b[", 1))
		b = b[n:]
	}
	return keys
}
