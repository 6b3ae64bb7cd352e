// Command perf measures tapswitch beside its peers on this machine: it builds the
// network namespaces, runs every peer and tapswitch in turn, and prints medians,
// spreads, ratios and which thresholds hold. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && tools[args[0]] != nil {
		return runTool(args[0], args[1:])
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	rows, err := o.rows()
	if err != nil {
		return err
	}
	if o.list {
		list(rows)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return o.measure(ctx, rows)
}

func list(rows []row) {
	for _, r := range rows {
		quick := ""
		if slices.Contains(quickRows, r.id) {
			quick = "quick"
		}
		fmt.Printf("%-38s %-6s %s [%s]\n", r.id, quick, r.about, strings.Join(r.metrics, " "))
	}
}

// measure is the whole run, from the scratch directory to the verdicts.
func (o options) measure(ctx context.Context, rows []row) (err error) {
	if err := prerequisites(); err != nil {
		return err
	}
	alone, err := beAlone("@tapswitch-perf")
	if err != nil {
		return err
	}
	defer alone.Close()
	dir, err := os.MkdirTemp("", "tapswitch-perf-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Peers that run as another user pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	program := &build{given: o.tapswitch, dir: dir}
	all := allPeers(program)
	bars, err := o.bars(all)
	if err != nil {
		return err
	}
	peers, err := o.selected(all, rows)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(peers, func(p peer) bool { _, ours := p.(tapswitch); return ours }) {
		if _, err := program.program(); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var document io.WriteCloser
	if o.json != "" {
		if document, err = os.Create(o.json); err != nil {
			return err
		}
		defer document.Close()
	}
	r := &runner{
		bench:  &bench{self: self, runTime: time.Duration(o.seconds) * time.Second},
		dir:    dir,
		rounds: o.rounds,
		talk:   os.Stderr,
	}
	rep := report{
		Date:    time.Now().UTC().Format(time.RFC3339),
		Command: strings.Join(append([]string{"perf"}, os.Args[1:]...), " "),
		Machine: thisMachine(),
		Rounds:  o.rounds,
		Seconds: float64(o.seconds),
	}
	defer r.down()
	if r.up(ctx, peers); ctx.Err() != nil {
		return errors.New("interrupted")
	}
	rep.Versions = versions(peers)
	if rep.Idle, err = idleShare(ctx, time.Second); err != nil {
		return err
	}
	for _, row := range rows {
		done := r.measure(ctx, row)
		if ctx.Err() != nil {
			break
		}
		rep.Rows = append(rep.Rows, done)
	}
	rep.Steal = r.bench.steal
	rep.Verdicts = judgeAll(bars, rep.Rows)
	err = o.publish(rep, document)
	if ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("interrupted after %d of %d rows", len(rep.Rows), len(rows)))
	}
	return err
}

// prerequisites names what no row can do without.
func prerequisites() error {
	if err := becomeRoot(); err != nil {
		return err
	}
	if why := needs("iperf3", "iperf3"); why != "" {
		return errors.New(why)
	}
	return nil
}

// beAlone takes a name that only one perf of this machine can have: two at once
// would measure each other. The kernel gives it back when the process ends.
func beAlone(name string) (io.Closer, error) {
	l, err := net.Listen("unix", name)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.New("another perf is running on this machine; wait for its end")
	}
	return l, err
}

func names(peers []peer) []string {
	var list []string
	for _, p := range peers {
		list = append(list, p.name())
	}
	return list
}

// versions describes the columns, and iperf3, which measures.
func versions(peers []peer) []version {
	list := []version{{"iperf3", firstLine("iperf3", "--version"), "measures the throughput of TCP"}}
	for _, p := range peers {
		v := version{Name: p.name(), About: p.about(), Version: p.missing()}
		if v.Version == "" {
			v.Version = p.version()
		}
		list = append(list, v)
	}
	return list
}

// idleShare measures how busy the machine is by itself, with all peers up.
func idleShare(ctx context.Context, d time.Duration) (float64, error) {
	spent, err := busyDuring(func() error {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return nil
	})
	return spent.Busy / spent.Elapsed / float64(thisMachine().Cores), err
}

// judgeAll applies the bars to the rows that were measured.
func judgeAll(bars []bar, rows []rowResult) []verdict {
	var verdicts []verdict
	for _, b := range bars {
		for _, r := range rows {
			if r.row.id == b.Row {
				verdicts = append(verdicts, b.judge(r))
			}
		}
	}
	return verdicts
}

// publish prints the report, to document as JSON if there is one; with --check a
// failed threshold is an error.
func (o options) publish(rep report, document io.Writer) error {
	rep.writeMarkdown(os.Stdout)
	if document != nil {
		if err := rep.writeJSON(document); err != nil {
			return err
		}
	}
	failed := 0
	for _, v := range rep.Verdicts {
		if v.said == fails && !v.bar.goal {
			failed++
		}
	}
	if o.check && failed > 0 {
		return fmt.Errorf("%d thresholds fail", failed)
	}
	return nil
}
