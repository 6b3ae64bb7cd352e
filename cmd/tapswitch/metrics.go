package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"tapswitch/configs"
)

func metricsCommand() *cobra.Command {
	var asJSON, dashboard bool
	cmd := &cobra.Command{
		Use: "metrics", Aliases: []string{"metric"}, Short: "Print what was counted, as OpenMetrics", Args: cobra.NoArgs,
		Long: `Print what was counted, as OpenMetrics. For Prometheus set metrics: 127.0.0.1:9475 (or unix:PATH) in the configuration and
scrape /metrics there; the control socket has the same at /v1/metrics. Receive and transmit are the containers' own.`,
		Example: `  tapswitch up -d --metrics 127.0.0.1:9475
  tapswitch metrics | grep drops_total
  tapswitch metrics --dashboard >tapswitch.json      # to import into Grafana`,
		RunE: func(*cobra.Command, []string) error {
			if dashboard {
				_, err := os.Stdout.Write(configs.Dashboard())
				return err
			}
			c, err := connect()
			if err != nil {
				return err
			}
			if !asJSON {
				return c.Get("/metrics", "application/openmetrics-text; version=1.0.0", os.Stdout)
			}
			var text bytes.Buffer
			if err := c.Get("/metrics", "text/plain", &text); err != nil {
				return err
			}
			list, err := metricFamilies(&text)
			if err != nil {
				return err
			}
			return printJSON(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&dashboard, "dashboard", false, "print a Grafana dashboard instead")
	return cmd
}

// metricFamily is one metric in JSON.
type metricFamily struct {
	Name    string         `json:"name"`
	Type    string         `json:"type"`
	Help    string         `json:"help"`
	Samples []metricSample `json:"samples"`
}

type metricSample struct {
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
}

// metricFamilies reads counters and gauges, by name.
func metricFamilies(r io.Reader) ([]metricFamily, error) {
	p := expfmt.NewTextParser(model.LegacyValidation)
	found, err := p.TextToMetricFamilies(r)
	if err != nil {
		return nil, err
	}
	out := []metricFamily{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		f := found[name]
		if f.GetType() != dto.MetricType_COUNTER && f.GetType() != dto.MetricType_GAUGE {
			continue
		}
		x := metricFamily{Name: name, Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp(), Samples: []metricSample{}}
		for _, m := range f.Metric {
			s := metricSample{Labels: map[string]string{}, Value: m.GetCounter().GetValue() + m.GetGauge().GetValue()}
			for _, l := range m.Label {
				s.Labels[l.GetName()] = l.GetValue()
			}
			x.Samples = append(x.Samples, s)
		}
		out = append(out, x)
	}
	return out, nil
}
