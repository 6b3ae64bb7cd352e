package metrics

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
	"tapswitch/configs"
	"tapswitch/nat"
)

// some is a switch that has counted something of everything.
func some() *engine.Measured {
	s := &api.Status{Version: "1", Started: time.Unix(1700000000, 0), Networks: 2, Containers: 3, RxBytes: 1, RxFrames: 2, TxBytes: 3, TxFrames: 4,
		Drops: map[string]uint64{"isolated": 5}, NAT: map[string]uint64{}, DNS: map[string]uint64{"queries": 6, "local": 6}, FDs: 7, FDLimit: 8}
	for k := range gateway {
		s.NAT[k] = 9
	}
	return &engine.Measured{Status: s, Turns: []uint64{10, 11},
		Flows: map[nat.KindState]int{{Kind: "tcp", State: "established"}: 12, {Kind: "udp", State: "assured"}: 13},
		Rules: []api.Rule{{ID: 100, Action: "drop", Flows: 14, Packets: 15, Bytes: 16}},
		Interfaces: []api.InterfaceStats{{Interface: "web:eth0", Container: "web", Network: "bridge", IfName: "eth0",
			Stats: api.Stats{RxBytes: 17, Drops: map[string]uint64{"isolated": 5}}}}}
}

func scrape(t *testing.T, accept string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	Handler(some).ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Result(), w.Body.String()
}

func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	f, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

// Names and help are as Prometheus wants them, and every value arrives.
func TestExposition(t *testing.T) {
	_, text := scrape(t, "text/plain")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	found := families(t, text)
	for name, want := range map[string]float64{
		"tapswitch_start_time_seconds": 1700000000, "tapswitch_config_valid": 1, "tapswitch_networks": 2, "tapswitch_containers": 3,
		"tapswitch_descriptors": 7, "tapswitch_descriptors_limit": 8, "tapswitch_receive_bytes_total": 1, "tapswitch_receive_frames_total": 2,
		"tapswitch_transmit_bytes_total": 3, "tapswitch_transmit_frames_total": 4, "tapswitch_drops_total": 5, "tapswitch_interface_drops_total": 5,
		"tapswitch_dns_queries_total": 6, "tapswitch_nat_tcp_opened_total": 9, "tapswitch_loop_turns_total": 21, "tapswitch_flows": 25,
		"tapswitch_rule_flows_total": 14, "tapswitch_rule_packets_total": 15, "tapswitch_rule_bytes_total": 16, "tapswitch_interface_receive_bytes_total": 17,
	} {
		if found[name] == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		var sum float64
		for _, m := range found[name].Metric {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		if sum != want {
			t.Errorf("%s is %v, want %v", name, sum, want)
		}
	}
	for _, m := range all {
		if name := nameOf(m); found[name] == nil {
			t.Errorf("%s is described, but not there", name)
		}
	}
}

var described = regexp.MustCompile(`fqName: "(\w+)"`)

func nameOf(m metric) string { return described.FindStringSubmatch(m.desc.String())[1] }

// What a scraper gets that asks for OpenMetrics is that: typed, and with an end.
func TestOpenMetrics(t *testing.T) {
	resp, text := scrape(t, "application/openmetrics-text; version=1.0.0")
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("content type %s", ct)
	}
	if !strings.HasSuffix(text, "\n# EOF\n") || !strings.Contains(text, "# TYPE tapswitch_drops counter\n") || !strings.Contains(text, "\ntapswitch_drops_total{reason=\"isolated\"} 5.0\n") {
		t.Errorf("not OpenMetrics:\n%s", text)
	}
}

// Labels hold what the owner makes, and words of short lists: no peer makes a
// series.
func TestLabels(t *testing.T) {
	_, text := scrape(t, "text/plain")
	seen := map[string]bool{}
	for name, f := range families(t, text) {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if strings.HasPrefix(name, "tapswitch_") {
					seen[l.GetName()] = true
				}
			}
		}
	}
	want := []string{"action", "container", "goversion", "interface", "kind", "network", "outcome", "reason", "rule", "shard", "state", "version"}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("labels are %v, want %v", got, want)
	}
}

// Every metric and label that the dashboard asks for is there.
func TestDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(configs.Dashboard(), &d); err != nil {
		t.Fatal(err)
	}
	_, text := scrape(t, "text/plain")
	found := families(t, text)
	metrics := regexp.MustCompile(`\b(?:tapswitch|process|go)_\w+`)
	ids := map[int]bool{}
	used := map[string]bool{}
	ask := func(where, expr string) {
		names := metrics.FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of ours: %s", where, expr)
		}
		for _, n := range names {
			used[n] = true
			if found[n] == nil {
				t.Errorf("%s asks for %s, which is not there", where, n)
			}
		}
	}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %q: number %d twice, outside the grid, or empty", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			ask(p.Title, q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if q, ok := v.Query.(map[string]any); ok {
			ask("variable "+v.Name, q["query"].(string))
		}
	}
	if len(used) < 25 {
		t.Errorf("the dashboard shows %d metrics only", len(used))
	}
}
