package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	"github.com/spf13/pflag"
)

type options struct {
	only       string
	peers      string
	rounds     int
	seconds    int
	quick      bool
	list       bool
	check      bool
	json       string
	thresholds string
	tapswitch  string
}

// What a --quick run does less of.
const (
	quickRounds  = 3
	quickSeconds = 1
)

// Rows and peers of a --quick run, unless --only or --peers name others.
var (
	quickRows = []string{
		"tcp1/container", "tcp4/container", "tcp1/out", "tcp1-reverse/out", "tcp1/published", "tcp1-reverse/published",
		"tcp-rr/out", "tcp-crr/out",
	}
	quickPeers = []string{
		"kernel-bridge", "kernel-nat", "slirp4netns-1500", "slirp4netns-65520", "pasta", "pasta-1500", us,
	}
)

func parseOptions(args []string) (options, error) {
	var o options
	f := pflag.NewFlagSet("perf", pflag.ContinueOnError)
	f.StringVar(&o.only, "only", "", "measure only the rows that match this `regex`")
	f.StringVar(&o.peers, "peers", "", "measure only the peers that match this `regex`")
	f.IntVar(&o.rounds, "rounds", 5, "how often each peer is measured")
	f.IntVar(&o.seconds, "seconds", 3, "how long each measurement runs")
	f.BoolVar(&o.quick, "quick", false, fmt.Sprintf("%d rounds of %d s, and only the main rows unless --only names others", quickRounds, quickSeconds))
	f.BoolVar(&o.list, "list", false, "print the rows and end")
	f.BoolVar(&o.check, "check", false, "exit 1 if a threshold fails")
	f.StringVar(&o.json, "json", "", "write the results to this `file` too")
	f.StringVar(&o.thresholds, "thresholds", "", "take the thresholds from this `file`, not from perf/thresholds.yaml")
	f.StringVar(&o.tapswitch, "tapswitch", "", "measure this `program`, not one built from the source tree")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q; see perf --help", f.Arg(0))
	}
	if o.quick && !f.Changed("rounds") {
		o.rounds = quickRounds
	}
	if o.quick && !f.Changed("seconds") {
		o.seconds = quickSeconds
	}
	if o.rounds < 1 || o.seconds < 1 {
		return o, errors.New("--rounds and --seconds: at least 1")
	}
	return o, nil
}

// rows are those that the options select.
func (o options) rows() ([]row, error) {
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	var rows []row
	for _, r := range allRows() {
		if o.quick && o.only == "" && !slices.Contains(quickRows, r.id) {
			continue
		}
		if pattern.MatchString(r.id) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("--only %q: no row matches; perf --list shows them", o.only)
	}
	return rows, nil
}

// selected are the peers that the options select and that have one of the rows.
func (o options) selected(all []peer, rows []row) ([]peer, error) {
	pattern, err := regexp.Compile(o.peers)
	if err != nil {
		return nil, fmt.Errorf("--peers: %w", err)
	}
	var peers []peer
	for _, p := range all {
		if o.quick && o.peers == "" && !slices.Contains(quickPeers, p.name()) {
			continue
		}
		if pattern.MatchString(p.name()) && slices.ContainsFunc(rows, func(r row) bool { return offers(p, r) }) {
			peers = append(peers, p)
		}
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("--peers %q: no peer matches that has one of the rows", o.peers)
	}
	return peers, nil
}

// bars reads the thresholds.
func (o options) bars(peers []peer) ([]bar, error) {
	text, name := thresholdsFile, "thresholds.yaml"
	if o.thresholds != "" {
		var err error
		if text, err = os.ReadFile(o.thresholds); err != nil {
			return nil, err
		}
		name = o.thresholds
	}
	bars, err := parseBars(text, allRows(), names(peers))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return bars, nil
}
