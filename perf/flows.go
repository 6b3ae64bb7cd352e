package main

import (
	"context"
	"io"
	"strconv"
)

// manyFlows is how many connections stand idle beside the one that is measured.
const manyFlows = 10_000

// manyFlowsPeers are those for which they are not too many: slirp4netns had
// not opened them within readyLimit.
var manyFlowsPeers = []string{"pasta", "pasta-1500", "gvisor-tap-vsock-1500", us}

// A holding is a client and a server that keep connections open.
type holding struct{ client, server *child }

// hold starts both; open makes the connections.
func (b *bench) hold(ctx context.Context, p path, port, flows int) (*holding, error) {
	common := []string{"--port", strconv.Itoa(port), "--flows", strconv.Itoa(flows), "--life", b.life()}
	server, err := b.serve(ctx, p.server, "ready", append([]string{b.self, "hold-server"}, common...)...)
	if err != nil {
		return nil, err
	}
	client, err := b.serve(ctx, p.client, "ready", append([]string{b.self, "hold-client", "--address", p.address}, common...)...)
	if err != nil {
		server.stop()
		return nil, err
	}
	return &holding{client, server}, nil
}

// open returns once all connections stand.
func (h *holding) open() error {
	if _, err := io.WriteString(h.client.stdin, "open\n"); err != nil {
		return h.client.failure(err)
	}
	if err := h.client.awaitLine("open"); err != nil {
		return err
	}
	return h.server.awaitLine("all")
}

func (h *holding) stop() {
	h.client.stop()
	h.server.stop()
}

// answersBeside asks over one connection of a peer without others and of another
// one of it with many that are idle, and takes what the many cost in memory.
func answersBeside(ctx context.Context, b *bench, t *topology, _ path) (sample, error) {
	full, err := t.another(ctx, t.peer)
	if err != nil {
		return nil, err
	}
	defer full.stop()
	ctx, cancel := b.boundedRuns(ctx, mostRuns)
	defer cancel()
	// Not the port of the requests.
	held, err := b.hold(ctx, full.paths[pathOut], portCRR, manyFlows)
	if err != nil {
		return nil, err
	}
	defer held.stop()
	before, err := memoryOf(full)
	if err != nil {
		return nil, err
	}
	if err := held.open(); err != nil {
		return nil, err
	}
	after, err := memoryOf(full)
	if err != nil {
		return nil, err
	}
	alone, beside, err := inTurn(ctx, b, requests{mode: rrTCP}.measure, "per_s", pathOut, t, full)
	return sample{
		"bytes_per_flow": (after - before) / manyFlows,
		"answers_share":  beside / alone,
		"per_s":          beside,
	}, err
}
