package top

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Style says what the terminal can show.
type Style struct {
	Colour bool
	ASCII  bool // no blocks
	Keys   bool // say what keys do
}

// column is one column of a table; those with a higher rank go first where the
// screen is narrow.
type column struct {
	title string
	width int // 0: what is left, at least least
	least int
	rank  int
	left  bool // text, which stands at the left
	sort  int  // which key sorts by it; -1: none
	cell  func(r *Row, width int, s Style) string
	warn  func(r *Row) bool
}

var containerColumns = []column{
	{title: "CONTAINER", least: 8, left: true, sort: 4, cell: func(r *Row, _ int, _ Style) string { return r.Name }},
	{title: "NETWORKS", width: 14, rank: 6, left: true, sort: -1, cell: func(r *Row, _ int, _ Style) string { return r.Networks }},
	{title: "RX bit/s", width: 8, sort: 1, cell: func(r *Row, _ int, _ Style) string { return si(r.RxBits) }},
	{title: "TX bit/s", width: 8, rank: 1, sort: 2, cell: func(r *Row, _ int, _ Style) string { return si(r.TxBits) }},
	{title: "PKT/s", width: 6, rank: 5, sort: -1, cell: func(r *Row, _ int, _ Style) string { return si(r.Packets) }},
	{title: "DROP/s", width: 6, rank: 2, sort: 3, cell: func(r *Row, _ int, _ Style) string { return si(r.Drops) }, warn: func(r *Row) bool { return r.Drops > 0 }},
	{title: "RATE", width: 16, rank: 4, left: true, sort: 0, cell: func(r *Row, w int, s Style) string { return spark(r.past, w, s.ASCII) }},
}

var flowColumns = []column{
	{title: "CONTAINER", width: 12, rank: 3, left: true, sort: 4, cell: func(r *Row, _ int, _ Style) string { return r.Name }},
	{title: "RX bit/s", width: 8, sort: 1, cell: func(r *Row, _ int, _ Style) string { return si(r.RxBits) }},
	{title: "TX bit/s", width: 8, rank: 1, sort: 2, cell: func(r *Row, _ int, _ Style) string { return si(r.TxBits) }},
	{title: "AGE", width: 6, rank: 5, sort: 3, cell: func(r *Row, _ int, _ Style) string { return age(r.AgeSec) }},
	{title: "STATE", width: 11, rank: 6, left: true, sort: -1, cell: func(r *Row, _ int, _ Style) string { return r.State }},
	{title: "RATE", width: 8, rank: 4, left: true, sort: 0, cell: func(r *Row, w int, s Style) string { return spark(r.past, w, s.ASCII) }},
	{title: "FLOW", least: 40, left: true, sort: -1, cell: func(r *Row, _ int, _ Style) string { return r.Flow }},
}

func (t *Top) columns() []column {
	if t.View == Flows {
		return flowColumns
	}
	return containerColumns
}

// Page is how many rows a screen of this height shows.
func Page(height int) int { return max(0, height-headLines(height)-1-footLines(height)) }

// What is around the table goes first where the screen is low.
func headLines(height int) int {
	if height >= 6 {
		return 2
	}
	return 0
}

func footLines(height int) int {
	if height >= 8 {
		return 1
	}
	return 0
}

// Render is the screen: at most height lines, none wider than width. A height
// of 0 is no end: a table with all rows.
func (t *Top) Render(width, height int, s Style) []string {
	rows := t.Rows()
	if height > 0 {
		t.Skip = max(0, min(t.Skip, len(rows)-Page(height)))
		rows = rows[t.Skip:min(len(rows), t.Skip+Page(height))]
	}
	var lines []string
	if height == 0 || headLines(height) > 0 {
		lines = append(lines, t.summary(width), "")
	}
	columns, widths := fitColumns(t.columns(), width)
	lines = append(lines, t.heading(columns, widths, s))
	for i := range rows {
		lines = append(lines, row(&rows[i], columns, widths, s))
	}
	if height == 0 {
		return lines
	}
	for len(lines) < height-footLines(height) {
		lines = append(lines, "")
	}
	if footLines(height) > 0 {
		lines = append(lines, t.help(width, s))
	}
	return lines[:min(len(lines), height)]
}

// summary is the whole switch in a line, what matters first.
func (t *Top) summary(width int) string {
	var rx, tx, drops float64
	for i := range t.rows[Containers] {
		r := &t.rows[Containers][i]
		rx, tx, drops = rx+r.RxBits, tx+r.TxBits, drops+r.Drops
	}
	flows := 0
	for _, n := range t.last.Status.Flows {
		flows += n
	}
	st := &t.last.Status
	return parts(width, "rx "+unit(rx)+"bit/s", "tx "+unit(tx)+"bit/s", si(drops)+" drops/s", fmt.Sprintf("%d containers", st.Containers), fmt.Sprintf("%d flows", flows),
		fmt.Sprintf("%d of %d descriptors", st.FDs, st.FDLimit), "up "+(time.Duration(st.UptimeSec)*time.Second).String())
}

