package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A bench is what measurements share.
type bench struct {
	self    string        // this program, to be started inside
	runTime time.Duration // of one measurement
	steal   series        // share of the time that the hypervisor took, per measurement
}

// slack is how much longer than its run a measurement may take.
const slack = 25 * time.Second

// bounded ends a measurement that hangs.
func (b *bench) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.runTime+slack, fmt.Errorf("not done %s after its run of %s", slack, b.runTime))
}

// boundedRuns does so for one that has several runs.
func (b *bench) boundedRuns(ctx context.Context, runs int) (context.Context, context.CancelFunc) {
	limit := time.Duration(runs) * (b.runTime + slack)
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %s", limit))
}

// serve starts a server and returns once it is ready. Servers end on their own
// after one client, or with b's life; they are stopped in any case.
func (b *bench) serve(ctx context.Context, p place, ready string, argv ...string) (*child, error) {
	c, err := p.start(ctx, argv)
	if err != nil {
		return nil, err
	}
	if err := c.awaitLine(ready); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// spent records what an interval says of the machine, and returns how long the
// processors were busy in it.
func (b *bench) spent(t busyTime) float64 {
	if t.Elapsed > 0 {
		b.steal = append(b.steal, t.Stolen/t.Elapsed)
	}
	return t.Busy
}

// mostRuns is how many runs of the bench a measurement has at most.
const mostRuns = 4

// life is how long a server of ours lives at most, should nobody end it.
func (b *bench) life() string { return (mostRuns*(b.runTime+slack) + slack).String() }

// iperf is a TCP throughput measurement by iperf3.
type iperf struct {
	streams int
	reverse bool
	both    bool
}

func (i iperf) measure(ctx context.Context, b *bench, _ *topology, p path) (sample, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	port := strconv.Itoa(portIperf)
	server, err := b.serve(ctx, p.server, "Server listening", "iperf3", "--server", "--one-off", "--forceflush",
		"--idle-timeout", strconv.Itoa(int(slack.Seconds())), "--port", port)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	argv := []string{b.self, "busy", "--", "iperf3", "--client", p.address, "--port", port, "--json", "--connect-timeout", "3000",
		"--time", strconv.Itoa(int(b.runTime.Seconds())), "--parallel", strconv.Itoa(i.streams)}
	if i.reverse {
		argv = append(argv, "--reverse")
	}
	if i.both {
		argv = append(argv, "--bidir")
	}
	client, err := p.client.start(ctx, argv)
	if err != nil {
		return nil, err
	}
	out, failed := client.wait()
	// iperf3 says in its JSON what went wrong, and exits 1.
	r, err := parseIperf(out)
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	var spent busyTime
	if err := lastJSON(client.stderr.bytes(), &spent); err != nil {
		return nil, err
	}
	return r.sample(i.both, b.spent(spent)), nil
}

// iperfReport is the part of iperf3's JSON that is used: bytes that arrived.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Received        iperfSum `json:"sum_received"`
		ReceivedReverse iperfSum `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

type iperfSum struct {
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
}

func parseIperf(out []byte) (iperfReport, error) {
	var r iperfReport
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("iperf3's report: %w", err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("iperf3: %s", r.Error)
	}
	if r.End.Received.Bytes == 0 {
		return r, errors.New("iperf3: not a byte arrived")
	}
	return r, nil
}

func (r iperfReport) sample(both bool, busy float64) sample {
	there, back := r.End.Received, r.End.ReceivedReverse
	s := sample{
		"gbit_per_s":    (there.BitsPerSecond + back.BitsPerSecond) / 1e9,
		"busy_s_per_gb": busy / ((there.Bytes + back.Bytes) / 1e9),
	}
	if both {
		s["out_gbit_per_s"] = there.BitsPerSecond / 1e9
		s["in_gbit_per_s"] = back.BitsPerSecond / 1e9
		s["weaker_share"] = min(there.BitsPerSecond, back.BitsPerSecond) / (there.BitsPerSecond + back.BitsPerSecond)
	}
	return s
}

// requests is a request/response measurement by perf itself.
type requests struct{ mode string }

func (r requests) measure(ctx context.Context, b *bench, _ *topology, p path) (sample, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	port, ports := portRR, 1
	if r.mode == rrCRR {
		port, ports = portCRR, crrPorts
	}
	common := []string{"--mode", r.mode, "--port", strconv.Itoa(port), "--ports", strconv.Itoa(ports)}
	server, err := b.serve(ctx, p.server, "ready", append([]string{b.self, "rr-server", "--life", b.life()}, common...)...)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	out, err := p.client.run(ctx, append([]string{b.self, "rr-client", "--address", p.address, "--for", b.runTime.String()}, common...)...)
	if err != nil {
		return nil, err
	}
	var stats rrStats
	if err := json.Unmarshal(out, &stats); err != nil {
		return nil, fmt.Errorf("rr-client's report: %w", err)
	}
	if stats.Count == 0 {
		return nil, errors.New("rr-client: not an answer came")
	}
	return sample{"per_s": float64(stats.Count) / stats.Seconds, "p50_us": stats.P50Micro, "p99_us": stats.P99Micro}, nil
}

// offer is a UDP measurement at a fixed rate by perf itself.
type offer struct {
	flood   flood
	reverse bool // the server sends
}

func (o offer) measure(ctx context.Context, b *bench, _ *topology, p path) (sample, error) {
	ctx, cancel := b.bounded(ctx)
	defer cancel()
	common := []string{"--port", strconv.Itoa(portFlood), "--size", strconv.Itoa(o.flood.Size),
		"--rate", strconv.Itoa(o.flood.Rate), "--for", b.runTime.String(), "--offload=" + strconv.FormatBool(o.flood.Offload)}
	listens, asks := "udp-sink", "udp-source"
	if o.reverse {
		listens, asks = asks, listens
	}
	server, err := b.serve(ctx, p.server, "ready", append([]string{b.self, listens, "--life", b.life()}, common...)...)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	fromClient, err := p.client.run(ctx, append([]string{b.self, asks, "--address", p.address}, common...)...)
	if err != nil {
		return nil, err
	}
	fromServer, err := server.wait()
	if err != nil {
		return nil, err
	}
	if o.reverse {
		fromClient, fromServer = fromServer, fromClient
	}
	var sent sourceStats
	var got sinkStats
	if err := errors.Join(lastJSON(fromClient, &sent), lastJSON(fromServer, &got)); err != nil {
		return nil, err
	}
	s, err := floodSample(sent, got, b.spent(sent.Machine))
	if err == nil && o.flood.Offload {
		s["gbit_per_s"] = s["packets_per_s"] * float64(8*o.flood.Size) / 1e9
	}
	return s, err
}

// floodSample makes the metrics of what a source and a sink reported.
func floodSample(sent sourceStats, got sinkStats, busy float64) (sample, error) {
	if sent.Sent == 0 || got.Received == 0 {
		return nil, fmt.Errorf("%d datagrams sent, %d received", sent.Sent, got.Received)
	}
	received := float64(got.Received)
	return sample{
		"offered_per_s":      float64(sent.Sent) / sent.Seconds,
		"packets_per_s":      received / sent.Seconds,
		"loss_percent":       100 * (1 - received/float64(sent.Sent)),
		"busy_us_per_packet": busy * 1e6 / received,
	}, nil
}
