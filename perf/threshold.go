package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed thresholds.yaml
var thresholdsFile []byte

// A bar is one line of thresholds.yaml: a bound on our value of a metric, as a
// ratio to the best of some peers, or of its own if no peer is named.
type bar struct {
	Row     string   `yaml:"row"`
	Metric  string   `yaml:"metric"` // the row's first if left out
	Against []string `yaml:"against"`
	AtLeast *float64 `yaml:"at_least"` // exactly one of these two
	AtMost  *float64 `yaml:"at_most"`
	// OrValueAtMost also satisfies the bar, whatever the ratio ("or none").
	OrValueAtMost *float64 `yaml:"or_value_at_most"`

	goal bool // printed, but no failure
}

// parseBars reads a thresholds file. Rows and peers must exist, and a bound must
// point the way in which its metric gets better.
func parseBars(text []byte, rows []row, peers []string) ([]bar, error) {
	var file struct {
		Thresholds []bar `yaml:"thresholds"`
		Goals      []bar `yaml:"goals"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && err != io.EOF {
		return nil, err
	}
	for i := range file.Goals {
		file.Goals[i].goal = true
	}
	bars := append(file.Thresholds, file.Goals...)
	var wrong []error
	for i := range bars {
		if err := bars[i].complete(rows, peers); err != nil {
			wrong = append(wrong, fmt.Errorf("row %q: %w", bars[i].Row, err))
		}
	}
	return bars, errors.Join(wrong...)
}

// complete checks a bar and fills in its metric.
func (b *bar) complete(rows []row, peers []string) error {
	var of *row
	for i := range rows {
		if rows[i].id == b.Row {
			of = &rows[i]
		}
	}
	if of == nil {
		return errors.New("there is no such row; perf --list shows them")
	}
	if b.Metric == "" {
		b.Metric = of.metrics[0]
	}
	if !slices.Contains(of.metrics, b.Metric) {
		return fmt.Errorf("metric %q: the row has %s", b.Metric, strings.Join(of.metrics, ", "))
	}
	for _, p := range b.Against {
		if !slices.Contains(peers, p) {
			return fmt.Errorf("against %q: the peers are %s", p, strings.Join(peers, ", "))
		}
	}
	switch lower := metrics[b.Metric].lower; {
	case (b.AtLeast == nil) == (b.AtMost == nil):
		return errors.New("give at_least or at_most, and not both")
	case lower && b.AtLeast != nil:
		return fmt.Errorf("less is better in %s: give at_most", b.Metric)
	case !lower && b.AtMost != nil:
		return fmt.Errorf("more is better in %s: give at_least", b.Metric)
	}
	return nil
}

// What a run says of a bar.
const (
	holds     = "holds"
	fails     = "FAILS"
	notJudged = "not judged"
)

// A verdict is a bar beside what was seen.
type verdict struct {
	bar  bar
	seen float64 // ratio or value; NaN if there is none
	said string  // holds, fails or notJudged
	why  string  // of what is not plain from the numbers
}

// judge applies a bar to the result of its row.
func (b bar) judge(r rowResult) verdict {
	v := verdict{bar: b, seen: math.NaN()}
	ours := r.of(us)
	if ours == nil || !ours.measured(b.Metric) {
		v.said, v.why = notJudged, "no result of "+us
		if ours != nil && len(ours.Failed) > 0 {
			v.said, v.why = fails, us+": "+ours.Failed[0]
		}
		return v
	}
	if len(ours.Failed) > 0 {
		v.said, v.why = fails, fmt.Sprintf("%d rounds of %s failed: %s", len(ours.Failed), us, ours.Failed[0])
		return v
	}
	value := ours.Values[b.Metric].median()
	loud := []*result{ours}
	if len(b.Against) == 0 {
		v.seen = value
	}
	if len(b.Against) > 0 {
		best, absent := b.best(r)
		if best == nil {
			v.said, v.why = notJudged, "not measured: "+strings.Join(absent, ", ")
			return v
		}
		if len(absent) > 0 {
			v.why = "not measured: " + strings.Join(absent, ", ")
		}
		v.seen = value / best.Values[b.Metric].median()
		loud = append(loud, best)
	}
	for _, res := range loud {
		if n := len(res.Values[b.Metric]); n < judgedRounds {
			v.said, v.why = notJudged, fmt.Sprintf("too few rounds of %s: %d", res.Peer, n)
			return v
		}
		if res.noisy(b.Metric) {
			by := metrics[b.Metric].judgedBy()
			v.said = notJudged
			v.why = fmt.Sprintf("spread of %s is %s", res.Peer, percent(res.Values[by].spread()))
			return v
		}
	}
	v.said = fails
	if b.satisfied(v.seen, value) {
		v.said = holds
	}
	return v
}

// best returns the peer that is hardest to beat, and those not measured.
func (b bar) best(r rowResult) (best *result, absent []string) {
	for _, name := range b.Against {
		res := r.of(name)
		if res == nil || !res.measured(b.Metric) {
			absent = append(absent, name)
			continue
		}
		if best == nil || (res.Values[b.Metric].median() < best.Values[b.Metric].median()) == metrics[b.Metric].lower {
			best = res
		}
	}
	return best, absent
}

func (b bar) satisfied(seen, value float64) bool {
	switch {
	case b.OrValueAtMost != nil && value <= *b.OrValueAtMost:
		return true
	case b.AtLeast != nil:
		return seen >= *b.AtLeast
	default:
		return seen <= *b.AtMost
	}
}

// String says the bound in words.
func (b bar) String() string {
	bound, word := b.AtLeast, "at least"
	if bound == nil {
		bound, word = b.AtMost, "at most"
	}
	s := fmt.Sprintf("%s %s", word, number(*bound))
	switch len(b.Against) {
	case 0:
	case 1:
		s += " of " + b.Against[0]
	default:
		s += " of the best of " + strings.Join(b.Against, ", ")
	}
	if b.OrValueAtMost != nil {
		s += fmt.Sprintf(", or %s", number(*b.OrValueAtMost))
	}
	return s
}
