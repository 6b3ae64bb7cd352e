package main

import (
	"context"
	"errors"
	"fmt"
)

// A watcher is a peer that can capture its own traffic.
type watcher interface {
	// watch starts a capture of all containers to nowhere, with so many bytes of
	// each packet, and returns when it has begun.
	watch(ctx context.Context, t *topology, snap int) (*child, error)
}

// snapLength is the default of capture.
const snapLength = 256

// watchedRates measures a path while all of its packets are captured, and as
// often while they are not, of the same peer in turn.
func watchedRates(m measurement, metric, share string, snap int) measurement {
	return func(ctx context.Context, b *bench, t *topology, p path) (sample, error) {
		of, can := t.peer.(watcher)
		if !can {
			return nil, errors.New("it does not capture")
		}
		var means [2]float64
		for _, on := range []int{0, 1, 1, 0} {
			rate, err := watchedRate(ctx, b, t, p, m, metric, of, snap, on == 1)
			if err != nil {
				return nil, errors.Join(err, t.died(dying))
			}
			means[on] += rate / 2
		}
		return sample{metric: means[1], share: means[1] / means[0]}, nil
	}
}

func watchedRate(ctx context.Context, b *bench, t *topology, p path, m measurement, metric string, of watcher, snap int, on bool) (float64, error) {
	if on {
		c, err := of.watch(ctx, t, snap)
		if err != nil {
			return 0, err
		}
		defer c.stop()
	}
	s, err := m(ctx, b, t, p)
	return s[metric], err
}

// watchedRows are about what it costs to look: at headers, and at all of each
// frame.
func watchedRows() []row {
	var rows []row
	for _, snap := range []int{snapLength, 0} {
		id, what := fmt.Sprintf("capture-%d", snap), fmt.Sprintf("%d bytes of each packet", snap)
		if snap == 0 {
			id, what = "capture-all", "all of each packet"
		}
		rows = append(rows, over([]pathName{pathContainer}, row{
			id: id + "-tcp1", about: "TCP, one stream, client to server, while a capture takes " + what + ", beside none",
			metrics: []string{"watched_tcp_share", "gbit_per_s"}, only: []string{us},
			measure: watchedRates(iperf{streams: 1}.measure, "gbit_per_s", "watched_tcp_share", snap),
		})...)
	}
	return append(rows, over([]pathName{pathContainer}, row{
		id: fmt.Sprintf("capture-%d-udp64", snapLength), about: fmt.Sprintf("UDP, %d bytes, %d packets/s offered, while a capture takes %d bytes of each, beside none", floods[0].Size, floods[0].Rate, snapLength),
		metrics: []string{"watched_udp_share", "packets_per_s"}, only: []string{us},
		measure: watchedRates(offer{flood: floods[0]}.measure, "packets_per_s", "watched_udp_share", snapLength),
	})...)
}
