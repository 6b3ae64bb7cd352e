package main

import (
	"math"
	"strings"
	"testing"
)

func TestThresholdsFileIsValid(t *testing.T) {
	bars, err := parseBars(thresholdsFile, allRows(), names(allPeers(nil)))
	if err != nil {
		t.Fatal(err)
	}
	firm := 0
	for _, b := range bars {
		if !b.goal {
			firm++
		}
	}
	if firm == 0 {
		t.Error("no threshold that could fail")
	}
}

func TestParseBars(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string // of the only bar, as words
		wrong      string // part of the error
	}{
		{name: "nothing", text: ""},
		{name: "ratio", text: "thresholds: [{row: tcp1/out, against: [kernel-nat], at_least: 0.6}]",
			want: "tcp1/out gbit_per_s at least 0.600 of kernel-nat"},
		{name: "best of two", text: "goals: [{row: tcp-rr/out, metric: p99_us, against: [pasta, slirp4netns-1500], at_most: 2}]",
			want: "tcp-rr/out p99_us at most 2.00 of the best of pasta, slirp4netns-1500"},
		{name: "value", text: "thresholds: [{row: tcp-both/out, metric: weaker_share, at_least: 0.333}]",
			want: "tcp-both/out weaker_share at least 0.333"},
		{name: "or a value", text: "thresholds: [{row: udp64-400k/out, metric: loss_percent, against: [pasta], at_most: 0.5, or_value_at_most: 0}]",
			want: "udp64-400k/out loss_percent at most 0.500 of pasta, or 0"},
		{name: "unknown key", text: "thresholds: [{row: tcp1/out, atleast: 1}]", wrong: "atleast"},
		{name: "unknown row", text: "thresholds: [{row: tcp9/out, at_least: 1}]", wrong: `row "tcp9/out": there is no such row`},
		{name: "unknown metric", text: "thresholds: [{row: tcp1/out, metric: p50_us, at_least: 1}]", wrong: `metric "p50_us"`},
		{name: "unknown peer", text: "thresholds: [{row: tcp1/out, against: [slirp], at_least: 1}]", wrong: `against "slirp"`},
		{name: "no bound", text: "thresholds: [{row: tcp1/out}]", wrong: "at_least or at_most"},
		{name: "both bounds", text: "thresholds: [{row: tcp1/out, at_least: 1, at_most: 2}]", wrong: "and not both"},
		{name: "wrong way", text: "thresholds: [{row: tcp1/out, at_most: 1}]", wrong: "more is better"},
		{name: "wrong way, lower", text: "thresholds: [{row: tcp1/out, metric: busy_s_per_gb, at_least: 1}]", wrong: "less is better"},
		{name: "not YAML", text: "thresholds: [", wrong: "yaml"},
	} {
		bars, err := parseBars([]byte(c.text), allRows(), names(allPeers(nil)))
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: error %v, want one with %q", c.name, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, b := range bars {
			got = append(got, b.Row+" "+b.Metric+" "+b.String())
		}
		if strings.Join(got, ";") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	of := func(peer, metric string, values ...float64) *result {
		if len(values) == 1 {
			values = []float64{values[0], values[0], values[0]}
		}
		return &result{Peer: peer, Values: map[string]series{metric: values}}
	}
	half, zero, nan := 0.5, 0.0, math.NaN()
	speed := bar{Row: "r", Metric: "gbit_per_s", Against: []string{"a", "b"}, AtLeast: &half}
	delay := bar{Row: "r", Metric: "p99_us", Against: []string{"a", "b"}, AtMost: &half}
	alone := bar{Row: "r", Metric: "gbit_per_s", AtLeast: &half}
	loss := bar{Row: "r", Metric: "loss_percent", Against: []string{"a"}, AtMost: &half, OrValueAtMost: &zero}
	withLoss := func(peer string, percent, packets float64) *result {
		return &result{Peer: peer, Values: map[string]series{"loss_percent": {percent, percent, percent}, "packets_per_s": {packets, packets, packets}}}
	}
	broken := of(us, "gbit_per_s", 10, 10)
	broken.Failed = []string{"it broke"}
	for _, c := range []struct {
		name    string
		bar     bar
		results []*result
		said    string
		seen    float64
		why     string
	}{
		{"holds against the best", speed, []*result{of("a", "gbit_per_s", 4), of("b", "gbit_per_s", 20), of(us, "gbit_per_s", 10)}, holds, 0.5, ""},
		{"fails against the best", speed, []*result{of("a", "gbit_per_s", 4), of("b", "gbit_per_s", 20.1), of(us, "gbit_per_s", 10)}, fails, 10 / 20.1, ""},
		{"the best has the lowest delay", delay, []*result{of("a", "p99_us", 40), of("b", "p99_us", 15), of(us, "p99_us", 10)}, fails, 10.0 / 15, ""},
		{"one peer is missing", speed, []*result{of("a", "gbit_per_s", 4), {Peer: "b", Missing: "not there"}, of(us, "gbit_per_s", 10)}, holds, 2.5, "not measured: b"},
		{"all peers are missing", speed, []*result{of(us, "gbit_per_s", 10)}, notJudged, nan, "not measured: a, b"},
		{"we are missing", speed, []*result{of("a", "gbit_per_s", 4)}, notJudged, nan, "no result of tapswitch"},
		{"we failed once", speed, []*result{of("a", "gbit_per_s", 4), broken}, fails, nan, "1 rounds of tapswitch failed: it broke"},
		{"we failed always", speed, []*result{of("a", "gbit_per_s", 4), {Peer: us, Failed: []string{"it broke"}}}, fails, nan, "tapswitch: it broke"},
		{"ours is noisy", speed, []*result{of("a", "gbit_per_s", 4), of(us, "gbit_per_s", 8, 10, 11.2)}, notJudged, 2.5, "spread of tapswitch is 16 %"},
		{"theirs is noisy", speed, []*result{of("a", "gbit_per_s", 2.5, 3.5, 4.5), of(us, "gbit_per_s", 10)}, notJudged, 10 / 3.5, "spread of a is 29 %"},
		{"noise just allowed", speed, []*result{of("a", "gbit_per_s", 4), of(us, "gbit_per_s", 8, 10, 11)}, holds, 2.5, "not measured: b"},
		{"a loser's noise does not matter", speed, []*result{of("a", "gbit_per_s", 3, 4), of("b", "gbit_per_s", 20), of(us, "gbit_per_s", 10)}, holds, 0.5, ""},
		{"too few rounds", speed, []*result{of("a", "gbit_per_s", 4), of(us, "gbit_per_s", 10, 10)}, notJudged, 2.5, "too few rounds of tapswitch: 2"},
		{"too few rounds of theirs", speed, []*result{of("a", "gbit_per_s", 4, 4), of(us, "gbit_per_s", 10)}, notJudged, 2.5, "too few rounds of a: 2"},
		{"value", alone, []*result{of(us, "gbit_per_s", 0.4)}, fails, 0.4, ""},
		{"none lost", loss, []*result{withLoss("a", 0, 1), withLoss(us, 0, 1)}, holds, nan, ""},
		{"half lost", loss, []*result{withLoss("a", 10, 1), withLoss(us, 5, 1)}, holds, 0.5, ""},
		{"more lost", loss, []*result{withLoss("a", 10, 1), withLoss(us, 6, 1)}, fails, 0.6, ""},
	} {
		v := c.bar.judge(rowResult{results: c.results})
		seenOK := same(v.seen, c.seen)
		if v.said != c.said || !seenOK || v.why != c.why && c.why != "" {
			t.Errorf("%s: %q, %v, %q; want %q, %v, %q", c.name, v.said, v.seen, v.why, c.said, c.seen, c.why)
		}
	}
}
