package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func whyCommand() *cobra.Command {
	var asJSON bool
	var last int
	cmd := &cobra.Command{
		Use: "why [NAME]", Short: "Say what has failed of late, and why", Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeContainers,
		Long: `Say what has failed of late, the latest last: who, to where, at which step, for which reason, and what usually helps. Frames
that were dropped, connections that were refused or not answered, by the outside or by a container, and questions to DNS
without an answer. Equal ones are one, with how often and since when; of what is dropped again and again by a decision that
is remembered, ` + "`tapswitch drop`" + ` has the count. trace asks about the future, why about the past.`,
		Example: `  tapswitch why web
  tapswitch why --last 5
  tapswitch why --json | jq '.[] | select(.reason == "refused")'`,
		RunE: func(_ *cobra.Command, args []string) error {
			if last < 0 {
				return usageError{fmt.Errorf("--last %d: write how many, or 0 for all", last)}
			}
			q := url.Values{"last": {fmt.Sprint(last)}}
			if len(args) > 0 {
				q.Set("container", args[0])
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var list []api.Failure
			if err := c.Do("GET", "/failures?"+q.Encode(), nil, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(os.Stderr, "nothing has failed")
			}
			for i := range list {
				printFailure(os.Stdout, &list[i])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().IntVarP(&last, "last", "n", 0, "only the latest `N` (default: all that are remembered, a thousand)")
	return cmd
}

func printFailure(w io.Writer, f *api.Failure) {
	often := ""
	if f.Count > 1 {
		often = fmt.Sprintf(" (%d times since %s)", f.Count, clock(f.First))
	}
	to := f.To
	if f.ToName != "" {
		to += " (" + f.ToName + ")"
	}
	who := f.Interface
	if f.Direction == "in" {
		who = "to " + who
	}
	fmt.Fprintf(w, "%s%s %s: %s %s -> %s\n", clock(f.Last), often, who, f.Protocol, f.From, to)
	rule := ""
	if f.Rule >= 100 && f.Reason == "rule" {
		rule = fmt.Sprintf(" (rule %d)", f.Rule)
	}
	fmt.Fprintf(w, "  %s: %s: %s%s\n", f.Step, f.Reason, f.Why, rule)
	if f.Remedy != "" {
		fmt.Fprintf(w, "  -> %s\n", f.Remedy)
	}
}

// clock is a time of day here, with the day where that is another.
func clock(t time.Time) string {
	t = t.Local()
	if now := time.Now(); t.YearDay() != now.YearDay() || t.Year() != now.Year() {
		return t.Format("2006-01-02 15:04:05")
	}
	return t.Format("15:04:05")
}