// parts joins as many as fit.
func parts(width int, list ...string) string {
	s := fit(list[0], width)
	for _, p := range list[1:] {
		if utf8.RuneCountInString(s)+2+utf8.RuneCountInString(p) > width {
			break
		}
		s += "  " + p
	}
	return s
}

func (t *Top) help(width int, s Style) string {
	if !s.Keys {
		return ""
	}
	other := "f flows"
	if t.View == Flows {
		other = "c containers"
	}
	rows := len(t.Rows())
	return parts(width, "q quit", other, "1-5 s sort: "+sortName(t.By, t.View), "r reverse", fmt.Sprintf("%d of %d", min(t.Skip+1, rows), rows))
}

// fitColumns leaves columns out until the others fit, and gives what is left to
// the one that takes it.
func fitColumns(all []column, width int) (columns []column, widths []int) {
	columns = append(columns, all...)
	for {
		need := len(columns) - 1
		drop := 0
		for i, c := range columns {
			need += max(c.width, c.least)
			if c.rank > columns[drop].rank {
				drop = i
			}
		}
		if need <= width || columns[drop].rank == 0 {
			break
		}
		columns = append(columns[:drop:drop], columns[drop+1:]...)
	}
	left := width - (len(columns) - 1)
	for _, c := range columns {
		left -= c.width
	}
	for _, c := range columns {
		w := c.width
		if w == 0 {
			w = max(left, 0)
		}
		widths = append(widths, w)
	}
	return columns, widths
}

func (t *Top) heading(columns []column, widths []int, s Style) string {
	var cells []string
	for i, c := range columns {
		text := c.title
		sorted := c.sort == t.By
		if sorted && !s.Colour && len(text) < widths[i] {
			text += "*"
		}
		cell := align(text, widths[i], c.left)
		if s.Colour && sorted {
			cell = "\x1b[1;7m" + cell + "\x1b[0m"
		} else if s.Colour {
			cell = "\x1b[1m" + cell + "\x1b[0m"
		}
		cells = append(cells, cell)
	}
	return join(cells)
}

func row(r *Row, columns []column, widths []int, s Style) string {
	var cells []string
	for i, c := range columns {
		cell := align(c.cell(r, widths[i], s), widths[i], c.left)
		switch {
		case s.Colour && c.warn != nil && c.warn(r):
			cell = "\x1b[31m" + cell + "\x1b[0m"
		case s.Colour && c.title == "RATE":
			cell = "\x1b[32m" + cell + "\x1b[0m"
		}
		cells = append(cells, cell)
	}
	return join(cells)
}

func join(cells []string) string { return strings.TrimRight(strings.Join(cells, " "), " ") }

// align makes text exactly w characters wide; what does not fit is cut.
func align(text string, w int, left bool) string {
	text = fit(text, w)
	pad := strings.Repeat(" ", w-utf8.RuneCountInString(text))
	if left {
		return text + pad
	}
	return pad + text
}

// fit cuts text to w characters, and takes out what would steer the terminal.
func fit(text string, w int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
	if utf8.RuneCountInString(text) <= w {
		return text
	}
	return string([]rune(text)[:max(w, 0)])
}

// si writes a rate in at most six characters: 950, 1.2k, 10.4G.
func si(v float64) string {
	if v > 0 && v < 10 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	for _, u := range []string{"", "k", "M", "G"} {
		if v < 999.5 {
			if u == "" || v >= 99.95 {
				return fmt.Sprintf("%.0f%s", v, u)
			}
			return fmt.Sprintf("%.1f%s", v, u)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.1fT", v)
}

// unit is si with the space that a unit takes.
func unit(v float64) string {
	s := si(v)
	if i := strings.IndexAny(s, "kMGT"); i >= 0 {
		return s[:i] + " " + s[i:]
	}
	return s + " "
}

func age(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02d", int(d.Minutes()), int(d.Seconds())%60)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh%02d", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

var (
	blocks = []rune(" ▁▂▃▄▅▆▇█")
	marks  = []rune(" .:-=+*#@")
)

// spark draws the latest values, the highest of them full; the newest stands at
// the right.
func spark(past []float64, width int, ascii bool) string {
	past = past[max(0, len(past)-width):]
	most := 0.0
	for _, v := range past {
		most = max(most, v)
	}
	set := blocks
	if ascii {
		set = marks
	}
	out := []rune(strings.Repeat(" ", width-len(past)))
	for _, v := range past {
		n := 0
		if v > 0 {
			n = 1 + int(v/most*float64(len(set)-2)+0.5)
		}
		out = append(out, set[n])
	}
	return string(out)
}
