package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func exampleReport() report {
	quarter := 0.25
	b := bar{Row: "tcp1/out", Metric: "gbit_per_s", Against: []string{"kernel-nat"}, AtLeast: &quarter}
	r := rowResult{
		row: row{id: "tcp1/out", about: "one stream", path: pathOut, metrics: []string{"gbit_per_s", "busy_s_per_gb"}},
		results: []*result{
			{Peer: "kernel-nat", Values: map[string]series{"gbit_per_s": {48, 48.5, 47.5}, "busy_s_per_gb": {0.3, 0.3, 0.3}}},
			{Peer: "pasta", Missing: "pasta is not installed"},
			{Peer: "slirp4netns-1500", Failed: []string{"it | broke", "it | broke"}},
			{Peer: us, Values: map[string]series{"gbit_per_s": {24, 30, 20}, "busy_s_per_gb": {0.6, 0.6, 0.61}}, Failed: []string{"once"}},
		},
	}
	return report{
		Date: "2026-01-02T03:04:05Z", Command: "perf --only tcp1/out", Rounds: 3, Seconds: 1, Idle: 0.02, Steal: series{0.01},
		Machine: machine{CPU: "a processor", Cores: 2, MemoryMB: 4096, Kernel: "6.18", System: "Debian", Congestion: "cubic"},
		Versions: []version{
			{"iperf3", "3.12", "measures"}, {"kernel-nat", "6.18", "rules"}, {"pasta", "", "a peer"},
			{"slirp4netns-1500", "1.2.0", "a peer"}, {us, "0.1", "us"},
		},
		Rows:     []rowResult{r},
		Verdicts: []verdict{b.judge(r)},
	}
}

func TestMarkdown(t *testing.T) {
	var out bytes.Buffer
	exampleReport().writeMarkdown(&out)
	for _, line := range []string{
		"2026-01-02T03:04:05Z, a processor, 2 cores, 4096 MB, Linux 6.18, Debian, TCP congestion control cubic.",
		"| kernel-nat | 6.18 | rules |",
		"| | Gbit/s | busy s per GB |",
		"| --- | ---: | ---: |",
		"| kernel-nat | 48.0 (1 %) | 0.300 (0 %) |",
		"| pasta | not installed | not installed |",
		"| slirp4netns-1500 | failed | failed |",
		"| tapswitch | 24.0 (21 %!, 1 failed) | 0.600 (1 %, 1 failed) |",
		"| | kernel-nat | pasta | slirp4netns-1500 |",
		"| tcp1/out | 0.500 ! | - | - |",
		"| tcp1/out | Gbit/s | at least 0.250 of kernel-nat | - | FAILS (1 rounds of tapswitch failed: once) |",
		`- tcp1/out slirp4netns-1500: it \| broke`,
		"- tcp1/out tapswitch: once",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
}

func TestMarkdownTablesAreEven(t *testing.T) {
	var out bytes.Buffer
	exampleReport().writeMarkdown(&out)
	columns := 0
	for line := range strings.Lines(out.String()) {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("%d bars after a line with %d: %q", n, columns, line)
		}
		columns = n
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := exampleReport().writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Machine  machine
		Versions []versionJSON
		Rows     []rowJSON
		Bars     []verdictJSON `json:"thresholds"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Machine.Kernel != "6.18" || len(got.Versions) != 5 || len(got.Rows) != 1 || len(got.Rows[0].Results) != 4 {
		t.Fatalf("incomplete: %s", out.String())
	}
	ours := got.Rows[0].Results[3]
	m := ours.Metrics["gbit_per_s"]
	if ours.Peer != us || *m.Median != 24 || m.Judged || len(m.Samples) != 3 || len(ours.Failed) != 1 {
		t.Errorf("our result: %+v", ours)
	}
	if len(got.Bars) != 1 || got.Bars[0].Verdict != fails || got.Bars[0].Against[0] != "kernel-nat" {
		t.Errorf("thresholds: %+v", got.Bars)
	}
}

func TestJSONHasNoNullLists(t *testing.T) {
	var out bytes.Buffer
	if err := (report{}).writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"versions", "rows", "thresholds"} {
		if !strings.Contains(out.String(), `"`+list+`": []`) {
			t.Errorf("%s is no empty list in\n%s", list, out.String())
		}
	}
	if !strings.Contains(out.String(), `"steal_share_median": null`) {
		t.Errorf("the median of nothing is not null in\n%s", out.String())
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {48.93, "48.9"}, {0.6, "0.600"}, {9.999, "10.00"}, {123456.7, "123457"}, {0.00123, "0.00123"}, {-2.5, "-2.50"}, {1000, "1000"},
	} {
		if got := number(c.v); got != c.want {
			t.Errorf("number(%v) = %q, want %q", c.v, got, c.want)
		}
	}
}
