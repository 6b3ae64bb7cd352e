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
	only      []string // the peers that it is for; nil for all
	measure   measurement
}

// A measurement is made of a peer that runs, over one of its paths.
type measurement func(context.Context, *bench, *topology, path) (sample, error)

// A sample is what one measurement yielded, by metric id.
type sample map[string]float64

var (
	throughput = []string{"gbit_per_s", "busy_s_per_gb"}
	bothWays   = []string{"gbit_per_s", "out_gbit_per_s", "in_gbit_per_s", "weaker_share", "busy_s_per_gb"}
	datagrams  = []string{"packets_per_s", "loss_percent", "offered_per_s", "busy_us_per_packet"}
	trains     = append([]string{"gbit_per_s"}, datagrams...)
	answers    = []string{"per_s", "p50_us", "p99_us"}
	crowded    = []string{"tcp_share", "udp_share", "bytes_per_endpoint", "gbit_per_s", "packets_per_s"}
	beside     = []string{"bytes_per_flow", "answers_share", "per_s"}
	besideFull = []string{"answers_share", "per_s", "p99_us", "idle_per_s"}
)

// floods are the rates at which UDP is offered.
var floods = []flood{
	{Size: 64, Rate: 400_000},
	{Size: 64, Rate: 200_000},
	{Size: 1400, Rate: 100_000},
	{Size: 8000, Rate: 25_000},
}

// trainFlood is the one with segmentation offload.
var trainFlood = flood{Size: 1400, Rate: 1_000_000, Offload: true}

var pathTitles = map[pathName]string{
	pathContainer: "container to container",
	pathOut:       "container (client) to outside (server)",
	pathPublished: "outside (client) to published port (server)",
	pathHost:      "host's loopback (client) to published port (server)",
	pathSecond:    "a second container (client) to outside (server)",
}

// allRows are the rows in the order of the tables.
func allRows() []row {
	rows := throughputRows()
	rows = append(rows, answerRows()...)
	rows = append(rows, floodRows()...)
	rows = append(rows, watchedRows()...)
	rows = append(rows, memoryRows()...)
	return append(rows, scaleRows()...)
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
	for _, way := range []struct {
		id, about string
		paths     []pathName
		reverse   bool
	}{
		{"", "client to server", []pathName{pathContainer, pathOut, pathPublished}, false},
		{"-reverse", "server to client", []pathName{pathOut, pathPublished}, true},
	} {
		rows = append(rows, over(way.paths, row{
			id: fmt.Sprintf("udp%d-%dk-offload%s", trainFlood.Size, trainFlood.Rate/1000, way.id),
			about: fmt.Sprintf("UDP with segmentation offload at both ends, %d bytes, %d packets/s offered, %s",
				trainFlood.Size, trainFlood.Rate, way.about),
			metrics: trains, measure: offer{flood: trainFlood, reverse: way.reverse}.measure,
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

// scaleRows are about what it costs to be there: without traffic, with many
// endpoints, with many flows, and to come.
func scaleRows() []row {
	rows := []row{{
		id: "idle", about: fmt.Sprintf("context switches of all threads in %s without traffic", idleWatch), path: pathNone,
		metrics: []string{"switches_per_s", "threads"}, processes: true, measure: idle,
	}}
	rows = append(rows, over([]pathName{pathContainer}, row{
		id: fmt.Sprintf("endpoints-%d", manyEndpoints), about: fmt.Sprintf("two busy of %d endpoints, beside a switch with two", manyEndpoints),
		metrics: crowded, processes: true, only: []string{us}, measure: crowdedRates,
	})...)
	rows = append(rows, over([]pathName{pathOut}, row{
		id: fmt.Sprintf("flows-%d", manyFlows), about: fmt.Sprintf("TCP, %d byte request and answer in turn beside %d idle connections", rrSize, manyFlows),
		metrics: beside, processes: true, only: manyFlowsPeers, measure: answersBeside,
	})...)
	rows = append(rows, over([]pathName{pathSecond}, row{
		id: "beside", about: fmt.Sprintf("TCP, %d byte request and answer in turn beside a container that sends outside at full speed, as a share of beside an idle one", rrSize),
		metrics: besideFull, only: besidePeers, measure: answersBesideFull,
	})...)
	return append(rows,
		row{
			id: "join-api", about: fmt.Sprintf("median of %d namespaces, from the first call of the API to the gateway's first answer", joinsPerRound),
			path: pathNone, metrics: []string{"join_ms", "join_worst_ms"}, processes: true, only: []string{us}, measure: joins{}.measure,
		},
		row{
			id: "join-command", about: fmt.Sprintf("median of %d namespaces, from the start of the command to the gateway's first answer", joinsPerRound),
			path: pathNone, metrics: []string{"join_ms", "join_worst_ms", "ended_ms"}, processes: true, only: []string{"slirp4netns-1500", "pasta-1500", us},
			measure: joins{command: true}.measure,
		},
	)
}
