package main

import (
	"context"
	"errors"
)

// manyEndpoints is how many containers a crowded switch has.
const manyEndpoints = 1000

// A crowder is a peer that can be started with many containers on its network.
type crowder interface {
	crowded(endpoints int) peer
}

// crowdedRates compares a peer with two containers to another one of it that has
// many, of which two are busy.
func crowdedRates(ctx context.Context, b *bench, t *topology, _ path) (sample, error) {
	of, can := t.peer.(crowder)
	if !can {
		return nil, errors.New("it does not start with many endpoints")
	}
	crowd, err := t.another(ctx, of.crowded(manyEndpoints))
	if err != nil {
		return nil, err
	}
	defer crowd.stop()
	if err := pause(ctx, idleSettle); err != nil {
		return nil, err
	}
	// Both are up, so that they share pages alike.
	few, err1 := memoryOf(t)
	many, err2 := memoryOf(crowd)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	s := sample{"bytes_per_endpoint": (many - few) / (manyEndpoints - 2)}
	for _, m := range []struct {
		rate, share string
		measure     measurement
	}{
		{"gbit_per_s", "tcp_share", iperf{streams: 1}.measure},
		{"packets_per_s", "udp_share", offer{flood: floods[0]}.measure},
	} {
		two, busy, err := inTurn(ctx, b, m.measure, m.rate, pathContainer, t, crowd)
		if err != nil {
			return nil, err
		}
		s[m.rate], s[m.share] = busy, busy/two
	}
	return s, nil
}

// inTurn measures a path of two peers that are both up, one of them idle while
// the other is measured: in the order first, second, second, first, so that
// neither gains by what the machine does meanwhile. It returns the means of a
// metric.
func inTurn(ctx context.Context, b *bench, m measurement, metric string, p pathName, first, second *topology) (ofFirst, ofSecond float64, err error) {
	var means [2]float64
	for _, which := range []int{0, 1, 1, 0} {
		t := []*topology{first, second}[which]
		s, err := m(ctx, b, t, t.paths[p])
		if err != nil {
			return 0, 0, errors.Join(err, t.died(dying))
		}
		means[which] += s[metric] / 2
	}
	return means[0], means[1], nil
}
