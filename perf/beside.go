package main

import (
	"context"
	"strconv"
)

// besidePeers are those that carry several containers.
var besidePeers = []string{"kernel-nat", us}

// answersBesideFull asks from one container while the other is idle, and while
// it sends outside as fast as it can. Both take their turn twice, so that what
// the machine does meanwhile befalls both.
func answersBesideFull(ctx context.Context, b *bench, t *topology, p path) (sample, error) {
	ctx, cancel := b.boundedRuns(ctx, mostRuns)
	defer cancel()
	s := sample{}
	for _, full := range []bool{false, true, true, false} {
		r, err := answersWhile(ctx, b, t, p, full)
		if err != nil {
			return nil, err
		}
		if full {
			s["per_s"] += r["per_s"] / 2
			s["p99_us"] += r["p99_us"] / 2
		} else {
			s["idle_per_s"] += r["per_s"] / 2
		}
	}
	s["answers_share"] = s["per_s"] / s["idle_per_s"]
	return s, nil
}

// answersWhile measures request/response over p, while the peer's first
// container sends if it is to.
func answersWhile(ctx context.Context, b *bench, t *topology, p path, full bool) (sample, error) {
	if full {
		out, port := t.paths[pathOut], strconv.Itoa(portIperf)
		server, err := b.serve(ctx, out.server, "Server listening", "iperf3", "--server", "--one-off", "--forceflush", "--port", port)
		if err != nil {
			return nil, err
		}
		defer server.stop()
		client, err := b.serve(ctx, out.client, "connected to", "iperf3", "--client", out.address, "--port", port, "--forceflush",
			"--time", strconv.Itoa(int((b.runTime + slack).Seconds())))
		if err != nil {
			return nil, err
		}
		defer client.stop()
	}
	return requests{mode: rrTCP}.measure(ctx, b, t, p)
}
