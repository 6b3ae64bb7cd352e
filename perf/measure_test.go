package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseIperf(t *testing.T) {
	for _, c := range []struct {
		name, text, wrong string
		both              bool
		want              sample
	}{
		{name: "one way", text: `{"end":{"sum_sent":{"bytes":3e9},"sum_received":{"bytes":2.5e9,"bits_per_second":2e10}}}`,
			want: sample{"gbit_per_s": 20, "busy_s_per_gb": 0.4}},
		{name: "both ways", both: true,
			text: `{"end":{"sum_received":{"bytes":1.5e9,"bits_per_second":1.2e10},"sum_received_bidir_reverse":{"bytes":1e9,"bits_per_second":8e9}}}`,
			want: sample{"gbit_per_s": 20, "busy_s_per_gb": 0.4, "out_gbit_per_s": 12, "in_gbit_per_s": 8, "weaker_share": 0.4}},
		{name: "refused", text: `{"start":{},"error":"unable to connect to server: Connection refused"}`, wrong: "Connection refused"},
		{name: "nothing arrived", text: `{"end":{"sum_received":{"bytes":0}}}`, wrong: "not a byte"},
		{name: "no JSON", text: `iperf3: error`, wrong: "report"},
	} {
		r, err := parseIperf([]byte(c.text))
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
		checkSample(t, c.name, r.sample(c.both, 1), c.want)
	}
}

func TestFloodSample(t *testing.T) {
	for _, c := range []struct {
		name  string
		sent  sourceStats
		got   sinkStats
		wrong string
		want  sample
	}{
		{name: "a fifth lost", sent: sourceStats{Sent: 500000, Seconds: 2}, got: sinkStats{Received: 400000, Twice: 3},
			want: sample{"offered_per_s": 250000, "packets_per_s": 200000, "loss_percent": 20, "busy_us_per_packet": 5}},
		{name: "none lost", sent: sourceStats{Sent: 1000, Seconds: 1}, got: sinkStats{Received: 1000},
			want: sample{"offered_per_s": 1000, "packets_per_s": 1000, "loss_percent": 0, "busy_us_per_packet": 2000}},
		{name: "all lost", sent: sourceStats{Sent: 500000, Seconds: 2}, wrong: "500000 datagrams sent, 0 received"},
		{name: "none sent", wrong: "0 datagrams sent"},
	} {
		got, err := floodSample(c.sent, c.got, 2)
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
		checkSample(t, c.name, got, c.want)
	}
}

func TestLastJSON(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  uint64
		wrong bool
	}{
		{text: "{\"received\":7}", want: 7},
		{text: "ready\n{\"received\":7}\n", want: 7},
		{text: "", wrong: true},
		{text: "{\"received\":7}\nkilled\n", wrong: true},
	} {
		var got sinkStats
		if err := lastJSON([]byte(c.text), &got); (err != nil) != c.wrong || got.Received != c.want {
			t.Errorf("%q: %d, %v", c.text, got.Received, err)
		}
	}
}

func checkSample(t *testing.T, name string, got, want sample) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
	for id, v := range want {
		if !same(got[id], v) {
			t.Errorf("%s: %s is %v, want %v", name, id, got[id], v)
		}
	}
}

func TestParseBusy(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       busyTime
		wrong      bool
	}{
		{name: "all columns", text: "cpu  100 20 300 4000 50 6 7 80 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n", want: busyTime{Busy: 4.33, Stolen: 0.8}},
		{name: "an old kernel", text: "cpu  100 20 300 4000 50 6 7 80\n", want: busyTime{Busy: 4.33, Stolen: 0.8}},
		{name: "too few", text: "cpu  1 2 3 4\n", wrong: true},
		{name: "no number", text: "cpu  a 20 300 4000 50 6 7 80\n", wrong: true},
		{name: "other line", text: "cpu0 100 20 300 4000 50 6 7 80\n", wrong: true},
		{name: "empty", text: "", wrong: true},
	} {
		got, err := parseBusy([]byte(c.text))
		if (err != nil) != c.wrong {
			t.Errorf("%s: error %v", c.name, err)
		}
		if !c.wrong && (!same(got.Busy, c.want.Busy) || !same(got.Stolen, c.want.Stolen)) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestRowsHaveTheirMetrics(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range allRows() {
		if seen[r.id] {
			t.Errorf("two rows are called %q", r.id)
		}
		seen[r.id] = true
		for _, id := range r.metrics {
			if metrics[id].title == "" || metrics[metrics[id].judgedBy()].title == "" {
				t.Errorf("row %q: metric %q is not described", r.id, id)
			}
		}
	}
}

func TestQuickRunCoversTheThresholds(t *testing.T) {
	peers := names(allPeers(nil))
	for _, p := range quickPeers {
		if !slices.Contains(peers, p) {
			t.Errorf("there is no peer %q", p)
		}
	}
	rows, err := options{quick: true}.rows()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(quickRows) {
		t.Errorf("%d rows, want %v", len(rows), quickRows)
	}
	bars, err := parseBars(thresholdsFile, allRows(), peers)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bars {
		if b.goal {
			continue
		}
		if !slices.Contains(quickRows, b.Row) {
			t.Errorf("row %s is not in a quick run", b.Row)
		}
		for _, p := range b.Against {
			if !slices.Contains(quickPeers, p) {
				t.Errorf("peer %s is not in a quick run", p)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args    string
		rounds  int
		seconds int
		rows    int // 0: whatever there are
		wrong   string
	}{
		{"", 5, 3, len(allRows()), ""},
		{"--quick", 3, 1, len(quickRows), ""},
		{"--quick --rounds 7 --seconds 2", 7, 2, len(quickRows), ""},
		{"--quick --only ^tcp-rr/", 3, 1, 4, ""},
		{"--only ^tcp1/out$", 5, 3, 1, ""},
		{"--only nothing", 0, 0, 0, "no row matches"},
		{"--only (", 0, 0, 0, "--only"},
		{"--rounds 0", 0, 0, 0, "at least 1"},
		{"tcp1", 0, 0, 0, `"tcp1"`},
		{"--fast", 0, 0, 0, "--fast"},
	} {
		o, err := parseOptions(strings.Fields(c.args))
		var rows []row
		if err == nil {
			rows, err = o.rows()
		}
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q: error %v, want one with %q", c.args, err, c.wrong)
			}
			continue
		}
		if err != nil || o.rounds != c.rounds || o.seconds != c.seconds || len(rows) != c.rows {
			t.Errorf("%q: %v, %d rounds of %d s, %d rows; want %d, %d, %d", c.args, err, o.rounds, o.seconds, len(rows), c.rounds, c.seconds, c.rows)
		}
	}
}

func TestOnlyOnePerfRuns(t *testing.T) {
	const name = "@tapswitch-perf-test"
	first, err := beAlone(name)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := beAlone(name); err == nil {
		second.Close()
		t.Error("a second one may run beside the first")
	}
	first.Close()
	again, err := beAlone(name)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}
