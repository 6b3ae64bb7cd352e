// Package metrics shows what the switch has counted as Prometheus and
// OpenMetrics have it. A scrape reads the counters that are there; nothing is
// counted for it, so that no packet pays.
//
// Labels are what this host's owner has made and can take away: containers,
// networks, interfaces, rules, and reasons, kinds and states from short lists.
// Addresses and ports of peers are not among them, since whoever sends packets
// could then make series without end. An interface's series end with it; what
// it had counted stays in the sums over all interfaces.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/engine"
	"tapswitch/switch"
)

// scrapes are how many may be answered at a time; each holds up the loop for
// some microseconds.
const scrapes = 4

// Handler answers scrapes with what read gives, as text or, where the client
// takes it, as OpenMetrics.
func Handler(read func() *engine.Measured) http.Handler {
	return promhttp.HandlerFor(Registry(read), promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: scrapes})
}

// Registry holds all metrics: the switch's, its process's, and a few of Go's.
func Registry(read func() *engine.Measured) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{read}, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()))
	return r
}

type collector struct{ read func() *engine.Measured }

// metric is one name with its labels.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

var all []metric

func counter(name, help string, labels ...string) metric {
	return register(name, help, prometheus.CounterValue, labels)
}

func gauge(name, help string, labels ...string) metric {
	return register(name, help, prometheus.GaugeValue, labels)
}

func register(name, help string, kind prometheus.ValueType, labels []string) metric {
	m := metric{prometheus.NewDesc("tapswitch_"+name, help, labels, nil), kind}
	all = append(all, m)
	return m
}

var (
	buildInfo   = gauge("build_info", "The program: always 1.", "version", "goversion")
	started     = gauge("start_time_seconds", "When the switch started, in seconds since 1970.")
	configOK    = gauge("config_valid", "1 unless the last configuration was refused.")
	networks    = gauge("networks", "Networks that there are.")
	containers  = gauge("containers", "Containers on the switch.")
	descriptors = gauge("descriptors", "Descriptors in use.")
	descLimit   = gauge("descriptors_limit", "Descriptors that may be in use.")
	turns       = counter("loop_turns_total", "Turns of a thread's loop.", "shard")

	ofInterface = []string{"container", "network", "interface"}

	ifRxBytes  = counter("interface_receive_bytes_total", "Bytes that the container received.", ofInterface...)
	ifRxFrames = counter("interface_receive_frames_total", "Frames that the container received.", ofInterface...)
	ifTxBytes  = counter("interface_transmit_bytes_total", "Bytes that the container sent.", ofInterface...)
	ifTxFrames = counter("interface_transmit_frames_total", "Frames that the container sent.", ofInterface...)
	ifHits     = counter("interface_cache_hits_total", "Frames of the container that a known flow decided.", ofInterface...)
	ifUpcalls  = counter("interface_upcalls_total", "Frames of the container that took a decision of their own.", ofInterface...)
	ifDrops    = counter("interface_drops_total", "Frames of or to the container that were not delivered.", append(ofInterface[:3:3], "reason")...)

	rxBytes  = counter("receive_bytes_total", "Bytes that all containers received, those that are gone among them.")
	rxFrames = counter("receive_frames_total", "Frames that all containers received, those that are gone among them.")
	txBytes  = counter("transmit_bytes_total", "Bytes that all containers sent, those that are gone among them.")
	txFrames = counter("transmit_frames_total", "Frames that all containers sent, those that are gone among them.")
	drops    = counter("drops_total", "Frames that were not delivered, those of containers that are gone among them.", "reason")

	flows       = gauge("flows", "Flows through the gateways.", "kind", "state")
	dnsQueries  = counter("dns_queries_total", "Questions that containers asked.")
	dnsAnswers  = counter("dns_answers_total", "Questions by what came of them: local, cached, forwarded, failed, refused.", "outcome")
	dnsTimeouts = counter("dns_timeouts_total", "Exchanges with name servers that timed out.")

	ruleFlows   = counter("rule_flows_total", "Flows that a rule decided about.", "rule", "action")
	rulePackets = counter("rule_packets_total", "Packets that a rule ended, or of flows that it let pass.", "rule", "action")
	ruleBytes   = counter("rule_bytes_total", "Bytes that a rule ended, or of flows that it let pass.", "rule", "action")
)

