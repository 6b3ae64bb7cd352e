package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A report is a whole run, ready to be printed.
type report struct {
	Date     string
	Command  string
	Machine  machine
	Versions []version
	Rounds   int
	Seconds  float64
	Idle     float64 // share of all processors' time that was busy before the run
	Steal    series

	Rows     []rowResult
	Verdicts []verdict
}

// A version says what stands behind a column.
type version struct {
	Name, Version, About string
}

// writeMarkdown prints the tables.
func (r report) writeMarkdown(w io.Writer) {
	fmt.Fprintf(w, "# tapswitch and its peers\n\n%s, %s.\n`%s`: %d rounds, interleaved, of %s s each. ",
		r.Date, r.Machine, r.Command, r.Rounds, number(r.Seconds))
	fmt.Fprintf(w, "Before the run the machine was %s busy", percent(r.Idle))
	if len(r.Steal) > 0 {
		fmt.Fprintf(w, "; the hypervisor took %s of it in the median throughput measurement", percent(r.Steal.median()))
	}
	fmt.Fprint(w, ".\n\nMedians over the rounds; in brackets the spread: the width of the middle half of the rounds, divided by the median. A value whose spread is over 15 % is marked `!` and not judged.\n\n")
	r.writeVersions(w)
	r.writeRows(w)
	r.writeRatios(w)
	r.writeVerdicts(w)
	r.writeFailures(w)
}

func (r report) writeVersions(w io.Writer) {
	fmt.Fprint(w, "| name | version | what |\n| --- | --- | --- |\n")
	for _, v := range r.Versions {
		fmt.Fprintf(w, "| %s | %s | %s |\n", v.Name, cell(v.Version), cell(v.About))
	}
	fmt.Fprintln(w)
}

// peers returns the names of those that have a result, in order.
func (r report) peers() []string {
	var names []string
	for _, v := range r.Versions {
		for _, row := range r.Rows {
			if row.of(v.Name) != nil {
				names = append(names, v.Name)
				break
			}
		}
	}
	return names
}

// writeRows prints a table for each row: peers down, metrics across.
func (r report) writeRows(w io.Writer) {
	for _, row := range r.Rows {
		fmt.Fprintf(w, "## %s\n\n%s\n\n| |", row.row.id, row.row.about)
		for _, id := range row.row.metrics {
			fmt.Fprintf(w, " %s |", metrics[id].title)
		}
		fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", len(row.row.metrics)))
		for _, res := range row.results {
			fmt.Fprintf(w, "| %s |", res.Peer)
			for _, id := range row.row.metrics {
				fmt.Fprintf(w, " %s |", res.cell(id))
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w)
	}
}

// cell is a median with its spread, or the reason why there is none.
func (r *result) cell(id string) string {
	values := r.Values[id]
	switch {
	case len(values) > 0:
		var notes []string
		switch {
		case metrics[id].few:
		case values.spread() > noisy:
			notes = append(notes, percent(values.spread())+"!")
		case len(values) > 1:
			notes = append(notes, percent(values.spread()))
		}
		if len(r.Failed) > 0 {
			notes = append(notes, fmt.Sprintf("%d failed", len(r.Failed)))
		}
		if notes == nil {
			return number(values.median())
		}
		return fmt.Sprintf("%s (%s)", number(values.median()), strings.Join(notes, ", "))
	case r.Missing != "":
		return "not installed"
	case len(r.Failed) > 0:
		return "failed"
	}
	return "-"
}

// writeRatios prints how our first metric of each row compares to each peer's.
func (r report) writeRatios(w io.Writer) {
	peers := r.peers()
	if !slices.Contains(peers, us) {
		return
	}
	fmt.Fprintf(w, "## Ratios\n\n%s divided by each peer, of each row's first metric; `!` if one of the two is not judged.\n\n| |", us)
	for _, p := range peers {
		if p != us {
			fmt.Fprintf(w, " %s |", p)
		}
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", len(peers)-1))
	for _, row := range r.Rows {
		ours := row.of(us)
		if ours == nil {
			continue
		}
		fmt.Fprintf(w, "| %s |", row.row.id)
		for _, p := range peers {
			if p != us {
				fmt.Fprintf(w, " %s |", ratioCell(ours, row.of(p), row.row.metrics[0]))
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

func ratioCell(ours, theirs *result, id string) string {
	if theirs == nil || !ours.measured(id) || !theirs.measured(id) {
		return "-"
	}
	mark := ""
	if ours.noisy(id) || theirs.noisy(id) {
		mark = " !"
	}
	return number(ours.Values[id].median()/theirs.Values[id].median()) + mark
}

func (r report) writeVerdicts(w io.Writer) {
	if len(r.Verdicts) == 0 {
		return
	}
	fmt.Fprint(w, "## Thresholds\n\n| row | metric | bar | seen | |\n| --- | --- | --- | ---: | --- |\n")
	for _, v := range r.Verdicts {
		said := v.said
		if v.bar.goal {
			said = "goal: " + said
		}
		if v.why != "" {
			said += " (" + cell(v.why) + ")"
		}
		seen := number(v.seen)
		if math.IsNaN(v.seen) {
			seen = "-"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", v.bar.Row, metrics[v.bar.Metric].title, v.bar, seen, said)
	}
	fmt.Fprintln(w)
}

// writeFailures prints each reason once, with what it befell.
func (r report) writeFailures(w io.Writer) {
	where := map[string][]string{}
	var reasons []string
	for _, row := range r.Rows {
		for _, res := range row.results {
			for _, why := range res.Failed {
				if where[why] == nil {
					reasons = append(reasons, why)
				}
				where[why] = append(where[why], row.row.id+" "+res.Peer)
			}
		}
	}
	if len(reasons) == 0 {
		return
	}
	fmt.Fprint(w, "## What failed\n\n")
	for _, why := range reasons {
		places := slices.Compact(where[why])
		if more := len(places) - 3; more > 1 {
			places = append(places[:3], fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(w, "- %s: %s\n", strings.Join(places, ", "), cell(why))
	}
	fmt.Fprintln(w)
}

// cell makes a text fit for a table.
func cell(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "|", "\\|")), " ")
}

// number prints three significant digits, and no exponent.
func number(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0)
	return strconv.FormatFloat(v, 'f', min(digits, 6), 64)
}

// percent prints a share as a percentage.
func percent(share float64) string {
	if math.IsInf(share, 0) || math.IsNaN(share) {
		return "? %"
	}
	return strconv.FormatFloat(100*share, 'f', 0, 64) + " %"
}
