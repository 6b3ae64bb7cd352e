package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func traceCommand() *cobra.Command {
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "trace --from CONTAINER[:IF] --to ADDRESS|NAME[:PORT][/PROTO]", Short: "Follow a packet that is not sent", Args: cobra.NoArgs,
		Long: `Follow the first packet of a flow that is not opened: which interface, which rule, which route, which translation, and what
becomes of it. It is decided by the code that decides about real packets. Without a port it is an echo request. It exits 0
if the packet is accepted, 1 if it is dropped or rejected.`,
		Example: `  tapswitch trace --from web --to db:5432
  tapswitch trace --from web --to 192.0.2.1:53/udp --json`,
		RunE: func(*cobra.Command, []string) error {
			if from == "" || to == "" {
				return usageError{errors.New("trace needs --from and --to")}
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
	fl.StringVar(&from, "from", "", "`CONTAINER[:IF]` that would send it")
	fl.StringVar(&to, "to", "", "`ADDRESS|NAME[:PORT][/PROTO]` it would be for; gateway is the default route's")
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	_ = cmd.RegisterFlagCompletionFunc("from", completeContainers)
	return cmd
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
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for i, s := range t.Steps {
		fmt.Fprintf(w, "%3d\t%s\t%s\n", i+1, s.Name, s.Text)
	}
	if err := w.Flush(); err != nil {
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
