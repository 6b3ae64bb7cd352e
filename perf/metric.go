package main

// A metric is one number that a row yields.
type metric struct {
	id     string // in JSON and in thresholds
	title  string // in tables, with its unit
	lower  bool   // lower is better
	spread string // the metric whose spread decides whether this one is judged; "" for itself
	few    bool   // counts a few events: the spread of such numbers says nothing, it is always judged
}

// Metrics by id. Losses and shares are judged by the spread of what was
// delivered: around zero their own spread says nothing.
var metrics = map[string]metric{}

func init() {
	for _, m := range []metric{
		{id: "gbit_per_s", title: "Gbit/s"},
		{id: "out_gbit_per_s", title: "Gbit/s, client to server", spread: "gbit_per_s"},
		{id: "in_gbit_per_s", title: "Gbit/s, server to client", spread: "gbit_per_s"},
		{id: "weaker_share", title: "weaker direction / sum", spread: "gbit_per_s"},
		{id: "busy_s_per_gb", title: "busy s per GB", lower: true},
		{id: "busy_us_per_packet", title: "busy µs per packet", lower: true},
		{id: "packets_per_s", title: "delivered packets/s"},
		{id: "offered_per_s", title: "offered packets/s"},
		{id: "loss_percent", title: "lost %", lower: true, spread: "packets_per_s"},
		{id: "pss_mb", title: "PSS, MB", lower: true},
		{id: "bytes_per_flow", title: "PSS bytes per flow", lower: true},
		{id: "bytes_per_endpoint", title: "PSS bytes per endpoint", lower: true},
		{id: "tcp_share", title: "TCP rate / that with two endpoints"},
		{id: "udp_share", title: "UDP rate / that with two endpoints"},
		{id: "answers_share", title: "answers per second beside them / without"},
		{id: "idle_per_s", title: "per second without"},
		{id: "watched_tcp_share", title: "TCP rate while captured / without"},
		{id: "watched_udp_share", title: "UDP rate while captured / without"},
		{id: "switches_per_s", title: "voluntary context switches/s", lower: true, few: true},
		{id: "threads", title: "threads", lower: true, few: true},
		{id: "join_ms", title: "ms to the first ping answered", lower: true},
		{id: "join_worst_ms", title: "ms, the worst of them", lower: true, spread: "join_ms"},
		{id: "ended_ms", title: "ms to the end of the command", lower: true},
		{id: "per_s", title: "per second"},
		{id: "p50_us", title: "p50 µs", lower: true},
		{id: "p99_us", title: "p99 µs", lower: true},
	} {
		metrics[m.id] = m
	}
}

// judgedBy returns the id of the metric whose spread decides.
func (m metric) judgedBy() string {
	if m.spread != "" {
		return m.spread
	}
	return m.id
}
