package main

import (
	"context"
	"fmt"
)

// A row is one measurement over one path, made for each peer that has the path.
type row struct {
	id      string
	about   string
	path    pathName
	metrics []string // ids; the first is the one that ratios are made of
	// processes: it is about the peer's processes, which are started anew for each
	// round while no other peer is up; not for peers in the kernel.
	processes bool
	measure   func(context.Context, *bench, *topology, path) (sample, error)
}

// A sample is what one measurement yielded, by metric id.
type sample map[string]float64

var (
	throughput = []string{"gbit_per_s", "busy_s_per_gb"}
	bothWays   = []string{"gbit_per_s", "out_gbit_per_s", "in_gbit_per_s", "weaker_share", "busy_s_per_gb"}
	datagrams  = []string{"packets_per_s", "loss_percent", "offered_per_s", "busy_us_per_packet"}
	answers    = []string{"per_s", "p50_us", "p99_us"}
)

// floods are the rates at which UDP is offered.
var floods = []flood{
	{Size: 64, Rate: 400_000},
	{Size: 64, Rate: 200_000},
	{Size: 1400, Rate: 100_000},
	{Size: 8000, Rate: 25_000},
}

var pathTitles = map[pathName]string{
	pathContainer: "container to container",
	pathOut:       "container (client) to outside (server)",
	pathPublished: "outside (client) to published port (server)",
	pathHost:      "host's loopback (client) to published port (server)",
}

// allRows are the rows in the order of the tables.
func allRows() []row {
	rows := throughputRows()
	rows = append(rows, answerRows()...)
	rows = append(rows, floodRows()...)
	return append(rows, memoryRows()...)
}

// over makes a row of each path. Between two containers a reversed measurement is
// the same again, so rows of that kind leave it out.
func over(paths []pathName, r row) []row {
	var rows []row
	for _, p := range paths {
		at := r
		at.id, at.about, at.path = r.id+"/"+string(p), r.about+"; "+pathTitles[p], p
		rows = append(rows, at)
	}
	return rows
}

func throughputRows() []row {
	var rows []row
	for _, t := range []struct {
		id, about string
		paths     []pathName
		iperf     iperf
	}{
		{"tcp1", "TCP, one stream, client to server", pathNames, iperf{streams: 1}},
		{"tcp1-reverse", "TCP, one stream, server to client", oneSided, iperf{streams: 1, reverse: true}},
		{"tcp4", "TCP, four streams, client to server", pathNames, iperf{streams: 4}},
		{"tcp4-reverse", "TCP, four streams, server to client", oneSided, iperf{streams: 4, reverse: true}},
	} {
		rows = append(rows, over(t.paths, row{id: t.id, about: t.about, metrics: throughput, measure: t.iperf.measure})...)
	}
	return append(rows, over([]pathName{pathContainer, pathOut, pathPublished}, row{
		id: "tcp-both", about: "TCP, one stream each way at once", metrics: bothWays, measure: iperf{streams: 1, both: true}.measure,
	})...)
}

func answerRows() []row {
	var rows []row
	for _, r := range []row{
		{id: "tcp-rr", about: fmt.Sprintf("TCP, %d byte request and answer in turn", rrSize), measure: requests{mode: rrTCP}.measure},
		{id: "udp-rr", about: fmt.Sprintf("UDP, %d byte request and answer in turn", rrSize), measure: requests{mode: rrUDP}.measure},
		{id: "tcp-crr", about: fmt.Sprintf("TCP, connect, %d byte request and answer, close; over %d ports in turn", rrSize, crrPorts),
			measure: requests{mode: rrCRR}.measure},
	} {
		r.metrics = answers
		rows = append(rows, over(pathNames, r)...)
	}
	return rows
}

func floodRows() []row {
	var rows []row
	for _, f := range floods {
		id := fmt.Sprintf("udp%d-%dk", f.Size, f.Rate/1000)
		about := fmt.Sprintf("UDP, %d bytes, %d packets/s offered, ", f.Size, f.Rate)
		rows = append(rows, over([]pathName{pathContainer, pathOut, pathPublished}, row{
			id: id, about: about + "client to server", metrics: datagrams, measure: offer{flood: f}.measure,
		})...)
		rows = append(rows, over([]pathName{pathOut}, row{
			id: id + "-reverse", about: about + "server to client", metrics: datagrams, measure: offer{flood: f, reverse: true}.measure,
		})...)
	}
	return rows
}

func memoryRows() []row {
	idle := row{
		id: "memory-idle", about: "memory of all processes without traffic", path: pathNone,
		metrics: []string{"pss_mb"}, processes: true, measure: memoryIdle,
	}
	return append([]row{idle}, over([]pathName{pathOut}, row{
		id: "memory-flow", about: fmt.Sprintf("growth of the memory of all processes with %d idle TCP connections", memoryFlows),
		metrics: []string{"bytes_per_flow"}, processes: true, measure: memoryPerFlow,
	})...)
}