// gateway are the counters of the gateways, by their keys in the status.
var gateway = map[string]metric{
	"tcp_opened":      counter("nat_tcp_opened_total", "TCP connections that containers opened."),
	"tcp_accepted":    counter("nat_tcp_accepted_total", "TCP connections that published ports accepted."),
	"tcp_reset":       counter("nat_tcp_reset_total", "TCP connections that were reset."),
	"tcp_retransmits": counter("nat_tcp_retransmits_total", "TCP segments that were sent to containers again."),
	"tcp_timeouts":    counter("nat_tcp_timeouts_total", "TCP connections that ended for silence."),
	"udp_flows":       counter("nat_udp_flows_total", "UDP flows that were opened."),
	"ping_flows":      counter("nat_ping_flows_total", "Ping flows that were opened."),
	"pair_flows":      counter("nat_pair_flows_total", "Flows between containers that were opened through the gateways."),
	"spilled_bytes":   counter("nat_spilled_bytes_total", "Bytes that waited in the switch for a socket that was full."),
	"fragments":       counter("nat_fragments_total", "IP fragments that came."),
	"reassembled":     counter("nat_reassembled_total", "Datagrams that were put together from fragments."),
	"socket_errors":   counter("nat_socket_errors_total", "System calls on sockets that failed unexpectedly."),
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range all {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := c.read()
	s := m.Status
	put := func(m metric, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v, labels...)
	}
	put(buildInfo, 1, s.Version, runtime.Version())
	put(started, float64(s.Started.Unix()))
	put(configOK, oneIf(s.ConfigError == ""))
	put(networks, float64(s.Networks))
	put(containers, float64(s.Containers))
	put(descriptors, float64(s.FDs))
	put(descLimit, float64(s.FDLimit))
	for i, n := range m.Turns {
		put(turns, float64(n), strconv.Itoa(i))
	}
	for i := range m.Interfaces {
		putInterface(put, &m.Interfaces[i])
	}
	put(rxBytes, float64(s.RxBytes))
	put(rxFrames, float64(s.RxFrames))
	put(txBytes, float64(s.TxBytes))
	put(txFrames, float64(s.TxFrames))
	for r := vswitch.Reason(1); r < vswitch.NumReasons; r++ { // all of them, so that the first drop is seen as one
		put(drops, float64(s.Drops[r.String()]), r.String())
	}
	for k, n := range m.Flows {
		put(flows, float64(n), k.Kind, k.State)
	}
	for k, g := range gateway {
		put(g, float64(s.NAT[k]))
	}
	put(dnsQueries, float64(s.DNS["queries"]))
	for _, k := range []string{"local", "cached", "forwarded", "failed", "refused"} {
		put(dnsAnswers, float64(s.DNS[k]), k)
	}
	put(dnsTimeouts, float64(s.DNS["timeouts"]))
	for _, r := range m.Rules {
		id := strconv.FormatUint(uint64(r.ID), 10)
		put(ruleFlows, float64(r.Flows), id, r.Action)
		put(rulePackets, float64(r.Packets), id, r.Action)
		put(ruleBytes, float64(r.Bytes), id, r.Action)
	}
}

func putInterface(put func(metric, float64, ...string), i *api.InterfaceStats) {
	labels := []string{i.Container, i.Network, i.IfName}
	put(ifRxBytes, float64(i.RxBytes), labels...)
	put(ifRxFrames, float64(i.RxFrames), labels...)
	put(ifTxBytes, float64(i.TxBytes), labels...)
	put(ifTxFrames, float64(i.TxFrames), labels...)
	put(ifHits, float64(i.Hits), labels...)
	put(ifUpcalls, float64(i.Upcalls), labels...)
	for r, n := range i.Drops {
		put(ifDrops, float64(n), append(labels[:3:3], r)...)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
