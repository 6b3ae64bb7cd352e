package main

import (
	"encoding/json"
	"io"
	"math"
)

// writeJSON prints the run for programs. Numbers that do not exist are null.
func (r report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.document())
}

type document struct {
	Date      string        `json:"date"`
	Command   string        `json:"command"`
	Machine   machine       `json:"machine"`
	Versions  []versionJSON `json:"versions"`
	Rounds    int           `json:"rounds"`
	Seconds   float64       `json:"seconds"`
	BusyShare *float64      `json:"busy_share_before"`
	Steal     *float64      `json:"steal_share_median"`
	Rows      []rowJSON     `json:"rows"`
	Bars      []verdictJSON `json:"thresholds"`
}

type versionJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	About   string `json:"about"`
}

type rowJSON struct {
	Row     string       `json:"row"`
	About   string       `json:"about"`
	Path    pathName     `json:"path"`
	Results []resultJSON `json:"results"`
}

type resultJSON struct {
	Peer    string                `json:"peer"`
	Missing string                `json:"missing,omitempty"`
	Failed  []string              `json:"failed"`
	Metrics map[string]metricJSON `json:"metrics"`
}

type metricJSON struct {
	Title   string    `json:"title"`
	Median  *float64  `json:"median"`
	Spread  *float64  `json:"spread"`
	Judged  bool      `json:"judged"`
	Samples []float64 `json:"samples"`
}

type verdictJSON struct {
	Row     string   `json:"row"`
	Metric  string   `json:"metric"`
	Against []string `json:"against"`
	AtLeast *float64 `json:"at_least"`
	AtMost  *float64 `json:"at_most"`
	Goal    bool     `json:"goal"`
	Seen    *float64 `json:"seen"`
	Verdict string   `json:"verdict"`
	Why     string   `json:"why"`
}

func (r report) document() document {
	d := document{
		Date: r.Date, Command: r.Command, Machine: r.Machine, Rounds: r.Rounds, Seconds: r.Seconds,
		BusyShare: finite(r.Idle), Steal: finite(r.Steal.median()),
		Versions: []versionJSON{}, Rows: []rowJSON{}, Bars: []verdictJSON{},
	}
	for _, v := range r.Versions {
		d.Versions = append(d.Versions, versionJSON(v))
	}
	for _, row := range r.Rows {
		j := rowJSON{Row: row.row.id, About: row.row.about, Path: row.row.path, Results: []resultJSON{}}
		for _, res := range row.results {
			j.Results = append(j.Results, res.document())
		}
		d.Rows = append(d.Rows, j)
	}
	for _, v := range r.Verdicts {
		d.Bars = append(d.Bars, verdictJSON{
			Row: v.bar.Row, Metric: v.bar.Metric, Against: append([]string{}, v.bar.Against...),
			AtLeast: v.bar.AtLeast, AtMost: v.bar.AtMost, Goal: v.bar.goal,
			Seen: finite(v.seen), Verdict: v.said, Why: v.why,
		})
	}
	return d
}

func (r *result) document() resultJSON {
	j := resultJSON{Peer: r.Peer, Missing: r.Missing, Failed: append([]string{}, r.Failed...), Metrics: map[string]metricJSON{}}
	for id, values := range r.Values {
		j.Metrics[id] = metricJSON{
			Title: metrics[id].title, Median: finite(values.median()), Spread: finite(values.spread()),
			Judged: !r.noisy(id), Samples: values,
		}
	}
	return j
}

// finite is v, or null: JSON has no infinity.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
