package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
)

func traceCommand() *cobra.Command {
	var from, to string
	var asJSON, live bool
	cmd := &cobra.Command{
		Use: "trace --from CONTAINER[:IF] --to ADDRESS|NAME[:PORT][/PROTO] | --live [FILTER]", Short: "Follow a packet that is not sent, or real ones",
		Long: `Follow the first packet of a flow that is not opened: which interface, which rule, which route, which translation, and what
becomes of it. It is decided by the code that decides about real packets. Without a port it is an echo request. It exits 0
if the packet is accepted, 1 if it is dropped or rejected. From host, or from an address outside, it is a client of a published
port: --to is then an address of the host with the port there, or a container with its own port.

With --live real packets are followed as they come: those that FILTER takes (as capture's) and that are decided about, which is
the first of each flow and whatever is never remembered (SYN, FIN, ARP, what the gateway refuses). What is too much for the reader
is counted; traffic never waits for it.`,
		Example: `  tapswitch trace --from web --to db:5432
  tapswitch trace --from web --to 192.0.2.1:53/udp --json
  tapswitch trace --from 198.51.100.7 --to web:80
  tapswitch trace --live host 172.17.0.2 and tcp port 5432`,
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case live && (from != "" || to != ""):
				return usageError{errors.New("--live follows what is sent: a FILTER says which, not --from and --to")}
			case live:
				return traceLive(strings.Join(args, " "), asJSON)
			case len(args) > 0:
				return usageError{fmt.Errorf("%s: a FILTER goes with --live", args[0])}
			case from == "" || to == "":
				return usageError{errors.New("trace needs --from and --to, or --live")}
			}
			t, err := askTrace(from, to)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(t)
			} else {
				err = printTrace(t)
			}
			if err == nil && t.Verdict != "accept" {
				return exitError(exitFailed)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "", "`CONTAINER[:IF]` that would send it, or host, or the address of a client outside")
	fl.StringVar(&to, "to", "", "`ADDRESS|NAME[:PORT][/PROTO]` it would be for; gateway is the default route's")
	fl.BoolVar(&live, "live", false, "follow real packets that FILTER takes")
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	_ = cmd.RegisterFlagCompletionFunc("from", completeContainers)
	return cmd
}

// traceLive follows real packets.
func traceLive(filter string, asJSON bool) error {
	if _, err := capture.ParseFilter(filter, nil); err != nil {
		return usageError{err}
	}
	out := json.NewEncoder(os.Stdout)
	return following("/trace/live?"+url.Values{"filter": {filter}}.Encode(), "following", func(x *api.LiveTrace) error {
		if asJSON {
			return out.Encode(x)
		}
		return printLive(x)
	})
}

func printLive(x *api.LiveTrace) error {
	if x.Missed > 0 {
		fmt.Printf("(%d packets were too many)\n", x.Missed)
	}
	fmt.Printf("%s %s %s\n", x.Time.Local().Format("15:04:05.000000"), x.Interface, x.Packet)
	if err := printSteps(x.Steps); err != nil {
		return err
	}
	end := x.Verdict
	if x.Reason != "" {
		end += ": " + x.Reason
	}
	fmt.Println(end)
	for _, s := range []string{x.Why, x.Remedy} {
		if s != "" {
			fmt.Println("  " + s)
		}
	}
	_, err := fmt.Println()
	return err
}

func printSteps(steps []api.TraceStep) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for i, s := range steps {
		fmt.Fprintf(w, "%3d\t%s\t%s\n", i+1, s.Name, s.Text)
	}
	return w.Flush()
}

func printTrace(t *api.Trace) error {
	port := ""
	if t.Port != 0 {
		port = fmt.Sprintf(" port %d", t.Port)
	}
	at := t.Address
	if t.To != t.Address {
		at = t.To + " (" + t.Address + ")"
	}
	fmt.Printf("%s -> %s%s %s\n", t.From, at, port, t.Proto)
	if err := printSteps(t.Steps); err != nil {
		return err
	}
	fmt.Println(verdictLine(t))
	if t.Why != "" {
		fmt.Println("  " + t.Why)
	}
	if t.Remedy != "" {
		fmt.Println("  " + t.Remedy)
	}
	return nil
}

func verifyCommand() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check who reaches whom against a file of expectations", Args: cobra.ExactArgs(1),
		Long: `Check who reaches whom, a line each, as unit tests of the network:

  web -> db:5432 accept              # a container, an address or a name; tcp
  * -> 169.254.169.254 reject        # all containers; an echo request
  network:front -> 192.0.2.1:53/udp drop

Nothing is sent: the code that decides about packets is asked. A drop is silence, a reject is told. - reads standard input.
It exits 0 if all lines hold, 1 if not.`,
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := readAll(args[0])
			if err != nil {
				return err
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var l []api.Expectation
			if err := c.Do("POST", "/verify", api.Verify{Text: text}, &l); err != nil {
				return err
			}
			bad := 0
			for _, x := range l {
				if !x.OK {
					bad++
				}
			}
			if asJSON {
				err = printJSON(l)
			} else {
				printExpectations(l, quiet)
				fmt.Printf("%d of %d hold\n", len(l)-bad, len(l))
			}
			if err == nil && bad > 0 {
				return exitError(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only what does not hold")
	return cmd
}

func readAll(path string) (string, error) {
	if path == "-" {
		b, err := io.ReadAll(os.Stdin)
		return string(b), err
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

func printExpectations(l []api.Expectation, quiet bool) {
	for _, x := range l {
		switch {
		case x.Problem != "":
			fmt.Printf("line %d: %s: %s\n", x.Line, x.Text, x.Problem)
		case !x.OK:
			fmt.Printf("line %d: %s -> %s: want %s, is %s (%s)\n", x.Line, x.From, x.To, x.Want, x.Got, or(x.Reason, "delivered"))
		case !quiet:
			fmt.Printf("ok  %s -> %s %s\n", x.From, x.To, x.Got)
		}
	}
}
